//! When a rule tells of a route.

use echelon_core::name::HostName;
use echelon_daemon::retry_after;
use std::time::Duration;
use tokio::time::Instant;

/// How far a rule is with one type. Routes are told apart by keys.
#[derive(Default)]
pub(super) struct State {
    /// What has been told; none before the first time.
    done: Option<u64>,
    /// What could not be told, and how often in a row.
    failed: Option<(u64, u32)>,
    /// When the next try is due.
    due: Option<Instant>,
    /// Who was used when it was last told.
    from: Option<HostName>,
    /// Whether the command has been run since the file is as it is. At first nobody knows: whoever made the file may
    /// have been ended before the command was, or it failed.
    command_done: bool,
}

/// What there is to do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Plan {
    /// Nothing: all is told.
    Told,
    /// Nothing any more: it has failed too often.
    GivenUp,
    /// To tell, now or later.
    At(Instant),
}

impl State {
    /// Takes in what there is to tell.
    pub(super) fn plan(&mut self, key: u64, now: Instant, debounce: Duration) -> Plan {
        if self.done == Some(key) && self.command_done {
            (self.due, self.failed) = (None, None);
            return Plan::Told;
        }
        let due = match self.failed {
            // Only its own next try.
            Some((failed, _)) if failed == key => None,
            // The first time is no change to wait for.
            None if self.done.is_none() => Some(now),
            _ => now.checked_add(debounce),
        };
        // No change puts off what is due, and none waits for the next try of what it replaces.
        self.due = self.due.into_iter().chain(due).min();
        self.due.map_or(Plan::GivenUp, Plan::At)
    }

    /// Has it told once more, and at once: what has failed, and all where `always`.
    pub(super) fn again(&mut self, now: Instant, always: bool) {
        if always || self.failed.is_some() {
            (self.done, self.failed, self.due) = (None, None, Some(now));
        }
    }

    /// Who was used when it was last told.
    pub(super) fn from(&self) -> Option<&HostName> {
        self.from.as_ref()
    }

    /// Whether the command is to be run.
    pub(super) fn owes_command(&self) -> bool {
        !self.command_done
    }

    /// The command is to be run from now on, until it has been.
    pub(super) fn owe_command(&mut self) {
        self.command_done = false;
    }

    /// This was told; `to` says who is used where that was news.
    pub(super) fn succeed(&mut self, key: u64, to: Option<Option<HostName>>) {
        let from = to.unwrap_or_else(|| self.from.take());
        *self = Self { done: Some(key), from, command_done: true, ..Self::default() };
    }

    /// This could not be told. Gives when it is tried again by itself.
    pub(super) fn fail(&mut self, key: u64, now: Instant) -> Option<Instant> {
        let before = self.failed.filter(|(failed, _)| *failed == key).map_or(0, |(_, tries)| tries);
        let tries = before.saturating_add(1);
        self.due = retry_after(tries).map(|wait| now + wait);
        self.failed = Some((key, tries));
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBOUNCE: Duration = Duration::from_secs(1);
    /// What [`retry_after`] says.
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);
    const MAX_TRIES: u32 = 20;

    /// A state in which this has been told.
    fn told(key: u64) -> State {
        let mut state = State::default();
        state.succeed(key, None);
        state
    }

    #[test]
    fn the_first_time_is_at_once_changes_are_gathered_and_what_is_as_before_is_none() {
        let (mut state, now) = (State::default(), Instant::now());
        assert_eq!(state.plan(1, now, DEBOUNCE), Plan::At(now));
        state.succeed(1, None);
        assert_eq!(state.plan(1, now, DEBOUNCE), Plan::Told);
        assert_eq!(state.plan(2, now, DEBOUNCE), Plan::At(now + DEBOUNCE));
        let later = now + DEBOUNCE / 2;
        assert_eq!(state.plan(3, later, DEBOUNCE), Plan::At(now + DEBOUNCE), "no change puts it off");
        assert_eq!(state.plan(1, later, DEBOUNCE), Plan::Told);
        assert_eq!(state.plan(2, later, DEBOUNCE), Plan::At(later + DEBOUNCE), "what was due is forgotten");
    }

    #[test]
    fn a_failure_is_tried_again_ever_more_seldom_and_not_for_ever() {
        let (mut state, now) = (State::default(), Instant::now());
        let (mut tries, mut waited) = (0, Duration::ZERO);
        while let Plan::At(due) = state.plan(1, now, DEBOUNCE) {
            waited += due - now;
            tries += 1;
            state.fail(1, now);
        }
        assert_eq!((tries, state.plan(1, now, DEBOUNCE)), (MAX_TRIES, Plan::GivenUp));
        assert!(waited > Duration::from_secs(600) && waited < LONGEST * MAX_TRIES, "{waited:?}");
        assert_eq!(state.plan(2, now, DEBOUNCE), Plan::At(now + DEBOUNCE), "another change is tried");
        state.fail(2, now);
        assert_eq!(state.plan(2, now, DEBOUNCE), Plan::At(now + FIRST), "and begins anew");
    }

    #[test]
    fn a_change_does_not_wait_for_the_next_try_of_what_it_replaces() {
        let (mut state, now) = (told(1), Instant::now());
        for _ in 0..10 {
            state.fail(2, now);
        }
        assert_eq!(state.plan(2, now, DEBOUNCE), Plan::At(now + LONGEST));
        assert_eq!(state.plan(3, now, DEBOUNCE), Plan::At(now + DEBOUNCE));
        assert_eq!(state.plan(3, now + DEBOUNCE / 2, DEBOUNCE), Plan::At(now + DEBOUNCE));
    }

    #[test]
    fn a_command_is_owed_at_first_and_until_it_was_run() {
        let (mut state, now) = (State::default(), Instant::now());
        assert!(state.owes_command());
        state.succeed(1, None);
        assert!(!state.owes_command());
        state.owe_command();
        state.fail(2, now);
        assert_eq!(state.plan(1, now, DEBOUNCE), Plan::At(now + DEBOUNCE), "even where all is as before");
    }

    #[test]
    fn a_reload_wakes_what_has_failed_however_often() {
        let (mut state, now) = (told(1), Instant::now());
        state.again(now, false);
        assert_eq!(state.plan(1, now, DEBOUNCE), Plan::Told);
        for _ in 0..MAX_TRIES {
            state.fail(2, now);
        }
        assert_eq!(state.plan(2, now, DEBOUNCE), Plan::GivenUp);
        state.again(now, false);
        assert_eq!(state.plan(2, now, DEBOUNCE), Plan::At(now));
        assert!(state.fail(2, now).is_some(), "and the tries are counted anew");
        let mut state = told(1);
        state.again(now, true);
        assert_eq!(state.plan(1, now, DEBOUNCE), Plan::At(now));
        assert!(!state.owes_command(), "a template is read again; what it makes says whether there is news");
    }
}
