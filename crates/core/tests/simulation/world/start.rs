//! How a schedule begins, and processes start and end.

use super::disk::Disk;
use super::invariants;
use super::node::{Node, host};
use super::{Agent, Event, Input, Network, Profile, Random, Tally, World};
use echelon_core::grant::{Chain, Grant, SyncRule};
use echelon_core::id::Lineage;
use echelon_core::member::Member;
use echelon_core::time::UnixMillis;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let profile = Profile::draw(&mut random);
        let disk = Disk::new(genesis(&profile));
        let nodes: Vec<_> = (0..profile.managers).map(|n| Node::new(n, disk.clone())).collect();
        let agents = vec![Agent::new(&disk); profile.agents];
        let mut world = Self {
            random,
            now: 0,
            count: 0,
            events: BTreeMap::new(),
            nodes,
            agents,
            network: Network::default(),
            unknown: BTreeSet::new(),
            lossy: BTreeSet::new(),
            grants: BTreeSet::from([disk.chain.head().id]),
            signers: BTreeMap::new(),
            removals: BTreeMap::new(),
            healing: false,
            invariants: invariants::all(),
            failure: None,
            trace: traced.then(Vec::new),
            tally: Tally::default(),
            profile,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for at in 0..self.nodes.len() {
            self.schedule(0, Event::Start { at });
        }
        for agent in 0..self.agents.len() {
            self.schedule_between(0, 500_000, Event::Visit { agent });
        }
        self.schedule(1000, Event::Connect);
        self.schedule(500_000, Event::Edit);
        self.schedule(1_000_000, Event::Fault);
    }

    pub(crate) fn start(&mut self, at: usize) {
        let now = self.clock();
        let node = &mut self.nodes[at];
        if node.member.is_some() || node.gone {
            return;
        }
        node.member = Some(Member::new(node.host, now, node.disk.stored()));
        node.shown = node.disk.committed;
        node.tick = 0;
        self.note(|| format!("{at} starts"));
        self.input(at, Input::Tick);
    }

    /// Ends a process, in the middle of whatever it does.
    pub(crate) fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.member.take().is_none() {
            return;
        }
        node.incarnation += 1;
        node.life += 1;
        node.paused = None;
        self.give_up(at);
        self.tally.crashes += 1;
        self.note(|| format!("{at} crashes"));
        for peer in (0..self.nodes.len()).filter(|peer| *peer != at) {
            self.network.unlink(at, peer);
            self.schedule_between(0, 3_000_000, Event::Silence { at: peer, peer: at });
        }
    }

    /// A disk did not take something, as one that is full: whatever else was to be done is not, and the process begins
    /// anew with what is there, in the middle of its links.
    pub(crate) fn begin_anew(&mut self, at: usize) {
        let now = self.clock();
        let node = &mut self.nodes[at];
        node.life += 1;
        node.member = Some(Member::new(node.host, now, node.disk.stored()));
        node.shown = node.shown.min(node.disk.last().revision());
        self.give_up(at);
        self.tally.full += 1;
        self.note(|| format!("{at} begins anew"));
        for peer in (0..self.nodes.len()).filter(|peer| self.network.has_link(at, *peer)).collect::<Vec<_>>()
        {
            self.input(at, Input::Met(host(peer)));
        }
    }

    /// What became of the edits that wait, nobody here can say.
    pub(crate) fn give_up(&mut self, at: usize) {
        let waiting = std::mem::take(&mut self.nodes[at].waiting);
        self.unknown.extend(waiting.into_iter().map(|(request, _)| request));
    }

    /// A paused process goes on: all that came meanwhile is there at once.
    pub(crate) fn resume(&mut self, at: usize) {
        let Some(inbox) = self.nodes[at].paused.take() else { return };
        self.note(|| format!("{at} goes on"));
        let incarnation = self.nodes[at].incarnation;
        for input in inbox {
            if self.nodes[at].incarnation == incarnation {
                self.input(at, input);
            }
        }
        self.wake(at);
    }
}

fn genesis(profile: &Profile) -> Chain {
    let name = "a".parse().expect("a name");
    let members = (1..=profile.counted).map(host).collect();
    let sync = SyncRule { members, min_sync: profile.min_sync };
    let first = Grant::first(Lineage(Uuid::from_u128(1 << 64)), host(0), name, UnixMillis(0));
    Chain::begin(Grant { sync, ..first }).expect("the first grant is a chain")
}
