//! Registry managers in virtual time: whatever fails, what availability.md promises holds. A schedule is made of a
//! seed. To run one alone, and see all that happens in it:
//! `SCHEDULE=17 cargo test -p echelon-core --test simulation -- --nocapture one_schedule`
#![allow(clippy::unwrap_used)] // These are tests; clippy only sees that of functions marked as such.

mod world;

use world::{Tally, run};

/// How many schedules the tests run; benchmarks run more of them.
const SCHEDULES: u64 = 300;

fn check(seed: u64, traced: bool) -> Tally {
    run(seed, traced).unwrap_or_else(|failure| {
        failure.trace.iter().for_each(|line| println!("{line}"));
        panic!(
            "{}\nsee it: SCHEDULE={} cargo test -p echelon-core --test simulation -- --nocapture one_schedule",
            failure.what, failure.seed
        )
    })
}

#[test]
fn whatever_fails_nothing_is_lost_and_all_agree() {
    let mut tally = Tally::default();
    for seed in 0..SCHEDULES {
        tally.add(&check(seed, false));
    }
    // They are about something.
    println!("{tally}");
    assert!(tally.acknowledged > 10_000 && tally.forced > 100 && tally.handovers > 100, "{tally}");
    assert!(tally.choices > 0 && tally.copies > 0 && tally.rolled_back > 0, "{tally}");
    assert!(tally.restored > 0 && tally.contested > 0 && tally.full > 0, "{tally}");
}

#[test]
fn one_schedule() {
    let seed = std::env::var("SCHEDULE").ok().and_then(|seed| seed.parse().ok());
    check(seed.unwrap_or(0), seed.is_some());
}
