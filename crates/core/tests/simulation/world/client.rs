//! Clients that edit, and agents that look.

use super::disk::{entry, request_of};
use super::{Event, Input, Seen, World};
use echelon_core::grant::{GrantId, Mark};
use echelon_core::member::{Entry, Member, SyncChange};

/// Requests of clients have numbers from here on; smaller ones are those of managers.
const CLIENTS: u64 = 1 << 32;

impl World {
    /// A client edits, or asks again what became of an edit.
    pub(crate) fn edit(&mut self) {
        self.schedule_between(20_000, 400_000, Event::Edit);
        let able = self.those(|n| n.is_awake() && n.member.as_ref().is_some_and(|m| m.may_write().is_ok()));
        let Some(at) = self.random.pick(&able) else { return };
        let again = self.unknown.iter().next().copied().filter(|_| self.random.chance(400));
        let request = match again {
            Some(request) => request,
            None => CLIENTS + self.number(),
        };
        self.unknown.remove(&request);
        match self.nodes[at].disk.find(request) {
            Some(mark) => self.await_answer(at, request, mark),
            None => self.write(at, request, None),
        }
    }

    /// Writes an entry, where that is allowed; the first of a grant is the new primary's own.
    pub(crate) fn write(&mut self, at: usize, request: u64, sync: Option<SyncChange>) {
        let may = |member: &Member| match &sync {
            Some(SyncChange { rule, alone: true }) => member.may_write_under(rule).is_ok(),
            Some(SyncChange { rule, .. }) => {
                member.may_write().is_ok() && member.may_write_under(rule).is_ok()
            }
            None => member.may_write().is_ok(),
        };
        let node = &self.nodes[at];
        if !node.is_awake() || !node.member.as_ref().is_some_and(may) {
            return;
        }
        let life = node.life;
        self.note_grant(at);
        let count = self.number();
        let node = &mut self.nodes[at];
        let Some(member) = node.member.as_ref().filter(|m| node.life == life && m.is_leading()) else {
            return;
        };
        let (last, grant) = (member.log().last(), member.chain().head().id);
        let entry = Entry { sync, ..entry(last, grant, request, count) };
        node.waiting.push((request, entry.mark));
        self.write_entry(at, entry);
    }

    /// Notes who is the primary now, where anything can be written.
    pub(crate) fn take_over(&mut self, at: usize) {
        let node = &self.nodes[at];
        if node.is_awake() && node.member.as_ref().is_some_and(|m| m.may_write().is_ok()) {
            self.note_grant(at);
        }
    }

    /// Notes who is the primary now, before anything else is written.
    fn note_grant(&mut self, at: usize) {
        let count = self.number();
        let node = &self.nodes[at];
        let Some(member) = node.member.as_ref() else { return };
        let (head, last) = (member.chain().head(), member.log().last());
        if GrantId::of(&last.position) == head.id {
            return;
        }
        let rule = Some(head.sync.clone()).filter(|rule| *rule != node.disk.rule_of_rows(last.revision()));
        let sync = rule.map(|rule| SyncChange { rule, alone: false });
        self.write_entry(at, Entry { sync, ..entry(last, head.id, count, count) });
    }

    fn write_entry(&mut self, at: usize, entry: Entry) {
        self.nodes[at].made = Some(entry.mark.hash);
        self.input(at, Input::Write(vec![entry]));
        self.nodes[at].made = None;
    }

    fn await_answer(&mut self, at: usize, request: u64, mark: Mark) {
        self.nodes[at].waiting.push((request, mark));
        self.answer(at);
    }

    /// Answers what is committed.
    pub(crate) fn answer(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let shown = node.shown;
        let done = |(_, mark): &(u64, Mark)| mark.revision() <= shown;
        let (answered, waiting) = std::mem::take(&mut node.waiting).into_iter().partition(done);
        node.waiting = waiting;
        let answered: Vec<(u64, Mark)> = answered;
        let committed = &node.disk.entries[..shown as usize];
        let is_alone = |e: &&Entry| e.sync.as_ref().is_some_and(|s| s.alone);
        let alone = committed.iter().rev().find(is_alone).map(|e| e.mark.revision());
        let chain = node.disk.chain.clone();
        for (request, mark) in answered {
            self.tally.acknowledged += 1;
            self.note(|| format!("{at} acknowledges {request} at {}", mark.position));
            self.saw(&Seen::Acknowledged { request, mark, alone, chain: &chain });
        }
    }

    /// An agent hears a manager, any that it reaches.
    pub(crate) fn visit(&mut self, agent: usize) {
        self.schedule_between(50_000, 900_000, Event::Visit { agent });
        let awake = self.those(|n| n.is_awake() && !n.gone);
        let Some(at) = self.random.pick(&awake) else { return };
        let node = &self.nodes[at];
        let before = self.agents[agent].clone();
        let served = self.agents[agent].visit(&node.disk, node.shown);
        self.tally.visits += 1;
        let after = self.agents[agent].clone();
        self.note(|| format!("agent {agent} at {at}: {} served {served}", after.at.position));
        let disk = self.nodes[at].disk.clone();
        self.saw(&Seen::Agent { before: &before, after: &after, disk: &disk });
        match served {
            true => self.input(at, Input::Witnessed(after.at.position)),
            false => {
                let heard = self.heard(at, after.chain);
                self.input(at, heard);
            }
        }
        self.take_over(at);
    }
}

/// Whether an entry was made for a client.
pub(crate) fn is_of_client(entry: &Entry) -> bool {
    request_of(entry) >= CLIENTS
}
