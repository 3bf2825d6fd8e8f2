//! Connects to the managers of one type, in the order of its route, and reports what that says about each.

use crate::connect::{self, NoConnection};
use crate::listen::Places;
use crate::metrics::{Became, Metrics, TypeMetrics};
use crate::race::{Attempt, MAX_TRIED, Overtaken, Race, race};
use crate::reports::Reports;
use crate::routes::{Routes, WantError};
use echelon_core::evidence::Seen;
use echelon_core::hedge::UNKNOWN_HEDGE;
use echelon_core::id::HostId;
use echelon_core::name::{ManagerType, Text};
use echelon_core::route::{Route, Target};
use echelon_daemon::Tasks;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Attempts that go on after they were overtaken. Past it they are given up: those under way already say
/// all there is to find out.
const MAX_OVERTAKEN: usize = 256;

/// Attempts for callers of one type that are made beside others of the same callers, because those are silent. A
/// caller's first is not counted. When a whole network falls silent, a thousand callers do not take eight descriptors
/// each; some wait a little longer for the next candidate.
const MAX_HEDGES: usize = 256;

/// Failures that one message names.
const MAX_NAMED: usize = 3;

/// What serving callers takes, whichever way they come.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) routes: Routes,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) places: Arc<Places>,
}

/// Connects to the managers of one type.
pub(crate) struct Dialer {
    ty: ManagerType,
    parts: Parts,
    metrics: TypeMetrics,
    reports: Arc<Reports>,
    overtaken: Arc<Semaphore>,
    beside: Semaphore,
}

/// Why there is no connection. What was seen of the candidates has been reported; trying again is safe.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// There was nobody to try.
    #[error("{0}")]
    Unserved(Text),
    /// Everybody who was tried failed.
    #[error("{0}")]
    Unreachable(String),
}

impl DialError {
    /// What became of the caller.
    pub(crate) fn became(&self) -> Became {
        match self {
            Self::Unserved(_) => Became::Nobody,
            Self::Unreachable(_) => Became::Failed,
        }
    }
}

impl Dialer {
    pub(crate) fn new(ty: ManagerType, parts: Parts) -> Self {
        let reports = Arc::new(Reports::new(parts.routes.clone(), ty.clone()));
        let metrics = parts.metrics.of_type(&ty);
        let (overtaken, beside) = (Arc::new(Semaphore::new(MAX_OVERTAKEN)), Semaphore::new(MAX_HEDGES));
        Self { ty, parts, metrics, reports, overtaken, beside }
    }

    /// A connection to the first manager that answers, and which one that is. Nobody is tried at `except`,
    /// which is where the caller itself listens.
    pub(crate) async fn dial(&self, except: Option<SocketAddr>) -> Result<(TcpStream, Target), DialError> {
        let unserved = |why| Err(DialError::Unserved(why));
        match self.parts.routes.get(&self.ty) {
            None if self.parts.routes.replica().is_none() => {
                unserved(Text::lossy(&WantError::NoReplica.to_string()))
            }
            None => unserved(Text::lossy(&WantError::TooMany.to_string())),
            Some(route) if route.targets.is_empty() => unserved(route.cause.clone()),
            Some(route) => {
                let all = (0..route.targets.len().min(MAX_TRIED)).collect();
                self.race(&route, all, except).await
            }
        }
    }

    /// [`Self::dial`], but nobody on these hosts is tried either.
    pub(crate) async fn dial_past(
        &self,
        except: Option<SocketAddr>,
        passed_over: &BTreeSet<HostId>,
    ) -> Result<(TcpStream, Target), DialError> {
        let route = match self.parts.routes.get(&self.ty) {
            Some(route) if !passed_over.is_empty() => route,
            _ => return self.dial(except).await,
        };
        let is_left = |(_, target): &(usize, &Target)| !passed_over.contains(&target.host);
        let rest = route.targets.iter().enumerate().filter(is_left).map(|(i, _)| i);
        let rest: Vec<_> = rest.take(MAX_TRIED).collect();
        if rest.is_empty() {
            return Err(DialError::Unserved(Text::lossy("nobody is left to try")));
        }
        self.race(&route, rest, except).await
    }

    /// Reports what was seen of a manager after the connect.
    pub(crate) fn report(&self, target: &Target, seen: Seen, took: Duration) {
        self.reports.saw(target, seen, took);
    }

    /// Connects to the first that answers of these targets of the route.
    async fn race(
        &self,
        route: &Route,
        among: Vec<usize>,
        except: Option<SocketAddr>,
    ) -> Result<(TcpStream, Target), DialError> {
        let limit = route.policy.connect_timeout;
        let target = |i: usize| among.get(i).and_then(|i| route.targets.get(*i));
        let is_caller = |t: &Target| except.is_some() && t.endpoint.socket_addr() == except;
        let attempt = |i: usize| -> Attempt<TcpStream> {
            let endpoint = target(i).filter(|t| !is_caller(t)).map(|t| t.endpoint.clone());
            Box::pin(async move {
                let itself = || NoConnection::Refused(Text::lossy("it is this forwarder itself"));
                let endpoint = endpoint.ok_or_else(itself)?;
                connect::tcp(&endpoint, limit).await
            })
        };
        let saw = |i: usize, seen: Seen, took: Duration| {
            if let Some(target) = target(i) {
                self.metrics.attempt(&seen, took);
                self.reports.saw(target, seen, took);
            }
        };
        let hedge = |i: usize| target(i).map_or(UNKNOWN_HEDGE, |target| target.hedge);
        match race(among.len(), &self.beside, hedge, attempt, saw).await {
            Race::Lost(failures) => Err(DialError::Unreachable(in_words(target, &failures))),
            Race::Won { stream, winner, overtaken } => {
                self.follow(target, overtaken);
                let target = target(winner).cloned();
                let target = target.ok_or_else(|| DialError::Unreachable("no such candidate".into()))?;
                Ok((stream, target))
            }
        }
    }

    /// Waits in the background for what becomes of attempts that were overtaken.
    fn follow<'a>(&self, target: impl Fn(usize) -> Option<&'a Target>, overtaken: Vec<Overtaken<TcpStream>>) {
        for Overtaken { candidate: i, attempt, began } in overtaken {
            let Ok(place) = Arc::clone(&self.overtaken).try_acquire_owned() else {
                self.parts.metrics.dropped_overtaken.inc();
                continue;
            };
            let Some(target) = target(i).cloned() else { continue };
            let reports = Arc::clone(&self.reports);
            self.parts.tasks.spawn("overtaken", async move {
                let seen = attempt.await.map_or_else(|why| why.seen(), |_| Some(Seen::Connected));
                if let Some(seen) = seen {
                    reports.saw(&target, seen, began.elapsed());
                }
                drop(place);
            });
        }
    }
}

fn in_words<'a>(target: impl Fn(usize) -> Option<&'a Target>, failures: &[(usize, Text)]) -> String {
    let name = |i: usize| target(i).map_or_else(String::new, |t| t.name.to_string());
    let named = failures.iter().take(MAX_NAMED).map(|(i, why)| format!("{}: {why}", name(*i)));
    let named = named.collect::<Vec<_>>().join("; ");
    match failures.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}
