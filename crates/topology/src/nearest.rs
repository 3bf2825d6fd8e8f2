//! Guesses which word was meant.

/// Longest word for which a guess is made: the longest key has fewer characters.
const MAX_WORD: usize = 24;

/// Most single-character mistakes between a word and the one that was meant.
const MAX_DISTANCE: usize = 2;

/// The one of `words` that is nearest to `word`, if it is near enough to be what was meant.
pub(crate) fn nearest(word: &str, words: &[&'static str]) -> Option<&'static str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let word = word.to_lowercase();
    let near = words.iter().map(|w| (mistakes(&word, w), *w)).min()?;
    // A word of three characters is two mistakes away from too many others.
    let allowed = MAX_DISTANCE.min(word.chars().count() / 2);
    (near.0 <= allowed).then_some(near.1)
}

/// The distance of two words, where letters in the wrong order count as one mistake.
fn mistakes(a: &str, b: &str) -> usize {
    let sorted = |word: &str| {
        let mut letters: Vec<_> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    if a != b && sorted(a) == sorted(b) { 1 } else { distance(a, b) }
}

/// How many characters have to be added, left out or replaced (Levenshtein's distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let best = (diagonal + usize::from(x != *y)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn only_near_words_are_guessed() {
        let words = ["name", "domain", "address", "packages", "package"];
        assert_eq!(nearest("adress", &words), Some("address"));
        assert_eq!(nearest("Domain", &words), Some("domain"));
        assert_eq!(nearest("ip", &words), None);
        assert_eq!(nearest("tpc", &["tcp", "send"]), Some("tcp"));
        assert_eq!(nearest(&"x".repeat(10_000_000), &words), None);
    }
}
