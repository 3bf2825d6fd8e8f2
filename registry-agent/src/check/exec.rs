//! A check by a command from this host's own settings.

use crate::check::patience::within;
use echelon_core::endpoint::Endpoint;
use echelon_core::name::{ManagerType, Text};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

/// Bytes of output that are kept: the first line is a reason, which is cut far below. The rest is read and
/// dropped, so that no command hangs on a full pipe.
const MAX_OUTPUT: usize = 4096;

/// Bytes read at a time.
const CHUNK: usize = 1024;

/// The one variable that a command is given of the agent's own environment.
const PATH: &str = "PATH";

/// Runs `command` in a process group of its own. It finds the package's type and endpoint in
/// `ECHELON_CHECK_TYPE`, `ECHELON_CHECK_ENDPOINT`, `ECHELON_CHECK_ADDRESS` and `ECHELON_CHECK_PORT`. Exit code 0
/// passes. Whatever of the group is left at its end, at `limit`, or when this is dropped, is killed.
///
/// # Errors
/// Says why the check failed, for people: with the first line of output, where there is one.
pub(super) async fn run(
    command: &[String],
    ty: &ManagerType,
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<(), Text> {
    let cannot = |error: io::Error| Text::lossy(&format!("the check cannot be run: {error}"));
    let mut running = Running::start(command, ty, endpoint).map_err(cannot)?;
    match within(limit, running.end()).await {
        Some(Ok(status)) if status.success() => Ok(()),
        Some(Ok(status)) => Err(reason(&running.output, status)),
        Some(Err(error)) => Err(cannot(error)),
        None => Err(Text::lossy(&format!("the check did not end within {limit:?} and was killed"))),
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
    fn start(command: &[String], ty: &ManagerType, endpoint: &Endpoint) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os(PATH).map(|path| (PATH, path)))
            .env("ECHELON_CHECK_TYPE", ty.as_str())
            .env("ECHELON_CHECK_ENDPOINT", endpoint.to_string())
            .env("ECHELON_CHECK_ADDRESS", endpoint.address.to_string())
            .env("ECHELON_CHECK_PORT", endpoint.port.to_string())
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

fn reason(output: &[u8], status: ExitStatus) -> Text {
    let output = String::from_utf8_lossy(output);
    if let Some(line) = output.lines().map(str::trim).find(|line| !line.is_empty()) {
        return Text::lossy(line);
    }
    Text::lossy(&match (status.code(), status.signal()) {
        (Some(code), _) => format!("the check ended with exit code {code}"),
        (None, Some(signal)) => format!("the check was ended by signal {signal}"),
        (None, None) => "the check did not end in order".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use tokio::time::{Instant, sleep};

    const LIMIT: Duration = Duration::from_secs(30);

    async fn shell(script: &str, limit: Duration) -> Result<(), String> {
        let command = ["/bin/sh", "-c", script].map(String::from);
        let (ty, at) = ("control".parse().unwrap(), "[::1]:70".parse().unwrap());
        run(&command, &ty, &at, limit).await.map_err(|e| e.to_string())
    }

    async fn until(what: &str, is: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is() {
            assert!(Instant::now() < deadline, "{what}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn exit_code_0_passes_and_the_first_line_says_why_others_do_not() {
        shell("exit 0", LIMIT).await.unwrap();
        for (script, why) in [
            ("echo; echo ' lag 12 s'; echo more; exit 1", "lag 12 s"),
            ("echo broken >&2; exit 3", "broken"),
            ("exit 3", "the check ended with exit code 3"),
            ("kill -9 $$", "the check was ended by signal 9"),
            ("printf 'a\\033[2Jb'; exit 1", "a [2Jb"),
        ] {
            assert_eq!(shell(script, LIMIT).await.unwrap_err(), why, "{script}");
        }
        let command = ["/no/such/check".to_owned()];
        let (ty, at) = ("control".parse().unwrap(), "[::1]:70".parse().unwrap());
        let why = run(&command, &ty, &at, LIMIT).await.unwrap_err();
        assert!(why.as_str().starts_with("the check cannot be run: No such file"), "{why}");
    }

    #[tokio::test]
    async fn a_command_sees_what_it_checks_and_nothing_of_the_agent() {
        let script = "echo $ECHELON_CHECK_TYPE $ECHELON_CHECK_ENDPOINT $ECHELON_CHECK_ADDRESS $ECHELON_CHECK_PORT; exit 1";
        assert_eq!(shell(script, LIMIT).await.unwrap_err(), "control [::1]:70 ::1 70");
        let script =
            "/usr/bin/env | grep -v '^ECHELON_CHECK_\\|^PATH=\\|^PWD=\\|^SHLVL=\\|^_='; read x; exit 1";
        assert_eq!(shell(script, LIMIT).await.unwrap_err(), "the check ended with exit code 1");
    }

    #[tokio::test]
    async fn endless_output_is_no_memory_and_no_hang() {
        shell("head -c 10000000 /dev/zero", LIMIT).await.unwrap();
        let why = shell("yes", Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(why, "the check did not end within 300ms and was killed");
        let why = shell("yes | head -c 1000000 | tr -d '\\n'; exit 1", LIMIT).await.unwrap_err();
        assert_eq!(why.len(), 256);
    }

    #[tokio::test]
    async fn nothing_of_a_command_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (file, late) = (dir.path().join("pid"), Duration::from_secs(1));
        let script = format!("sleep 1000 & echo $! > {}; ", file.display());
        // It hangs, it ends but its child does not, it is dropped.
        shell(&format!("{script} wait"), late).await.unwrap_err();
        gone(&file).await;
        shell(&format!("{script} exit 0"), LIMIT).await.unwrap();
        gone(&file).await;
        let dropped = format!("{script} wait");
        let task = tokio::spawn(async move { shell(&dropped, LIMIT).await });
        until("the command runs", || std::fs::read(&file).is_ok_and(|pid| pid.ends_with(b"\n"))).await;
        task.abort();
        gone(&file).await;
    }

    /// Waits until the process that wrote this file is no more, then forgets the file.
    async fn gone(file: &Path) {
        let pid = std::fs::read_to_string(file).unwrap();
        let proc = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        until("it has ended", || {
            // An orphan whose new parent is slow to notice is a zombie for a while.
            std::fs::read_to_string(&proc).map_or(true, |stat| stat.contains(") Z "))
        })
        .await;
        std::fs::remove_file(file).unwrap();
    }
}
