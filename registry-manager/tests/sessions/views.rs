//! What sessions carry of the view.

use crate::agent::{Agent, hello};
use crate::site::{Site, add_host, add_manager};
use echelon_core::change::Change;
use echelon_core::message::{FromAgent, Hello, Holding, Request};
use echelon_core::replication::Replica;
use echelon_wire::Wire;

/// Protects: an agent gets a snapshot first, deltas of what concerns routing, and nothing but heartbeats for
/// edits of hosts without managers; its replica's digest stays the manager's.
#[tokio::test]
async fn a_session_carries_what_routing_needs_and_nothing_else() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut agent = Agent::begin(&site, &identity, Replica::default()).await;
    assert_eq!(agent.received[..3], ["welcome", "signed", "place"], "{:?}", agent.received);
    assert!(agent.received.contains(&"snapshot"));
    agent.received.clear();

    let plain = site.edit(vec![Change::AddDomain { path: "/x".parse().unwrap() }, add_host("b", "/x")]).await;
    agent.take_revision(plain).await;
    assert!(agent.received.iter().all(|m| ["signed", "heartbeat"].contains(m)), "{:?}", agent.received);

    let routed = site.edit(vec![add_manager("b", "audit")]).await;
    agent.take_revision(routed).await;
    assert_eq!(agent.received.iter().filter(|m| **m == "delta").count(), 1, "{:?}", agent.received);
    assert_eq!(agent.replica.view().manager_count(), 2);
    assert!(!agent.received.contains(&"snapshot"));
}

/// Protects: an agent that comes back with what it holds is sent only what it misses, across a restart of the
/// manager too.
#[tokio::test]
async fn an_agent_that_comes_back_is_sent_only_what_it_misses() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let agent = Agent::begin(&site, &identity, Replica::default()).await;
    let held = agent.replica;
    site.edit(vec![add_host("b", "/"), add_manager("b", "audit")]).await;
    let mut agent = Agent::begin(&site, &identity, held).await;
    assert!(agent.received.contains(&"delta"), "{:?}", agent.received);
    assert!(
        !agent.received.contains(&"snapshot") && !agent.received.contains(&"place"),
        "{:?}",
        agent.received
    );

    let site = site.restart().await;
    agent = Agent::begin(&site, &identity, agent.replica).await;
    assert_eq!(agent.received, ["welcome", "signed", "heartbeat", "liveness"]);
    let next = site.edit(vec![add_manager("a", "audit")]).await;
    agent.take_revision(next).await;
    assert!(
        agent.received.contains(&"delta") && !agent.received.contains(&"snapshot"),
        "{:?}",
        agent.received
    );
}

/// Protects: what an agent holds counts as level only with the very digest; a wrong one is sent the whole view.
#[tokio::test]
async fn a_replica_that_differs_is_sent_the_whole_view() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let connection = site.connect(&identity).await;
    let mut channel = connection.open().await.unwrap();
    channel.send(&Request::Session.encode()).await.unwrap();
    let position = site.manager.registry().position();
    let wrong = Holding { position, view_revision: 0, digest: Default::default(), place: Default::default() };
    let hello = Hello { holds: Some(wrong), ..hello(vec![]) };
    channel.send(&FromAgent::Hello(hello).encode()).await.unwrap();
    let mut agent = Agent { connection, channel, replica: Replica::default(), received: Vec::new() };
    agent.take_until("the view", |a| a.replica.mark().is_some()).await;
    assert_eq!(agent.replica.view().manager_count(), 1);
}

/// Protects: an agent that asks for repairs without end is not sent the whole view each time.
#[tokio::test]
async fn repairs_have_a_least_interval() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut agent = Agent::begin(&site, &identity, Replica::default()).await;
    agent.received.clear();
    for _ in 0..3 {
        agent.channel.send(&FromAgent::Repair.encode()).await.unwrap();
    }
    agent.take_until("the view", |a| a.received.contains(&"snapshot")).await;
    let next = site.edit(vec![add_manager("a", "audit")]).await;
    agent.take_revision(next).await;
    let parts = agent.received.iter().filter(|m| **m == "snapshot").count();
    assert_eq!(parts, 2, "the rows of one view, and what it is: {:?}", agent.received);
}

/// Protects: one edit that changes more of the view than a message may carry reaches agents all the same, those
/// that are there and those that come back.
#[tokio::test]
async fn an_edit_too_large_for_one_delta_reaches_agents_as_a_whole_view() {
    let site = Site::start().await;
    let (first, second) = (site.enrol("a").await, site.enrol("b").await);
    let mut stays = Agent::begin(&site, &first, Replica::default()).await;
    let leaves = Agent::begin(&site, &second, Replica::default()).await.replica;
    stays.received.clear();
    let names: Vec<String> = (0..4500).map(|i| format!("{}-{i}", "long".repeat(60))).collect();
    site.edit(names.iter().flat_map(|n| [add_host(n, "/"), add_manager(n, "bulk")]).collect()).await;
    let next = site.edit(vec![add_manager("a", "audit")]).await;
    stays.take_revision(next).await;
    assert!(stays.received.contains(&"snapshot"), "{:?}", stays.received);
    let mut back = Agent::begin(&site, &second, leaves).await;
    back.take_revision(next).await;
    assert!(back.received.contains(&"snapshot"), "{:?}", back.received);
    assert_eq!((stays.replica.view().manager_count(), back.replica.view().manager_count()), (4502, 4502));
}
