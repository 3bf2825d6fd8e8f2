//! How figures are shown: beside what they are to reach.

use std::fmt::Display;
use std::time::Duration;

/// Shows one figure: what it is of, what was measured, and what it is to reach.
pub fn show(what: &str, figure: impl Display, reach: &str, reached: bool) {
    let verdict = if reached { "reached" } else { "NOT REACHED" };
    println!("{what:<52} {figure}  (to reach: {reach}: {verdict})");
}

/// Shows one figure that is there to be compared with.
pub fn beside(what: &str, figure: impl Display) {
    println!("{what:<52} {figure}");
}

/// How many times `other` fits into `this`.
pub fn ratio(this: Duration, other: Duration) -> f64 {
    this.as_secs_f64() / other.as_secs_f64()
}
