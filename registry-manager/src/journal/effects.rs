//! What the state machine wants done.

use super::group::{own_context, own_edit};
use super::queue::{Arrived, Edit};
use super::{Journal, JournalError, load};
use crate::failure;
use crate::offered::is_believed;
use echelon_core::change::Change;
use echelon_core::grant::{Basis, Chain, Grant, Mark, Parent};
use echelon_core::id::{HostId, RequestId};
use echelon_core::member::{self, Append, Effect, Input, MemberMessage, Refused, Stored, Told};
use echelon_core::name::ManagerType;
use echelon_store::{Entry, Problem};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

impl Journal {
    pub(super) fn carry_out(&mut self, effect: Effect) -> Result<(), JournalError> {
        match effect {
            Effect::Adopt { chain, cut } => self.adopt(&chain, cut),
            Effect::Append(entries) => self.append(&entries),
            Effect::Seal(seals) => Ok(self.store.set_seals(&seals)?),
            Effect::RolledBack(position) => {
                error!(seen = %position, "This registry is older than others have seen it: it takes no edits");
                Ok(self.store.set_rolled_back(position)?)
            }
            Effect::Commit(revision) => self.commit(revision),
            Effect::Send(to, message) => {
                self.links.send(to, message);
                Ok(())
            }
            Effect::Feed { to, after } => self.feed(to, after),
            Effect::Copy(from) => {
                self.copy_wished = self.copy_wished.wrapping_add(1);
                self.links.copy(from, self.copy_wished);
                Ok(())
            }
            Effect::Lead => {
                info!(grant = %self.member.chain().head().id, "This manager is the primary");
                Ok(())
            }
            Effect::Fenced => {
                let head = self.member.chain().head();
                warn!(grant = %head.id, primary = %self.hub.name_of(head.holder), "This manager is fenced: it is not the primary any more");
                self.waiting.give_up(&self.hub);
                Ok(())
            }
            Effect::Admit(host) => {
                self.admit(host);
                Ok(())
            }
            Effect::Prove(grant) => self.prove(&grant),
            Effect::Told(id, told) => self.told(id, told),
        }
    }

    /// Goes by another chain. Where the journal is not even up to the cut the one that the chain speaks of, it is
    /// left whole: the primary will not know its end, and it is replaced by a copy.
    fn adopt(&mut self, chain: &Chain, cut: Option<Parent>) -> Result<(), JournalError> {
        info!(grant = %chain.head().id, primary = %self.hub.name_of(chain.head().holder), "Adopted a grant");
        self.store.set_committed(self.member.log().committed())?;
        match self.store.adopt(chain, cut) {
            Err(e) if matches!(e.problem, Problem::Apart { .. }) => {
                warn!(error = %e, "This journal is another one than the primary's");
                self.store.adopt(chain, None)?;
            }
            adopted => adopted?,
        }
        if cut.is_none() {
            self.hub.witnesses.set_chain(chain.clone());
            return Ok(());
        }
        self.waiting.give_up(&self.hub);
        let stored = self.reload()?;
        self.input(Input::Loaded(stored))
    }

    fn append(&mut self, entries: &[member::Entry]) -> Result<(), JournalError> {
        let new = entries.iter().filter(|entry| entry.mark.revision() > self.staged);
        let new = new.map(Entry::try_from).collect::<Result<Vec<_>, _>>()?;
        if new.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        self.store.append(&new, self.member.log().committed())?;
        self.hub.metrics.journal_duration.observe(began.elapsed());
        for entry in new {
            let revision = entry.revision();
            let follow = self.appended.follow(entry);
            follow.map_err(|source| load::LoadError::Tail { revision, source })?;
        }
        Ok(())
    }

    /// Shows what is committed. That the standbys that count have changed is durable before: after a restart the old
    /// ones would be asked for it again, of whom some may have left.
    fn commit(&mut self, revision: u64) -> Result<(), JournalError> {
        if self.appended.changes_who_counts(revision) {
            self.store.set_committed(revision)?;
        }
        while let Some(state) = self.appended.pop(revision) {
            let commit = &state.commit;
            info!(revision = commit.position.revision, actor = %commit.actor, request = %commit.request,
                rows = commit.rows.len(), shrinks = commit.shrinks, "Committed");
            self.hub.commit(state.registry, commit);
            self.hub.witnesses.committed(state.mark);
        }
        self.waiting.committed(revision, &self.store, &self.hub);
        Ok(())
    }

    fn feed(&mut self, to: HostId, after: Mark) -> Result<(), JournalError> {
        let Some(entries) = self.store.entries_after(&after)? else {
            return self.input(Input::NoSuchMark(to));
        };
        let (grant, committed) = (self.member.chain().head().id, self.member.log().committed());
        let append = Append { grant, after, entries, committed };
        self.links.send(to, MemberMessage::Append(append));
        Ok(())
    }

    fn admit(&mut self, host: HostId) {
        let (set, context) = own_edit(Change::Admit { host }, own_context(self.name()));
        // Nobody waits for the answer; the state machine asks again.
        let (answer, _) = oneshot::channel();
        self.own.push_back(Edit { set, context, dry_run: false, came: Instant::now(), answer });
    }

    fn prove(&mut self, grant: &Grant) -> Result<(), JournalError> {
        match self.proved(grant) {
            Ok(proved) => self.input(Input::Promote(proved)),
            Err(why) => {
                error!(
                    "A grant could not be signed so that others believe it; check this host's clock: {why}"
                );
                // It ends by itself once its time is over.
                Ok(())
            }
        }
    }

    /// The grant with a signature that others will believe: this manager would give up its own grant for one that
    /// nobody takes, were its certificate not valid by its clock, which was set.
    fn proved(&self, grant: &Grant) -> Result<Grant, String> {
        let proved = self.links.prove(grant).map_err(|e| failure::in_full(&e))?;
        is_believed(&self.hub.registry(), self.member.chain(), &proved).map(|()| proved)
    }

    /// Tells what became of a wish. A manager that an edit of its own journal takes out of the registry is promoted by
    /// nobody: once that is committed, no other one would listen to it.
    fn told(&mut self, id: RequestId, told: Told) -> Result<(), JournalError> {
        let forced = matches!(&told, Told::Proposed(proposal) if proposal.grant.basis == Basis::Force);
        let registry = self.appended.head();
        if !forced || registry.package(self.member.me(), &ManagerType::registry()).is_some() {
            self.tell(id, told);
            return Ok(());
        }
        self.tell(id, Told::Refused(Refused::Removed));
        self.input(Input::Abort(id))
    }

    pub(super) fn tell(&mut self, id: RequestId, told: Told) {
        if let Some(sender) = self.wishes.get(&id) {
            // Whoever wished may be gone.
            let _ = sender.send(told);
        }
    }

    /// A copy of another manager's registry has come. Only the last one that was wished for is put in place, and only
    /// as long as it is wished for: another one may lack what this manager has said since.
    pub(super) fn copied(&mut self, wish: u64, arrived: Option<Arrived>) -> Result<(), JournalError> {
        let wanted = self.member.is_copying() && wish == self.copy_wished;
        let Some(Arrived { path, put }) = arrived else {
            return if wanted { self.input(Input::NotCopied) } else { Ok(()) };
        };
        let replaced = wanted.then(|| self.store.replace_by(&path));
        // What is left of it is of no use.
        let _ = std::fs::remove_file(&path);
        match replaced {
            None => return Ok(()),
            Some(Err(e)) => {
                error!(error = %e, "A copy of the registry could not be used");
                // Whoever fetched it ends with this manager.
                let _ = put.send(Some(failure::in_full(&e)));
                return self.input(Input::NotCopied);
            }
            Some(Ok(())) => {
                info!("The registry is replaced by a copy");
                let _ = put.send(None);
            }
        }
        self.waiting.give_up(&self.hub);
        let stored = self.reload()?;
        self.input(Input::Loaded(stored))
    }

    /// Reads back what is durable. Where other commits are shown than that has, all that is shown begins anew; a journal
    /// that was set back may have had another one at the same position.
    pub(super) fn reload(&mut self) -> Result<Stored, JournalError> {
        let (committed, tail) = load::load(&self.store)?;
        let stored = load::stored(&self.store, &committed, &tail)?;
        let committed = Arc::new(committed);
        self.staged = 0;
        let shown = self.hub.witnesses.mark_at(&self.hub.registry().position());
        let mark = self.store.mark_at(self.store.committed())?;
        if mark.is_none() || shown != mark {
            self.hub.begin_anew(Arc::clone(&committed));
        }
        mark.into_iter().for_each(|mark| self.hub.witnesses.committed(mark));
        self.hub.witnesses.set_chain(self.store.grants().clone());
        self.appended = load::appended(committed, &tail)?;
        Ok(stored)
    }
}
