//! Signals: when to end, and when to read the configuration again.

use crate::{Exit, Tasks};
use std::io;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// The system refused to deliver signals to this process. Nothing has changed.
#[derive(Debug, Error)]
#[error("cannot listen for signals; without them this process could not end in order, so it does not start")]
pub struct SignalError(#[from] io::Error);

/// SIGHUP, one item for each; several that arrive together count as one.
#[derive(Debug)]
pub struct Hangups {
    signal: Signal,
}

impl Hangups {
    /// Waits for the next SIGHUP. Cancel safe. Never answers again once the process may get no more signals.
    pub async fn next(&mut self) {
        if self.signal.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// Ties the process's signals to `tasks`: the first SIGTERM or SIGINT cancels their shutdown token, the second ends
/// the process at once with [`Exit::Failed`]. Gives the stream of SIGHUPs, which from now on end nothing.
///
/// The listener is not one of `tasks`, because it must still hear the second signal while they drain.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn on_signals(tasks: &Tasks) -> Result<Hangups, SignalError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangups = Hangups { signal: signal(SignalKind::hangup())? };
    let shutdown = tasks.shutdown();
    tokio::spawn(async move {
        let name = either(&mut terminate, &mut interrupt).await;
        info!(signal = name, "Shutting down; a second signal ends the process at once");
        shutdown.cancel();
        let name = either(&mut terminate, &mut interrupt).await;
        warn!(signal = name, "Ended at once by a second signal");
        std::process::exit(Exit::Failed.code().into());
    });
    Ok(hangups)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_child::{DEADLINE, command, is_child, wait_end, wait_for};
    use rustix::process::{Pid, Signal as Sig, kill_process};
    use std::process::Child;
    use tokio::time::timeout;

    fn send(child: &Child, signal: Sig) {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    #[tokio::test]
    async fn the_first_signal_cancels_and_the_second_exits() {
        if is_child() {
            let tasks = Tasks::new();
            let mut hangups = on_signals(&tasks).unwrap();
            println!("child: listening");
            timeout(DEADLINE, hangups.next()).await.unwrap();
            println!("child: hung up, cancelled={}", tasks.shutdown().is_cancelled());
            timeout(DEADLINE, tasks.shutdown().cancelled()).await.unwrap();
            println!("child: cancelled");
            tokio::time::sleep(DEADLINE).await;
            panic!("the second signal ended nothing");
        }
        let name = "shutdown::tests::the_first_signal_cancels_and_the_second_exits";
        for (first, second) in [(Sig::TERM, Sig::INT), (Sig::INT, Sig::INT)] {
            let mut child = command(name).spawn().unwrap();
            wait_for(&mut child, "child: listening");
            send(&child, Sig::HUP);
            wait_for(&mut child, "child: hung up, cancelled=false");
            send(&child, first);
            wait_for(&mut child, "child: cancelled");
            send(&child, second);
            // A test harness whose test failed exits with 101, and one killed by the signal has no code.
            assert_eq!(wait_end(&mut child).code(), Some(Exit::Failed.code().into()));
        }
    }
}
