//! Checks that need what a machine may not have.

use std::io::Write;
use std::process::{Command, Stdio};

/// Says that a check did not run, and why, past the test runner's capture.
pub fn skipped(name: &str, why: &str) {
    // In one piece and on a line of its own, whatever the runner is writing beside it. Nobody reads it where
    // standard error is closed.
    let _ = std::io::stderr().write_all(format!("\nSKIPPED {name}: {why}\n").as_bytes());
}

/// Whether `program ARGUMENTS` runs here; says that `name` is skipped where it does not.
pub fn have(name: &str, program: &str, arguments: &[&str]) -> bool {
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match run {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            skipped(name, &format!("{program} {}: {why}", arguments.join(" ")));
            false
        }
        Err(error) => {
            skipped(name, &format!("{program}: {error}"));
            false
        }
    }
}
