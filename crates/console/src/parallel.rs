//! Work on all cores.

use std::num::NonZeroUsize;
use std::sync::mpsc::sync_channel;
use std::thread;

/// Results that a thread may have ready before they are taken: enough that no thread waits for another one's
/// slow item, few enough that memory stays small where the taker is slow.
const AHEAD: usize = 8;

/// Does `work` for each item, on all cores, and hands the results to `take` in the order of the items.
///
/// # Errors
/// The first that `take` gives; what is not begun then is not done.
pub(crate) fn in_order<T: Sync, R: Send, E>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(items.len());
    let work = &work;
    thread::scope(|scope| {
        let start = |first| {
            let (send, results) = sync_channel(AHEAD);
            scope.spawn(move || {
                // Where nobody takes results any more, the rest is of no use.
                let mine = items.iter().skip(first).step_by(threads);
                mine.map(work).try_for_each(|result| send.send(result)).ok()
            });
            results
        };
        let results: Vec<_> = (0..threads).map(start).collect();
        // A thread that panics ends its results early, and the scope with a panic of its own.
        results
            .iter()
            .cycle()
            .take(items.len())
            .map_while(|results| results.recv().ok())
            .try_for_each(&mut take)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_however_long_each_takes() {
        let items: Vec<u64> = (0..200).collect();
        let slow = |n: &u64| {
            thread::sleep(std::time::Duration::from_micros(n * 7919 % 300));
            *n
        };
        let mut taken = Vec::new();
        in_order(&items, slow, |n| {
            taken.push(n);
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(taken, items);
        assert_eq!(in_order(&[0; 0], slow, |_| Err("taken")), Ok(()));
    }

    #[test]
    fn an_error_ends_it_early() {
        let items: Vec<u64> = (0..100_000).collect();
        let stop = |n: u64| if n < 5 { Ok(()) } else { Err(n) };
        assert_eq!(in_order(&items, |n| *n, stop), Err(5));
    }
}
