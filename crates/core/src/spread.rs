//! How a host spreads over managers that are equal otherwise: weighted rendezvous hashing, as
//! [`crate::order::rendezvous_score`] has it.

use crate::hashing::{Hashing, LANES};
use crate::name::{HostName, ManagerType};
use crate::view::Manager;

/// Hashes of managers of one weight that differ by more than this are in the order of their scores: the score rises by
/// e times the difference at least, in units of 2^-53 of itself, and its rounding, that of the logarithm and of the
/// division come to less than eight of these on either side.
const SURE: u64 = 64;

/// So many and fewer are hashed one by one: eight at a time take as long as two or three do.
const FEW: usize = 3;

/// Managers that are equal otherwise, by their places among these, in the order in which a host prefers them.
#[derive(Debug, Default)]
pub(crate) struct Equals {
    /// The key of each and its place: little to move about while they are sorted. Keys are scores, which are never
    /// negative and so are in the order of their bits; or hashes, where `weight` says whose.
    keys: Vec<(u64, u32)>,
    /// The weight that all of them have, where they need not be scored.
    weight: Option<u32>,
}

impl Equals {
    /// Each has this score.
    pub(crate) fn have_scores(&mut self, scores: impl Iterator<Item = f64>) {
        self.have(None, scores.map(f64::to_bits));
    }

    fn have(&mut self, weight: Option<u32>, keys: impl Iterator<Item = u64>) {
        self.weight = weight;
        self.keys.clear();
        self.keys.extend(keys.zip(0..));
    }

    /// Keeps those at certain places.
    pub(crate) fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        self.keys.retain(|(_, place)| keep(*place as usize));
    }

    /// Brings the first `most` into the order of their scores, the highest first; ties by name. Those of weight 0 score
    /// lowest, and so come last. Those after them are lost.
    pub(crate) fn spread<'n>(&mut self, most: usize, name: impl Fn(usize) -> &'n HostName) {
        let Self { keys, weight } = self;
        let sure = if weight.is_some() { SURE } else { 0 };
        let by_key = |a: &(u64, u32), b: &(u64, u32)| b.0.cmp(&a.0);
        if 0 < most && most < keys.len() {
            let (_, (last, _), _) = keys.select_nth_unstable_by(most - 1, by_key);
            let last = *last;
            keys.retain(|(key, _)| key.saturating_add(sure) >= last);
        }
        // The stable sort is the one that is fast where little is out of order.
        keys.sort_by(by_key);
        // The keys of nearly all are so far apart that they are in order now.
        let score_of = |key| weight.map_or(f64::from_bits(key), |weight| score(key, weight));
        for close in keys.chunk_by_mut(|a, b| a.0 - b.0 <= sure).filter(|close| close.len() > 1) {
            close.sort_by(|a, b| {
                let by_name = || name(a.1 as usize).cmp(name(b.1 as usize));
                score_of(b.0).total_cmp(&score_of(a.0)).then_with(by_name)
            });
        }
        keys.truncate(most);
    }

    /// Their places.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        self.keys.iter().map(|(_, place)| *place as usize)
    }
}

/// How much one host prefers managers of one type among equals.
pub(crate) struct Scorer {
    /// What is hashed; all but the manager's name stays.
    text: Vec<u8>,
    fixed: usize,
    /// The same for many at a time.
    many: Option<Box<Hashing>>,
}

impl Scorer {
    pub(crate) fn new(host: &HostName, ty: &ManagerType) -> Self {
        let parts = [host.as_str().as_bytes(), &[0], ty.as_str().as_bytes(), &[0]];
        let text = parts.concat();
        Self { fixed: text.len(), text, many: None }
    }

    /// Says how much it prefers each of these managers.
    pub(crate) fn weigh<'m>(
        &mut self,
        equals: impl Iterator<Item = &'m Manager> + Clone,
        known: &mut Equals,
    ) {
        let mut weights = equals.clone().map(|m| m.weight);
        let first = weights.next().filter(|weight| *weight > 0);
        match first.filter(|first| weights.all(|weight| weight == *first)) {
            Some(weight) => {
                self.hash_all(equals.map(|m| &m.name), known);
                known.weight = Some(weight);
            }
            None => known.have_scores(equals.map(|m| self.score(m))),
        }
    }

    /// Gives each its hash for a key.
    fn hash_all<'m>(&mut self, names: impl Iterator<Item = &'m HostName> + Clone, known: &mut Equals) {
        if names.clone().nth(FEW).is_none() {
            return known.have(None, names.map(|name| self.hash(name)));
        }
        let Self { text, fixed, many } = self;
        let many = many.get_or_insert_with(|| Box::new(Hashing::new(&text[..*fixed])));
        known.keys.clear();
        let mut names = names.map(|name| name.as_str().as_bytes()).peekable();
        while names.peek().is_some() {
            let before = known.keys.len();
            let mut count = 0;
            let hashes = many.first_bytes(names.by_ref().take(LANES).inspect(|_| count += 1));
            let places = before as u32..;
            known.keys.extend(hashes.into_iter().map(first_bits).zip(places).take(count));
        }
    }

    pub(crate) fn score(&mut self, manager: &Manager) -> f64 {
        self.score_of(&manager.name, manager.weight)
    }

    pub(crate) fn score_of(&mut self, manager: &HostName, weight: u32) -> f64 {
        if weight == 0 {
            return 0.0;
        }
        score(self.hash(manager), weight)
    }

    /// The first 53 bits of the hash.
    fn hash(&mut self, manager: &HostName) -> u64 {
        self.text.truncate(self.fixed);
        self.text.extend_from_slice(manager.as_str().as_bytes());
        let hash = blake3::hash(&self.text);
        first_bits(u64::from_be_bytes(hash.as_bytes()[..8].try_into().expect("a BLAKE3 hash has 32 bytes")))
    }
}

/// The first 53 bits of these.
fn first_bits(first_bytes: u64) -> u64 {
    first_bytes >> 11
}

/// The score for the first 53 bits of a hash.
fn score(bits: u64, weight: u32) -> f64 {
    let u = (bits as f64 + 0.5) / (1u64 << 53) as f64;
    // Of all 2^53 values the highest alone is rounded up to 1, whose logarithm is no divisor.
    let u = u.min(1.0 - f64::EPSILON / 2.0);
    -f64::from(weight) / libm::log(u)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOP: u64 = (1 << 53) - 1;

    #[test]
    fn the_score_rises_with_the_hash_up_to_its_highest_value_and_is_never_infinite() {
        let scores = [0, 1, 1 << 30, 1 << 52, TOP - 4, TOP].map(|bits| score(bits, 1));
        assert!(scores.is_sorted() && scores[0] > 0.0 && scores[5].is_finite(), "{scores:?}");
        assert!(scores[5] > scores[4]);
        assert_eq!(score(TOP, 3), 3.0 * score(TOP, 1));
    }

    /// Hashes anywhere, and near both ends and the middle, where rounding is at its worst.
    fn bits() -> impl Strategy<Value = u64> {
        let near =
            |middle: u64| (0..4096_u64).prop_map(move |off| (middle + off).saturating_sub(2048).min(TOP));
        prop_oneof![0..=TOP, near(0), near(1 << 51), near(1 << 52), near(TOP)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn hashes_that_are_far_enough_apart_are_in_the_order_of_their_scores(
            bits in bits(), weight in 1..=65_535_u32, further in 0..1000_u64,
        ) {
            let more = bits + SURE + 1 + further;
            prop_assume!(more <= TOP);
            prop_assert!(score(more, weight) > score(bits, weight));
        }

        #[test]
        fn by_their_hashes_managers_are_in_the_order_of_their_scores(
            bits in prop::collection::vec(bits(), 1..40), twins in 0..80_u64, weight in 1..4_u32, most in 1..50_usize,
        ) {
            // Some that differ by next to nothing, or not at all.
            let near = bits.iter().map(|bits| (bits + twins % 5).min(TOP));
            let bits: Vec<_> = bits.iter().copied().chain(near).collect();
            let names: Vec<HostName> = (0..bits.len()).rev().map(|n| format!("h{n:03}").parse().unwrap()).collect();
            let sorted = |fill: &dyn Fn(&mut Equals)| {
                let mut equals = Equals::default();
                fill(&mut equals);
                equals.spread(most, |place| &names[place]);
                equals.places().collect::<Vec<_>>()
            };
            let by_hash = sorted(&|equals| equals.have(Some(weight), bits.iter().copied()));
            let by_score = sorted(&|equals| equals.have_scores(bits.iter().map(|bits| score(*bits, weight))));
            prop_assert_eq!(by_hash, by_score);
        }
    }
}
