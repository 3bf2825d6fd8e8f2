//! Durations as people write them: `250ms`, `30s`, `5m`, `2h`.

use std::time::Duration;

/// The units, largest first, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The text is no duration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("is no duration: write a whole number and one unit of ms, s, m, h and d, as in 250ms or 30s")]
pub struct DurationError;

/// Reads a whole number and one unit. Signs, fractions, blanks and sums of units are refused.
///
/// # Errors
/// It is anything else, or has more milliseconds than fit in 64 bits.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, length) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(DurationError)?;
    let number: u64 = number.parse().map_err(|_| DurationError)?;
    number.checked_mul(*length).map(Duration::from_millis).ok_or(DurationError)
}

/// Writes a duration, cut to whole milliseconds, in the largest unit that leaves a whole number.
pub fn print(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let whole = |(_, length): &&(&str, u64)| millis.is_multiple_of(*length);
    match UNITS.iter().find(whole) {
        Some((unit, length)) if millis > 0 => format!("{}{unit}", millis / length),
        _ => "0s".into(),
    }
}

/// Writes a duration cut to its largest unit of a second or more, which is all that matters to a reader: `59s`, `2h`.
pub fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let unit = [86_400, 3600, 60].into_iter().find(|unit| seconds >= *unit).unwrap_or(1);
    print(Duration::from_secs(seconds - seconds % unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in
            ["", "s", "5", "-5s", "+5s", " 5s", "5s ", "1.5s", "1h30m", "5S", "99999999999999999999d", "é"]
        {
            assert_eq!(parse(bad), Err(DurationError), "{bad:?}");
        }
        for (text, canonical) in [("120s", "2m"), ("0ms", "0s"), ("1500ms", "1500ms"), ("24h", "1d")] {
            assert_eq!(print(parse(text).unwrap()), canonical);
        }
    }

    #[test]
    fn a_reader_gets_one_unit_rounded_down() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m"), (7300, "2h"), (200_000, "2d")] {
            assert_eq!(rough(Duration::from_secs(seconds)), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(millis: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&print(duration)), Ok(duration));
        }
    }
}
