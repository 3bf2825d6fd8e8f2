//! Runs a command of this host's own settings, and leaves nothing of it behind.

use crate::patience::within;
use crate::text::printable;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

/// Most words of a command: one with more is a script that wants a file of its own.
pub const MAX_WORDS: usize = 64;

/// Bytes of output that are kept: the first line is a reason, which is cut far below. The rest is read and
/// dropped, so that no command hangs on a full pipe.
const MAX_OUTPUT: usize = 4096;

/// Bytes read at a time.
const CHUNK: usize = 1024;

/// The one variable that a command is given of the process's own environment.
const PATH: &str = "PATH";

/// Whether descriptors, memory, processes or local ports of this host have run out, which is nobody else's fault.
pub fn is_lack(error: &io::Error) -> bool {
    let lacks = |errno| {
        use Errno as E;
        matches!(errno, E::MFILE | E::NFILE | E::NOBUFS | E::NOMEM | E::ADDRNOTAVAIL | E::AGAIN)
    };
    Errno::from_io_error(error).is_some_and(lacks)
}

/// A command that is to be run.
#[derive(Debug)]
pub struct Exec<'a> {
    /// What it is for, as reasons name it: `check`.
    pub what: &'static str,
    /// The program by its absolute path, and its arguments.
    pub words: &'a [String],
    /// Its environment, `PATH` apart.
    pub env: Vec<(&'static str, String)>,
    /// How long it may take.
    pub limit: Duration,
}

/// Whether the first word names a program by its absolute path.
pub fn names_program(words: &[String]) -> bool {
    words.first().is_some_and(|program| Path::new(program).is_absolute())
}

/// Whether these are words that a process can be given, and not too many.
pub fn are_arguments(words: &[String]) -> bool {
    words.len() <= MAX_WORDS && !words.iter().any(|word| word.contains('\0'))
}

/// Why a command did not succeed, for people. Nothing of it is left running; trying again is as safe as it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be run, did not end, or says that it failed.
    #[error("{0}")]
    Failed(String),
    /// This host lacks what a process takes.
    #[error("{0}")]
    Lacking(String),
}

impl Exec<'_> {
    /// Runs it in a process group of its own. Exit code 0 is a success. Whatever of the group is left at its end, at
    /// the limit, or when this is dropped, is killed.
    ///
    /// # Errors
    /// [`ExecError`]: with the first line of output, where there is one.
    pub async fn run(self) -> Result<(), ExecError> {
        let Self { what, limit, .. } = self;
        let cannot = |error: io::Error| {
            let why = format!("the {what} cannot be run: {error}");
            if is_lack(&error) { ExecError::Lacking(why) } else { ExecError::Failed(why) }
        };
        let mut running = Running::start(self).map_err(cannot)?;
        match within(limit, running.end()).await {
            Some(Ok(status)) if status.success() => Ok(()),
            Some(Ok(status)) => Err(ExecError::Failed(reason(what, &running.output, status))),
            Some(Err(error)) => Err(cannot(error)),
            None => Err(ExecError::Failed(format!("the {what} did not end within {limit:?} and was killed"))),
        }
    }
}

/// A command under way.
struct Running {
    group: Group,
    child: Child,
    pipe: Receiver,
    output: Vec<u8>,
}

impl Running {
    fn start(exec: Exec<'_>) -> io::Result<Self> {
        let (program, arguments) = exec.words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os(PATH).map(|path| (PATH, path)))
            .envs(exec.env)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn()?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let pipe = Receiver::from_owned_fd(reader.into())?;
        // The command's own copies of the pipe's end go with it, when this function ends.
        Ok(Self { group, child, pipe, output: Vec::new() })
    }

    /// Waits until the command has ended, and keeps the beginning of what it says meanwhile. What it left running
    /// is not waited for.
    async fn end(&mut self) -> io::Result<ExitStatus> {
        let mut open = true;
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status?,
                ready = self.pipe.readable(), if open => {
                    ready?;
                    open = self.take()? != Took::Closed;
                }
            }
        };
        // All that it said before its end is in the pipe.
        while self.output.len() < MAX_OUTPUT && self.take()? == Took::Some {}
        self.group.kill();
        Ok(status)
    }

    /// Takes what is in the pipe.
    fn take(&mut self) -> io::Result<Took> {
        let mut chunk = [0; CHUNK];
        match self.pipe.try_read(&mut chunk) {
            Ok(0) => Ok(Took::Closed),
            Ok(length) => {
                let room = MAX_OUTPUT.saturating_sub(self.output.len());
                self.output.extend(chunk.iter().take(length.min(room)));
                Ok(Took::Some)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Took::Nothing),
            Err(error) => Err(error),
        }
    }
}

/// What was in a pipe.
#[derive(PartialEq)]
enum Took {
    Some,
    /// There may be more later.
    Nothing,
    Closed,
}

/// The process group of a command; dropping it kills what is left of it.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // Its number is not given to anybody else as long as somebody is in it; mostly nobody is.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

fn reason(what: &str, output: &[u8], status: ExitStatus) -> String {
    let output = String::from_utf8_lossy(output);
    if let Some(line) = output.lines().map(str::trim).find(|line| !line.is_empty()) {
        return printable(line);
    }
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the {what} ended with exit code {code}"),
        (None, Some(signal)) => format!("the {what} was ended by signal {signal}"),
        (None, None) => format!("the {what} did not end in order"),
    }
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
