//! What all of the manager shares: the committed registry, its view, the board, the pushes.

use crate::clock::Clock;
use crate::fanout::{Pace, Push};
use crate::limits::{LIVENESS_INTERVAL, PUSH_RING};
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use arc_swap::ArcSwap;
use echelon_core::access::Subject;
use echelon_core::board::{Board, Report};
use echelon_core::id::HostId;
use echelon_core::message::{Holding, Liveness, LivenessEntry, ToAgent, ViewMark};
use echelon_core::project::{moved_places, project, project_commit};
use echelon_core::registry::Registry;
use echelon_core::replication::{CatchUp, ViewLog};
use echelon_core::row::Commit;
use echelon_core::view::View;
use echelon_wire::Wire;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, broadcast};
use tracing::error;

/// The shared state of one manager.
pub(crate) struct Hub {
    pub(crate) clock: Clock,
    pub(crate) sessions: Sessions,
    pub(crate) pace: Pace,
    pub(crate) metrics: Metrics,
    committed: ArcSwap<Registry>,
    log: Mutex<ViewLog>,
    board: Mutex<Board>,
    pushes: broadcast::Sender<Push>,
    news: Mutex<BTreeMap<HostId, LivenessEntry>>,
    news_came: Notify,
}

impl Hub {
    /// The hub of a manager that starts with this committed state.
    pub(crate) fn new(registry: Registry) -> Self {
        let clock = Clock::start();
        let mut board = Board::new(clock.now());
        let enrolled = registry.hosts().filter(|h| registry.identity(&Subject::Host(h.id)).is_some());
        enrolled.for_each(|h| board.expect(h.id));
        let log = ViewLog::new(registry.position(), project(&registry));
        Self {
            clock,
            sessions: Sessions::default(),
            pace: Pace::new(),
            metrics: Metrics::new(),
            committed: ArcSwap::from_pointee(registry),
            log: Mutex::new(log),
            board: Mutex::new(board),
            pushes: broadcast::Sender::new(PUSH_RING),
            news: Mutex::default(),
            news_came: Notify::new(),
        }
    }

    /// The committed registry.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.committed.load_full()
    }

    /// The committed registry and its view, of one and the same state.
    pub(crate) fn registry_and_view(&self) -> (Arc<Registry>, View) {
        let log = self.log();
        (self.registry(), log.view().clone())
    }

    /// Shows a commit that is durable: to readers first, then to the agents.
    pub(crate) fn commit(&self, after: Arc<Registry>, commit: &Commit) {
        let before = self.registry();
        let changes = project_commit(&before, &after, commit);
        let moved = moved_places(&before, &after, commit);
        {
            let mut log = self.log();
            self.committed.store(Arc::clone(&after));
            match log.push(commit.position, changes) {
                Ok(Some(delta)) => {
                    let mark = delta.mark;
                    let from = delta.from_view_revision;
                    let frame = ToAgent::Delta(echelon_core::message::Delta::clone(&delta)).encode();
                    self.push(Push::Delta { from, mark, frame });
                }
                Ok(None) => {}
                // A projection always fits; should it not, agents find out by the digest and ask again.
                Err(e) => error!(error = %e, "The view could not follow the registry"),
            }
        }
        for host in moved {
            if after.host(host).is_none() {
                self.board().forget(host);
            }
            self.sessions.look_again(host);
        }
    }

    /// What an agent that holds `holds` needs, and all pushes from then on.
    pub(crate) fn subscribe(
        &self,
        holds: Option<&Holding>,
    ) -> (CatchUp, View, ViewMark, broadcast::Receiver<Push>) {
        let log = self.log();
        (log.catch_up(holds), log.view().clone(), log.mark(), self.pushes.subscribe())
    }

    /// What the view is.
    pub(crate) fn mark(&self) -> ViewMark {
        self.log().mark()
    }

    /// Takes in an agent's report.
    pub(crate) fn report(&self, host: HostId, report: Report) {
        let entry = self.board().heard(self.clock.now(), host, report);
        self.tell(entry);
    }

    /// Judges silence.
    pub(crate) fn judge(&self) {
        let entries = self.board().judge(self.clock.now());
        self.tell(entries);
    }

    /// Queues news for the agents, where the host is of interest to them: one entry for each host at most.
    fn tell(&self, entries: impl IntoIterator<Item = LivenessEntry>) {
        let registry = self.registry();
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            if registry.packages_on(entry.host).any(|p| p.is_manager()) {
                news.insert(entry.host, entry);
                self.news_came.notify_one();
            }
        }
    }

    /// Pushes news of liveness as they come, in one piece where they come fast.
    pub(crate) async fn push_news(&self) {
        loop {
            self.news_came.notified().await;
            let news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
            for entries in echelon_wire::parts(news.into_values(), echelon_wire::MAX_PART) {
                let frame = ToAgent::Liveness(Liveness { complete: false, entries }).encode();
                self.push(Push::Frame(frame));
            }
            tokio::time::sleep(LIVENESS_INTERVAL.max(self.pace.time_for(self.sessions.count()))).await;
        }
    }

    fn push(&self, push: Push) {
        // Without a session there is nobody to push to, which is no fault.
        let _ = self.pushes.send(push);
    }

    /// What is known of hosts that agents may route to.
    pub(crate) fn liveness(&self) -> Vec<LivenessEntry> {
        let registry = self.registry();
        let board = self.board();
        let of_interest = |e: &LivenessEntry| registry.packages_on(e.host).any(|p| p.is_manager());
        board.entries().filter(of_interest).collect()
    }

    /// The board. Hold it for moments only.
    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, ViewLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
