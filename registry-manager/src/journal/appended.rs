//! The registry beyond what is committed.

use echelon_core::grant::{GrantId, Mark};
use echelon_core::hierarchy::TreeError;
use echelon_core::member::sync_change;
use echelon_core::registry::Registry;
use echelon_core::row::Commit;
use echelon_store::Entry;
use std::collections::VecDeque;
use std::sync::Arc;

/// A state of the registry, and the commit that makes it.
pub(super) struct State {
    pub(super) registry: Arc<Registry>,
    pub(super) commit: Commit,
    pub(super) mark: Mark,
}

/// The states after each entry that is not known to be committed, oldest first.
pub(super) struct Appended {
    head: Arc<Registry>,
    states: VecDeque<State>,
}

impl Appended {
    /// With no entry above this committed state.
    pub(super) fn new(committed: Arc<Registry>) -> Self {
        Self { head: committed, states: VecDeque::new() }
    }

    /// The registry after the last entry.
    pub(super) fn head(&self) -> &Arc<Registry> {
        &self.head
    }

    /// From now on entries are made under this grant.
    pub(super) fn go_under(&mut self, grant: GrantId) {
        if GrantId::of(&self.head.position()) != grant {
            self.head = Arc::new(self.head.under(grant));
        }
    }

    /// Takes the next entry, made here.
    pub(super) fn push(&mut self, registry: Arc<Registry>, entry: Entry) {
        let Entry { mark, commit, .. } = entry;
        self.head = Arc::clone(&registry);
        self.states.push_back(State { registry, commit, mark });
    }

    /// Takes the next entry, made elsewhere.
    ///
    /// # Errors
    /// It does not follow on the state there is.
    pub(super) fn follow(&mut self, entry: Entry) -> Result<(), TreeError> {
        let registry = Arc::new(self.head.apply(&entry.commit)?);
        self.push(registry, entry);
        Ok(())
    }

    /// Whether an entry up to this revision changes which standbys count.
    pub(super) fn changes_who_counts(&self, revision: u64) -> bool {
        let committed = self.states.iter().take_while(|state| state.mark.revision() <= revision);
        committed.into_iter().any(|state| sync_change(&state.commit).is_some())
    }

    /// The oldest state, where its revision is at most this one: it is committed.
    pub(super) fn pop(&mut self, revision: u64) -> Option<State> {
        let oldest = self.states.front()?;
        if oldest.commit.position.revision > revision {
            return None;
        }
        self.states.pop_front()
    }
}
