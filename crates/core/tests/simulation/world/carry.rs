//! Carries out what a manager wants done, in the order and the way that the manager's journal does: persist, then
//! send, then publish, with a crash between any two.

use super::aim::Deed;
use super::client::is_of_client;
use super::disk::Disk;
use super::node::index;
use super::profile::Theme;
use super::{Effect, Event, Input, MemberMessage, Seen, World};
use echelon_core::grant::{Basis, Chain, Mark, Parent};
use echelon_core::id::HostId;
use echelon_core::member::{Append, Told};

/// Most entries of one message, so that catching up takes several.
const MOST_ENTRIES: usize = 4;

impl World {
    pub(crate) fn carry_out(&mut self, at: usize, effects: Vec<Effect>) {
        let life = self.nodes[at].life;
        for effect in effects {
            if self.nodes[at].life != life || self.failure.is_some() {
                return;
            }
            if self.is_too_much(&effect) {
                self.note(|| format!("{at} cannot write {effect:?}"));
                return self.begin_anew(at);
            }
            if !self.healing && self.random.between(0, 10_000) < self.profile.crash {
                self.note(|| format!("{at} does not get to {effect:?}"));
                self.crash(at);
                return self.schedule_between(10_000, 5_000_000, Event::Start { at });
            }
            self.note(|| format!("{at} -> {effect:?}"));
            let deed = Deed::of(&effect);
            if let Some(due) = self.carry(at, effect) {
                self.input(at, due);
            }
            if deed.is_some_and(|deed| self.is_aimed_at(deed)) {
                self.crash(at);
                self.schedule_between(10_000, 2_000_000, Event::Start { at });
            }
        }
    }

    /// Whether a disk does not take this.
    fn is_too_much(&mut self, effect: &Effect) -> bool {
        let persists = matches!(
            effect,
            Effect::Adopt { .. } | Effect::Append(_) | Effect::Seal(_) | Effect::RolledBack(_)
        );
        persists && !self.healing && self.random.chance(self.profile.full)
    }

    /// Whether a process ends right after it has done this.
    fn is_aimed_at(&mut self, deed: Deed) -> bool {
        let aim = self.profile.aims.iter().find(|aim| aim.after == deed).copied();
        !self.healing && aim.is_some_and(|aim| self.random.chance(aim.of_1000()))
    }

    /// Gives what the manager is to be told at once.
    fn carry(&mut self, at: usize, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Adopt { chain, cut } => {
                self.adopt(at, chain, cut);
                return cut.map(|_| Input::Loaded(self.nodes[at].disk.stored()));
            }
            Effect::Append(entries) => {
                let (host, made) = (self.nodes[at].host, self.nodes[at].made);
                if entries.iter().any(|e| Some(e.mark.hash) == made) {
                    let chain = self.nodes[at].disk.chain.clone();
                    self.saw(&Seen::Wrote { by: host, chain: &chain, entries: &entries });
                }
                self.saw(&Seen::Durable { at: host, entries: &entries });
                let node = &mut self.nodes[at];
                node.disk.entries.extend(entries);
                if self.random.chance(300) {
                    node.disk.committed = node.shown;
                }
                if (self.profile.damage || self.profile.theme == Theme::Restored) && self.random.chance(100) {
                    self.nodes[at].remember();
                }
            }
            Effect::Seal(seals) => self.nodes[at].disk.seals = seals,
            Effect::RolledBack(position) => {
                self.tally.rolled_back += 1;
                self.nodes[at].disk.rolled_back = Some(position);
            }
            Effect::Commit(revision) => self.commit(at, revision),
            Effect::Send(to, message) => self.send(at, index(to), message),
            Effect::Feed { to, after } => return self.feed(at, to, after),
            Effect::Copy(from) => self.borrow(at, index(from)),
            Effect::Lead => {}
            Effect::Fenced => self.give_up(at),
            Effect::Admit(standby) => {
                let incarnation = self.nodes[at].incarnation;
                let most = if self.profile.slow && !self.healing { 4_000_000 } else { 60_000 };
                self.schedule_between(1000, most, Event::Admit { at, incarnation, standby });
            }
            Effect::Prove(grant) if self.random.chance(500) => {
                self.signed(at, grant.id);
                return Some(Input::Promote(grant));
            }
            Effect::Prove(grant) => {
                self.signed(at, grant.id);
                let incarnation = self.nodes[at].incarnation;
                let grant = Box::new(grant);
                self.schedule_between(1000, 60_000, Event::Proved { at, incarnation, grant });
            }
            Effect::Told(id, Told::Proposed(proposal)) => self.decide(at, id, *proposal),
            Effect::Told(..) => {}
        }
        None
    }

    fn adopt(&mut self, at: usize, chain: Chain, cut: Option<Parent>) {
        if self.grants.insert(chain.head().id) {
            self.tally_grant(&chain);
            let lossy = self.lossy.contains(&chain.head().id.lineage);
            self.saw(&Seen::Granted { chain: &chain, lossy });
        }
        let host = self.nodes[at].host;
        let before = self.nodes[at].disk.chain.clone();
        self.saw(&Seen::Adopted { by: host, before: &before, after: &chain });
        let node = &mut self.nodes[at];
        node.disk.adopt(chain, cut);
        node.shown = node.shown.min(node.disk.last().revision());
    }

    fn commit(&mut self, at: usize, revision: u64) {
        let node = &self.nodes[at];
        let (disk, shown, leading) = (node.disk.clone(), node.shown, node.is_leading());
        if revision <= shown {
            return;
        }
        let entries = &disk.after(shown)[..(revision - shown) as usize];
        self.saw(&Seen::Committed { by: node.host, leading, chain: &disk.chain, entries });
        let node = &mut self.nodes[at];
        node.shown = revision;
        // What changes who counts is durable as committed before anybody hears of it: after a restart the old
        // rule would be asked once more, of members that may have left.
        if entries.iter().any(|e| e.sync.is_some()) {
            node.disk.committed = revision;
        }
        self.answer(at);
    }

    fn feed(&mut self, at: usize, to: HostId, after: Mark) -> Option<Input> {
        let node = &self.nodes[at];
        if node.disk.mark(after.revision()) != Some(after) {
            return Some(Input::NoSuchMark(to));
        }
        let entries = node.disk.after(after.revision());
        let entries = entries[..entries.len().min(MOST_ENTRIES)].to_vec();
        let grant = node.disk.chain.head().id;
        let append = Append { grant, after, entries, committed: node.shown };
        self.send(at, index(to), MemberMessage::Append(append));
        None
    }

    fn borrow(&mut self, at: usize, from: usize) {
        let copy = self.number();
        let node = &mut self.nodes[at];
        node.copy = copy;
        let incarnation = node.incarnation;
        self.schedule_between(1000, 1_500_000, Event::Lend { to: at, incarnation, copy, from });
    }

    pub(crate) fn lend(&mut self, to: usize, incarnation: u64, copy: u64, from: usize) {
        let node = &self.nodes[from];
        let can = node.is_awake() && self.network.is_open(to, from);
        let disk = can.then(|| Box::new(node.disk.clone()));
        self.schedule_between(1000, 1_500_000, Event::Copied { at: to, incarnation, copy, disk });
    }

    /// A copy is put in place only while it is awaited.
    pub(crate) fn copied(&mut self, at: usize, copy: Option<Box<Disk>>) {
        let awake = self.nodes[at].is_awake();
        let node = &mut self.nodes[at];
        if !node.member.as_ref().is_some_and(|m| m.is_copying()) || !awake {
            return self.input(at, Input::NotCopied);
        }
        let before = node.disk.chain.clone();
        match copy.is_some_and(|copy| node.disk.replace_by(*copy)) {
            true => {
                self.tally.copies += 1;
                let node = &mut self.nodes[at];
                node.shown = node.shown.min(node.disk.last().revision());
                let (host, disk) = (node.host, node.disk.clone());
                self.saw(&Seen::Adopted { by: host, before: &before, after: &disk.chain });
                self.saw(&Seen::Durable { at: host, entries: &disk.entries });
                self.input(at, Input::Loaded(disk.stored()));
            }
            false => self.input(at, Input::NotCopied),
        }
    }

    fn tally_grant(&mut self, chain: &Chain) {
        match chain.head().basis {
            Basis::Handover => self.tally.handovers += 1,
            Basis::Force => self.tally.forced += 1,
            Basis::Choice => self.tally.choices += 1,
            _ => {}
        }
    }
}

/// Whether a journal has each request of a client once.
pub(crate) fn repeated(disk: &Disk) -> Option<u64> {
    let mut requests = std::collections::BTreeSet::new();
    let of_clients = disk.entries.iter().filter(|e| is_of_client(e)).map(super::disk::request_of);
    of_clients.into_iter().find(|request| !requests.insert(*request))
}
