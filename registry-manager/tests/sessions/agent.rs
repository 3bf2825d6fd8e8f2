//! An agent reduced to its replica.

use crate::site::{DEADLINE, Identity, Site};
use echelon_core::digest::Digest;
use echelon_core::grant::trail;
use echelon_core::message::{AgentHeartbeat, FromAgent, Health, Hello, Request, ToAgent};
use echelon_core::replication::{Replica, Step};
use echelon_core::time::Monotonic;
use echelon_transport::{Channel, Connection};
use echelon_wire::Wire;
use std::collections::BTreeMap;
use std::time::Instant;

/// An agent reduced to its replica.
pub(crate) struct Agent {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
    pub(crate) replica: Replica,
    pub(crate) received: Vec<&'static str>,
}

impl Agent {
    pub(crate) async fn begin(site: &Site, identity: &Identity, replica: Replica) -> Self {
        let connection = site.connect(identity).await;
        let mut channel = connection.open().await.unwrap();
        channel.send(&Request::Session.encode()).await.unwrap();
        let hello = Hello {
            protocol: (1, 1),
            build: "test".parse().unwrap(),
            incarnation: 1,
            holds: replica.holding(),
            grants: replica.grants().map_or_else(Vec::new, |grants| trail(Some(grants))),
            signed: replica.signed().cloned(),
            keeps_signed: true,
        };
        channel.send(&FromAgent::Hello(hello).encode()).await.unwrap();
        let mut agent = Self { connection, channel, replica, received: Vec::new() };
        agent.take_until("the first heartbeat and liveness", |a| a.received.contains(&"liveness")).await;
        agent
    }

    pub(crate) async fn take(&mut self) -> Option<ToAgent> {
        let frame = self.channel.recv(echelon_wire::MAX_SESSION_FRAME).await.ok()??;
        let message = ToAgent::decode(&frame).unwrap();
        self.received.push(match &message {
            ToAgent::Welcome(_) => "welcome",
            ToAgent::Snapshot(_) => "snapshot",
            ToAgent::Delta(_) => "delta",
            ToAgent::Place(_) => "place",
            ToAgent::Heartbeat(_) => "heartbeat",
            ToAgent::Liveness(_) => "liveness",
            ToAgent::Grants(_) => "grants",
            ToAgent::Signed(_) => "signed",
        });
        let step = self.replica.receive(Monotonic::default(), message.clone()).unwrap();
        assert_ne!(step, Step::AskRepair, "{:?}", self.received);
        Some(message)
    }

    pub(crate) async fn take_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !done(self) {
            let taken = tokio::time::timeout_at(end.into(), self.take()).await;
            assert!(matches!(taken, Ok(Some(_))), "waiting for {what}, got {:?}", self.received);
        }
    }

    pub(crate) async fn take_revision(&mut self, revision: u64) {
        let level = |a: &Self| a.replica.mark().is_some_and(|m| m.position.revision >= revision);
        self.take_until("the revision", level).await;
    }

    pub(crate) async fn report(
        &mut self,
        sequence: u64,
        packages: BTreeMap<echelon_core::name::ManagerType, Health>,
    ) {
        let holds = self.replica.holding();
        let (using, alarms, isolated) = (Vec::new(), Vec::new(), false);
        let beat = AgentHeartbeat { holds, sequence, packages, using, alarms, isolated };
        self.channel.send(&FromAgent::Heartbeat(beat).encode()).await.unwrap();
    }
}

/// The greeting of an agent that holds nothing, and names these grants.
pub(crate) fn hello(grants: Vec<Digest>) -> Hello {
    Hello {
        protocol: (1, 1),
        build: "t".parse().unwrap(),
        incarnation: 1,
        holds: None,
        grants,
        signed: None,
        keeps_signed: false,
    }
}

/// The next message of a session of which a test reads every one; none where it ends.
pub(crate) async fn next(channel: &mut Channel) -> Option<ToAgent> {
    let frame = channel.recv(echelon_wire::MAX_SESSION_FRAME);
    let frame = tokio::time::timeout(DEADLINE, frame).await.expect("nothing in time").ok()??;
    Some(ToAgent::decode(&frame).unwrap())
}
