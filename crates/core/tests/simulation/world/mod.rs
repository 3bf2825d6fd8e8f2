//! Registry managers, agents and clients in virtual time, in one thread, over the very state machine that the
//! manager runs ([`Member`]). A seed makes a schedule: first a phase in which anything fails, then everything is
//! mended, an admin chooses where there is something to choose, and all have to agree.

mod admin;
mod agent;
mod aim;
mod campaigns;
mod carry;
mod client;
mod disk;
mod event;
mod faults;
mod heal;
mod invariants;
mod links;
mod message;
mod network;
mod node;
mod profile;
mod random;
mod restore;
mod start;
mod trace;

use agent::Agent;
use echelon_core::grant::GrantId;
use echelon_core::id::{Lineage, RequestId};
use echelon_core::member::{Effect, Input, MemberMessage};
use echelon_core::time::Monotonic;
use event::Event;
use invariants::{Invariant, Seen};
use network::Network;
use node::Node;
use profile::Profile;
use random::Random;
use restore::Signer;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use uuid::Uuid;

/// Why a schedule failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    /// Which invariant does not hold, and how that shows.
    pub(crate) what: String,
    /// All that happened, where that was asked for.
    pub(crate) trace: Vec<String>,
}

/// What came to pass in a schedule, to see that schedules are about something.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) acknowledged: u64,
    pub(crate) handovers: u64,
    pub(crate) forced: u64,
    pub(crate) choices: u64,
    pub(crate) crashes: u64,
    pub(crate) rolled_back: u64,
    pub(crate) copies: u64,
    /// Damaged so that only a backup helps.
    pub(crate) hopeless: u64,
    /// How often an agent has asked a manager.
    pub(crate) visits: u64,
    /// Backups that were restored.
    pub(crate) restored: u64,
    /// How often a manager was offered grants of somebody who was put out.
    pub(crate) contested: u64,
    /// How often a disk did not take something.
    pub(crate) full: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.handovers += other.handovers;
        self.forced += other.forced;
        self.choices += other.choices;
        self.crashes += other.crashes;
        self.rolled_back += other.rolled_back;
        self.copies += other.copies;
        self.hopeless += other.hopeless;
        self.visits += other.visits;
        self.restored += other.restored;
        self.contested += other.contested;
        self.full += other.full;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, acknowledged, handovers, forced, choices, crashes, .. } = self;
        let Self { rolled_back, copies, hopeless, visits, restored, contested, full, .. } = self;
        write!(f, "{events} events, {acknowledged} edits acknowledged, {crashes} crashes, ")?;
        write!(f, "{handovers} hand-overs, {forced} forced promotions, {choices} choices, ")?;
        write!(
            f,
            "{rolled_back} times rolled back, {restored} restored, {contested} times contested, {full} times a full \
             disk, {copies} copies, {hopeless} to be restored, {visits} steps of agents"
        )
    }
}

pub(crate) struct World {
    random: Random,
    profile: Profile,
    now: u64,
    /// Numbers whatever has to be told apart.
    count: u64,
    events: BTreeMap<(u64, u64), Event>,
    nodes: Vec<Node>,
    agents: Vec<Agent>,
    network: Network,
    /// Edits whose outcome is unknown to who made them.
    unknown: BTreeSet<u64>,
    /// Lineages that an admin began with loss accepted.
    lossy: BTreeSet<Lineage>,
    /// Grants that some manager has made durable.
    grants: BTreeSet<GrantId>,
    /// Who has signed which grant, of those that managers sign.
    signers: BTreeMap<GrantId, Signer>,
    /// The entries that take managers out of the registry, by their request.
    removals: BTreeMap<u64, Signer>,
    /// Whether faults have ended.
    healing: bool,
    invariants: Vec<Box<dyn Invariant>>,
    failure: Option<String>,
    trace: Option<Vec<String>>,
    tally: Tally,
}

/// Runs the schedule of a seed.
pub(crate) fn run(seed: u64, traced: bool) -> Result<Tally, Box<Failure>> {
    let mut world = World::new(seed, traced);
    world.run_until(world.profile.length);
    if world.failure.is_none() {
        world.heal();
    }
    match world.failure {
        None => Ok(world.tally),
        Some(what) => Err(Box::new(Failure { seed, what, trace: world.trace.unwrap_or_default() })),
    }
}

impl World {
    /// Lets happen what is due until a moment.
    fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.events.first_entry().filter(|e| e.key().0 <= end) {
            if self.failure.is_some() {
                return;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.tally.events += 1;
            self.happen(event);
        }
        self.now = end;
    }

    fn schedule(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.now + delay, self.count), event);
    }

    fn schedule_between(&mut self, low: u64, end: u64, event: Event) {
        let delay = self.random.between(low, end);
        self.schedule(delay, event);
    }

    /// A number that nothing else has.
    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn request_id(&mut self) -> RequestId {
        RequestId(Uuid::from_u128(self.number().into()))
    }

    fn clock(&self) -> Monotonic {
        Monotonic(self.now)
    }

    /// Managers of which this holds.
    fn those(&self, of: impl Fn(&Node) -> bool) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| of(&self.nodes[*n])).collect()
    }

    fn saw(&mut self, seen: &Seen<'_>) {
        for invariant in &mut self.invariants {
            if let Err(how) = invariant.saw(seen) {
                let what = format!("{}: {how}", invariant.name());
                self.failure.get_or_insert(what);
            }
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9.3} {}", self.now as f64 / 1e6, trace::shorten(&what())));
        }
    }

    /// Tells a manager what happened, and carries out what it wants done about it.
    fn input(&mut self, at: usize, input: Input) {
        let now = self.clock();
        let node = &mut self.nodes[at];
        let Some(member) = &mut node.member else { return };
        if let Some(inbox) = &mut node.paused {
            return inbox.push(input);
        }
        let told = self.trace.is_some().then(|| format!("{input:?}"));
        let mut out = Vec::new();
        member.handle(now, input, &mut out);
        if let Some(told) = told.filter(|told| told != "Tick" || !out.is_empty()) {
            self.note(|| format!("{at} <- {told}"));
        }
        self.carry_out(at, out);
        self.wake(at);
    }

    /// Has a manager woken when it wants to be.
    fn wake(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(member) = &node.member else { return };
        let due = member.next_deadline().0.max(now + 1000);
        if node.tick != due {
            node.tick = due;
            let incarnation = node.incarnation;
            self.schedule(due - now, Event::Tick { at, incarnation });
        }
    }
}
