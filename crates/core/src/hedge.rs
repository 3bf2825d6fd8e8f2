//! How long a silent candidate is waited for before the next is tried beside it.

use std::time::Duration;

/// The hedge of a candidate of which no connect time is known: several times what a network in one region takes,
/// and still too short for a caller to notice.
pub const UNKNOWN_HEDGE: Duration = Duration::from_millis(50);

/// Shortest learned hedge: a few times the grain of timers, so that a busy machine is no reason for a second
/// connect.
pub const SHORTEST_HEDGE: Duration = Duration::from_millis(10);

/// Longest learned hedge: past it callers notice.
pub const LONGEST_HEDGE: Duration = Duration::from_millis(250);

/// How many times the smoothed connect time the hedge is.
const TIMES: u32 = 4;

/// A hedge is shown anew once the learned one differs from it by more than this part of it. Otherwise each
/// connection would change the route.
const SHOWN_WITHIN: u32 = 4;

/// What a candidate's connect times come to: smoothed as round-trip times of TCP are (RFC 6298, section 2: the
/// first one as it is, then seven eighths of what was and one eighth of the new one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    smoothed: Option<Duration>,
    shown: Duration,
}

impl Default for Hedge {
    fn default() -> Self {
        Self { smoothed: None, shown: UNKNOWN_HEDGE }
    }
}

impl Hedge {
    /// The hedge, as it is shown: within a quarter of four times the smoothed connect time, and from
    /// [`SHORTEST_HEDGE`] to [`LONGEST_HEDGE`].
    pub fn shown(&self) -> Duration {
        self.shown
    }

    /// Learns that a connect took so long. Says whether the hedge is shown differently from now on. A time of
    /// zero teaches nothing: nobody has measured it.
    pub fn learn(&mut self, took: Duration) -> bool {
        if took.is_zero() {
            return false;
        }
        // One that took longer says no more than that the hedge is at its longest.
        let took = took.min(LONGEST_HEDGE);
        let smoothed = self.smoothed.map_or(took, |smoothed| (smoothed * 7 + took) / 8);
        self.smoothed = Some(smoothed);
        let learned = (smoothed * TIMES).clamp(SHORTEST_HEDGE, LONGEST_HEDGE);
        // At its bounds it is shown as it is, so that it reaches them.
        let bound = learned == SHORTEST_HEDGE || learned == LONGEST_HEDGE;
        let moved = learned.abs_diff(self.shown) > self.shown / SHOWN_WITHIN;
        let news = learned != self.shown && (bound || moved);
        if news {
            self.shown = learned;
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn it_is_four_times_the_first_connect_time_and_within_its_bounds() {
        for (took, expected) in [(1, 10), (2, 10), (3, 12), (20, 80), (60, 240), (63, 250), (900, 250)] {
            let mut hedge = Hedge::default();
            assert_eq!(hedge.shown(), millis(50));
            assert_eq!(hedge.learn(millis(took)), millis(expected) != millis(50));
            assert_eq!(hedge.shown(), millis(expected), "{took} ms");
        }
    }

    #[test]
    fn one_slow_connect_moves_it_by_an_eighth_and_many_move_it_there() {
        let mut hedge = Hedge::default();
        hedge.learn(millis(20));
        assert!(hedge.learn(millis(68)), "from 80 ms");
        assert_eq!(hedge.shown(), millis(104), "four times (7 * 20 + 68) / 8");
        for _ in 0..50 {
            hedge.learn(millis(60));
        }
        assert!(hedge.shown() > millis(180) && hedge.shown() <= millis(240), "{:?}", hedge.shown());
    }

    #[test]
    fn small_differences_are_not_shown() {
        let mut hedge = Hedge::default();
        hedge.learn(millis(20));
        let shown: Vec<_> = (0..100).map(|n| hedge.learn(millis(18 + n % 5))).collect();
        assert!(!shown.contains(&true));
        assert!(!hedge.learn(Duration::ZERO), "what nobody has measured");
        assert_eq!(hedge.shown(), millis(80));
    }
}
