use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, time::Duration};
use thiserror::Error;

/// The units a duration is written in, largest first, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A duration as people write it: a whole number and one unit, such as `250ms`, `30s`, `5m`, `2h` or `7d`.
///
/// Kept in whole milliseconds, 0 to `u64::MAX`. Printed in the largest unit that leaves a whole number, so that
/// every duration has one canonical text (`120s` prints as `2m`) and parsing it gives the same duration back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration {
    millis: u64,
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseDurationError {
    /// No digits in front.
    #[error("a duration is a whole number and a unit; write 250ms, 30s, 5m, 2h or 7d")]
    NoNumber,
    /// Digits, but no unit that is known.
    #[error("a duration needs one unit out of ms, s, m, h and d; write 250ms, 30s, 5m, 2h or 7d")]
    Unit,
    /// More milliseconds than fit in 64 bits.
    #[error("this duration is too long; give a smaller number")]
    TooLong,
}

impl HumanDuration {
    /// A duration of `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// A duration of `secs` seconds. A `u32`, so that it cannot overflow.
    pub const fn from_secs(secs: u32) -> Self {
        Self { millis: secs as u64 * 1_000 }
    }

    /// The duration in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.millis
    }

    /// The same duration as the standard library's type.
    pub const fn get(self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.get()
    }
}

impl FromStr for HumanDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, ParseDurationError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(ParseDurationError::NoNumber);
        }
        let (_, length) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(ParseDurationError::Unit)?;
        let number: u64 = number.parse().map_err(|_| ParseDurationError::TooLong)?;
        number.checked_mul(*length).map(Self::from_millis).ok_or(ParseDurationError::TooLong)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis == 0 {
            return f.pad("0s");
        }
        let (unit, length) =
            UNITS.iter().find(|(_, length)| self.millis.is_multiple_of(*length)).unwrap_or(&("ms", 1));
        f.pad(&format!("{}{unit}", self.millis / length))
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Takes durations as text only, so that a bare number is answered with how to write one.
struct TextVisitor;

impl de::Visitor<'_> for TextVisitor {
    type Value = HumanDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration in quotes, such as \"30s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_unit_is_read_and_printed_canonically() {
        let cases = [
            ("250ms", 250, "250ms"),
            ("30s", 30_000, "30s"),
            ("5m", 300_000, "5m"),
            ("2h", 7_200_000, "2h"),
            ("7d", 604_800_000, "7d"),
            ("0ms", 0, "0s"),
            ("0d", 0, "0s"),
            ("120s", 120_000, "2m"),
            ("1000ms", 1_000, "1s"),
            ("24h", 86_400_000, "1d"),
            ("90s", 90_000, "90s"),
            ("007s", 7_000, "7s"),
        ];
        for (text, millis, canonical) in cases {
            let duration: HumanDuration = text.parse().unwrap();
            assert_eq!(duration.as_millis(), millis, "{text}");
            assert_eq!(duration.to_string(), canonical, "{text}");
            assert_eq!(duration.get(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for text in ["", "s", "-5s", "+5s", " 5s", "five"] {
            assert_eq!(text.parse::<HumanDuration>(), Err(ParseDurationError::NoNumber), "{text:?}");
        }
        for text in ["5", "1.5s", "5 s", "5S", "5us", "1h30m", "5s "] {
            assert_eq!(text.parse::<HumanDuration>(), Err(ParseDurationError::Unit), "{text:?}");
        }
        for text in ["18446744073709551616ms", "18446744073709552s", "99999999999999999999999999d"] {
            assert_eq!(text.parse::<HumanDuration>(), Err(ParseDurationError::TooLong), "{text:?}");
        }
        assert_eq!("18446744073709551615ms".parse(), Ok(HumanDuration::from_millis(u64::MAX)));
    }

    #[test]
    fn serde_takes_text_and_says_so_for_numbers() {
        assert_eq!(serde_json::from_str::<HumanDuration>("\"5m\"").unwrap(), HumanDuration::from_secs(300));
        assert_eq!(serde_json::to_string(&HumanDuration::from_secs(60)).unwrap(), "\"1m\"");
        let error = serde_json::from_str::<HumanDuration>("30").unwrap_err().to_string();
        assert!(error.contains("a duration in quotes, such as \"30s\""), "{error}");
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(millis: u64, unit in 0..UNITS.len()) {
            let exact = HumanDuration::from_millis(millis);
            prop_assert_eq!(exact.to_string().parse(), Ok(exact));
            let round = HumanDuration::from_millis(millis / UNITS[unit].1 * UNITS[unit].1);
            prop_assert_eq!(round.to_string().parse(), Ok(round));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = text.parse::<HumanDuration>();
        }
    }
}
