//! Candidates tried in order: one that fails is passed over at once, one that is silent is overtaken.
//!
//! See docs/routing.md, "Trying candidates".

use crate::connect::NoConnection;
use crate::lateness::is_too_late;
use echelon_core::evidence::Seen;
use echelon_core::name::Text;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

/// Candidates tried for one connection. Whoever has waited for so many failures is better told; those
/// further down come into play as soon as the failures have become evidence.
pub(crate) const MAX_TRIED: usize = 64;

/// Attempts under way beside each other. A silent network must not turn each caller into a flood.
const MAX_BESIDE: usize = 8;

/// An attempt that is not over.
pub(crate) type Attempt<S> = Pin<Box<dyn Future<Output = Result<S, NoConnection>> + Send>>;

/// What a race came to.
pub(crate) enum Race<S> {
    /// Somebody answered.
    Won {
        /// The connection.
        stream: S,
        /// Which candidate.
        winner: usize,
        /// Better candidates that were silent; their attempts may go on.
        overtaken: Vec<Overtaken<S>>,
    },
    /// Nobody did: each candidate that was tried, and why it failed.
    Lost(Vec<(usize, Text)>),
}

/// An attempt that somebody else was faster than.
pub(crate) struct Overtaken<S> {
    /// Which candidate.
    pub(crate) candidate: usize,
    /// The attempt.
    pub(crate) attempt: Attempt<S>,
    /// When it began.
    pub(crate) began: Instant,
}

struct Running<'a, S> {
    candidate: usize,
    began: Instant,
    hedge: Duration,
    silence: Silence,
    attempt: Attempt<S>,
    /// Its place among those beside others; the only one of a caller needs none.
    _beside: Option<SemaphorePermit<'a>>,
}

/// What it says that an attempt has come to nothing yet.
#[derive(Clone, Copy, PartialEq)]
enum Silence {
    /// Nothing: its own hedge is not over.
    Early,
    /// Nothing: our own timer was late for it.
    Doubtful,
    /// That the candidate is slow.
    Slow,
}

impl<S> Running<'_, S> {
    /// When its own hedge is over.
    fn due(&self) -> Instant {
        self.began + self.hedge
    }

    /// Takes in that its own hedge may be over.
    fn look(&mut self) {
        if self.silence == Silence::Early && Instant::now() >= self.due() {
            let late = is_too_late(self.due(), self.hedge);
            self.silence = if late { Silence::Doubtful } else { Silence::Slow };
        }
    }
}

/// Tries `candidates` (their number) in order; each attempt must end by itself. One that fails is
/// followed by the next at once, one that is silent for its `hedge` is joined by the next. The first to
/// connect wins; `saw` hears what that says about each. `beside` has a place for each attempt beside another one, of
/// whichever caller; while there is none, nobody is joined.
pub(crate) async fn race<S>(
    candidates: usize,
    beside: &Semaphore,
    hedge: impl Fn(usize) -> Duration,
    connect: impl Fn(usize) -> Attempt<S>,
    saw: impl Fn(usize, Seen, Duration),
) -> Race<S> {
    let last = candidates.min(MAX_TRIED);
    let mut next = 0;
    let mut running: Vec<Running<'_, S>> = Vec::new();
    let mut failures = Vec::new();
    // When the next one is tried: at first, after a failure, and after a hedge.
    let (mut due, mut waited) = (Instant::now(), Duration::ZERO);
    loop {
        if next < last && running.len() < MAX_BESIDE && due <= Instant::now() {
            let place = if running.is_empty() { Ok(None) } else { beside.try_acquire().map(Some) };
            if let Ok(_beside) = place {
                let (began, attempt) = (Instant::now(), connect(next));
                waited = hedge(next);
                let silence = Silence::Early;
                running.push(Running { candidate: next, began, hedge: waited, silence, attempt, _beside });
                next += 1;
            }
            due = Instant::now() + waited;
        }
        if running.is_empty() {
            return Race::Lost(failures);
        }
        let more = next < last && running.len() < MAX_BESIDE;
        let early = running.iter().filter(|r| r.silence == Silence::Early).map(Running::due);
        let wake = early.chain(more.then_some(due)).min();
        tokio::select! {
            // What has already answered counts before any timer, however late this task gets to look.
            biased;
            (candidate, took, result) = first(&mut running) => match result {
                Ok(stream) => {
                    saw(candidate, Seen::Connected, took);
                    let overtaken = overtaken(running, candidate, &saw);
                    return Race::Won { stream, winner: candidate, overtaken };
                }
                Err(why) => {
                    if let Some(seen) = why.seen() {
                        saw(candidate, seen, took);
                    }
                    failures.push((candidate, why.into()));
                    due = Instant::now();
                }
            },
            () = sleep_until(wake.unwrap_or(due)), if wake.is_some() => {
                running.iter_mut().for_each(Running::look);
            }
        }
    }
}

/// The first attempt that ends, taken out of `running`.
async fn first<S>(running: &mut Vec<Running<'_, S>>) -> (usize, Duration, Result<S, NoConnection>) {
    poll_fn(|cx| {
        for at in 0..running.len() {
            if let Poll::Ready(result) = running[at].attempt.as_mut().poll(cx) {
                let Running { candidate, began, .. } = running.remove(at);
                return Poll::Ready((candidate, began.elapsed(), result));
            }
        }
        Poll::Pending
    })
    .await
}

/// Better candidates than the winner that are still silent; of those whose own hedge was over in time that is told.
/// Worse ones are given up: they were begun only because the winner was slow.
fn overtaken<S>(
    running: Vec<Running<'_, S>>,
    winner: usize,
    saw: &impl Fn(usize, Seen, Duration),
) -> Vec<Overtaken<S>> {
    let better = running.into_iter().filter(|r| r.candidate < winner);
    let told = better.inspect(|r| {
        if r.silence == Silence::Slow {
            saw(r.candidate, Seen::Overtaken, r.began.elapsed());
        }
    });
    told.map(|Running { candidate, began, attempt, .. }| Overtaken { candidate, attempt, began }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::time::sleep;

    const HEDGE: Duration = Duration::from_millis(50);

    /// What a candidate does: after how many milliseconds, and whether it connects.
    type Script = &'static [(u64, bool)];

    struct Told {
        race: Race<usize>,
        seen: Vec<(usize, Seen)>,
        took: Duration,
    }

    /// Runs a race in virtual time, in which our own timers are late only by what the clock is moved.
    async fn run(script: Script) -> Told {
        let seen = Mutex::new(Vec::new());
        let start = Instant::now();
        let connect = |i: usize| -> Attempt<usize> {
            Box::pin(async move {
                let (after, connects) = script[i];
                sleep(Duration::from_millis(after)).await;
                if connects { Ok(i) } else { Err(NoConnection::Refused(Text::lossy("refused"))) }
            })
        };
        let race =
            race(script.len(), &room(), |_| HEDGE, connect, |i, s, _| seen.lock().unwrap().push((i, s)))
                .await;
        Told { race, seen: seen.into_inner().unwrap(), took: start.elapsed() }
    }

    fn winner(race: &Race<usize>) -> Option<usize> {
        match race {
            Race::Won { winner, stream, .. } => {
                assert_eq!(winner, stream);
                Some(*winner)
            }
            Race::Lost(_) => None,
        }
    }

    fn room() -> Semaphore {
        Semaphore::new(1000)
    }

    fn failed() -> Seen {
        Seen::Failed(Text::lossy("refused"))
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_refuses_is_passed_over_at_once() {
        let told = run(&[(0, false), (0, false), (1, true)]).await;
        assert_eq!(winner(&told.race), Some(2));
        assert_eq!(told.seen, [(0, failed()), (1, failed()), (2, Seen::Connected)]);
        assert!(told.took < HEDGE / 2, "{:?}", told.took);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_silent_is_overtaken_and_its_attempt_goes_on() {
        let told = run(&[(900, false), (1, true)]).await;
        assert_eq!(told.seen, [(1, Seen::Connected), (0, Seen::Overtaken)]);
        assert!((50..60).contains(&told.took.as_millis()), "{:?}", told.took);
        let Race::Won { mut overtaken, .. } = told.race else { panic!("nobody won") };
        let Overtaken { candidate, attempt, .. } = overtaken.pop().unwrap();
        assert_eq!((candidate, attempt.await.unwrap_err().to_string()), (0, "refused".to_owned()));
        assert!(overtaken.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_that_still_comes_first_wins_and_nobody_is_blamed() {
        let told = run(&[(70, true), (100, true)]).await;
        assert_eq!(winner(&told.race), Some(0));
        assert_eq!(told.seen, [(0, Seen::Connected)]);
        assert!(matches!(told.race, Race::Won { overtaken, .. } if overtaken.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn several_silent_ones_are_overtaken_one_hedge_after_the_other() {
        let told = run(&[(900, true), (900, true), (1, true)]).await;
        assert_eq!(told.seen, [(2, Seen::Connected), (0, Seen::Overtaken), (1, Seen::Overtaken)]);
        assert!((100..115).contains(&told.took.as_millis()), "{:?}", told.took);
    }

    #[tokio::test(start_paused = true)]
    async fn each_candidate_has_a_hedge_of_its_own() {
        let connect = |i: usize| -> Attempt<usize> {
            Box::pin(async move {
                sleep(Duration::from_millis(if i < 2 { 900 } else { 1 })).await;
                Ok(i)
            })
        };
        let start = Instant::now();
        let hedge = |i| [HEDGE, 3 * HEDGE, HEDGE][i];
        assert_eq!(winner(&race(3, &room(), hedge, connect, |_, _, _| {}).await), Some(2));
        assert!((200..215).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }

    /// The second is tried because the first is silent, and the third at once when the first refuses.
    #[tokio::test(start_paused = true)]
    async fn one_whose_own_hedge_is_not_over_is_not_blamed_for_the_failure_of_another() {
        let seen = Mutex::new(Vec::new());
        let connect = |i: usize| -> Attempt<usize> {
            Box::pin(async move {
                let (after, connects) = [(60, false), (900, true), (1, true)][i];
                sleep(Duration::from_millis(after)).await;
                if connects { Ok(i) } else { Err(NoConnection::Refused(Text::lossy("refused"))) }
            })
        };
        let (room, hedge) = (room(), |i| [HEDGE, 10 * HEDGE, HEDGE][i]);
        let race = race(3, &room, hedge, connect, |i, s, _| seen.lock().unwrap().push((i, s))).await;
        assert_eq!(winner(&race), Some(2));
        assert_eq!(seen.into_inner().unwrap(), [(0, failed()), (2, Seen::Connected)]);
        assert!(
            matches!(race, Race::Won { overtaken, .. } if overtaken.len() == 1),
            "it goes on all the same"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_each_failure_is_told() {
        let told = run(&[(900, false), (5, false)]).await;
        let Race::Lost(failures) = told.race else { panic!("somebody won") };
        assert_eq!(failures.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(told.seen, [(1, failed()), (0, failed())]);
        assert!(matches!(run(&[]).await.race, Race::Lost(failures) if failures.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_machine_blames_nobody() {
        let seen = Mutex::new(Vec::new());
        let connect = |i: usize| -> Attempt<usize> {
            Box::pin(async move {
                sleep(Duration::from_millis(if i == 0 { 900 } else { 1 })).await;
                Ok(i)
            })
        };
        let room = room();
        let race = race(2, &room, |_| HEDGE, connect, |i, s, _| seen.lock().unwrap().push((i, s)));
        let busy = async {
            sleep(Duration::from_millis(10)).await;
            // The whole process stands still for 200 ms, well past the hedge.
            tokio::time::advance(Duration::from_millis(200)).await;
        };
        let (race, ()) = tokio::join!(race, busy);
        assert_eq!(winner(&race), Some(1));
        assert_eq!(seen.into_inner().unwrap(), [(1, Seen::Connected)]);
        assert!(matches!(race, Race::Won { overtaken, .. } if overtaken.len() == 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_this_hosts_own_fault_leads_on_and_blames_nobody() {
        let seen = Mutex::new(Vec::new());
        let connect = |i: usize| -> Attempt<usize> {
            let ours = || NoConnection::Ours(Text::lossy("too many open files"));
            Box::pin(async move { (i > 0).then_some(i).ok_or_else(ours) })
        };
        let room = room();
        let race = race(2, &room, |_| HEDGE, connect, |i, s, _| seen.lock().unwrap().push((i, s))).await;
        assert_eq!(winner(&race), Some(1));
        assert_eq!(seen.into_inner().unwrap(), [(1, Seen::Connected)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_network_is_not_flooded() {
        const SILENT: [(u64, bool); 40] = [(1_000_000, false); 40];
        let begun = Mutex::new(0_usize);
        let connect = |i: usize| -> Attempt<usize> {
            *begun.lock().unwrap() += 1;
            Box::pin(async move {
                sleep(Duration::from_millis(SILENT[i].0)).await;
                Err(NoConnection::Silent(Text::lossy("silent")))
            })
        };
        let room = room();
        let race = race(SILENT.len(), &room, |_| HEDGE, connect, |_, _, _| {});
        let _ = tokio::time::timeout(Duration::from_secs(60), race).await;
        assert_eq!(*begun.lock().unwrap(), MAX_BESIDE);
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_room_nobody_is_tried_beside_another_until_there_is() {
        let connect = |i: usize| -> Attempt<usize> {
            Box::pin(async move {
                sleep(Duration::from_millis(if i == 0 { 900 } else { 1 })).await;
                Ok(i)
            })
        };
        let room = Semaphore::new(0);
        let race = race(2, &room, |_| HEDGE, connect, |_, _, _| {});
        let freed = async {
            sleep(4 * HEDGE).await;
            room.add_permits(1);
        };
        let start = Instant::now();
        let (race, ()) = tokio::join!(race, freed);
        assert_eq!(winner(&race), Some(1));
        assert!((200..270).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        assert_eq!(room.available_permits(), 1, "it is given back");
    }
}
