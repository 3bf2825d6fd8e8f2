//! Starting the process that takes over from this one.

use crate::cli::run::TAKE_OVER;
use echelon_core::alarm::Notice;
use registry_agent::{Alarms, TAKE_OVER_FAILED};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::{info, warn};

/// How long a successor may take in all until it has taken over. By then it has long asked for it, and whatever takes
/// that long in it would take longer in a process that nobody waits for.
const LIMIT: Duration = Duration::from_secs(30);

/// What to do about it.
const REMEDY: &str = "see why in the log, which the new process writes to as well; then again: systemctl reload registry-agent";

/// Whom the service manager watches, in the environment: this process, and then the one that takes over.
const WATCHED: &str = "WATCHDOG_PID";

/// How this process was started, and so its successor is.
pub(crate) struct Start {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Start {
    /// As this process was started just now. Later its file may have been replaced, by which the system then knows it
    /// no more.
    pub(crate) fn of_this_process() -> std::io::Result<Self> {
        let mut arguments = std::env::args_os();
        let named = arguments.next().map(PathBuf::from).filter(|path| path.is_absolute());
        // A name that was looked up, or is relative, may lead elsewhere by then.
        let program = named.map_or_else(std::env::current_exe, Ok)?;
        Ok(Self { program, arguments: arguments.collect() })
    }

    /// Starts a successor and watches over it: returns only when it has come to nothing.
    pub(crate) async fn successor(&self, alarms: &Alarms) {
        alarms.clear(TAKE_OVER_FAILED);
        let why = match self.spawn() {
            Ok(child) => self.outcome(child).await,
            Err(error) => format!("cannot start {}: {error}", self.program.display()),
        };
        let message = format!("a new process could not take over, and this one goes on: {why}");
        warn!("{message}");
        // Where it had begun, the agent itself knows better why.
        if !alarms.list().iter().any(|raised| raised.notice.name.as_str() == TAKE_OVER_FAILED) {
            alarms.raise(Notice::warning(TAKE_OVER_FAILED, &message, REMEDY));
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        if !self.arguments.iter().any(|argument| argument == TAKE_OVER) {
            command.arg(TAKE_OVER);
        }
        command.env_remove(WATCHED);
        let child = command.spawn()?;
        info!(successor.process = child.id(), program = %self.program.display(), "Starting a process that takes over");
        Ok(child)
    }

    async fn outcome(&self, mut child: Child) -> String {
        match timeout(LIMIT, child.wait()).await {
            Ok(Ok(status)) => format!("{} ended: {status}", self.program.display()),
            Ok(Err(error)) => format!("{} cannot be watched: {error}", self.program.display()),
            Err(_) => {
                // It may have ended this moment.
                let _ = child.kill().await;
                format!("{} did not take over within {LIMIT:?}", self.program.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_started_as_this_process_was() {
        let start = Start::of_this_process().unwrap();
        assert_eq!(start.program.canonicalize().unwrap(), std::env::current_exe().unwrap());
        assert_eq!(start.arguments, std::env::args_os().skip(1).collect::<Vec<_>>());
    }
}
