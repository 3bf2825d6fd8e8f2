//! A command whose answer has no end.

use crate::{Console, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A console that goes on, and the JSON objects it has printed. Dropping it kills it.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    printed: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl Follower {
    /// Starts `echelon LINE --output json` and reads what it prints.
    pub fn start(console: &Console, line: &str) -> Self {
        let mut follower = Self::start_unread(console, line);
        follower.read();
        follower
    }

    /// The same with nobody who reads it yet.
    pub fn start_unread(console: &Console, line: &str) -> Self {
        let mut command = console.command(line.split_whitespace().chain(["--output", "json"]));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        Self { child, printed: Arc::default(), reader: None }
    }

    /// Begins to read.
    pub fn read(&mut self) {
        let (out, printed) = (self.child.stdout.take().unwrap(), Arc::clone(&self.printed));
        let each = move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let object = serde_json::from_str(&line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}"));
                printed.lock().unwrap().push(object);
            }
        };
        self.reader = Some(std::thread::spawn(each));
    }

    /// Everything printed so far.
    pub fn printed(&self) -> Vec<Value> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an object of which this is true.
    #[track_caller]
    pub fn wait_for(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || {
            let printed = self.printed();
            printed.iter().find(|object| is(object)).cloned().ok_or(printed)
        })
    }

    /// Interrupts it, as Ctrl-C does, and gives its exit code.
    #[track_caller]
    pub fn interrupt(&mut self) -> Option<i32> {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, Signal::INT).unwrap();
        self.wait()
    }

    /// Closes its output, as `head` does, and gives its exit code once it has noticed.
    #[track_caller]
    pub fn close(&mut self, nudge: impl Fn()) -> Option<i32> {
        drop(self.child.stdout.take());
        wait_for("the end of a command whose reader is gone", || {
            nudge();
            self.child.try_wait().unwrap().ok_or("it still runs")
        })
        .code()
    }

    #[track_caller]
    fn wait(&mut self) -> Option<i32> {
        wait_for("the end of a command", || self.child.try_wait().unwrap().ok_or("it still runs")).code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
