//! Keeps a session with a registry manager, for as long as there is one to be found.

use crate::alarms::Alarms;
use crate::announce::Announcer;
use crate::check::HealthMap;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::registry::contacts::Contacts;
use crate::registry::renewal::{renew, source_chain, tell};
use crate::registry::session::{Session, SessionEnd};
use crate::registry::{Identity, Keeper, Link};
use crate::routes::Routes;
use echelon_core::choice::jitter_share;
use echelon_core::endpoint::Endpoint;
use echelon_core::evidence::Seen;
use echelon_core::name::{HostName, ManagerType, Text};
use echelon_core::router::Input;
use echelon_core::witness::Shunned;
use echelon_identity::Spiffe;
use echelon_transport::Connection;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Shortest and longest wait before the next try.
const WAIT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));

/// With which a connection is closed in good order.
const GOODBYE: u32 = 1;

/// With which a connection is closed whose other end broke the rules.
const BROKEN: u32 = 3;

/// What an uplink works with.
#[derive(Clone)]
pub(crate) struct UplinkParts {
    pub(crate) clock: Clock,
    pub(crate) routes: Routes,
    pub(crate) identity: Arc<Identity>,
    pub(crate) link: Arc<Link>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) alarms: Alarms,
    pub(crate) health: watch::Receiver<Arc<HealthMap>>,
    pub(crate) announcer: Announcer,
    /// The host, as far as its name is known; only spreads hosts over time.
    pub(crate) name: HostName,
    /// Larger at every start of this agent.
    pub(crate) incarnation: u64,
    /// Addresses of first contact.
    pub(crate) first: Vec<Endpoint>,
}

/// The task that keeps the session.
pub(crate) struct Uplink {
    parts: UplinkParts,
    contacts: Contacts,
    keeper: Keeper,
    sequence: AtomicU64,
    share: f64,
    /// Managers that were refused because of their grants.
    shunned: Shunned,
    /// A manager has said that the certificate is to be renewed before anything else.
    renew_first: bool,
    /// Failures in a row.
    failures: u32,
    /// Whether the router believes that there is a session.
    up: bool,
}

impl Uplink {
    pub(crate) fn new(parts: UplinkParts, keeper: Keeper) -> Self {
        let (routes, identity) = (parts.routes.clone(), Arc::clone(&parts.identity));
        identity.follow(keeper.view());
        let contacts = Contacts::new(routes, identity, parts.first.clone());
        let share = jitter_share(&parts.name);
        // From 1: a report with a sequence of 0 could not be told from none.
        Self {
            parts,
            contacts,
            keeper,
            sequence: AtomicU64::new(1),
            share,
            shunned: Shunned::default(),
            renew_first: false,
            failures: 0,
            up: false,
        }
    }

    /// Runs until `stop`, then writes down how far the replica has come. Where the agent ends it says goodbye.
    pub(crate) async fn run(mut self, stop: CancellationToken, agent_ends: CancellationToken) {
        while !stop.is_cancelled() {
            let now = self.parts.clock.now();
            let connected = tokio::select! {
                connected = self.contacts.connect(|host| self.shunned.has(now, host)) => connected,
                () = stop.cancelled() => break,
            };
            let wait = match connected {
                Ok(connection) => self.hold(&connection, &stop).await,
                Err(why) => self.found_nobody(&why).await,
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.cancelled() => break,
            }
        }
        self.parts.link.set_session(None);
        if !agent_ends.is_cancelled() {
            self.set_down().await;
        } else if self.up {
            // The manager that is told so need not find out by this host's silence.
            self.parts.identity.endpoint().close(GOODBYE, "the agent is stopping").await;
        }
        self.keeper.close().await;
    }

    /// Holds a session over this connection. Gives the wait before the next one.
    async fn hold(&mut self, connection: &Connection, stop: &CancellationToken) -> Duration {
        if self.parts.identity.must_renew() || std::mem::take(&mut self.renew_first) {
            return self.revive(connection).await;
        }
        let Self { parts, keeper, sequence, share, shunned, up, .. } = self;
        let session = Session { parts, connection, sequence, share: *share, shunned };
        let began = parts.clock.now();
        let end = session.run(keeper, stop, || *up = true).await;
        self.parts.link.set_session(None);
        if self.parts.clock.now().since(began) >= WAIT.1 {
            // Sessions that end as soon as they begin count as failures, so that two agents with one
            // identity, say, do not take turns several times a second.
            self.failures = 0;
            if let Some(Spiffe::Manager(host)) = connection.peer().map(|p| &p.subject) {
                self.shunned.accept(*host);
            }
        }
        self.ended(connection, end).await
    }

    async fn ended(&mut self, connection: &Connection, end: SessionEnd) -> Duration {
        let text = source_chain(&end);
        let was_refused = matches!(end, SessionEnd::Grants(_));
        match end {
            SessionEnd::Stopping => {
                connection.close(GOODBYE, &text);
                return Duration::ZERO;
            }
            SessionEnd::RenewFirst => {
                info!("A session ends: {text}");
                connection.close(GOODBYE, &text);
                self.renew_first = true;
                // Whoever has just renewed, and is told so again, waits as after any failure.
                return if self.failures == 0 { WAIT.0 } else { self.next_wait() };
            }
            SessionEnd::Planned | SessionEnd::Nearer(_) => {
                info!("A session ends: {text}");
                connection.close(GOODBYE, &text);
                return Duration::ZERO;
            }
            SessionEnd::Message(_) | SessionEnd::Greeting | SessionEnd::Replica(_) => {
                connection.close(BROKEN, &text);
            }
            _ => connection.close(GOODBYE, &text),
        }
        warn!("There is no session any more: {text}");
        if let Some(Spiffe::Manager(host)) = connection.peer().map(|p| &p.subject) {
            if was_refused {
                self.shunned.refuse(self.parts.clock.now(), *host);
            }
            let seen = Seen::Failed(Text::lossy(&text));
            self.parts.routes.saw(&ManagerType::registry(), *host, None, seen, Duration::ZERO);
        }
        self.set_down().await;
        self.next_wait()
    }

    /// Renews a certificate that has run out, or whose issuer has left; the manager lets it do nothing else.
    async fn revive(&mut self, connection: &Connection) -> Duration {
        let renewed = renew(&self.parts.identity, connection, &self.parts.metrics).await;
        tell(&self.parts.alarms, &renewed);
        connection.close(GOODBYE, "renewed");
        match renewed {
            Ok(()) => WAIT.0,
            Err(error) => self.found_nobody(&source_chain(&error)).await,
        }
    }

    async fn found_nobody(&mut self, why: &str) -> Duration {
        self.set_down().await;
        match self.failures {
            0 => warn!("No registry manager can be reached; routing goes on with the replica: {why}"),
            _ => debug!(failures = self.failures, "No registry manager can be reached: {why}"),
        }
        self.next_wait()
    }

    async fn set_down(&mut self) {
        if std::mem::take(&mut self.up) {
            self.parts.routes.tell(Input::Session(false)).await;
        }
    }

    fn next_wait(&mut self) -> Duration {
        let wait = wait(&self.parts.name, self.failures);
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

/// The wait after so many failures in a row: doubling from 0.25 s to 8 s, of which each host sits out
/// between half and all, a different part each time, so that a thousand hosts do not return at once.
fn wait(host: &HostName, failures: u32) -> Duration {
    let full = WAIT.0.saturating_mul(1 << failures.min(16)).min(WAIT.1);
    // Each try is given its own name, and by that its own share.
    let tried: Option<HostName> = format!("{host}-{failures}").parse().ok();
    let share = jitter_share(tried.as_ref().unwrap_or(host));
    full.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn waits_double_up_to_8_s_and_spread_the_hosts() {
        let hosts: Vec<HostName> = (0..200).map(|i| format!("host{i}").parse().unwrap()).collect();
        for (failures, full) in [(0, 250), (1, 500), (4, 4000), (5, 8000), (40, 8000), (u32::MAX, 8000)] {
            let waits: BTreeSet<_> = hosts.iter().map(|h| wait(h, failures).as_millis()).collect();
            assert!(waits.iter().all(|w| (full / 2..=full).contains(w)), "{failures}: {waits:?}");
            let spread = waits.last().unwrap() - waits.first().unwrap();
            assert!(spread > full * 4 / 10, "{failures}: {spread} ms");
        }
        let long: HostName = "h".repeat(253).parse().unwrap();
        assert!(wait(&long, 3) <= WAIT.1);
    }
}
