//! A route as it is shown: to forwarders, which connect along it, and to people and programs, who read it.

use crate::digest::{Digest, RowHasher};
use crate::endpoint::Endpoint;
use crate::evidence::Verdict;
use crate::id::HostId;
use crate::message::Using;
use crate::moves::Moved;
use crate::name::{DomainPath, HostName, ManagerType, Text};
use crate::order::{Candidate, Order};
use crate::policy::Effective;
use crate::report::{Basis, CandidateReport, CandidateState, Chosen, Outcome, RouteReport, millis};
use crate::time::Monotonic;
use crate::view::View;
use std::borrow::Cow;
use std::time::Duration;

/// How a host reaches managers of one type now. Immutable: a change makes a new one.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The host that asks.
    pub asker: HostName,
    /// The type.
    pub ty: ManagerType,
    /// All managers of the type, in order.
    pub entries: Vec<Entry>,
    /// Whom to try, in this order: the chosen one, the other usable ones, suspects, those that are down; at most
    /// [`crate::limits::MAX_TARGETS`].
    pub targets: Vec<Target>,
    /// Which of `entries` is chosen.
    pub chosen: Option<usize>,
    /// The kind of choice.
    pub outcome: Outcome,
    /// Why it is not home; empty where it is.
    pub cause: Text,
    /// Since when this one is chosen.
    pub since: Monotonic,
    /// Why this one is chosen since then, and not another one; none where it was so from the beginning.
    pub moved: Option<Moved>,
    /// Whether the host is cut off from everything.
    pub isolated: bool,
    /// The settings in force.
    pub policy: Effective,
}

/// One manager and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The manager as this host sees it.
    pub candidate: Candidate,
    /// Its state.
    pub state: CandidateState,
    /// Why; empty where there is nothing to say.
    pub reason: Cow<'static, str>,
    /// When that was seen or heard first; none where time plays no part.
    pub at: Option<Monotonic>,
    /// Whether it is down because a check that demands an answer got none.
    pub unanswered: bool,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The manager's host.
    pub host: HostId,
    /// That host's name.
    pub name: HostName,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How long it may be silent before the next target is tried beside it: as the policy says, else learned
    /// from earlier connects.
    pub hedge: Duration,
}

impl Target {
    /// Where `candidate` listens.
    pub fn of(candidate: &Candidate, hedge: Duration) -> Self {
        let m = &candidate.manager;
        Self { host: m.host, name: m.name.clone(), endpoint: m.endpoint.clone(), hedge }
    }
}

impl Route {
    /// Whether this route says something else than `other`. Not counted is when something was seen again that
    /// was seen before.
    pub fn differs(&self, other: &Self) -> bool {
        let same = |(a, b): (&Entry, &Entry)| {
            (a.state, a.unanswered) == (b.state, b.unanswered)
                && (&a.reason, &a.candidate) == (&b.reason, &b.candidate)
        };
        (self.chosen, self.outcome, self.since) != (other.chosen, other.outcome, other.since)
            || self.isolated != other.isolated
            || (&self.cause, &self.policy, &self.asker) != (&other.cause, &other.policy, &other.asker)
            || self.entries.len() != other.entries.len()
            // The targets follow from these and the choice, but for their hedges.
            || !self.entries.iter().zip(&other.entries).all(same)
            || !self.targets.iter().map(|t| t.hedge).eq(other.targets.iter().map(|t| t.hedge))
    }

    /// What tells apart two choices or two orders of candidates, in one process or in several: routes with the same
    /// tag are tried alike. Not part of it is what is known of candidates, as long as they are tried in the same
    /// order, and why.
    pub fn tag(&self) -> Digest {
        let mut h = RowHasher::default();
        h.text(self.asker.as_str()).text(self.ty.as_str()).number(self.outcome as u64);
        h.number(self.entries.len() as u64);
        for entry in &self.entries {
            let manager = &entry.candidate.manager;
            h.bytes(manager.host.0.as_bytes())
                .text(manager.name.as_str())
                .text(&manager.endpoint.to_string());
            h.number(entry.state.may_serve().into());
        }
        h.number(self.chosen.map_or(0, |i| i as u64 + 1));
        for target in &self.targets {
            h.bytes(target.host.0.as_bytes());
        }
        Digest::of(h.finish())
    }

    /// The first candidate that is neither withdrawn nor excluded.
    pub fn home(&self) -> Option<&Entry> {
        self.entries.iter().find(|e| e.state.may_serve())
    }

    /// The chosen one.
    pub fn chosen(&self) -> Option<&Entry> {
        self.chosen.and_then(|i| self.entries.get(i))
    }

    /// Whether this host's manager is usable.
    pub fn is_usable(&self, host: HostId) -> bool {
        let is = |entry: &&Entry| entry.candidate.manager.host == host;
        // Nearly always it is the chosen one that is asked about.
        let entry = self.chosen().filter(is).or_else(|| self.entries.iter().find(is));
        entry.is_some_and(|entry| entry.state.is_usable())
    }

    /// How many managers are usable; the targets begin with these.
    pub fn usable(&self) -> usize {
        self.entries.iter().filter(|entry| entry.state.is_usable()).count()
    }

    /// Why this route leads to another manager than `before`, a route that it follows; none where it does not.
    pub fn moved_from(&self, before: &Self) -> Option<&Moved> {
        let host = |route: &Self| route.chosen().map(|entry| entry.candidate.manager.host);
        self.moved.as_ref().filter(|_| host(before) != host(self))
    }

    /// The candidates that come before the chosen one, or all where there is none: by why each is passed over.
    /// `live` means that it is held back.
    pub fn passed_over(&self) -> impl Iterator<Item = CandidateState> {
        let before = self.chosen.unwrap_or(self.entries.len());
        self.entries.iter().take(before).map(|entry| entry.state)
    }

    /// What an agent reports of this route; none where it is at home.
    pub fn using(&self, now: Monotonic) -> Option<Using> {
        (self.outcome != Outcome::Home).then(|| Using {
            ty: self.ty.clone(),
            manager: self.chosen().map(|e| e.candidate.manager.name.clone()),
            since: now.since(self.since),
            cause: self.cause.clone(),
            outcome: self.outcome,
        })
    }

    /// The route as people and programs read it. The caller adds position, age and source.
    pub fn report(&self, view: &View, now: Monotonic, basis: Basis) -> RouteReport {
        self.summary(now, basis).with_candidates(self.candidates(view, now))
    }

    /// The same without the candidates.
    pub fn summary(&self, now: Monotonic, basis: Basis) -> RouteReport<()> {
        let chosen = self.chosen().map(|e| &e.candidate.manager);
        RouteReport {
            host: self.asker.clone(),
            ty: self.ty.clone(),
            at: None,
            basis,
            age_ms: None,
            outcome: self.outcome,
            cause: self.cause.as_str().to_owned(),
            since_ms: (basis == Basis::Live).then(|| millis(now.since(self.since))),
            home: self.home().map(|e| e.candidate.manager.name.clone()),
            isolated: self.isolated,
            chosen: chosen.map(|m| Chosen { host: m.name.clone(), endpoint: m.endpoint.clone() }),
            candidates: (),
            source: None,
        }
    }

    /// The candidates of the report.
    pub fn candidates(&self, view: &View, now: Monotonic) -> Vec<CandidateReport> {
        let mut rank = 0;
        self.entries.iter().map(|e| e.report(view, now, &mut rank)).collect()
    }

    /// Whether what is said of any candidate tells how long ago something was.
    pub fn tells_ages(&self) -> bool {
        self.entries.iter().any(|e| e.at.is_some() && !e.reason.is_empty())
    }
}

impl Entry {
    /// All candidates with what is known of them.
    pub(crate) fn all(order: &Order, verdicts: Vec<Verdict>) -> Vec<Self> {
        let entry = |(c, v): (&Candidate, Verdict)| Self {
            candidate: c.clone(),
            state: v.state,
            reason: v.reason,
            at: v.at,
            unanswered: v.unanswered,
        };
        order.candidates.iter().zip(verdicts).map(entry).collect()
    }

    fn report(&self, view: &View, now: Monotonic, rank: &mut u32) -> CandidateReport {
        let (c, m) = (&self.candidate, &self.candidate.manager);
        *rank += u32::from(c.excluded.is_none());
        let ago = self.at.map(|at| format!(" {}", ago(now.since(at)))).unwrap_or_default();
        let place = place_in_words(c);
        let reason = if self.reason.is_empty() { place } else { format!("{place}; {}{ago}", self.reason) };
        CandidateReport {
            rank: c.excluded.is_none().then_some(*rank),
            host: m.name.clone(),
            domain: view.hierarchy().path(m.domain).unwrap_or_else(DomainPath::root),
            endpoint: m.endpoint.clone(),
            up: c.up,
            down: c.down,
            same_host: c.same_host,
            priority: m.priority,
            weight: m.weight,
            role: m.role,
            state: self.state,
            reason,
        }
    }
}

fn place_in_words(c: &Candidate) -> String {
    match (c.same_host, c.up, c.down) {
        (true, ..) => "this host".into(),
        (_, 0, 0) => "own domain".into(),
        (_, 1, 0) => "parent domain, 1 up".into(),
        (_, up, 0) => format!("ancestor domain, {up} up"),
        (_, 0, down) => format!("subdomain, {down} down"),
        (_, up, down) => format!("other branch, {up} up and {down} down"),
    }
}

/// A time ago, for people.
fn ago(d: Duration) -> String {
    match d.as_secs() {
        0 => "just now".into(),
        s @ 1..=119 => format!("{s} s ago"),
        s => format!("{} min ago", s / 60),
    }
}

/// Since when a host uses what it uses.
#[derive(Clone, Debug)]
pub struct Since {
    at: Monotonic,
    chosen: Option<HostId>,
}

impl Since {
    /// Nothing is used yet.
    pub fn new(now: Monotonic) -> Self {
        Self { at: now, chosen: None }
    }

    /// Takes in a choice.
    pub fn update(&mut self, now: Monotonic, chosen: Option<HostId>) {
        if chosen != self.chosen {
            *self = Self { at: now, chosen };
        }
    }

    /// Since when.
    pub fn at(&self) -> Monotonic {
        self.at
    }
}
