//! A manager's board: what it has heard of every agent, in memory only.
//!
//! Silence of an agent makes its host's packages suspect, never failed. Too much silence at once makes the
//! manager doubt itself instead.
//!
//! Boards of several managers are one: what a manager hears of an agent it tells the others ([`Told`]), where it is
//! news. While a link between two of them is up, what one has told of its agents holds.

use crate::alarm::Raised;
use crate::digest::Digest;
use crate::id::HostId;
use crate::limits::{HEARTBEAT, SILENT_AFTER};
use crate::message::{Health, Holding, LivenessEntry, Using};
use crate::name::{ManagerType, Text};
use crate::report::CandidateState;
use crate::settled::WITHDRAWN_BY_HOST;
use crate::time::Monotonic;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod exchange;
mod told;

pub use exchange::MAX_EARLY;
pub use told::Told;

/// An agent that was not heard for longer than this is silent.
const SILENCE: Duration = HEARTBEAT.saturating_mul(SILENT_AFTER);

/// How long after its start a board judges no agent that it has not heard: agents need time to come back.
pub const WARMING: Duration = Duration::from_secs(30);

/// The share of agents that may fall silent at once before the board doubts itself, in percent.
const DOUBT_PERCENT: usize = 30;

/// How many agents must fall silent at once before the board doubts itself.
const DOUBT_LEAST: usize = 5;

/// How long a board doubts itself before it judges all the same.
pub const DOUBT_LASTS: Duration = Duration::from_secs(60);

/// An agent's report, as its session took it in. The default is that of an agent never heard.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The agent's incarnation.
    pub incarnation: u64,
    /// Its number in this incarnation.
    pub sequence: u64,
    /// The health of its packages.
    pub packages: BTreeMap<ManagerType, Health>,
    /// What it uses that is not its home.
    pub using: Vec<Using>,
    /// What its replica holds.
    pub holds: Option<Holding>,
    /// Its own alarms.
    pub alarms: Vec<Raised>,
    /// Its build, as its session began with.
    pub build: Option<Text>,
    /// Whether it was cut off from everything until now, so that what it uses says nothing about managers.
    pub isolated: bool,
}

/// What is known of one agent.
#[derive(Clone, Debug)]
pub struct Agent {
    heard: Monotonic,
    connected: bool,
    silent: bool,
    /// When its replica was last known to be level with the registry; before that ever was, when it was heard
    /// first.
    level: Monotonic,
    /// Since when checks fail, of the packages whose last check failed.
    failing: BTreeMap<ManagerType, Monotonic>,
    /// The manager that has or had its last session; none for this one.
    by: Option<HostId>,
    /// After when it is silent; none where another manager judges that.
    due: Option<Monotonic>,
    /// Whether its report is the last that anybody had, so that silence can be told with its number.
    is_last: bool,
    /// Whether its silence is only this manager's guess, which has lost its link to the one that judges it.
    guessed: bool,
    /// Whether its replica has been behind for longer than three heartbeats.
    behind: bool,
    /// Counts what was said of this report.
    word: u64,
    report: Report,
}

impl Agent {
    /// Whether it has a session, here or with another manager.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether it has a session here.
    pub fn is_here(&self) -> bool {
        self.connected && self.by.is_none()
    }

    /// The other manager that has or had its last session; none where that is this one.
    pub fn elsewhere(&self) -> Option<HostId> {
        self.by
    }

    /// Whether it has a session and holds the view with this digest; of one that another manager serves, whether it
    /// holds what that manager has.
    pub fn is_in_sync(&self, view: Digest) -> bool {
        match self.by {
            Some(_) => self.connected && !self.behind,
            None => self.connected && self.report.holds.is_some_and(|h| h.digest == view),
        }
    }

    /// How long its replica has not been known to be level with the view of this digest; none where it is.
    pub fn behind(&self, now: Monotonic, view: Digest) -> Option<Duration> {
        (!self.is_in_sync(view)).then(|| now.since(self.level))
    }

    /// Since when the checks of a package fail; none where the last one did not.
    pub fn failing_since(&self, ty: &ManagerType) -> Option<Monotonic> {
        self.failing.get(ty).copied()
    }

    /// Counts one thing more that is said of this report. Other managers have counted before, and may be wrong.
    fn say_more(&mut self) {
        self.word = self.word.saturating_add(1);
    }

    /// Whether it has been silent for too long.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// When it was last heard.
    pub fn heard(&self) -> Monotonic {
        self.heard
    }

    /// How long ago it was heard. Of one that another manager serves nothing is told while nothing changes: it is heard
    /// there every heartbeat.
    pub fn heard_ago(&self, now: Monotonic) -> Duration {
        let ago = now.since(self.heard);
        let is_vouched_for = self.by.is_some() && self.due.is_none() && self.connected && !self.silent;
        if is_vouched_for { ago.min(HEARTBEAT) } else { ago }
    }

    /// What it said.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What it said that it uses, with the time that has passed since.
    fn using_at(&self, now: Monotonic) -> Vec<Using> {
        let since = now.since(self.heard);
        let later = |using: &Using| Using { since: using.since.saturating_add(since), ..using.clone() };
        self.report.using.iter().map(later).collect()
    }

    fn entry(&self, host: HostId) -> LivenessEntry {
        // Whoever has not had the last report can speak of silence only.
        let blind = self.silent && !self.is_last;
        let (incarnation, sequence) = (self.report.incarnation, self.report.sequence);
        LivenessEntry {
            host,
            incarnation: if blind { 0 } else { incarnation },
            sequence: if blind { 0 } else { sequence },
            silent: self.silent,
            packages: self.report.packages.clone(),
        }
    }
}

/// The board.
#[derive(Debug)]
pub struct Board {
    started: Monotonic,
    /// The latest time it was told.
    latest: Monotonic,
    agents: BTreeMap<HostId, Agent>,
    doubting_since: Option<Monotonic>,
    /// The managers with which there is a link, and the agents of which each is to be told.
    peers: BTreeMap<HostId, BTreeSet<HostId>>,
    /// What was told of hosts that the registry here does not have yet, and by whom.
    early: BTreeMap<HostId, (HostId, Told)>,
}

impl Board {
    /// An empty board.
    pub fn new(now: Monotonic) -> Self {
        let (agents, peers, early) = Default::default();
        Self { started: now, latest: now, agents, doubting_since: None, peers, early }
    }

    /// Takes in an agent's report. Gives the entry that others must hear, where something in it is news to
    /// them.
    ///
    /// What an isolated agent says that it uses is ignored: what it said before stays. Of its own packages it knows
    /// all the same, since it needs no network for that.
    pub fn heard(&mut self, now: Monotonic, host: HostId, mut report: Report) -> Option<LivenessEntry> {
        self.latest = self.latest.max(now);
        let old = self.agents.get(&host);
        let number = |r: &Report| (r.incarnation, r.sequence);
        if old.is_some_and(|o| number(&o.report) > number(&report)) {
            return None;
        }
        if report.isolated {
            report.using = old.map(|old| old.using_at(now)).unwrap_or_default();
        }
        // A package that was not checked yet says no more than one that nobody has heard of.
        let told =
            |r: &Report| r.packages.values().any(|h| *h != Health::Unchecked).then(|| r.packages.clone());
        let news = old.is_some_and(|o| o.silent) || old.and_then(|o| told(&o.report)) != told(&report);
        let level = old.filter(|o| o.is_heard()).map_or(now, |o| o.level);
        let failing = failing(now, old, &report);
        let behind = old.is_some_and(|o| o.behind);
        // A word of the same report as before, should there be one, goes on counting.
        let word =
            old.filter(|o| number(&o.report) == number(&report)).map_or(0, |o| o.word.saturating_add(1));
        let told_anew = old.is_none_or(|o| !o.is_here() || o.silent || !told::is_same(o, now, &report));
        let due = Some(now + SILENCE);
        let agent = Agent {
            heard: now,
            connected: true,
            silent: false,
            level,
            failing,
            by: None,
            due,
            is_last: true,
            guessed: false,
            behind,
            word,
            report,
        };
        let entry = news.then(|| agent.entry(host));
        self.agents.insert(host, agent);
        if told_anew {
            self.owe(host);
        }
        entry
    }

    /// Notes that a host is enrolled, so that its agent ought to be heard. Where it is not within
    /// [`WARMING`], its silence is judged.
    pub fn expect(&mut self, host: HostId) {
        let heard = self.latest + (WARMING - SILENCE);
        let unheard = Agent {
            heard,
            connected: false,
            silent: false,
            level: heard,
            failing: BTreeMap::new(),
            by: None,
            due: Some(heard + SILENCE),
            is_last: false,
            guessed: false,
            behind: false,
            word: 0,
            report: Report::default(),
        };
        self.agents.entry(host).or_insert(unheard);
    }

    /// Notes that what an agent said last was level with the registry.
    pub fn note_level(&mut self, host: HostId) {
        if let Some(agent) = self.agents.get_mut(&host) {
            agent.level = agent.heard;
        }
    }

    /// Notes that an agent's session ended. Whether that means silence, time will tell.
    pub fn session_ended(&mut self, host: HostId) {
        if let Some(agent) = self.agents.get_mut(&host).filter(|a| a.is_here()) {
            agent.connected = false;
            agent.say_more();
            self.owe(host);
        }
    }

    /// Forgets hosts that are no longer in the registry.
    pub fn retain(&mut self, known: impl Fn(HostId) -> bool) {
        self.agents.retain(|host, _| known(*host));
        self.peers.values_mut().for_each(|owed| owed.retain(|host| known(*host)));
    }

    /// Forgets one host.
    pub fn forget(&mut self, host: HostId) {
        self.agents.remove(&host);
        self.early.remove(&host);
        for owed in self.peers.values_mut() {
            owed.remove(&host);
        }
    }

    /// Judges silence. Gives the entries that others must hear.
    pub fn judge(&mut self, now: Monotonic) -> Vec<LivenessEntry> {
        self.latest = self.latest.max(now);
        self.judge_levels(now);
        if self.doubts(now) {
            return Vec::new();
        }
        let (mut entries, mut own) = (Vec::new(), Vec::new());
        for (host, agent) in self.agents.iter_mut().filter(|(_, a)| a.is_quiet(now) && !a.silent) {
            agent.silent = true;
            match agent.by {
                None => {
                    agent.say_more();
                    own.push(*host);
                }
                Some(_) => (agent.guessed, agent.is_last) = (true, false),
            }
            entries.push(agent.entry(*host));
        }
        own.into_iter().for_each(|host| self.owe(host));
        entries
    }

    /// Notes which agents with a session here have had a replica behind for too long, or have no more.
    fn judge_levels(&mut self, now: Monotonic) {
        let mut changed = Vec::new();
        for (host, agent) in self.agents.iter_mut().filter(|(_, a)| a.is_here()) {
            let behind = now.since(agent.level) > SILENCE;
            if std::mem::replace(&mut agent.behind, behind) != behind {
                agent.say_more();
                changed.push(*host);
            }
        }
        changed.into_iter().for_each(|host| self.owe(host));
    }

    /// Whether so many agents fell silent within three heartbeats that the fault is probably here: it then
    /// makes no new suspects, until fewer are silent or a minute has passed.
    fn doubts(&mut self, now: Monotonic) -> bool {
        let count = |is: &dyn Fn(&Agent) -> bool| self.agents.values().filter(|a| is(a)).count();
        let quiet = count(&|a| a.is_quiet(now));
        let lately = count(&|a| a.is_quiet(now) && !a.is_quiet(now - SILENCE));
        let share = |n: usize| n * 100;
        // Those that others judge say nothing about this manager's network.
        let most = count(&|a| a.due.is_some()) * DOUBT_PERCENT;
        self.doubting_since = match self.doubting_since {
            None if lately >= DOUBT_LEAST && share(lately) > most => Some(now),
            None => None,
            Some(since) => (share(quiet) >= most && now.since(since) < DOUBT_LASTS).then_some(since),
        };
        self.doubting_since.is_some()
    }

    /// Whether it doubts itself.
    pub fn is_doubting(&self) -> bool {
        self.doubting_since.is_some()
    }

    /// Since when it doubts itself; none where it does not.
    pub fn doubting_since(&self) -> Option<Monotonic> {
        self.doubting_since
    }

    /// Whether it has been there for too short a time to judge what it has not heard.
    pub fn is_warming(&self, now: Monotonic) -> bool {
        now.since(self.started) < WARMING
    }

    /// What is known of one agent.
    pub fn agent(&self, host: HostId) -> Option<&Agent> {
        self.agents.get(&host)
    }

    /// All agents that were heard.
    pub fn agents(&self) -> impl Iterator<Item = (HostId, &Agent)> {
        self.agents.iter().map(|(host, agent)| (*host, agent))
    }

    /// The entries of all agents that were heard, or fell silent.
    pub fn entries(&self) -> impl Iterator<Item = LivenessEntry> {
        let known = self.agents.iter().filter(|(_, agent)| agent.is_heard() || agent.silent);
        known.map(|(host, agent)| agent.entry(*host))
    }

    /// The state of a manager as this board sees it, and why.
    pub fn state_of(&self, host: HostId, ty: &ManagerType) -> (CandidateState, String) {
        match self.agents.get(&host) {
            Some(agent) if agent.is_heard() || agent.silent => state_of(&agent.entry(host), ty),
            _ => (CandidateState::Unknown, "its host's agent was not heard yet".into()),
        }
    }
}

/// Since when the packages fail whose last check failed.
fn failing(now: Monotonic, old: Option<&Agent>, report: &Report) -> BTreeMap<ManagerType, Monotonic> {
    let fails = report.packages.iter().filter(|(_, health)| matches!(health, Health::Failing { .. }));
    let since = |ty: &ManagerType| old.and_then(|o| o.failing_since(ty)).unwrap_or(now);
    fails.map(|(ty, _)| (ty.clone(), since(ty))).collect()
}

/// The state of a manager that a liveness entry tells of, and why.
pub fn state_of(entry: &LivenessEntry, ty: &ManagerType) -> (CandidateState, String) {
    match entry.packages.get(ty) {
        Some(Health::Withdrawn) => (CandidateState::Withdrawn, WITHDRAWN_BY_HOST.into()),
        Some(Health::Failing { reason, .. }) => (CandidateState::Down, format!("check failed: {reason}")),
        _ if entry.silent => (CandidateState::Suspect, "its host's agent is silent".into()),
        Some(Health::Passing) => (CandidateState::Live, String::new()),
        _ => (CandidateState::Unknown, "not checked yet".into()),
    }
}

impl Agent {
    /// Whether it was heard since the board began.
    pub fn is_heard(&self) -> bool {
        self.report.incarnation > 0
    }

    fn is_quiet(&self, now: Monotonic) -> bool {
        self.due.is_some_and(|due| now > due)
    }
}
