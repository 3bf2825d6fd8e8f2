//! Keeping a link to every other registry manager.

use super::speak;
use crate::limits::{LINK_DEADLINE, LINK_LOOK, LINK_PAUSE, LINK_PAUSE_MOST};
use crate::requests;
use crate::server::{self, Shared};
use echelon_core::endpoint::Endpoint;
use echelon_core::id::HostId;
use echelon_core::member::Input;
use echelon_core::name::ManagerType;
use echelon_core::registry::Registry;
use echelon_daemon::Tasks;
use echelon_transport::{ConnectError, ConnectProblem, Connection, Target, resolve};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug, info_span};

/// How dialling a manager ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dialled {
    /// There was a link, which lasted.
    Lasted,
    /// There was none, or not for long.
    Failed,
    /// It is the primary, and has refused this manager, so often in a row.
    Refused(u32),
}

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
                    let how = dial(&shared, host, &endpoint, &kept).await;
                    end(&attempts, host, how);
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

fn end(attempts: &Mutex<BTreeMap<HostId, Attempts>>, host: HostId, how: Dialled) {
    let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(known) = attempts.get_mut(&host) else { return };
    known.under_way = false;
    known.failures = match how {
        Dialled::Lasted => 0,
        Dialled::Failed => known.failures.saturating_add(1),
        // It answers, however long it was out of reach: whether this manager is to end is asked soon.
        Dialled::Refused(times) => times,
    };
    known.next = Instant::now() + pause(known.failures);
}

fn pause(failures: u32) -> Duration {
    let doubled = LINK_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(LINK_PAUSE_MOST)
}

/// Makes a connection and a link, and serves both until they end.
async fn dial(shared: &Shared, host: HostId, endpoint: &Endpoint, tasks: &Tasks) -> Dialled {
    let connected = tokio::select! {
        connected = connect(shared, host, endpoint) => connected,
        () = shared.stop.cancelled() => return Dialled::Failed,
    };
    let connection = match connected {
        Ok(connection) => connection,
        Err((why, how)) => {
            debug!("A registry manager cannot be reached: {why}");
            return how;
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
    if began.elapsed() >= LINK_DEADLINE { Dialled::Lasted } else { Dialled::Failed }
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

async fn connect(
    shared: &Shared,
    host: HostId,
    endpoint: &Endpoint,
) -> Result<Connection, (String, Dialled)> {
    let (target, mut how) = (Target::Manager(host), Dialled::Failed);
    let mut problem = format!("{endpoint} has no address");
    for addr in resolve(endpoint).await.map_err(|why| (why, how))? {
        let connect = shared.endpoint.connect(addr, &target);
        let connected = timeout(LINK_DEADLINE, connect).await;
        if let Ok(connected) = &connected {
            how = note_word_of_primary(shared, host, connected.as_ref().err());
        }
        match connected {
            Ok(Ok(connection)) => {
                let peer = connection.peer().filter(|p| requests::is_good(&shared.hub.registry(), p));
                return match peer {
                    Some(_) => Ok(connection),
                    None => Err(("its identity is unknown here, or denied".to_owned(), Dialled::Failed)),
                };
            }
            Ok(Err(e)) => problem = e.to_string(),
            Err(_) => problem = format!("{addr} does not answer"),
        }
    }
    Err((problem, how))
}

/// Only what the primary says of this manager counts: another one may be behind, and not know it yet.
fn note_word_of_primary(shared: &Shared, host: HostId, error: Option<&ConnectError>) -> Dialled {
    let situation = shared.edits.situation();
    if situation.primary() != host || situation.leading {
        return Dialled::Failed;
    }
    match error.map(|e| &e.problem) {
        None => shared.links.primary_lets_in(),
        Some(ConnectProblem::Rejected { code: server::DENIED, .. }) => {
            return Dialled::Refused(shared.links.primary_refuses());
        }
        Some(_) => {}
    }
    Dialled::Failed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::limits::REFUSALS;
    use uuid::Uuid;

    /// Protects: a manager that was cut off for long, and was removed meanwhile, soon knows, and ends: until then
    /// agents would go back to it.
    #[test]
    fn a_primary_that_refuses_is_asked_again_soon_and_one_that_is_silent_is_not() {
        let (host, attempts) = (HostId(Uuid::nil()), Mutex::<BTreeMap<HostId, Attempts>>::default());
        let left = || attempts.lock().unwrap()[&host].next.saturating_duration_since(Instant::now());
        assert!(begin(&attempts, host));
        for _ in 0..20 {
            end(&attempts, host, Dialled::Failed);
        }
        assert!(left() > LINK_PAUSE_MOST / 2);
        for times in 1..REFUSALS {
            end(&attempts, host, Dialled::Refused(times));
            assert!(left() <= LINK_PAUSE * times, "{times}");
        }
        end(&attempts, host, Dialled::Failed);
        assert!(left() <= LINK_PAUSE * 2_u32.pow(REFUSALS));
    }
}
