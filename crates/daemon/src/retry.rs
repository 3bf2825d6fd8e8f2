//! When what has failed is tried again: soon at first, then ever more seldom, and at last not any more.

use std::time::Duration;

/// First and longest wait: a program that was just being restarted is told at once, one that is broken costs a run a
/// minute.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How often in a row one thing is tried. By then a quarter of an hour has passed, and only news, or a reload, make a
/// difference.
const MAX_TRIES: u32 = 20;

/// What to wait after so many tries in a row that failed, at least one; none where it is to be given up.
pub fn retry_after(tries: u32) -> Option<Duration> {
    let wait = WAITS.0.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(WAITS.1);
    (tries < MAX_TRIES).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_end_after_a_quarter_of_an_hour() {
        let seconds = |tries| retry_after(tries).map(|wait| wait.as_secs());
        assert_eq!([1, 2, 3, 7, 19].map(seconds), [1, 2, 4, 60, 60].map(Some));
        assert_eq!([20, u32::MAX].map(seconds), [None; 2]);
        let all: u64 = (1..).map_while(seconds).sum();
        assert!((13 * 60..17 * 60).contains(&all), "{all} s");
    }
}
