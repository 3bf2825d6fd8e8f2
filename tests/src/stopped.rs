//! Whether a process that is told to stop has stopped.

use std::fs;
use std::path::Path;

/// Whether no thread of a process runs any more. A signal to stop is taken by one thread, whenever that gets a core; the
/// others go on until then, on a busy machine for as long as they need to answer somebody.
pub fn has_stopped(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.flatten().all(|thread| is_stopped(&thread.path()))
}

fn is_stopped(thread: &Path) -> bool {
    // What stands before the state is the program's name, in parentheses (proc_pid_stat(5)).
    let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
}
