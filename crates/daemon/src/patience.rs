//! How long an answer is waited for, on a machine that may be too busy to hear it.

use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Parts of a wait. One during which this process did not run does not count: then nothing can be said of who was
/// to answer. A quarter is what forwarders go by as well.
const PARTS: u32 = 4;

/// Parts that may be repeated. Past these the wait ends, and [`is_too_long`] says what it was worth.
const REPEATED: u32 = 16;

/// What comes of `asked` within `limit` of time in which this process ran; none where nothing does. The time during
/// which it was stopped, or had no processor, is given back.
pub async fn within<T>(limit: Duration, asked: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        // What is there already counts, however late it is looked at.
        biased;
        answer = asked => Some(answer),
        () = lived(limit) => None,
    }
}

async fn lived(limit: Duration) {
    let part = limit / PARTS;
    let (mut left, mut repeated) = (PARTS, 0);
    let mut due = Instant::now() + part;
    while left > 0 && repeated <= REPEATED {
        sleep_until(due).await;
        let late = due.elapsed() > part;
        match late {
            true => repeated += 1,
            false => left -= 1,
        }
        due = if late { Instant::now() } else { due } + part;
    }
}

/// Whether a check that took so long says nothing, because most of that time this machine was too busy to make it.
pub fn is_too_long(took: Duration, limit: Duration) -> bool {
    took > limit.saturating_mul(3)
}

/// Whether a check that began so late says nothing: there was no time for it, nor for whoever was to answer.
pub fn is_too_late(late: Duration, limit: Duration) -> bool {
    late > limit / PARTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::sleep;

    const LIMIT: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn a_wait_lasts_as_long_as_it_says() {
        let began = Instant::now();
        assert_eq!(within(LIMIT, pending::<()>()).await, None);
        assert!(began.elapsed() >= LIMIT);
        assert_eq!(within(LIMIT, async { 1 }).await, Some(1));
    }

    /// Nothing else runs on this runtime's one thread while it is blocked.
    #[tokio::test]
    async fn time_in_which_this_process_did_not_run_is_given_back() {
        let blocked = LIMIT * 2;
        tokio::spawn(async move { std::thread::sleep(blocked) });
        let began = Instant::now();
        // Two steps, each of which has to be waited for, as those of an exchange.
        let answer = async {
            sleep(LIMIT / 8).await;
            sleep(LIMIT / 8).await;
        };
        assert_eq!(within(LIMIT, answer).await, Some(()));
        assert!(began.elapsed() >= blocked);
        tokio::spawn(async move { std::thread::sleep(blocked) });
        let began = Instant::now();
        assert_eq!(within(LIMIT, pending::<()>()).await, None);
        assert!(began.elapsed() >= blocked + LIMIT * 3 / 4, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_machine_that_is_always_too_busy_is_not_waited_for_for_ever() {
        let limit = Duration::from_millis(20);
        let busy = tokio::spawn(async move {
            loop {
                std::thread::sleep(limit);
                tokio::task::yield_now().await;
            }
        });
        let began = Instant::now();
        assert_eq!(within(limit, pending::<()>()).await, None);
        assert!(is_too_long(began.elapsed(), limit), "{:?}", began.elapsed());
        busy.abort();
    }
}
