//! Schedules of registry managers in virtual time (the simulation of `crates/core/tests/simulation`), more of them
//! than the tests run: `cargo bench -p echelon-bench --bench schedules -- 10000 [FIRST]`. To reach: none fails.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

#[path = "../../core/tests/simulation/world/mod.rs"]
mod world;

use std::time::Instant;
use world::{Failure, Tally, run};

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let (count, first) = (numbers.first().copied().unwrap_or(1000), numbers.get(1).copied().unwrap_or(0));
    let (began, mut tally, mut failed) = (Instant::now(), Tally::default(), 0);
    for seed in first..first + count {
        match run(seed, false) {
            Ok(one) => tally.add(&one),
            Err(failure) => {
                failed += 1;
                report(&failure);
            }
        }
    }
    println!("{count} schedules from {first} on in {:.1?}, {failed} failed: {tally}", began.elapsed());
    assert_eq!(failed, 0, "schedules failed");
}

fn report(failure: &Failure) {
    println!("{}: {}", failure.seed, failure.what);
    failure.trace.iter().for_each(|line| println!("{line}"));
    println!(
        "    see it: SCHEDULE={} cargo test -p echelon-core --test simulation -- --nocapture one_schedule",
        failure.seed
    );
}
