//! BLAKE3 of many short texts that begin alike, eight at a time.
//!
//! One text gives a processor's vector units little to do: each step of the function needs the one before. Eight texts
//! have eight steps that do not. The function is that of the BLAKE3 paper, section 2, for inputs of one chunk; tests
//! hold it against the `blake3` crate.

use crate::limits::{MAX_HOST_NAME, MAX_LABEL};
use fearless_simd::{Level, Simd, SimdBase, dispatch, u32x8};

/// Texts that are hashed at a time.
pub(crate) const LANES: usize = 8;

/// One word of each text.
type Words = [u32; LANES];

/// Bytes of a block, and words.
const BLOCK: usize = 64;
const BLOCK_WORDS: usize = BLOCK / 4;

/// Blocks of the longest text: two host names, a type, and the zeros between them.
const MOST_BLOCKS: usize = (2 * MAX_HOST_NAME + MAX_LABEL + 2).div_ceil(BLOCK);

// More would be a second chunk, which is hashed otherwise.
const _: () = assert!(MOST_BLOCKS * BLOCK <= 1024);

/// What a block is: the first of its chunk; the last, which is that of the whole text as well.
const FIRST: u32 = 1;
const LAST: u32 = 2 | 8;

/// The initial chaining value, which is that of SHA-256.
const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Which word each round takes where.
const SCHEDULE: [[usize; BLOCK_WORDS]; 7] = schedule();

/// Hashes texts that begin with a prefix.
pub(crate) struct Hashing {
    level: Level,
    prefix: usize,
    /// The end of the prefix that fills no whole word, and room for the rest of a text.
    row: [u8; MOST_BLOCKS * BLOCK],
    /// The texts, word by word.
    words: [Words; MOST_BLOCKS * BLOCK_WORDS],
}

impl Hashing {
    /// For texts that begin with this prefix, which is no longer than two names and what is between them.
    pub(crate) fn new(prefix: &[u8]) -> Self {
        let mut words = [[0; LANES]; MOST_BLOCKS * BLOCK_WORDS];
        let (whole, rest) = prefix.as_chunks();
        for (word, bytes) in words.iter_mut().zip(whole) {
            *word = [u32::from_le_bytes(*bytes); LANES];
        }
        let mut row = [0; MOST_BLOCKS * BLOCK];
        row[..rest.len()].copy_from_slice(rest);
        Self { level: Level::new(), prefix: prefix.len(), row, words }
    }

    /// The first eight bytes of the hash of the prefix with each of these endings, as numbers with the most significant
    /// byte first. An ending is a name, and not empty.
    pub(crate) fn first_bytes<'a>(&mut self, endings: impl Iterator<Item = &'a [u8]>) -> [u64; LANES] {
        let mut lengths = [0; LANES];
        for (lane, ending) in endings.take(LANES).enumerate() {
            self.put(lane, ending);
            lengths[lane] = self.prefix + ending.len();
        }
        let last = lengths.map(|length| length.saturating_sub(1) / BLOCK);
        let (mut chaining, mut found) = (IV.map(|word| [word; LANES]), [0; LANES]);
        for block in 0..=last.into_iter().max().unwrap_or_default() {
            let bytes = lengths.map(|length| length.saturating_sub(block * BLOCK).min(BLOCK) as u32);
            let is_first = if block == 0 { FIRST } else { 0 };
            let flags = last.map(|last| is_first | if last == block { LAST } else { 0 });
            let words = &self.words[block * BLOCK_WORDS..][..BLOCK_WORDS];
            dispatch!(self.level, simd => compress(simd, &mut chaining, words, &bytes, &flags));
            for lane in (0..LANES).filter(|lane| last[*lane] == block) {
                let low_first = u64::from(chaining[0][lane]) | u64::from(chaining[1][lane]) << 32;
                found[lane] = low_first.swap_bytes();
            }
        }
        found
    }

    /// Puts the text with this ending in its place, and zeros up to the end of its last block.
    fn put(&mut self, lane: usize, ending: &[u8]) {
        let (first_word, before) = (self.prefix / 4, self.prefix % 4);
        let end = (self.prefix + ending.len()).next_multiple_of(BLOCK) - first_word * 4;
        let row = &mut self.row[..end];
        let (text, zeros) = row[before..].split_at_mut(ending.len());
        text.copy_from_slice(ending);
        zeros.fill(0);
        for (word, bytes) in self.words[first_word..].iter_mut().zip(row.as_chunks().0) {
            word[lane] = u32::from_le_bytes(*bytes);
        }
    }
}

/// Takes one block of each text into its chaining value.
#[inline(always)]
fn compress<S: Simd>(simd: S, chaining: &mut [Words; 8], block: &[Words], bytes: &Words, flags: &Words) {
    let load = |words: &Words| u32x8::from_slice(simd, words);
    let mut message = [u32x8::splat(simd, 0); BLOCK_WORDS];
    message.iter_mut().zip(block).for_each(|(word, words)| *word = load(words));
    let mut state = [u32x8::splat(simd, 0); 16];
    for i in 0..8 {
        state[i] = load(&chaining[i]);
    }
    for i in 0..4 {
        // The two words after these count chunks, of which there is one.
        state[8 + i] = u32x8::splat(simd, IV[i]);
    }
    (state[14], state[15]) = (load(bytes), load(flags));
    for order in &SCHEDULE {
        round(&mut state, &message, order);
    }
    for i in 0..8 {
        (state[i] ^ state[i + 8]).store_slice(&mut chaining[i]);
    }
}

/// One round: the columns of the state, then its diagonals.
#[inline(always)]
fn round<S: Simd>(s: &mut [u32x8<S>; 16], m: &[u32x8<S>; BLOCK_WORDS], order: &[usize; BLOCK_WORDS]) {
    let word = |i: usize| (m[order[2 * i]], m[order[2 * i + 1]]);
    mix(s, [0, 4, 8, 12], word(0));
    mix(s, [1, 5, 9, 13], word(1));
    mix(s, [2, 6, 10, 14], word(2));
    mix(s, [3, 7, 11, 15], word(3));
    mix(s, [0, 5, 10, 15], word(4));
    mix(s, [1, 6, 11, 12], word(5));
    mix(s, [2, 7, 8, 13], word(6));
    mix(s, [3, 4, 9, 14], word(7));
}

/// The quarter-round.
#[inline(always)]
fn mix<S: Simd>(s: &mut [u32x8<S>; 16], [a, b, c, d]: [usize; 4], (x, y): (u32x8<S>, u32x8<S>)) {
    s[a] = s[a] + s[b] + x;
    s[d] = turn::<S, 16>(s[d] ^ s[a]);
    s[c] += s[d];
    s[b] = turn::<S, 12>(s[b] ^ s[c]);
    s[a] = s[a] + s[b] + y;
    s[d] = turn::<S, 8>(s[d] ^ s[a]);
    s[c] += s[d];
    s[b] = turn::<S, 7>(s[b] ^ s[c]);
}

/// Rotates each word to the right.
#[inline(always)]
fn turn<S: Simd, const BITS: u32>(words: u32x8<S>) -> u32x8<S> {
    (words >> BITS) | (words << (32 - BITS))
}

const fn schedule() -> [[usize; BLOCK_WORDS]; 7] {
    const PERMUTATION: [usize; BLOCK_WORDS] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
    let mut rounds = [[0; BLOCK_WORDS]; 7];
    let (mut round, mut i) = (0, 0);
    while round < 7 {
        while i < BLOCK_WORDS {
            rounds[round][i] = if round == 0 { i } else { rounds[round - 1][PERMUTATION[i]] };
            i += 1;
        }
        (round, i) = (round + 1, 0);
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by the `blake3` crate.
    fn expected(prefix: &[u8], ending: &[u8]) -> u64 {
        let hash = blake3::hash(&[prefix, ending].concat());
        u64::from_be_bytes(hash.as_bytes()[..8].try_into().unwrap())
    }

    proptest! {
        #[test]
        fn texts_of_every_length_have_their_hash_also_after_longer_ones(
            prefix in prop::collection::vec(any::<u8>(), 1..=MAX_HOST_NAME + MAX_LABEL + 2),
            rounds in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=MAX_HOST_NAME), 1..=LANES),
                1..4,
            ),
        ) {
            let mut hashing = Hashing::new(&prefix);
            for endings in rounds {
                let found = hashing.first_bytes(endings.iter().map(Vec::as_slice));
                for (found, ending) in found.into_iter().zip(&endings) {
                    prop_assert_eq!(found, expected(&prefix, ending));
                }
            }
        }
    }

    #[test]
    fn a_block_that_is_full_is_the_last_one_if_nothing_follows() {
        for prefix in [3, 4, 63, 64, 65, 127] {
            for ending in [1, 60, 61, 64, 65, 124, 125, 128] {
                let (prefix, ending) = (vec![7; prefix], vec![9; ending]);
                let found = Hashing::new(&prefix).first_bytes([&ending[..]].into_iter())[0];
                assert_eq!(found, expected(&prefix, &ending), "{} and {}", prefix.len(), ending.len());
            }
        }
    }
}
