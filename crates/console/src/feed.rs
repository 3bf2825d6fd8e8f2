//! Standard output of an answer without an end.
//!
//! A thread of its own writes: a reader that takes its time, as `less` does, must not keep the connection to
//! the manager from being served.

use crate::problem::{Problem, failed};
use serde::Serialize;
use std::io::{self, Write};
use std::thread::JoinHandle;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Lines that wait for the reader. Past it the manager's answer waits, and past what the network holds of that
/// the manager says how much was missed.
const WAITING: usize = 256;

/// Lines on their way to standard output.
pub(crate) struct Feed {
    json: bool,
    lines: Sender<String>,
    writer: JoinHandle<io::Result<()>>,
}

impl Feed {
    /// Begins to write; with `json`, for programs.
    pub(crate) fn start(json: bool) -> Result<Self, Problem> {
        let (lines, waiting) = channel(WAITING);
        let writer = std::thread::Builder::new().name("output".into()).spawn(|| write(waiting))?;
        Ok(Self { json, lines, writer })
    }

    /// Whether a program reads it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One line of text.
    pub(crate) async fn line(&mut self, text: String) -> Result<(), Problem> {
        match self.lines.send(text).await {
            Ok(()) => Ok(()),
            // The writer has ended, and knows why.
            Err(_) => Err(Problem::ReaderGone),
        }
    }

    /// One JSON object, on one line.
    pub(crate) async fn object(&mut self, object: &impl Serialize) -> Result<(), Problem> {
        self.line(serde_json::to_string(object).map_err(io::Error::from)?).await
    }

    /// Waits until all is written.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        drop(self.lines);
        match self.writer.join() {
            Ok(written) => Ok(written?),
            Err(_) => Err(failed("input-output", "the thread that writes the output has ended early")),
        }
    }
}

/// Writes line by line, and holds nothing back once there is none waiting.
fn write(mut lines: Receiver<String>) -> io::Result<()> {
    let mut output = io::BufWriter::new(anstream::stdout());
    while let Some(line) = lines.blocking_recv() {
        writeln!(output, "{line}")?;
        if lines.is_empty() {
            output.flush()?;
        }
    }
    output.flush()
}
