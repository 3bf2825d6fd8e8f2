use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

/// Far longer than any of these tests needs, so that only a fault reaches it.
const LONG: Duration = Duration::from_secs(20);

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, wait).await.expect("condition never came true");
}

#[tokio::test]
async fn tasks_are_counted_by_name_while_they_run() {
    let tasks = Tasks::new();
    let (release, released) = oneshot::channel::<()>();
    let stop = tasks.shutdown();
    tasks.spawn("session", async move { drop(released.await) });
    tasks.spawn("session", async move { stop.cancelled().await });
    tasks.spawn("listener", std::future::ready(()));
    until(|| tasks.count("listener") == 0).await;
    assert_eq!(tasks.counts(), BTreeMap::from([("listener", 0), ("session", 2)]));
    release.send(()).unwrap();
    until(|| tasks.count("session") == 1).await;
    tasks.drain(LONG).await.unwrap();
    assert_eq!(tasks.count("session"), 0);
    assert_eq!(tasks.exit(), Exit::Done);
    assert_eq!(tasks.count("never seen"), 0);
}

#[tokio::test]
async fn a_panic_is_contained_and_stops_the_set_with_code_1() {
    let tasks = Tasks::new();
    tasks.spawn("store", async { panic!("disk on fire") });
    timeout(LONG, tasks.shutdown().cancelled()).await.unwrap();
    tasks.drain(LONG).await.unwrap();
    assert_eq!(tasks.exit(), Exit::Failed);
    assert_eq!(tasks.count("store"), 0);
}

#[tokio::test]
async fn the_first_failure_keeps_its_exit_code() {
    let tasks = Tasks::new();
    tasks.fail(Exit::Unreachable);
    tasks.fail(Exit::Failed);
    assert!(tasks.shutdown().is_cancelled());
    assert_eq!(tasks.exit(), Exit::Unreachable);
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off_and_named() {
    let tasks = Tasks::new();
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = SetOnDrop(Arc::clone(&dropped));
    tasks.spawn("deaf", async move {
        let _guard = guard;
        std::future::pending().await
    });
    tasks.spawn("deaf", std::future::pending());
    tasks.spawn("quick", std::future::ready(()));
    let error = tasks.drain(Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.tasks, [("deaf", 2)]);
    assert_eq!(error.to_string(), "2 × deaf did not end within 20ms and were cut off");
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(tasks.count("deaf"), 0);
    tasks.spawn("late", std::future::pending());
    assert_eq!(tasks.count("late"), 0);
}

#[tokio::test]
async fn a_set_below_another_stops_with_it_but_not_the_other_way_round() {
    let whole = Tasks::new();
    let part = Tasks::below(&whole.shutdown());
    part.fail(Exit::Failed);
    assert!(!whole.shutdown().is_cancelled());
    let part = Tasks::below(&whole.shutdown());
    whole.fail(Exit::Failed);
    assert!(part.shutdown().is_cancelled());
    assert_eq!(part.exit(), Exit::Done);
}

#[test]
fn tasks_that_die_with_their_runtime_are_not_counted_any_more() {
    let tasks = Tasks::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { tasks.spawn("session", std::future::pending()) });
    assert_eq!(tasks.count("session"), 1);
    drop(runtime);
    assert_eq!(tasks.count("session"), 0);
}
