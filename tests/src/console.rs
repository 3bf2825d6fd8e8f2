//! The console, as an operator types it.

use crate::{DEADLINE, binaries};
use serde_json::Value;
use std::borrow::BorrowMut;
use std::ffi::OsStr;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The `echelon` command with one identity.
#[derive(Clone, Debug)]
pub struct Console {
    identity: PathBuf,
    manager: Option<SocketAddr>,
}

/// What a command said, and with which exit code it ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    })
}

impl Answer {
    /// Runs a command that must end by itself.
    #[track_caller]
    pub fn of(mut command: impl BorrowMut<Command>) -> Self {
        let command = command.borrow_mut();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (out, err) = (collect(out), collect(err));
        let begin = Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if begin.elapsed() < DEADLINE => std::thread::sleep(Duration::from_millis(5)),
                None => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    panic!("it did not end: {command:?}\n{}", err.join().unwrap());
                }
            }
        };
        let code = status.code().unwrap_or_else(|| panic!("killed: {command:?}"));
        Self { code, out: out.join().unwrap(), err: err.join().unwrap() }
    }

    /// The one JSON object on standard error.
    pub fn error(&self) -> Value {
        serde_json::from_str(&self.err).unwrap_or_else(|e| panic!("no JSON on stderr ({e}): {self:?}"))
    }
}

impl Console {
    /// The console with the identity in this directory.
    pub fn new(identity: &Path) -> Self {
        Self { identity: identity.to_owned(), manager: None }
    }

    /// The same, of which every command goes to the manager at this address.
    #[must_use]
    pub fn at(&self, manager: SocketAddr) -> Self {
        Self { manager: Some(manager), ..self.clone() }
    }

    /// Runs `echelon ARGUMENTS`.
    #[track_caller]
    pub fn run_with(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Answer {
        Answer::of(self.command(arguments))
    }

    /// `echelon ARGUMENTS`.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&binaries().console);
        command.env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
        command.arg("--identity").arg(&self.identity);
        if let Some(manager) = self.manager {
            command.arg("--manager").arg(manager.to_string());
        }
        command.args(arguments);
        command
    }

    /// Runs `echelon LINE`, split at white space.
    pub fn run(&self, line: &str) -> Answer {
        self.run_with(line.split_whitespace())
    }

    /// What `echelon LINE` prints; it must be done.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let answer = self.run(line);
        assert_eq!(answer.code, 0, "echelon {line}: {answer:?}");
        answer.out
    }

    /// The JSON objects that `echelon LINE` prints, one a line.
    #[track_caller]
    pub fn objects(&self, line: &str) -> Vec<Value> {
        let text = self.ok(&format!("{line} --output json"));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The one JSON object that `echelon LINE` prints.
    #[track_caller]
    pub fn object(&self, line: &str) -> Value {
        let mut objects = self.objects(line);
        assert_eq!(objects.len(), 1, "echelon {line}: {objects:?}");
        objects.remove(0)
    }

    /// `echelon LINE` must end with this exit code.
    #[track_caller]
    pub fn fails(&self, code: i32, line: &str) -> Answer {
        let answer = self.run(line);
        assert_eq!(answer.code, code, "echelon {line}: {answer:?}");
        answer
    }
}
