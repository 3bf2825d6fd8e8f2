//! What systemd is told (`Type=notify`, `WatchdogSec=`). Without `NOTIFY_SOCKET` in the environment nothing happens.

use crate::Tasks;
use sd_notify::NotifyState;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, warn};

/// The shortest time between two signs of life: a `WatchdogSec=` of a few microseconds must not occupy a core.
const MIN_WATCHDOG_INTERVAL: Duration = Duration::from_millis(10);

/// Tells systemd that the process serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells systemd that the settings are being read again; [`ready`] tells it that this is over.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        // A service manager that does not know since when would wait for the end for ever.
        Err(error) => warn!(%error, "There is no clock; the service manager is not told of the reload"),
    }
}

/// Tells systemd that the process is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells systemd that the service goes on in another process, which serves already, and is watched from now on.
pub fn succeeded_by(process: u32) {
    tell(&[NotifyState::MainPid(process), NotifyState::Ready, NotifyState::Watchdog]);
}

/// Tells systemd in one line what the process is doing; `systemctl status` shows it.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(&line.replace(|c: char| c.is_control(), " "))]);
}

/// Starts a task that gives systemd a sign of life twice in each watchdog period, until shutdown begins: each time
/// only once `answer` has come, which asks the parts of the process without which it is of no use. A part that
/// hangs thus ends the signs, and systemd starts the process anew. Does nothing when the service has no watchdog.
///
/// # Panics
/// Outside of a tokio runtime, when the service has a watchdog.
pub fn watchdog<A>(tasks: &Tasks, answer: impl Fn() -> A + Send + 'static)
where
    A: Future<Output = ()> + Send,
{
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    debug!(watchdog.period = ?period, "The service manager watches this process");
    let stop = tasks.shutdown();
    tasks.spawn("watchdog", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = live(period, answer, || tell(&[NotifyState::Watchdog])) => {}
        }
    });
}

/// Gives a `sign` after each `answer`, twice in a period; never ends.
async fn live<A: Future<Output = ()>>(period: Duration, answer: impl Fn() -> A, sign: impl Fn()) {
    let half = (period / 2).max(MIN_WATCHDOG_INTERVAL);
    let mut beat = interval(half);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let mut answer = pin!(answer());
        if timeout(half, answer.as_mut()).await.is_err() {
            warn!(watchdog.period = ?period, "This process does not answer itself; it will be started anew if it goes on like this");
            answer.await;
        }
        sign();
    }
}

/// A service manager that does not listen is no reason to stop serving.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, ?state, "The service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_child::{DEADLINE, command, is_child, wait_end};
    use std::cell::Cell;
    use std::os::unix::net::UnixDatagram;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn systemd_hears_ready_status_and_life() {
        if is_child() {
            let tasks = Tasks::new();
            ready();
            status("serves\n7 hosts");
            reloading();
            watchdog(&tasks, || std::future::ready(()));
            assert_eq!(tasks.count("watchdog"), 1);
            timeout(DEADLINE, tasks.shutdown().cancelled()).await.unwrap_err();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let name = "notify::tests::systemd_hears_ready_status_and_life";
        let mut child =
            command(name).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000").spawn().unwrap();
        let heard = || {
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!(heard(), "READY=1\n");
        assert_eq!(heard(), "STATUS=serves 7 hosts\n");
        let reloading = heard();
        let since =
            reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{reloading}"));
        assert!(since.trim_end().parse::<u64>().unwrap() > 0, "{reloading}");
        assert_eq!([heard(), heard(), heard()], ["WATCHDOG=1\n"; 3]);
        child.kill().unwrap();
        wait_end(&mut child);
    }

    #[tokio::test]
    async fn without_systemd_nothing_happens() {
        let tasks = Tasks::new();
        ready();
        watchdog(&tasks, || std::future::ready(()));
        stopping();
        assert_eq!(tasks.count("watchdog"), 0);
    }

    /// In virtual time: the process answers each question with one of these permits, or not at all.
    #[tokio::test(start_paused = true)]
    async fn signs_of_life_come_twice_a_period_and_only_after_an_answer() {
        let (period, permits, signs) = (Duration::from_secs(10), Semaphore::new(3), Cell::new(0));
        let answer = async || permits.acquire().await.unwrap().forget();
        let sign = || signs.set(signs.get() + 1);
        let lives = live(period, answer, sign);
        let watch = async {
            tokio::time::sleep(period * 9 / 10).await;
            assert_eq!(signs.get(), 2);
            tokio::time::sleep(period * 100).await;
            assert_eq!(signs.get(), 3, "a sign without an answer");
            permits.add_permits(1000);
            tokio::time::sleep(period).await;
            assert!(signs.get() >= 4, "no sign though it answers again");
        };
        tokio::select! {
            () = lives => unreachable!("it never ends"),
            () = watch => {}
        }
    }
}
