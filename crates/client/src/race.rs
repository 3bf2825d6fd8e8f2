//! Several attempts at the same thing, of which one has to succeed.

use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// After which the next attempt begins beside those under way: the connection attempt delay that RFC 8305
/// recommends. One dead address costs no more than that.
const STAGGER: Duration = Duration::from_millis(250);

/// The first attempt that succeeds. They begin in their order: the next one after [`STAGGER`], or at once where
/// one has failed. When one has succeeded the others are given up.
///
/// # Errors
/// All have failed: why, in their order.
pub(crate) async fn first_of<T, E, A>(attempts: impl Iterator<Item = A>) -> Result<T, Vec<E>>
where
    T: Send + 'static,
    E: Send + 'static,
    A: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut waiting = attempts.enumerate().peekable();
    let mut under_way = JoinSet::new();
    let mut failed = Vec::new();
    loop {
        if let Some((number, attempt)) = waiting.next() {
            under_way.spawn(async move { (number, attempt.await) });
        }
        let more = waiting.peek().is_some();
        let ended = tokio::select! {
            ended = under_way.join_next() => ended,
            () = sleep(STAGGER), if more => continue,
        };
        match ended {
            Some(Ok((_, Ok(success)))) => return Ok(success),
            Some(Ok((number, Err(error)))) => failed.push((number, error)),
            // None is ever cut off, and a panic is reported where it happens.
            Some(Err(_)) => {}
            None if more => {}
            None => break,
        }
    }
    failed.sort_by_key(|(number, _)| *number);
    Err(failed.into_iter().map(|(_, error)| error).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    /// Ends after so many milliseconds: with its number, or in vain.
    async fn attempt(millis: u64, number: u32, succeeds: bool) -> Result<u32, u32> {
        sleep(Duration::from_millis(millis)).await;
        if succeeds { Ok(number) } else { Err(number) }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_costs_a_quarter_of_a_second() {
        let begin = Instant::now();
        let attempts = [attempt(5000, 1, false), attempt(5000, 2, false), attempt(10, 3, true)];
        assert_eq!(first_of(attempts.into_iter()).await, Ok(3));
        assert_eq!(begin.elapsed(), Duration::from_millis(510));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_costs_no_wait_and_the_first_is_preferred() {
        let begin = Instant::now();
        let attempts = [attempt(1, 1, false), attempt(200, 2, true), attempt(0, 3, true)];
        assert_eq!(first_of(attempts.into_iter()).await, Ok(2));
        assert_eq!(begin.elapsed(), Duration::from_millis(201));
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_failed_are_told_in_their_order() {
        let attempts = [attempt(900, 1, false), attempt(1, 2, false), attempt(300, 3, false)];
        assert_eq!(first_of(attempts.into_iter()).await, Err(vec![1, 2, 3]));
        assert_eq!(first_of(std::iter::empty::<std::future::Ready<Result<(), ()>>>()).await, Err(vec![]));
    }
}
