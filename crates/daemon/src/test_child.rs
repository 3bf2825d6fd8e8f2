//! Runs a test a second time in a process of its own, for what belongs to a whole process: signals, environment.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// Set in the second process.
const MARK: &str = "ECHELON_TEST_CHILD";

/// How long a second process may take to answer or end. Far longer than needed on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Whether this is the second process.
pub(crate) fn is_child() -> bool {
    env::var_os(MARK).is_some()
}

/// The command that runs the test `name` (its full path) alone in a second process.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(MARK, "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Reads the child's output up to a line that contains `text`. What it said after that without waiting may be lost.
pub(crate) fn wait_for(child: &mut Child, text: &str) {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended without saying {text:?}");
    }
    child.stdout = Some(output.into_inner());
}

/// Waits for the child to end; kills it and fails at the deadline.
pub(crate) fn wait_end(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("the child did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
