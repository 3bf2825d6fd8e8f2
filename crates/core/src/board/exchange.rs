//! How boards of several managers become one: everything known when a link comes up, then what changes.

use super::{Agent, Board, Told, WARMING};
use crate::id::HostId;
use crate::message::LivenessEntry;
use crate::time::Monotonic;
use std::collections::BTreeMap;

/// Most hosts of which something is kept that the registry here does not have yet: a standby lags by some edits at
/// most, and what is given up is told again with the next change or link.
pub const MAX_EARLY: usize = 1_024;

impl Board {
    /// A link to another manager is up: it is told everything, and what it tells of its agents holds for as long as
    /// the link does.
    pub fn link_up(&mut self, peer: HostId) {
        let heard = self.agents.iter().filter(|(_, agent)| agent.is_heard());
        self.peers.insert(peer, heard.map(|(host, _)| *host).collect());
        for agent in self.agents.values_mut().filter(|a| a.by == Some(peer)) {
            agent.due = None;
        }
    }

    /// The link to another manager is lost. Its agents stay as they were last known, and are judged here if nobody
    /// has heard of them within [`WARMING`].
    pub fn link_down(&mut self, now: Monotonic, peer: HostId) {
        self.latest = self.latest.max(now);
        self.peers.remove(&peer);
        for agent in self.agents.values_mut().filter(|a| a.by == Some(peer)) {
            agent.due = Some(now + WARMING);
        }
    }

    /// Whether there is anything to tell a manager.
    pub fn owes(&self, peer: HostId) -> bool {
        self.peers.get(&peer).is_some_and(|owed| !owed.is_empty())
    }

    /// What the manager on `own` has to tell another one now, of at most so many agents. Whatever it is, it is told
    /// once: where it is lost, so is the link.
    pub fn tell(&mut self, now: Monotonic, own: HostId, peer: HostId, most: usize) -> Vec<Told> {
        let Some(owed) = self.peers.get_mut(&peer) else { return Vec::new() };
        let rest = owed.iter().nth(most).copied().map(|first| owed.split_off(&first)).unwrap_or_default();
        let due = std::mem::replace(owed, rest);
        let known = due.into_iter().filter_map(|host| Some((host, self.agents.get(&host)?)));
        known.map(|(host, agent)| Told::of(host, agent, own, now)).collect()
    }

    /// Takes in what the manager `from` tells the one on `own`. Gives the entry that agents must hear, where something
    /// in it is news to them.
    ///
    /// Whoever has the session tells everybody itself. What is heard of it from somebody else is passed on: it may
    /// have been started again since, and then knows nothing of what it said.
    pub fn learn(&mut self, now: Monotonic, own: HostId, from: HostId, told: Told) -> Option<LivenessEntry> {
        self.latest = self.latest.max(now);
        let (host, is_hearsay) = (told.host, told.by != from);
        let old = self.agents.get(&host).filter(|agent| agent.is_heard());
        let number = |a: &Agent| (a.report.incarnation, a.report.sequence, a.word, a.by.unwrap_or(own));
        // What its own manager says again ends a guess about its silence.
        let is_known = |a: &Agent| number(a) > told.number() || (number(a) == told.number() && is_hearsay);
        if told.incarnation == 0 || old.is_some_and(is_known) {
            return None;
        }
        let before = self.agents.get(&host).map(|agent| (agent.silent, agent.report.packages.clone()));
        let agent = self.learnt(now, own, told);
        let news = before != Some((agent.silent, agent.report.packages.clone()));
        let entry = news.then(|| agent.entry(host));
        self.agents.insert(host, agent);
        if is_hearsay {
            self.owe(host);
        }
        entry
    }

    fn learnt(&self, now: Monotonic, own: HostId, told: Told) -> Agent {
        let since = |age| now - age;
        let by = Some(told.by).filter(|by| *by != own);
        // Of an earlier life of this manager, whose sessions are gone, or of a manager that it has no link to.
        let is_left = by.is_none_or(|by| !self.peers.contains_key(&by));
        Agent {
            heard: since(told.ago),
            connected: told.connected && by.is_some(),
            silent: told.silent,
            level: told.behind.map_or(now, since),
            failing: told.failing.iter().map(|(ty, age)| (ty.clone(), since(*age))).collect(),
            by,
            due: is_left.then(|| now + WARMING),
            is_last: !is_left,
            guessed: false,
            behind: told.behind.is_some(),
            word: if by.is_some() { told.word } else { told.word.saturating_add(1) },
            report: told.report(),
        }
    }

    /// Keeps what the manager `from` tells of a host that the registry here does not have yet.
    pub fn keep_early(&mut self, from: HostId, told: Told) {
        if self.early.len() < MAX_EARLY || self.early.contains_key(&told.host) {
            self.early.insert(told.host, (from, told));
        }
    }

    /// What was kept of hosts that the registry has by now, and which managers told it.
    pub fn take_ripe(&mut self, known: impl Fn(HostId) -> bool) -> Vec<(HostId, Told)> {
        let ripe: Vec<_> = self.early.keys().copied().filter(|host| known(*host)).collect();
        ripe.iter().filter_map(|host| self.early.remove(host)).collect()
    }

    /// How many agents each other manager serves; those served here are not among them.
    pub fn served_elsewhere(&self) -> BTreeMap<HostId, usize> {
        let mut served = BTreeMap::new();
        for by in self.agents.values().filter(|a| a.connected && !a.silent).filter_map(|a| a.by) {
            *served.entry(by).or_insert(0) += 1;
        }
        served
    }

    /// Notes that every other manager is to be told of an agent.
    pub(super) fn owe(&mut self, host: HostId) {
        for owed in self.peers.values_mut() {
            owed.insert(host);
        }
    }
}
