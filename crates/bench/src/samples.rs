//! Measured durations.

use std::fmt;
use std::time::{Duration, Instant};

/// Durations of the same thing, at least one.
#[derive(Clone, Debug)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// These durations.
    ///
    /// # Panics
    /// There are none.
    pub fn new(durations: impl IntoIterator<Item = Duration>) -> Self {
        let mut durations: Vec<_> = durations.into_iter().collect();
        assert!(!durations.is_empty(), "nothing was measured");
        durations.sort_unstable();
        Self(durations)
    }

    /// Takes the time of each of `times` calls.
    pub fn of(times: usize, mut call: impl FnMut()) -> Self {
        Self::new((0..times).map(|_| {
            let begin = Instant::now();
            call();
            begin.elapsed()
        }))
    }

    /// The smallest one that at least this share of them does not exceed; the share is from 0 to 1.
    pub fn percentile(&self, share: f64) -> Duration {
        let at = (share * self.0.len() as f64).ceil() as usize;
        self.0[at.clamp(1, self.0.len()) - 1]
    }

    /// Half of them are not above it.
    pub fn median(&self) -> Duration {
        self.percentile(0.5)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, most] = [self.percentile(0.0), self.percentile(1.0)];
        let p99 = self.percentile(0.99);
        write!(
            f,
            "median {:.1?}, 99 % {p99:.1?}, {least:.1?} to {most:.1?}, {} samples",
            self.median(),
            self.count()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_and_the_median_is_in_the_middle() {
        let samples = Samples::new([5, 1, 4, 2, 3].map(Duration::from_millis));
        let millis = |share| samples.percentile(share).as_millis();
        assert_eq!([0.0, 0.2, 0.21, 0.5, 0.99, 1.0].map(millis), [1, 1, 2, 3, 5, 5]);
    }
}
