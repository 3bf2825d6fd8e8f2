//! What it costs to sign a mark of the journal and to check one, and how large the messages are. To reach: a signature
//! within 100 µs, since agents are told nothing meanwhile; a check within 2 ms, which is that of a few handshakes.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use echelon_core::digest::Digest;
use echelon_core::grant::{Mark, Proof};
use echelon_core::id::{HostId, Lineage};
use echelon_core::message::{AgentHeartbeat, FromAgent, Holding, ManagerHeartbeat, ToAgent, ViewMark};
use echelon_core::position::Position;
use echelon_core::signed_mark::SignedMark;
use echelon_core::time::UnixMillis;
use echelon_identity::proof::{check_mark, prove_mark};
use echelon_identity::{Authority, Credentials, KeyPair, Leaf, Spiffe, lifetime};
use echelon_wire::Wire;
use std::time::{Duration, Instant};
use uuid::Uuid;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// How often each is done.
const TIMES: usize = 2_000;

fn main() {
    let host = HostId(Uuid::from_u128(1));
    let authority = Authority::create(&"acme".parse().unwrap(), NOW).unwrap();
    let issuer = authority.issue_intermediate(host, NOW).unwrap();
    let (key, subject) = (KeyPair::generate().unwrap(), Spiffe::Manager(host));
    let leaf = Leaf { subject: &subject, name: "hub1", enrolment: 1, lifetime: lifetime::MANAGER };
    let chain = issuer.issue(&leaf, &key.public_key(), NOW).unwrap();
    let (manager, trust) = (Credentials::new(key, chain).unwrap(), authority.trust());
    let position = Position { lineage: Lineage(Uuid::from_u128(7)), epoch: 2, revision: 123_456 };
    let mark = Mark { position, hash: [7; 32] };

    let signed = prove_mark(&manager, mark, NOW).unwrap();
    tell("sign a mark", Duration::from_micros(100), || drop(prove_mark(&manager, mark, NOW).unwrap()));
    tell("check one", Duration::from_millis(2), || drop(check_mark(&trust, &signed, NOW).unwrap()));

    let bare = Proof { certificates: vec![], ..signed.proof.clone() };
    let short = SignedMark { proof: bare, ..signed.clone() };
    let digest = Digest::from_bytes([3; 32]);
    let view = ViewMark { position, view_revision: 123_456, digest };
    let holds = Some(Holding { position, view_revision: 123_456, digest, place: digest });
    let (packages, using, alarms) = Default::default();
    let beat = AgentHeartbeat { holds, sequence: 9, packages, using, alarms, isolated: false };
    let answer = ManagerHeartbeat { mark: view, place: digest, journal: Some([7; 32]) };
    for (what, bytes) in [
        ("a signed mark, the first of a session", ToAgent::Signed(signed).encode().len()),
        ("a signed mark after that", ToAgent::Signed(short).encode().len()),
        ("a manager's heartbeat", ToAgent::Heartbeat(answer).encode().len()),
        ("an agent's heartbeat", FromAgent::Heartbeat(beat).encode().len()),
    ] {
        println!("{what}: {bytes} bytes");
    }
}

fn tell(what: &str, most: Duration, work: impl Fn()) {
    let mut took: Vec<_> = (0..TIMES)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    took.sort();
    let [median, late] = [took[TIMES / 2], took[TIMES * 99 / 100]];
    let reached = if median <= most { "reached" } else { "NOT reached" };
    println!("{what}: median {median:?}, 99th percentile {late:?}; to reach {most:?}: {reached}");
}
