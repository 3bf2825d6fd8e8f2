//! Edits that become durable together.

use super::waiting::{Answer, Asked};
use crate::failure;
use crate::journal::queue::Edit;
use crate::metrics::EditBecame;
use echelon_core::change::{Change, ChangeSet};
use echelon_core::edit::{Context, Edited};
use echelon_core::grant::{Chain, GrantId, Mark};
use echelon_core::id::RequestId;
use echelon_core::member::{CannotWrite, Member, SyncChange, sync_change};
use echelon_core::message::{EditAnswer, Failure};
use echelon_core::name::HostName;
use echelon_core::registry::Registry;
use echelon_core::row::{Actor, Commit};
use echelon_store::Entry;
use echelon_wire::{MAX_EDIT_FRAME, Wire, content_hash};
use std::sync::Arc;
use tracing::{info, warn};
use uuid::Uuid;

/// Bytes around a row in a list.
const ROW_OVERHEAD: usize = 8;

/// Bytes of an edit's answer besides its rows, generously.
const ANSWER_OVERHEAD: usize = 1024;

/// Each edit builds on the ones before it, so that none is answered, not even one that is refused, before those are
/// committed.
pub(super) struct Group<'a> {
    member: &'a Member,
    registry: Arc<Registry>,
    last: Mark,
    /// What is to be appended, with the state that each makes.
    pub(super) entries: Vec<(Entry, Arc<Registry>)>,
    /// Those that wait for an answer, and for which revision.
    pub(super) asked: Vec<(u64, Asked)>,
}

impl<'a> Group<'a> {
    /// An empty one, after this state.
    pub(super) fn new(member: &'a Member, registry: &Arc<Registry>, last: Mark) -> Self {
        Self { member, registry: Arc::clone(registry), last, entries: Vec::new(), asked: Vec::new() }
    }

    /// Begins with the first commit of the newest grant, which may be the first one of some before it, too.
    pub(super) fn take_over(&mut self, chain: &Chain, context: Context) {
        let (grant, gives_up) = (chain.head(), chain.gives_up_since(GrantId::of(&self.last.position)));
        let change = Change::TakeOver { holder: grant.holder, sync: grant.sync.clone(), gives_up };
        let (set, context) = own_edit(change, context);
        match self.registry.edit(&set, &context) {
            Ok(Edited::Done(registry, commit)) => self.append(*registry, commit),
            Ok(Edited::Repeated(_)) => {}
            Err(refusal) => warn!("The registry cannot take note of the grant: {refusal}"),
        }
    }

    /// Decides on an edit.
    pub(super) fn decide(&mut self, edit: Edit, cannot: impl Fn(&CannotWrite) -> Failure) {
        let Edit { set, context, dry_run, came, answer: to } = edit;
        // What rests on no entry waits for none.
        let (answer, revision) = match self.answer(&set, &context, dry_run) {
            Ok(decided) => decided,
            Err(why) => (Answer::This(Err(cannot(&why))), 0),
        };
        let became = answer.became(dry_run);
        self.asked.push((revision, Asked { answer, became, came, to }));
    }

    /// What an edit is answered, and the revision that has to be committed before.
    fn answer(
        &mut self,
        set: &ChangeSet,
        context: &Context,
        dry_run: bool,
    ) -> Result<(Answer, u64), CannotWrite> {
        let decided = self.registry.edit(set, context);
        // What was committed before can be told by everybody.
        if let Ok(Edited::Repeated(revision)) = decided {
            return Ok((Answer::AsAt(revision), revision));
        }
        if !self.member.is_leading() {
            self.member.may_write()?;
        }
        Ok(match decided {
            Ok(Edited::Repeated(revision)) => (Answer::AsAt(revision), revision),
            Err(refusal) => {
                let actor = &context.actor;
                info!(error = refusal.name(), %actor, "Refused an edit: {}", failure::in_full(&refusal));
                (Answer::This(Err((&refusal).into())), self.last.revision())
            }
            Ok(Edited::Done(_, commit)) if !answer_fits(&commit) => {
                (Answer::This(Err(failure::too_large(commit.rows.len()))), self.last.revision())
            }
            Ok(Edited::Done(registry, commit)) => {
                let sync = sync_change(&commit);
                // Whether it can be done at all is what is asked of a change of the standbys that count.
                if !dry_run || sync.is_some() {
                    self.may_append(sync.as_ref())?;
                }
                // A dry run of a way out is asked for while edits wait for what it ends.
                let waits = !dry_run || !sync.is_some_and(|sync| sync.alone);
                let (request, rows) = (commit.request, commit.rows.clone());
                if !dry_run {
                    self.append(*registry, commit);
                }
                // A dry run has no position of its own: it says what would be at the state there is, as far as that
                // may be told.
                let (mut position, mut revision) = (self.registry.position(), self.last.revision());
                if !waits {
                    (position.revision, revision) = (self.member.log().committed(), 0);
                }
                (Answer::This(Ok(EditAnswer { position, request, rows, repeated: false })), revision)
            }
        })
    }

    /// Whether an edit can be taken that changes the standbys that count in this way, or not at all.
    fn may_append(&self, change: Option<&SyncChange>) -> Result<(), CannotWrite> {
        match change {
            // Where that does not help, what does is said of the standbys that count now.
            Some(change) if change.alone => self
                .member
                .may_write_under(&change.rule)
                .map_err(|under_new| self.member.may_write().err().unwrap_or(under_new)),
            Some(change) => self.member.may_write().and_then(|()| self.member.may_write_under(&change.rule)),
            None => self.member.may_write(),
        }
    }

    fn append(&mut self, registry: Registry, commit: Commit) {
        self.registry = Arc::new(registry);
        let entry = Entry::new(&self.last, commit);
        self.last = entry.mark;
        self.entries.push((entry, Arc::clone(&self.registry)));
    }
}

impl Answer {
    /// What becomes of the edit, in the end.
    fn became(&self, dry_run: bool) -> EditBecame {
        match self {
            Self::AsAt(_) => EditBecame::Repeated,
            Self::This(Err(_)) => EditBecame::Refused,
            Self::This(Ok(_)) if dry_run => EditBecame::DryRun,
            Self::This(Ok(_)) => EditBecame::Committed,
        }
    }
}

/// A change that this manager makes by itself.
pub(super) fn own_edit(change: Change, context: Context) -> (ChangeSet, Context) {
    let request = RequestId(Uuid::now_v7());
    let set = ChangeSet { request, if_revision: None, allow_shrink: false, changes: vec![change] };
    let content = content_hash(&set);
    (set, Context { content, ..context })
}

/// Under which circumstances this manager edits by itself.
pub(super) fn own_context(name: HostName) -> Context {
    Context { now: crate::clock::unix_now(), actor: Actor::Manager(name), from: None, content: [0; 32] }
}

/// Whether the answer to an edit fits into one frame: an edit that could not be answered is not carried out.
fn answer_fits(commit: &Commit) -> bool {
    commit.rows.iter().map(|row| row.encoded_len() + ROW_OVERHEAD).sum::<usize>()
        < MAX_EDIT_FRAME - ANSWER_OVERHEAD
}
