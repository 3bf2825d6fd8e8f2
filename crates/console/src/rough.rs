//! Durations to their largest unit, which is all that matters to a reader.

use echelon_core::duration::print;
use std::time::Duration;

/// `59s`, `2h`, `3d`: rounded down.
pub(crate) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let unit = [86_400, 3600, 60].into_iter().find(|unit| seconds >= *unit).unwrap_or(1);
    print(Duration::from_secs(seconds / unit * unit))
}

/// The same, of milliseconds.
pub(crate) fn rough_ms(millis: u64) -> String {
    rough(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_down_to_one_unit() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m"), (7300, "2h"), (200_000, "2d")] {
            assert_eq!(rough(Duration::from_secs(seconds)), text);
        }
        assert_eq!(rough_ms(61_999), "1m");
    }
}
