//! What sessions carry of the liveness of managers.

use crate::agent::Agent;
use crate::site::{DEADLINE, Site, add_host, add_manager};
use echelon_core::change::{Change, PackageSpec};
use echelon_core::limits::HEARTBEAT;
use echelon_core::message::{Health, Query, ToAgent};
use echelon_core::package::Listens;
use echelon_core::replication::Replica;
use echelon_core::report::{CandidateState, RouteReport, StatusReport};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Protects: health that an agent reports reaches other agents and previews; silence makes a suspect, not a
/// failure.
#[tokio::test]
async fn reported_health_reaches_other_agents_and_silence_makes_a_suspect() {
    let site = Site::start().await;
    let (first, second) = (site.enrol("a").await, site.enrol("b").await);
    site.edit(vec![add_manager("b", "audit")]).await;
    let mut listener = Agent::begin(&site, &first, Replica::default()).await;
    let mut speaker = Agent::begin(&site, &second, Replica::default()).await;
    let ty: echelon_core::name::ManagerType = "audit".parse().unwrap();
    for (sequence, health) in [(1, Health::Passing), (2, failing())] {
        speaker.report(sequence, BTreeMap::from([(ty.clone(), health.clone())])).await;
        let heard = async {
            loop {
                if let Some(ToAgent::Liveness(l)) = listener.take().await {
                    let of_b = l.entries.iter().find(|e| e.host == second.host);
                    if of_b.is_some_and(|e| e.packages.get(&ty) == Some(&health)) {
                        return;
                    }
                }
            }
        };
        tokio::time::timeout(DEADLINE, heard).await.expect("the other agent hears of it");
    }
    assert_eq!(state_of(&site, &ty).await, CandidateState::Down);
    speaker.report(3, BTreeMap::from([(ty.clone(), Health::Passing)])).await;
    let end = Instant::now() + DEADLINE;
    while state_of(&site, &ty).await != CandidateState::Live {
        assert!(Instant::now() < end, "the manager never showed the health");
    }
    drop(speaker);
    while state_of(&site, &ty).await != CandidateState::Suspect {
        assert!(Instant::now() < end, "silence of {:?} was never noticed", 3 * HEARTBEAT);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn failing() -> Health {
    Health::Failing { demands_answer: false, reason: "connection refused".parse().unwrap() }
}

async fn state_of(site: &Site, ty: &echelon_core::name::ManagerType) -> CandidateState {
    let query =
        Query::Route { host: Some("a".parse().unwrap()), ty: ty.clone(), down: Vec::new(), candidates: None };
    let routes: Vec<RouteReport> = site.console.query(query).await.unwrap();
    routes[0].candidates[0].state
}

/// Protects: a session too slow for the pushes misses no news of liveness among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_lags_is_told_what_it_missed_of_liveness() {
    let site = Site::start_with_http().await;
    let (first, second) = (site.enrol("a").await, site.enrol("b").await);
    site.edit(vec![add_manager("b", "audit")]).await;
    let mut listener = Agent::begin(&site, &first, Replica::default()).await;
    // More than the windows hold, so that the listener's session waits for it to read. It takes a little now and then:
    // one that takes nothing for a while is given up.
    for edit in 0..80 {
        let names = (0..150).map(|i| format!("{}-{edit}-{i}", "long".repeat(60)));
        site.edit(names.flat_map(|n| [add_host(&n, "/"), add_manager(&n, "bulk")]).collect()).await;
        if edit % 4 == 3 {
            listener.take().await.expect("the session goes on");
        }
    }
    let mut speaker = Agent::begin(&site, &second, Replica::default()).await;
    let ty: echelon_core::name::ManagerType = "audit".parse().unwrap();
    speaker.report(1, BTreeMap::from([(ty.clone(), failing())])).await;
    while state_of(&site, &ty).await != CandidateState::Down {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // More than the ring holds, so that the news is no longer in it.
    let weigh = |weight| {
        let listens = Listens::At("127.0.0.1:9".parse().unwrap());
        let spec = PackageSpec { listens, weight, ..Default::default() };
        Change::SetPackage { host: "b".parse().unwrap(), ty: ty.clone(), spec }
    };
    let failing_still = |sequence| (sequence, BTreeMap::from([(ty.clone(), failing())]));
    for part in 0..22 {
        join_all((50 * part..50 * (part + 1)).map(|weight| site.edit(vec![weigh(weight)]))).await;
        listener.take().await.expect("the session goes on");
        // Not silent, which would be news again.
        let (sequence, packages) = failing_still(2 + u64::from(part));
        speaker.report(sequence, packages).await;
    }
    let heard = async {
        loop {
            if let ToAgent::Liveness(l) = listener.take().await.expect("the session goes on") {
                let of_b = l.entries.iter().find(|e| e.host == second.host && !e.silent);
                if of_b.is_some_and(|e| e.packages.get(&ty) == Some(&failing())) {
                    return;
                }
            }
        }
    };
    let speaking = async {
        for sequence in 24.. {
            let (sequence, packages) = failing_still(sequence);
            speaker.report(sequence, packages).await;
            tokio::time::sleep(HEARTBEAT).await;
        }
    };
    let heard = async {
        tokio::select! { () = heard => {}, () = speaking => {} }
    };
    tokio::time::timeout(DEADLINE, heard).await.expect("the listener hears of it");
    assert!(site.metrics().await.contains("queue_drops_total{queue=\"pushes\"} 1\n"), "no session lagged");
    let status: Vec<StatusReport> = site.console.query(Query::Status).await.unwrap();
    listener.take_revision(status[0].at.revision).await;
}
