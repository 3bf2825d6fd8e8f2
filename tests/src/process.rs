//! A process that ends with the test.

use crate::stopped::has_stopped;
use crate::wait::{wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

/// Most bytes of a log that are shown of a test that failed.
const SHOWN: usize = 16 * 1024;

/// A child process. Its output goes to files, to which every process of the same name appends; when a
/// test fails, the end of them is printed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    logs: PathBuf,
}

impl Process {
    /// Starts it, with `NAME.out` and `NAME.err` in the directory `logs` as its output.
    pub fn spawn(name: &str, mut command: Command, logs: &Path) -> Self {
        command.stdout(append(&logs.join(format!("{name}.out"))));
        Self::spawn_with_output(name, command, logs)
    }

    /// Starts it with the standard output that `command` has.
    pub fn spawn_with_output(name: &str, mut command: Command, logs: &Path) -> Self {
        command.stderr(append(&logs.join(format!("{name}.err"))));
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        Self { child, name: name.to_owned(), logs: logs.to_owned() }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal; where that is to stop, waits until it has.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
        if signal == Signal::STOP {
            wait_until(&format!("{} to stop", self.name), || has_stopped(self.id()));
        }
    }

    /// Ends it at once, as a power cut would.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end and waits for that.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_for(&what, || self.child.try_wait().unwrap().ok_or("it still runs"))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// All that processes of this name have logged.
    pub fn log(&self) -> String {
        read(&self.logs.join(format!("{}.err", self.name)))
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let end = log.len().saturating_sub(SHOWN);
            let end = (end..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
            eprintln!("---- log of {} ----\n{}", self.name, &log[end..]);
        }
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into()
}
