//! What an agent makes of its host's announcements while no registry manager answers them.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod support;

use echelon_core::message::Health;
use echelon_core::report::CandidateState;
use registry_agent::{Agent, Handle};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use support::{Manager, World, config, eventually, package, service, ty, view_manager};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// Long enough never to be missed.
const SLOW: Duration = Duration::from_secs(30);

async fn start(state: &Path) -> Handle {
    Agent::start(config(state), &CancellationToken::new()).await.unwrap()
}

/// One request to the agent's API: status and body.
async fn ask(state: &Path, method: &str, body: &str) -> (u16, Value) {
    let mut stream = tokio::net::UnixStream::connect(state.join("agent.sock")).await.unwrap();
    let head = format!(
        "{method} /v1/packages/{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        ty(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// A withdrawal is reported with the next heartbeat, and gone by on its own host, though the manager never answers
/// the announcement; that is told again under the same number, in the next session and by the next start too.
#[tokio::test]
async fn a_withdrawal_is_reported_at_once_and_told_until_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut manager = Manager::start().await;
    let host = manager.enrolled(&state, "agent1").await;
    let ((own, _own), (far, _far)) = (service("own").await, service("far").await);
    let here = echelon_core::view::Manager { host, name: "agent1".parse().unwrap(), ..view_manager(1, own) };
    let mut world = World::new(&manager, host, vec![here, view_manager(2, far)], vec![package(host, own)]);
    world.place.allow_types.insert(ty());
    let agent = start(&state).await;
    let mut seat = manager.session().await;
    seat.give(SLOW, &world).await;
    seat.heartbeat(|beat| (beat.packages.get(&ty()) == Some(&Health::Passing)).then_some(())).await;
    assert_eq!(agent.routes().want(&ty()).await.unwrap().chosen().unwrap().candidate.manager.host, host);

    let (status, document) = ask(&state, "DELETE", "").await;
    assert_eq!((status, &document["pending"]["says"]), (202, &"withdraws".into()), "{document}");
    seat.heartbeat(|beat| (beat.packages.get(&ty()) == Some(&Health::Withdrawn)).then_some(())).await;
    let route = agent.routes().get(&ty()).unwrap();
    assert_eq!(route.home().unwrap().candidate.manager.name.as_str(), "host2");
    assert_eq!(route.entries[0].state, CandidateState::Withdrawn);
    let number = eventually("the announcement", async || Some(manager.announced().first()?.number)).await;
    eventually("it to be told again", async || (manager.announced().len() > 1).then_some(())).await;

    agent.stop().await.unwrap();
    let told = manager.announced().len();
    let agent = start(&state).await;
    let mut seat = manager.session().await;
    seat.give(SLOW, &world).await;
    seat.heartbeat(|beat| (beat.packages.get(&ty()) == Some(&Health::Withdrawn)).then_some(())).await;
    eventually("it to be told by the next start", async || (manager.announced().len() > told).then_some(()))
        .await;
    assert!(manager.announced().iter().all(|said| said.number == number), "one announcement");
    agent.stop().await.unwrap();
}

/// Of several announcements of one package only the newest is told from then on.
#[tokio::test]
async fn only_the_newest_announcement_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut manager = Manager::start().await;
    let host = manager.enrolled(&state, "agent1").await;
    let mut world = World::new(&manager, host, vec![], vec![]);
    world.place.allow_types.insert(ty());
    let agent = start(&state).await;
    let mut seat = manager.session().await;
    seat.give(SLOW, &world).await;
    eventually("a replica", async || agent.routes().replica()).await;
    for port in [7001, 7002] {
        let (status, document) = ask(&state, "PUT", &format!("{{\"port\":{port}}}")).await;
        assert_eq!((status, &document["endpoint"]), (202, &format!("127.0.0.1:{port}").into()), "{document}");
    }
    let announced = manager.announced();
    let newest = announced.iter().map(|said| said.number).max().unwrap();
    let first_of_newest = announced.iter().position(|said| said.number == newest).unwrap();
    assert!(announced[first_of_newest..].iter().all(|said| said.number == newest), "{announced:?}");
    assert_ne!(announced[0].number, newest);
    agent.stop().await.unwrap();
}
