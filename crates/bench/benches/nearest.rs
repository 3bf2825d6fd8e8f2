//! The answer to "nearest manager of this type" in a process that embeds an agent: a real one, whose registry
//! manager sends it ten deltas a second meanwhile. 2,000 managers of 5 types. To reach: 60 ns.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::generate::{TYPES, host_name};
use echelon_bench::report::beside;
use echelon_bench::{Registry, Samples, Shape, show};
use echelon_client::{ManagerClient, new_request_id};
use echelon_core::change::{Change, ChangeSet, PackageSpec};
use echelon_core::name::ManagerType;
use echelon_core::package::Listens;
use echelon_identity::IdentityDirectory;
use registry_agent::{Agent, AgentConfig, Routes};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Answers that are timed as one: a clock costs as much as some of them.
const BATCH: u32 = 10_000;

/// How long answers are asked for.
const TIME: Duration = Duration::from_secs(20);

/// Time between two edits.
const PAUSE: Duration = Duration::from_millis(100);

const REACH: Duration = Duration::from_nanos(60);

fn main() {
    let registry = Registry::start();
    registry.apply(&Shape::VIEW.to_toml());
    let state = registry.enroll(&host_name(0));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let agent = runtime.block_on(Agent::start(AgentConfig::new(&state), &CancellationToken::new())).unwrap();
    let types = TYPES.map(|ty| ty.parse::<ManagerType>().unwrap());
    runtime.block_on(async {
        while agent.routes().replica().is_none_or(|r| r.view.manager_count() < Shape::VIEW.managers) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for ty in &types {
            agent.routes().want(ty).await.unwrap();
        }
    });
    let revision = || agent.routes().replica().unwrap().mark.view_revision;
    let before = revision();
    let identity = registry.console_identity();
    std::thread::spawn(move || tokio::runtime::Runtime::new().unwrap().block_on(edit(identity)));
    let samples = answers(agent.routes(), &types);
    beside("deltas meanwhile", revision() - before);
    let reached = samples.median() <= REACH;
    show("nearest manager, in process", samples, &format!("≤ {REACH:?}"), reached);
    runtime.block_on(agent.stop()).unwrap();
}

/// Asks for the nearest manager of each type in turn.
fn answers(routes: &Routes, types: &[ManagerType]) -> Samples {
    let end = Instant::now() + TIME;
    let mut taken = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        for ty in types.iter().cycle().take(BATCH as usize) {
            let route = routes.get(black_box(ty)).unwrap();
            black_box(&route.targets.first().unwrap().endpoint);
        }
        taken.push(begin.elapsed() / BATCH);
    }
    Samples::new(taken)
}

/// Gives one manager after the other another weight, for ever.
async fn edit(identity: impl AsRef<Path>) {
    let identity = IdentityDirectory::open(identity.as_ref()).unwrap();
    let client = ManagerClient::connect(&identity, &[]).await.unwrap();
    for edit in 0.. {
        let host = edit % Shape::VIEW.managers;
        let port = 7000 + host % Shape::VIEW.types;
        let spec = PackageSpec {
            listens: Listens::Port(u16::try_from(port).unwrap().try_into().unwrap()),
            weight: 2 + u32::try_from(edit / Shape::VIEW.managers).unwrap(),
            ..PackageSpec::default()
        };
        let ty = TYPES[host % Shape::VIEW.types].parse().unwrap();
        let change = Change::SetPackage { host: host_name(host).parse().unwrap(), ty, spec };
        let set = ChangeSet {
            request: new_request_id(),
            if_revision: None,
            allow_shrink: false,
            changes: vec![change],
        };
        client.edit(set, false).await.unwrap();
        tokio::time::sleep(PAUSE).await;
    }
}
