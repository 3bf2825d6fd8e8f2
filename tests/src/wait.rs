//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How long anything may take that should happen soon. Far longer than needed on a busy machine: a
/// deadline only ends a test that has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until the condition holds; panics after [`DEADLINE`] saying what it waited for.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()).ok_or("not so yet"));
}

/// Waits until there is an answer; panics after [`DEADLINE`] with the last thing that was wrong.
#[track_caller]
pub fn wait_for<T, E: std::fmt::Debug>(what: &str, attempt: impl FnMut() -> Result<T, E>) -> T {
    wait_within(DEADLINE, what, attempt)
}

/// [`wait_for`] with a deadline of its own, for what has to be fast.
#[track_caller]
pub fn wait_within<T, E: std::fmt::Debug>(
    limit: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> T {
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(wrong) if begin.elapsed() > limit => panic!("waited {limit:?} for {what}: {wrong:?}"),
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}
