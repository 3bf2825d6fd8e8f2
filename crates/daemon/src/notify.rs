//! What systemd is told (`Type=notify`, `WatchdogSec=`). Without `NOTIFY_SOCKET` in the environment nothing happens.

use crate::Tasks;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

/// The shortest time between two signs of life: a `WatchdogSec=` of a few microseconds must not occupy a core.
const MIN_WATCHDOG_INTERVAL: Duration = Duration::from_millis(10);

/// Tells systemd that the process serves.
pub fn ready() {
    tell(&NotifyState::Ready);
}

/// Tells systemd that the process is about to end.
pub fn stopping() {
    tell(&NotifyState::Stopping);
}

/// Tells systemd in one line what the process is doing; `systemctl status` shows it.
pub fn status(line: &str) {
    tell(&NotifyState::Status(&line.replace(|c: char| c.is_control(), " ")));
}

/// Starts a task that gives systemd a sign of life twice in each watchdog period, for as long as the runtime works
/// and until shutdown begins. Does nothing when the service has no watchdog.
///
/// # Panics
/// Outside of a tokio runtime, when the service has a watchdog.
pub fn watchdog(tasks: &Tasks) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut beat = interval((period / 2).max(MIN_WATCHDOG_INTERVAL));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    debug!(watchdog.period = ?period, "The service manager watches this process");
    let stop = tasks.shutdown();
    tasks.spawn("watchdog", async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = beat.tick() => tell(&NotifyState::Watchdog),
            }
        }
    });
}

/// A service manager that does not listen is no reason to stop serving.
fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        warn!(%error, %state, "The service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_child::{DEADLINE, command, is_child, wait_end};
    use std::os::unix::net::UnixDatagram;
    use tokio::time::timeout;

    #[tokio::test]
    async fn systemd_hears_ready_status_and_life() {
        if is_child() {
            let tasks = Tasks::new();
            ready();
            status("serves\n7 hosts");
            watchdog(&tasks);
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
        assert_eq!([heard(), heard(), heard()], ["WATCHDOG=1\n"; 3]);
        child.kill().unwrap();
        wait_end(&mut child);
    }

    #[tokio::test]
    async fn without_systemd_nothing_happens() {
        let tasks = Tasks::new();
        ready();
        watchdog(&tasks);
        stopping();
        assert_eq!(tasks.count("watchdog"), 0);
    }
}
