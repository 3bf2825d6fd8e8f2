//! Random numbers that are the same in every run of a seed.

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` up to, and without, `end`.
    pub(crate) fn between(&mut self, low: u64, end: u64) -> u64 {
        low + self.next() % (end - low)
    }

    /// An index below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.between(0, end as u64) as usize
    }

    /// True in so many of a thousand cases.
    pub(crate) fn chance(&mut self, of_1000: u64) -> bool {
        self.between(0, 1000) < of_1000
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len())])
    }
}
