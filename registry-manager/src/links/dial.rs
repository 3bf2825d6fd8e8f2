//! Keeping a link to every other registry manager.

use super::speak;
use crate::limits::{LINK_DEADLINE, LINK_LOOK, LINK_PAUSE, LINK_PAUSE_MOST};
use crate::requests;
use crate::server::{self, Shared};
use echelon_core::endpoint::{Address, Endpoint};
use echelon_core::id::HostId;
use echelon_core::member::Input;
use echelon_core::name::ManagerType;
use echelon_core::registry::Registry;
use echelon_daemon::Tasks;
use echelon_transport::{ConnectError, ConnectProblem, Connection, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug, info_span};

/// What is known of dialling one manager.
#[derive(Clone, Copy)]
struct Attempts {
    under_way: bool,
    failures: u32,
    next: Instant,
}

/// Dials every manager of the registry to which there is no link, as long as this manager runs.
pub(crate) async fn keep(shared: Shared, tasks: Tasks) {
    let attempts: Arc<Mutex<BTreeMap<HostId, Attempts>>> = Arc::default();
    let mut known = BTreeSet::new();
    loop {
        let managers = others_of(&shared.hub.registry(), shared.host);
        let there: BTreeSet<_> = managers.iter().map(|(host, _)| *host).collect();
        for gone in known.difference(&there) {
            shared.edits.say(crate::journal::Said::Input(Input::Forgotten(*gone))).await;
        }
        let connected = shared.links.connected();
        for (host, endpoint) in managers.into_iter().filter(|(host, _)| !connected.contains(host)) {
            if begin(&attempts, host) {
                let (shared, attempts, kept) = (Arc::clone(&shared), Arc::clone(&attempts), tasks.clone());
                let span = info_span!("link", peer = %shared.hub.name_of(host));
                let dial = async move {
                    let lasted = dial(&shared, host, &endpoint, &kept).await;
                    end(&attempts, host, lasted);
                };
                tasks.spawn("link", dial.instrument(span));
            }
        }
        known = there;
        tokio::select! {
            () = tokio::time::sleep(LINK_LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// The other managers of a registry, and where they are.
pub(crate) fn others_of(registry: &Registry, me: HostId) -> Vec<(HostId, Endpoint)> {
    let of = ManagerType::registry();
    let packages = registry.packages_of(&of).filter(|p| p.host != me);
    let at = |p: &echelon_core::package::Package| {
        let host = registry.host(p.host)?;
        Some((p.host, p.endpoint(&host.reached_at())?))
    };
    packages.filter_map(|p| at(p)).collect()
}

fn begin(attempts: &Mutex<BTreeMap<HostId, Attempts>>, host: HostId) -> bool {
    let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let known = attempts.entry(host).or_insert(Attempts { under_way: false, failures: 0, next: now });
    let due = !known.under_way && known.next <= now;
    known.under_way |= due;
    due
}

fn end(attempts: &Mutex<BTreeMap<HostId, Attempts>>, host: HostId, lasted: bool) {
    let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(known) = attempts.get_mut(&host) else { return };
    known.under_way = false;
    known.failures = if lasted { 0 } else { known.failures.saturating_add(1) };
    known.next = Instant::now() + pause(known.failures);
}

fn pause(failures: u32) -> Duration {
    let doubled = LINK_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(LINK_PAUSE_MOST)
}

/// Makes a connection and a link, and serves both until they end. Whether there was a link.
async fn dial(shared: &Shared, host: HostId, endpoint: &Endpoint, tasks: &Tasks) -> bool {
    let connected = tokio::select! {
        connected = connect(shared, host, endpoint) => connected,
        () = shared.stop.cancelled() => return false,
    };
    let connection = match connected {
        Ok(connection) => connection,
        Err(why) => {
            debug!("A registry manager cannot be reached: {why}");
            return false;
        }
    };
    let began = Instant::now();
    let link = async {
        let end = speak::open(shared, host, &connection).await;
        end.tell(&shared.hub.name_of(host));
        connection.close(server::LINK_ENDED, "the link ended");
    };
    // The other one may ask over this connection, too: edits that it relays, a copy. With the connection both end, and
    // neither cuts the other off: the journal has to hear of the link's end.
    tokio::join!(link, server::serve_manager(shared, &connection, tasks));
    began.elapsed() >= LINK_DEADLINE
}

/// Whether a manager lets itself be connected to within this time, whatever is known of it.
pub(crate) async fn reaches(shared: &Shared, host: HostId, within: Duration) -> bool {
    let Some((_, endpoint)) =
        others_of(&shared.hub.registry(), shared.host).into_iter().find(|(other, _)| *other == host)
    else {
        return false;
    };
    match timeout(within, connect(shared, host, &endpoint)).await {
        Ok(Ok(connection)) => {
            connection.close(server::LINK_ENDED, "it was only looked whether this manager is there");
            true
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn connect(shared: &Shared, host: HostId, endpoint: &Endpoint) -> Result<Connection, String> {
    let (target, mut problem) = (Target::Manager(host), format!("{endpoint} has no address"));
    for addr in resolve(endpoint).await? {
        let connect = shared.endpoint.connect(addr, &target);
        let connected = timeout(LINK_DEADLINE, connect).await;
        if let Ok(connected) = &connected {
            note_word_of_primary(shared, host, connected.as_ref().err());
        }
        match connected {
            Ok(Ok(connection)) => {
                let peer = connection.peer().filter(|p| requests::is_good(&shared.hub.registry(), p));
                return match peer {
                    Some(_) => Ok(connection),
                    None => Err("its identity is unknown here, or denied".to_owned()),
                };
            }
            Ok(Err(e)) => problem = e.to_string(),
            Err(_) => problem = format!("{addr} does not answer"),
        }
    }
    Err(problem)
}

/// Only what the primary says of this manager counts: another one may be behind, and not know it yet.
fn note_word_of_primary(shared: &Shared, host: HostId, error: Option<&ConnectError>) {
    let situation = shared.edits.situation();
    if situation.primary() != host || situation.leading {
        return;
    }
    match error.map(|e| &e.problem) {
        None => shared.links.primary_refuses(false),
        Some(ConnectProblem::Rejected { code: server::DENIED, .. }) => shared.links.primary_refuses(true),
        Some(_) => {}
    }
}

pub(crate) async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, String> {
    let name = match &endpoint.address {
        Address::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, endpoint.port.into())]),
        Address::Name(name) => name.as_str(),
    };
    let found = timeout(LINK_DEADLINE, tokio::net::lookup_host((name, endpoint.port.into()))).await;
    match found {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(e)) => Err(format!("{name} cannot be looked up: {e}")),
        Err(_) => Err(format!("{name} could not be looked up in time")),
    }
}
