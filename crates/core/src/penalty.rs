//! How the hold of a candidate grows that fails again and again.

use crate::time::Monotonic;
use std::time::Duration;

/// Longest hold that repeated failures lead to. A policy may ask for a longer one.
pub(crate) const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// In this time half of a penalty is forgiven.
const HALF_LIFE: Duration = Duration::from_secs(300);

/// What a candidate's failures have come to: how many times as long as the policy says it was held last, and since
/// when. Each failure doubles what is left of that.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Penalty(Option<(f64, Monotonic)>);

impl Penalty {
    /// Takes in that a candidate is live again that had failed. Says how many times `hold`, the policy's, it is
    /// held for that: at least once.
    pub(crate) fn recovered(&mut self, now: Monotonic, hold: Duration) -> f64 {
        let left = |(times, at): (f64, Monotonic)| times * share_left(now.since(at));
        let times = (2.0 * self.0.map_or(0.0, left)).clamp(1.0, most(hold));
        self.0 = Some((times, now));
        times
    }
}

/// How many times a hold may be served at most.
fn most(hold: Duration) -> f64 {
    match hold.is_zero() {
        true => 1.0,
        false => LONGEST_HOLD.div_duration_f64(hold).max(1.0),
    }
}

/// The part of a penalty that is left after this time.
fn share_left(time: Duration) -> f64 {
    libm::exp2(-time.div_duration_f64(HALF_LIFE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000)
    }

    #[test]
    fn each_failure_doubles_the_hold_up_to_ten_minutes() {
        let mut penalty = Penalty::default();
        let holds: Vec<_> = (0..7).map(|_| HOLD.mul_f64(penalty.recovered(at(1), HOLD)).as_secs()).collect();
        assert_eq!(holds, [30, 60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn half_of_it_is_forgiven_every_five_minutes() {
        for (after, expected) in [(0, 240), (300, 120), (600, 60), (900, 30), (1200, 30), (100_000, 30)] {
            let mut penalty = Penalty::default();
            for _ in 0..3 {
                penalty.recovered(at(1), HOLD);
            }
            let hold = HOLD.mul_f64(penalty.recovered(at(1 + after), HOLD));
            assert_eq!(hold.as_secs(), expected, "{after} s after one of 120 s");
        }
    }

    #[test]
    fn a_policy_without_a_hold_has_none_and_one_that_is_longer_stays_as_it_is() {
        for hold in [Duration::ZERO, Duration::from_secs(3600)] {
            let mut penalty = Penalty::default();
            assert!((0..5).all(|_| penalty.recovered(at(1), hold) == 1.0));
        }
    }
}
