//! What all of the manager shares: the committed registry, its view, the board, the pushes.

use crate::clock::{Clock, unix_now};
use crate::fanout::{Pace, Push};
use crate::limits::{BOARD_PART, EVENT_RING, LIVENESS_INTERVAL, LIVENESS_STORM, PUSH_RING};
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use crate::witnesses::Witnesses;
use arc_swap::ArcSwap;
use echelon_core::access::Subject;
use echelon_core::board::{Agent, Board, Report, Told};
use echelon_core::event::{EventReport, differences};
use echelon_core::grant::Chain;
use echelon_core::id::HostId;
use echelon_core::message::{BoardNews, Holding, Liveness, LivenessEntry, ToAgent, ViewMark};
use echelon_core::name::HostName;
use echelon_core::project::{moved_places, project, project_commit};
use echelon_core::registry::Registry;
use echelon_core::replication::{CatchUp, ViewLog};
use echelon_core::row::{Commit, Row};
use echelon_core::view::View;
use echelon_wire::{MAX_SESSION_FRAME, Wire};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, broadcast, watch};
use tracing::error;

/// The shared state of one manager.
pub(crate) struct Hub {
    pub(crate) clock: Clock,
    pub(crate) sessions: Sessions,
    pub(crate) pace: Pace,
    pub(crate) metrics: Metrics,
    /// Who may write, and what agents say about it.
    pub(crate) witnesses: Witnesses,
    committed: ArcSwap<Registry>,
    log: Mutex<ViewLog>,
    board: Mutex<Board>,
    pushes: broadcast::Sender<Push>,
    news: Mutex<BTreeMap<HostId, LivenessEntry>>,
    news_came: Notify,
    /// How many commits have changed what certificates are worth.
    denials: watch::Sender<u64>,
    /// For those who watch.
    events: broadcast::Sender<Arc<Event>>,
    /// The revision that is shown.
    head: watch::Sender<u64>,
}

/// What watchers are told of.
#[derive(Debug)]
pub(crate) enum Event {
    /// This revision is committed.
    Committed(u64),
    /// Anything else.
    Told(Box<EventReport>),
}

impl Event {
    pub(crate) fn told(report: EventReport) -> Self {
        Self::Told(Box::new(report))
    }
}

impl Hub {
    /// The hub of a manager that starts with this committed state, under these grants.
    pub(crate) fn new(registry: Registry, grants: Chain) -> Self {
        let clock = Clock::start();
        let mut board = Board::new(clock.now());
        enrolled(&registry).for_each(|host| board.expect(host));
        let log = ViewLog::new(registry.position(), project(&registry));
        let revision = registry.position().revision;
        Self {
            clock,
            sessions: Sessions::default(),
            pace: Pace::new(),
            metrics: Metrics::new(),
            witnesses: Witnesses::new(grants),
            committed: ArcSwap::from_pointee(registry),
            log: Mutex::new(log),
            board: Mutex::new(board),
            pushes: broadcast::Sender::new(PUSH_RING),
            news: Mutex::default(),
            news_came: Notify::new(),
            denials: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENT_RING),
            head: watch::Sender::new(revision),
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
        {
            let mut log = self.log();
            self.committed.store(Arc::clone(&after));
            match log.push(commit.position, changes) {
                Ok(Some(delta)) => {
                    let mark = delta.mark;
                    let from = delta.from_view_revision;
                    let frame = ToAgent::Delta(echelon_core::message::Delta::clone(&delta)).encode();
                    self.push(match frame.len() <= MAX_SESSION_FRAME {
                        true => Push::Delta { from, mark, frame },
                        false => Push::Behind(mark),
                    });
                }
                Ok(None) => {}
                Err(e) => {
                    // A projection always fits. Should it not, every session finds its agent behind.
                    error!(error = %e, "The view could not follow the registry and is made anew");
                    *log = ViewLog::new(after.position(), project(&after));
                    self.push(Push::Behind(log.mark()));
                }
            }
        }
        for host in moved_places(&before, &after, commit) {
            self.follow(host, &before, &after);
            self.sessions.look_again(host);
        }
        if commit.rows.iter().any(|row| matches!(row.after, Some(Row::Denial(_) | Row::Issuer(_)))) {
            self.denials.send_modify(|denials| *denials += 1);
        }
        self.head.send_replace(commit.position.revision);
        self.happened([Event::Committed(commit.position.revision)]);
    }

    /// Shows this committed state in place of all that was shown: commits between the two are not told, and some of
    /// those that were may be void.
    pub(crate) fn begin_anew(&self, registry: Arc<Registry>) {
        {
            let (mut log, mut board) = (self.log(), self.board());
            let gone: Vec<_> = board.agents().map(|(host, _)| host).collect();
            gone.into_iter().filter(|h| registry.host(*h).is_none()).for_each(|h| board.forget(h));
            enrolled(&registry).for_each(|host| board.expect(host));
            *log = ViewLog::new(registry.position(), project(&registry));
            self.committed.store(Arc::clone(&registry));
            self.witnesses.forget_marks();
            self.push(Push::Behind(log.mark()));
        }
        registry.hosts().for_each(|host| self.sessions.look_again(host.id));
        self.denials.send_modify(|denials| *denials += 1);
        self.head.send_replace(registry.position().revision);
        self.happened([Event::Committed(registry.position().revision)]);
    }

    /// What a host is called; its id, where the registry does not know it.
    pub(crate) fn name_of(&self, host: HostId) -> HostName {
        let name = self.registry().host(host).map(|host| host.name.clone());
        name.unwrap_or_else(|| host.to_string().parse().expect("an id is a valid name"))
    }

    /// Keeps the board to the hosts there are: one that is removed is forgotten, one that is enrolled ought
    /// to be heard, and what is known of one that becomes a manager is news by that.
    fn follow(&self, host: HostId, before: &Registry, after: &Registry) {
        let mut board = self.board();
        if after.host(host).is_none() {
            return board.forget(host);
        }
        if after.identity(&Subject::Host(host)).is_some() {
            board.expect(host);
        }
        if is_of_interest(after, host) && !is_of_interest(before, host) {
            self.tell(after, board.agent(host).and_then(|agent| entry(host, agent)));
        }
    }

    /// What an agent that holds `holds` needs.
    pub(crate) fn catch_up(&self, holds: Option<&Holding>) -> (CatchUp, View, ViewMark) {
        let log = self.log();
        (log.catch_up(Some(&self.witnesses.current()), holds), log.view().clone(), log.mark())
    }

    /// All pushes from now on.
    pub(crate) fn pushes(&self) -> broadcast::Receiver<Push> {
        self.pushes.subscribe()
    }

    /// Changes with every commit from now on after which a certificate may be worth less.
    pub(crate) fn denials(&self) -> watch::Receiver<u64> {
        self.denials.subscribe()
    }

    /// All events from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Whether anybody watches.
    pub(crate) fn is_watched(&self) -> bool {
        self.events.receiver_count() > 0
    }

    /// The revision that is shown, as it moves on.
    pub(crate) fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Tells those who watch.
    pub(crate) fn happened(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            // Without a watcher there is nobody to tell, which is no fault.
            let _ = self.events.send(Arc::new(event));
        }
    }

    /// Works on one agent's entry of the board, and tells those who watch what that changed.
    fn change<T>(
        &self,
        registry: &Registry,
        host: HostId,
        board: &mut Board,
        work: impl FnOnce(&mut Board) -> T,
    ) -> T {
        // What an agent says is looked at twice only where somebody wants to know.
        let before = self.is_watched().then(|| board.agent(host).cloned());
        let done = work(board);
        if let (Some(before), Some(row)) = (before, registry.host(host)) {
            let events = differences(unix_now(), &row.name, before.as_ref(), board.agent(host));
            self.happened(events.into_iter().map(Event::told));
        }
        done
    }

    /// Notes that an agent's session ended.
    pub(crate) fn session_ended(&self, host: HostId) {
        let mut board = self.board();
        self.change(&self.registry(), host, &mut board, |board| board.session_ended(host));
    }

    /// What the view is.
    pub(crate) fn mark(&self) -> ViewMark {
        self.log().mark()
    }

    /// Takes in what the agent of a host reports of the packages there.
    pub(crate) fn report(&self, host: HostId, mut report: Report) {
        let view = self.mark().digest;
        // All under the board's lock: a host is gone from the registry before it is forgotten, and news are
        // told in the order in which they came about.
        let mut board = self.board();
        let registry = self.registry();
        if registry.host(host).is_none() {
            return;
        }
        report.packages.retain(|ty, _| registry.package(host, ty).is_some());
        let level = report.holds.is_some_and(|holds| holds.digest == view);
        let news = self.change(&registry, host, &mut board, |board| {
            let news = board.heard(self.clock.now(), host, report);
            if level {
                board.note_level(host);
            }
            news
        });
        self.tell(&registry, news);
    }

    /// What another manager is to be told of agents now; none where there is nothing.
    pub(crate) fn board_news(&self, own: HostId, peer: HostId) -> Option<BoardNews> {
        let registry = self.registry();
        let ripe = self.board().take_ripe(|host| registry.host(host).is_some());
        ripe.into_iter().for_each(|(from, told)| self.learn_of(own, from, told));
        let mut board = self.board();
        let agents = board.tell(self.clock.now(), own, peer, BOARD_PART);
        let proved = self.witnesses.to_tell(peer);
        (!agents.is_empty() || proved.is_some()).then_some(BoardNews { agents, proved })
    }

    /// Takes in what the manager `from` tells the one on `own` of agents.
    pub(crate) fn learn(&self, own: HostId, from: HostId, news: BoardNews) {
        if let Some(proved) = news.proved {
            self.witnesses.hear_told(&self.registry(), &self.mark().position, from, &proved);
        }
        news.agents.into_iter().for_each(|told| self.learn_of(own, from, told));
    }

    fn learn_of(&self, own: HostId, from: HostId, told: Told) {
        let mut board = self.board();
        let registry = self.registry();
        let host = told.host;
        if registry.host(host).is_none() {
            return board.keep_early(from, told);
        }
        let now = self.clock.now();
        let news = self.change(&registry, host, &mut board, |board| board.learn(now, own, from, told));
        self.tell(&registry, news);
    }

    /// There is a link to another manager: it is told of all agents.
    pub(crate) fn linked(&self, peer: HostId) {
        self.witnesses.linked(peer);
        self.board().link_up(peer);
    }

    /// There is no link to another manager any more.
    pub(crate) fn lost(&self, peer: HostId) {
        self.board().link_down(self.clock.now(), peer);
    }

    /// Judges silence.
    pub(crate) fn judge(&self) {
        let mut board = self.board();
        let registry = self.registry();
        let news = board.judge(self.clock.now());
        if self.is_watched() {
            let silent = news.iter().filter_map(|entry| registry.host(entry.host));
            let silent = silent.map(|host| EventReport::silent(unix_now(), &host.name));
            self.happened(silent.map(Event::told));
        }
        self.tell(&registry, news);
    }

    /// Queues news for the agents, where the host is of interest to them: one entry for each host at most,
    /// the last one told. Callers hold the board.
    fn tell(&self, registry: &Registry, entries: impl IntoIterator<Item = LivenessEntry>) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries.into_iter().filter(|e| is_of_interest(registry, e.host)) {
            news.insert(entry.host, entry);
            self.news_came.notify_one();
        }
    }

    /// Pushes news of liveness as they come: the first at once, and while they keep coming in ever larger
    /// pieces, since each push costs every session a frame and every agent a decision.
    pub(crate) async fn push_news(&self) {
        let mut pause = LIVENESS_INTERVAL;
        loop {
            let keep_coming = !self.news.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            self.news_came.notified().await;
            let least = LIVENESS_INTERVAL.max(self.pace.time_for(self.sessions.count()));
            let longer = if keep_coming { pause.saturating_mul(2).min(LIVENESS_STORM) } else { least };
            pause = longer.max(least);
            let news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
            for entries in echelon_wire::parts(news.into_values(), echelon_wire::MAX_PART) {
                let frame = ToAgent::Liveness(Liveness { complete: false, entries }).encode();
                self.push(Push::Frame(frame));
            }
            tokio::time::sleep(pause).await;
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
        board.entries().filter(|e| is_of_interest(&registry, e.host)).collect()
    }

    /// The board. Hold it for moments only.
    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, ViewLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hosts whose agents ought to be heard.
fn enrolled(registry: &Registry) -> impl Iterator<Item = HostId> {
    let hosts = registry.hosts().map(|host| host.id);
    hosts.filter(|host| registry.identity(&Subject::Host(*host)).is_some())
}

/// Whether agents may route to this host.
fn is_of_interest(registry: &Registry, host: HostId) -> bool {
    registry.packages_on(host).any(|p| p.is_manager())
}

/// What others are told of a host; nothing before there is anything to tell.
fn entry(host: HostId, agent: &Agent) -> Option<LivenessEntry> {
    let Report { incarnation, sequence, packages, .. } = agent.report().clone();
    let known = agent.is_heard() || agent.is_silent();
    known.then(|| LivenessEntry { host, incarnation, sequence, silent: agent.is_silent(), packages })
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
