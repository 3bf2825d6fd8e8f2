//! The ordered, durable journal: one writer for each grant, and only committed entries are seen by anybody.
//!
//! A thread of its own owns the store, the state machine of this manager among the others ([`Member`]), and the
//! states that are not committed yet. It takes edits and words ([`Queue`]), asks the state machine what is to be
//! done, and does that, in the order of its list: persist, then send, then publish. Another way to agree on
//! entries, such as a replica set, would take the place of the state machine; what is around it stays.

mod appended;
mod effects;
mod group;
mod load;
mod queue;
mod role;
mod situation;
mod waiting;

use crate::failure;
use crate::hooks::Hooks;
use crate::hub::Hub;
use crate::limits::MAX_GROUP;
use crate::links::Links;
use crate::metrics::EditBecame;
use appended::Appended;
use arc_swap::ArcSwap;
use echelon_core::grant::GrantId;
use echelon_core::id::{HostId, RequestId};
use echelon_core::member::{self, CannotWrite, Input, Member, Refused, Told};
use echelon_core::name::HostName;
use echelon_core::registry::Registry;
use echelon_store::{Entry, Problem, RegistryStore, StoreError};
use echelon_wire::DecodeError;
use group::{Group, own_context};
use queue::{Edit, Turn, Word};
use role::Role;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::error;
use waiting::Waiting;

pub use load::LoadError;
pub(crate) use load::load;
pub(crate) use queue::{Arrived, Edits, Queue, Word as Said};
pub(crate) use situation::Situation;

/// Why the journal ends, other than because it was told to. The process must end, and finds out what is durable
/// when it starts again; whoever waited for an answer is told that the outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("an entry that came from another manager cannot be read")]
    Entry(#[from] DecodeError),
}

/// See the module.
pub(crate) struct Journal {
    store: RegistryStore,
    member: Member,
    appended: Appended,
    waiting: Waiting,
    /// What this manager wants by itself, and is tried once.
    own: VecDeque<Edit>,
    /// Entries that were made durable before the state machine was told of them.
    staged: u64,
    /// Counts the copies that were wished for.
    copy_wished: u64,
    wishes: BTreeMap<RequestId, mpsc::UnboundedSender<Told>>,
    hub: Arc<Hub>,
    links: Arc<Links>,
    situation: Arc<ArcSwap<Situation>>,
    role: Role,
}

impl Journal {
    /// The journal of the manager on this host: `committed` and `tail` are what [`load`] gave.
    pub(crate) fn new(
        host: HostId,
        store: RegistryStore,
        tail: &[Entry],
        hub: Arc<Hub>,
        links: Arc<Links>,
        hooks: Hooks,
    ) -> Result<Self, LoadError> {
        let committed = hub.registry();
        let role = Role::new(hooks, committed.position());
        let stored = load::stored(&store, &committed, tail)?;
        let appended = load::appended(committed, tail)?;
        if let Some(mark) = store.mark_at(store.committed())? {
            hub.witnesses.committed(mark);
        }
        let member = Member::new(host, hub.clock.now(), stored);
        let situation = Arc::new(ArcSwap::from_pointee(Situation::of(&member)));
        let (waiting, own, wishes) = Default::default();
        Ok(Self {
            store,
            member,
            appended,
            waiting,
            own,
            staged: 0,
            copy_wished: 0,
            wishes,
            hub,
            links,
            situation,
            role,
        })
    }

    /// Where it says how things are.
    pub(crate) fn situation(&self) -> Arc<ArcSwap<Situation>> {
        Arc::clone(&self.situation)
    }

    /// Takes this manager's place, as far as it can without anybody else.
    pub(crate) fn begun(mut self) -> Result<Self, JournalError> {
        self.turn(Turn::default())?;
        Ok(self)
    }

    /// Runs until the queue ends. For a thread of its own: it waits for the disk.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub(crate) fn run(mut self, mut queue: Queue, runtime: &Handle) -> Result<(), JournalError> {
        while let Some(turn) = queue.next(runtime, self.longest_wait(), MAX_GROUP) {
            self.turn(turn)?;
        }
        self.store.set_committed(self.member.log().committed())?;
        Ok(())
    }

    fn longest_wait(&self) -> Duration {
        self.member.next_deadline().since(self.hub.clock.now())
    }

    /// Does what there is to do.
    fn turn(&mut self, turn: Turn) -> Result<(), JournalError> {
        for word in turn.words {
            self.work(|journal| journal.take(word))?;
        }
        self.work(|journal| journal.input(Input::Tick))?;
        let edits = self.own.drain(..).chain(turn.edits).collect();
        self.work(|journal| journal.carry_out_edits(edits))?;
        self.waiting.expire(Instant::now(), &self.hub);
        let situation = Situation::of(&self.member);
        self.situation.store(Arc::new(situation));
        self.role.see(&self.member, &self.hub);
        Ok(())
    }

    /// Does one thing. What the disk did not take, with nothing half done, is no end: a manager that is told of it once
    /// more, as after a start, finds its place again, and goes on with what came beside it.
    fn work(&mut self, work: impl FnOnce(&mut Self) -> Result<(), JournalError>) -> Result<(), JournalError> {
        match work(self) {
            Err(JournalError::Store(e)) if !matches!(e.problem, Problem::Disk(_)) => {
                error!(error = %e, "The journal could not be written; this manager takes its place anew");
                self.begin_anew()
            }
            worked => worked,
        }
    }

    fn take(&mut self, word: Word) -> Result<(), JournalError> {
        match word {
            Word::Input(input) => self.input(input),
            Word::GiveUp => {
                self.waiting.give_up(&self.hub);
                Ok(())
            }
            Word::Relinked(peer) => self.relinked(peer),
            Word::Wish(id, input, told) => {
                self.wishes.retain(|_, told| !told.is_closed());
                self.wishes.insert(id, told);
                self.wished(id, input)
            }
            Word::Copied(wish, arrived) => self.copied(wish, arrived),
            Word::Dismiss(through, dismissal, answer) => {
                let dismissed = self.store.dismiss_surplus(through, &dismissal);
                // Whoever asked may be gone.
                let _ = answer.send(dismissed.as_ref().map_err(|e| failure::not_dismissed(e)).copied());
                match dismissed {
                    Err(e) if matches!(e.problem, Problem::Disk(_)) => Err(e.into()),
                    _ => Ok(()),
                }
            }
        }
    }

    /// A grant that is handed in is decided on at once: where nothing is told then, none was proposed, or too long ago.
    /// Whoever was told something does not heed another word.
    fn wished(&mut self, id: RequestId, input: Input) -> Result<(), JournalError> {
        let hands_in = matches!(input, Input::Promote(_));
        self.input(input)?;
        if hands_in {
            self.tell(id, Told::Refused(Refused::NotAsProposed));
        }
        Ok(())
    }

    /// A link was made, to a manager that was restarted, perhaps, of which older links are not known to be dead yet; or one
    /// has ended, and where there is another one, what was on its way is told again over that. Words of links that come and
    /// go at once may overtake each other: how it is now, the links say.
    fn relinked(&mut self, peer: HostId) -> Result<(), JournalError> {
        match self.links.connection(peer) {
            Some(_) => {
                self.hub.linked(peer);
                self.input(Input::Met(peer))
            }
            None => {
                self.hub.lost(peer);
                self.input(Input::Lost(peer))
            }
        }
    }

    /// Tells the state machine what happened, and does what it says.
    fn input(&mut self, input: Input) -> Result<(), JournalError> {
        let mut effects = Vec::new();
        self.member.handle(self.hub.clock.now(), input, &mut effects);
        effects.into_iter().try_for_each(|effect| self.carry_out(effect))
    }

    /// Whether the registry has to take note of this manager's grant before anything else is written under it. Not
    /// while another grant is being given: that is to build on the journal as it is.
    fn has_to_take_over(&self) -> bool {
        let (grant, last) = (self.member.chain().head().id, self.member.log().last());
        let handing = matches!(self.member.may_write(), Err(CannotWrite::Handing));
        self.member.is_leading() && GrantId::of(&last.position) != grant && !handing
    }

    fn carry_out_edits(&mut self, edits: Vec<Edit>) -> Result<(), JournalError> {
        let takes_over = self.has_to_take_over();
        if edits.is_empty() && !(takes_over && self.member.may_write().is_ok()) {
            return Ok(());
        }
        if self.member.is_leading() {
            self.appended.go_under(self.member.chain().head().id);
        }
        let mut group = Group::new(&self.member, self.appended.head(), self.store.head());
        if takes_over {
            group.take_over(self.member.chain(), own_context(self.name()));
        }
        let (registry, now) = (self.hub.registry(), self.hub.clock.now());
        let me = self.member.me();
        edits
            .into_iter()
            .for_each(|edit| group.decide(edit, |why| failure::cannot_write(why, &registry, me, now)));
        let Group { entries, asked, .. } = group;
        if let Err(e) = self.persist(&entries) {
            self.hub.metrics.edit(EditBecame::Failed, asked.len());
            error!(error = %e, edits = entries.len(), "Edits could not be made durable");
            if matches!(e.problem, Problem::Disk(_)) {
                return Err(e.into());
            }
            let failure = failure::not_stored(&e);
            asked.into_iter().for_each(|(_, asked)| waiting::send(asked.to, Err(failure.clone())));
            return Ok(());
        }
        asked.into_iter().for_each(|(revision, asked)| self.waiting.push(revision, asked));
        self.write(entries)?;
        self.waiting.committed(self.member.log().committed(), &self.store, &self.hub);
        Ok(())
    }

    fn persist(&mut self, entries: &[(Entry, Arc<Registry>)]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let entries: Vec<_> = entries.iter().map(|(entry, _)| entry.clone()).collect();
        let began = Instant::now();
        self.store.append(&entries, self.member.log().committed())?;
        self.hub.metrics.journal_duration.observe(began.elapsed());
        Ok(())
    }

    /// Tells the state machine of entries that were made here and are durable.
    fn write(&mut self, entries: Vec<(Entry, Arc<Registry>)>) -> Result<(), JournalError> {
        let Some((last, _)) = entries.last() else { return Ok(()) };
        self.staged = last.revision();
        let written: Vec<_> = entries.iter().map(|(entry, _)| member::Entry::from(entry)).collect();
        for (entry, registry) in entries {
            self.appended.push(registry, entry);
        }
        self.input(Input::Write(written))
    }

    /// Reads back what is durable, and tells a new state machine who is there, and what agents have said against this
    /// manager: they do not say it twice, and what could not be made durable is forgotten. Where it cannot be now
    /// either, this manager ends rather than go on as though it had not heard.
    fn begin_anew(&mut self) -> Result<(), JournalError> {
        self.waiting.give_up(&self.hub);
        let stored = self.reload()?;
        self.member = Member::new(self.member.me(), self.hub.clock.now(), stored);
        let there = self.links.connected();
        there.into_iter().try_for_each(|peer| self.input(Input::Met(peer)))?;
        self.hub.witnesses.said().into_iter().try_for_each(|said| self.input(said))
    }

    /// What this manager's host is called.
    fn name(&self) -> HostName {
        self.hub.name_of(self.member.me())
    }
}

#[cfg(test)]
pub(crate) mod tests;
