//! A framework with its authority, endpoints on loopback, and a network that can be cut.

use crate::{AdmitAll, Channel, ConnectProblem, Connection, Endpoint, Role, Settings, Target};
use echelon_core::id::HostId;
use echelon_core::time::UnixMillis;
use echelon_identity::{Authority, Credentials, Issuer, KeyPair, Leaf, Spiffe, TrustBundle};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Longest that anything in these tests may take.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) const LOOPBACK: &str = "127.0.0.1:0";

/// The result of `future`, or a failure once it takes too long.
pub(super) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("took too long")
}

pub(super) fn now() -> UnixMillis {
    UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}

pub(super) fn host(number: u8) -> HostId {
    format!("00000000-0000-4000-8000-0000000000{number:02x}").parse().unwrap()
}

pub(super) struct Framework {
    pub(super) authority: Authority,
    pub(super) issuer: Issuer,
}

impl Framework {
    pub(super) fn new(name: &str) -> Self {
        Self::made_at(name, now())
    }

    pub(super) fn made_at(name: &str, at: UnixMillis) -> Self {
        let authority = Authority::create(&name.parse().unwrap(), at).unwrap();
        let issuer = authority.issue_intermediate(host(1), at).unwrap();
        Self { authority, issuer }
    }

    pub(super) fn trust(&self) -> TrustBundle {
        self.authority.trust()
    }

    pub(super) fn issue(&self, subject: Spiffe, enrolment: u32) -> Credentials {
        self.issue_at(subject, enrolment, now(), Duration::from_secs(3600))
    }

    pub(super) fn issue_at(
        &self,
        subject: Spiffe,
        enrolment: u32,
        at: UnixMillis,
        lifetime: Duration,
    ) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let leaf = Leaf { subject: &subject, name: "test", enrolment, lifetime };
        let chain = self.issuer.issue(&leaf, &key.public_key(), at).unwrap();
        Credentials::new(key, chain).unwrap()
    }

    /// Credentials that ran out long ago.
    pub(super) fn expired(&self, subject: Spiffe) -> Credentials {
        self.issue_at(subject, 1, now() - Duration::from_secs(7200), Duration::from_secs(60))
    }

    pub(super) fn server(&self) -> Endpoint {
        self.server_as(&self.issue(Spiffe::Manager(host(1)), 1), Settings::server())
    }

    pub(super) fn server_as(&self, credentials: &Credentials, settings: Settings) -> Endpoint {
        let role = Role::Server(Arc::new(AdmitAll));
        let addr = LOOPBACK.parse().unwrap();
        Endpoint::bind(addr, role, Some(credentials), Some(&self.trust()), settings).unwrap()
    }

    /// A client with the identity of host 2.
    pub(super) fn client(&self) -> Endpoint {
        self.client_as(Some(&self.issue(Spiffe::Host(host(2)), 5)))
    }

    pub(super) fn client_as(&self, credentials: Option<&Credentials>) -> Endpoint {
        client(credentials, &self.trust(), Settings::client())
    }

    pub(super) fn pin(&self) -> Target {
        Target::Pinned(self.trust().root_hash())
    }
}

pub(super) fn client(credentials: Option<&Credentials>, trust: &TrustBundle, settings: Settings) -> Endpoint {
    let addr = LOOPBACK.parse().unwrap();
    Endpoint::bind(addr, Role::Client, credentials, Some(trust), settings).unwrap()
}

/// Both ends of a connection.
pub(super) async fn join(client: &Endpoint, server: &Endpoint) -> (Connection, Connection) {
    join_at(client, server, server.local_addr(), &Target::AnyManager).await
}

pub(super) async fn join_at(
    client: &Endpoint,
    server: &Endpoint,
    addr: SocketAddr,
    target: &Target,
) -> (Connection, Connection) {
    let (ours, theirs) = tokio::join!(within(client.connect(addr, target)), within(server.accept()));
    (ours.unwrap(), theirs.unwrap())
}

/// Both ends of a channel that `opener` opened, after one empty frame.
pub(super) async fn channel(opener: &Connection, other: &Connection) -> (Channel, Channel) {
    let mut ours = within(opener.open()).await.unwrap();
    within(ours.send(&bytes::Bytes::new())).await.unwrap();
    let mut theirs = within(other.accept()).await.unwrap();
    assert_eq!(within(theirs.recv(0)).await.unwrap().unwrap().len(), 0);
    (ours, theirs)
}

/// Why `client` does not get through to `server`.
pub(super) async fn problem(client: &Endpoint, server: &Endpoint, target: &Target) -> ConnectProblem {
    let error = within(client.connect(server.local_addr(), target)).await.unwrap_err();
    assert_eq!(error.addr, server.local_addr());
    error.problem
}

/// A datagram relay in front of a server, for one client, that passes so many datagrams of the client and
/// none after.
pub(super) struct Relay {
    pub(super) addr: SocketAddr,
    left: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(super) async fn to(server: SocketAddr, datagrams: usize) -> Self {
        let left = Arc::new(AtomicUsize::new(datagrams));
        let front = UdpSocket::bind(LOOPBACK).await.unwrap();
        let back = UdpSocket::bind(LOOPBACK).await.unwrap();
        back.connect(server).await.unwrap();
        let addr = front.local_addr().unwrap();
        let task = tokio::spawn(relay(front, back, left.clone()));
        Self { addr, left, task }
    }

    /// Gives its address up, without a word to either side.
    pub(super) async fn end(self) {
        self.task.abort();
        self.task.await.unwrap_err();
    }

    /// From now on nothing passes either way.
    pub(super) fn cut(&self) {
        self.left.store(0, Ordering::SeqCst);
    }
}

async fn relay(front: UdpSocket, back: UdpSocket, left: Arc<AtomicUsize>) {
    let (mut to_server, mut to_client) = (vec![0; 65_536], vec![0; 65_536]);
    let mut client = None;
    loop {
        tokio::select! {
            Ok((length, from)) = front.recv_from(&mut to_server) => {
                client = Some(from);
                let passes = left.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                if passes.is_ok() {
                    let _ = back.send(&to_server[..length]).await;
                }
            }
            Ok(length) = back.recv(&mut to_client) => {
                if let Some(client) = client.filter(|_| left.load(Ordering::SeqCst) > 0) {
                    let _ = front.send_to(&to_client[..length], client).await;
                }
            }
        }
    }
}
