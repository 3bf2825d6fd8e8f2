//! Durations to their largest unit, which is all that matters to a reader.

pub(crate) use echelon_core::duration::rough;
use std::time::Duration;

/// The same, of milliseconds.
pub(crate) fn rough_ms(millis: u64) -> String {
    rough(Duration::from_millis(millis))
}
