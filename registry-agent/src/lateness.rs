//! Whether this machine is too busy to judge others by its own timers.

use std::time::Duration;
use tokio::time::Instant;

/// What a timer of ours may be late by before that says anything about the machine: timers here count whole
/// milliseconds, so that one for a very short wait is always late by a quarter of it.
const TIMER_GRAIN: Duration = Duration::from_millis(2);

/// Whether a timer that was to end a wait of this length at `due` has fired so late that nothing can be concluded from
/// it: by more than a quarter of the wait. Whoever was waited for may have been as busy.
pub(crate) fn is_too_late(due: Instant, wait: Duration) -> bool {
    due.elapsed() > (wait / 4).max(TIMER_GRAIN)
}
