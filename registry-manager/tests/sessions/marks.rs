//! What an agent says of the journal: believed where a registry manager has signed it, and else not.

use crate::agent::{Agent, hello, next};
use crate::site::{DEADLINE, Identity, Site, add_host, add_manager, console, set, unix_now};
use echelon_core::grant::{Mark, trail};
use echelon_core::id::HostId;
use echelon_core::message::{AgentHeartbeat, FromAgent, Hello, Holding, Query, Request, ToAgent};
use echelon_core::position::Position;
use echelon_core::replication::Replica;
use echelon_core::report::AlarmReport;
use echelon_core::signed_mark::SignedMark;
use echelon_daemon::Tasks;
use echelon_identity::proof::prove_mark;
use echelon_identity::{Authority, Credentials, KeyPair, Leaf, Spiffe, lifetime};
use echelon_transport::Channel;
use echelon_wire::Wire;
use registry_manager::Manager;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Longer than a manager takes to look at itself and raise an alarm.
const LOOK: Duration = Duration::from_millis(2_500);

impl Site {
    async fn alarms(&self) -> Vec<AlarmReport> {
        self.console.query(Query::Alarms).await.unwrap()
    }

    async fn alarm(&self, name: &str) -> AlarmReport {
        let end = Instant::now() + DEADLINE;
        loop {
            let alarms = self.alarms().await;
            if let Some(alarm) = alarms.iter().find(|alarm| alarm.name.as_str() == name) {
                return alarm.clone();
            }
            assert!(Instant::now() < end, "no {name}: {alarms:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asserts that edits go on, and that nothing is said of the journal.
    async fn is_well(&self, name: &str) {
        self.edit(vec![add_host(name, "/")]).await;
        tokio::time::sleep(LOOK).await;
        let alarms = self.alarms().await;
        let raised = |name: &str| alarms.iter().any(|alarm| alarm.name.as_str() == name);
        assert!(!raised("rolled-back") && !raised("history-rewritten"), "{alarms:?}");
    }

    /// The mark that an agent was shown last, once that is of the newest revision.
    async fn shown(&self, agent: &mut Agent) -> SignedMark {
        let newest = self.manager.registry().position();
        let is_shown = |a: &Agent| a.replica.signed().is_some_and(|signed| signed.mark.position == newest);
        agent.take_until("the newest mark", is_shown).await;
        agent.replica.signed().unwrap().clone()
    }

    /// Does something to the manager, and sets its state directory back to what it was before.
    async fn set_back(self, act: impl AsyncFnOnce(&Site)) -> Self {
        let Self { manager, config, state, _place, .. } = self;
        manager.stop().await.unwrap();
        let saved = _place.0.path().join("saved");
        assert!(Command::new("cp").arg("-a").args([state.path(), &saved]).status().unwrap().success());
        let manager = Manager::start(&config, Tasks::new()).await.unwrap();
        let console = console(&config).await;
        let site = Self { manager, console, config, state, _place };
        act(&site).await;
        let Self { manager, config, state, _place, .. } = site;
        manager.stop().await.unwrap();
        fs::remove_dir_all(state.path()).unwrap();
        fs::rename(&saved, state.path()).unwrap();
        let manager = Manager::start(&config, Tasks::new()).await.unwrap();
        let console = self::console(&config).await;
        Self { manager, console, config, state, _place }
    }
}

/// A session of an agent that says it holds this position, shows this mark, and says it again.
async fn claim(site: &Site, identity: &Identity, at: Position, signed: Option<SignedMark>) -> Channel {
    let connection = site.connect(identity).await;
    let mut channel = connection.open().await.unwrap();
    channel.send(&Request::Session.encode()).await.unwrap();
    let [digest, place] = Default::default();
    let holds = Some(Holding { position: at, view_revision: at.revision, digest, place });
    let hello = Hello { holds, signed, keeps_signed: true, ..hello(trail(None)) };
    channel.send(&FromAgent::Hello(hello).encode()).await.unwrap();
    let (packages, using, alarms) = Default::default();
    let beat = AgentHeartbeat { holds, sequence: 1, packages, using, alarms, isolated: false };
    channel.send(&FromAgent::Heartbeat(beat).encode()).await.unwrap();
    while !matches!(next(&mut channel).await, Some(ToAgent::Liveness(_))) {}
    channel
}

/// Protects: an agent, which may be in wrong hands, stops no edit and casts no doubt on the history by what it says, nor
/// by what it has signed, or changed, itself; it is told of as one that proves nothing.
#[tokio::test]
async fn what_an_agent_cannot_prove_stops_no_edit() {
    let site = Site::start().await;
    // One for each lie: how often an agent is listened to is limited.
    let names: Vec<_> = (0..6).map(|n| format!("liar{n}")).collect();
    let mut liars = Vec::new();
    for name in &names {
        liars.push(site.enrol(name).await);
    }
    let honest = site.enrol("honest").await;
    let mut agent = Agent::begin(&site, &honest, Replica::default()).await;
    let good = site.shown(&mut agent).await;
    let mark = good.mark;
    let further = Mark { position: Position { revision: 1_000, ..mark.position }, ..mark };
    let other = Mark { hash: [7; 32], ..mark };
    let stranger = stranger(&site);
    let forged = |signer: &Credentials, mark| Some(prove_mark(signer, mark, unix_now()).unwrap());
    let lies = [
        (further.position, None),
        (further.position, forged(&liars[1].credentials, further)),
        (further.position, forged(&stranger, further)),
        (further.position, Some(SignedMark { mark: further, ..good.clone() })),
        (mark.position, forged(&liars[4].credentials, other)),
        (mark.position, Some(SignedMark { mark: other, ..good.clone() })),
    ];
    for (n, (at, signed)) in lies.into_iter().enumerate() {
        let seat = claim(&site, &liars[n], at, signed).await;
        let alarm = site.alarm("claim-unproved").await;
        assert_eq!(alarm.subject, names[n]);
        assert!(alarm.message.contains(&format!("revision {} of", at.revision)), "{n}: {}", alarm.message);
        site.edit(vec![add_host(&format!("h{n}"), "/")]).await;
        drop(seat);
        // It says nothing of the kind any more.
        let _seat = claim(&site, &liars[n], mark.position, None).await;
        let gone = async { while site.alarms().await.iter().any(|a| a.name.as_str() == "claim-unproved") {} };
        tokio::time::timeout(DEADLINE, gone).await.expect("the alarm ends");
    }
    site.is_well("last").await;
}

/// The credentials of a manager of another framework, which has the same name.
fn stranger(site: &Site) -> Credentials {
    let framework = site.manager.registry().meta().framework.clone();
    let authority = Authority::create(&framework, unix_now()).unwrap();
    let host = HostId(Uuid::now_v7());
    let (subject, key) = (Spiffe::Manager(host), KeyPair::generate().unwrap());
    let leaf = Leaf { subject: &subject, name: "m", enrolment: 1, lifetime: lifetime::MANAGER };
    let issuer = authority.issue_intermediate(host, unix_now()).unwrap();
    Credentials::new(key.clone(), issuer.issue(&leaf, &key.public_key(), unix_now()).unwrap()).unwrap()
}

/// Protects: what an agent was shown by a manager that was set back since is proved by what that has signed: no edit is
/// taken, and it is no agent's fault.
#[tokio::test]
async fn a_state_that_was_shown_and_is_gone_stops_edits() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut replica = Replica::default();
    let site = site
        .set_back(async |site| {
            let mut agent = Agent::begin(site, &identity, Replica::default()).await;
            site.edit(vec![add_host("gone", "/")]).await;
            site.shown(&mut agent).await;
            replica = agent.replica;
        })
        .await;
    let seen = replica.signed().unwrap().mark.position;
    assert_eq!(seen.revision, site.manager.registry().position().revision + 1);
    let _agent = claim(&site, &identity, seen, replica.signed().cloned()).await;
    let alarm = site.alarm("rolled-back").await;
    assert!(alarm.message.contains(&format!("revision {}", seen.revision)), "{}", alarm.message);
    let refused = site.console.edit(set(vec![add_host("b", "/")]), false).await.unwrap_err();
    assert!(refused.to_string().contains("is older than it was"), "{refused}");
    assert!(!site.alarms().await.iter().any(|alarm| alarm.name.as_str() == "claim-unproved"));
}

/// Protects: a manager that was set back and wrote on is found out by what it has signed before.
#[tokio::test]
async fn another_history_that_was_shown_is_an_alarm() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut signed = None;
    let site = site
        .set_back(async |site| {
            let mut agent = Agent::begin(site, &identity, Replica::default()).await;
            site.edit(vec![add_host("gone", "/")]).await;
            signed = Some(site.shown(&mut agent).await);
        })
        .await;
    for name in ["other", "more"] {
        site.edit(vec![add_host(name, "/")]).await;
    }
    let seen = signed.as_ref().unwrap().mark.position;
    let _agent = claim(&site, &identity, seen, signed).await;
    let alarm = site.alarm("history-rewritten").await;
    assert!(alarm.message.contains(&seen.to_string()), "{}", alarm.message);
    site.edit(vec![add_host("later", "/")]).await;
}

/// Protects: agents are told each mark once, with the certificates once in a session, and one that keeps none is told
/// none.
#[tokio::test]
async fn a_mark_is_told_once_and_its_certificates_once_in_a_session() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut told = Vec::new();
    for keeps_signed in [true, false] {
        let connection = site.connect(&identity).await;
        let mut channel = connection.open().await.unwrap();
        channel.send(&Request::Session.encode()).await.unwrap();
        let hello = Hello { keeps_signed, ..hello(trail(None)) };
        channel.send(&FromAgent::Hello(hello).encode()).await.unwrap();
        let (mut beats, mut deltas, mut edited) = (0, 0, false);
        while beats < 3 {
            match next(&mut channel).await.expect("the session goes on") {
                ToAgent::Signed(signed) => told.push((signed, beats, deltas)),
                ToAgent::Heartbeat(_) => beats += 1,
                ToAgent::Delta(_) => deltas += 1,
                ToAgent::Liveness(_) if !std::mem::replace(&mut edited, true) => {
                    // Not before the time in which nothing more is signed is over.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let name = format!("h-{keeps_signed}");
                    site.edit(vec![add_host(&name, "/"), add_manager(&name, "audit")]).await;
                }
                _ => {}
            }
        }
    }
    // The second one comes before the delta, so that both are written down together.
    let [(first, 0, 0), (second, _, 0)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((first.proof.certificates.len(), second.proof.certificates.len()), (2, 0));
    assert_eq!(first.mark.position.next(), second.mark.position);
}
