//! Standard output: results for people, or for programs.

use crate::args::Output;
use crate::text::{self, BAD, BOLD, DIM, paint};
use echelon_core::name::Text;
use echelon_lab::answer::Answer;
use echelon_lab::{Command, Started};
use serde::Serialize;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// How wide commands are printed where nobody knows what comes; most are not wider.
const COLUMN: usize = 40;

/// Widest column of commands, so that one long command does not push all results off the screen.
const WIDEST: usize = 64;

/// Writes results with the time since the lab was ready.
pub(crate) struct Printer {
    json: bool,
    column: usize,
    ready: Instant,
}

/// A result for programs.
#[derive(Serialize)]
struct Record<'a, T: Serialize> {
    at_ms: f64,
    command: &'a str,
    #[serde(flatten)]
    result: T,
}

#[derive(Serialize)]
struct StartRecord<'a> {
    started: &'a Started,
}

#[derive(Serialize)]
struct ProblemRecord<'a> {
    error: &'a str,
}

impl Printer {
    /// A printer for these commands, as far as they are known.
    pub(crate) fn new<'a>(output: Output, commands: impl Iterator<Item = &'a Command>) -> Self {
        let widest = commands.map(|command| command.to_string().len()).max();
        let column = widest.unwrap_or(COLUMN).min(WIDEST);
        Self { json: output == Output::Json, column, ready: Instant::now() }
    }

    /// Says what was started. Times count from now.
    pub(crate) fn started(&mut self, started: &Started) -> io::Result<()> {
        self.ready = Instant::now();
        if self.json {
            return object(&StartRecord { started });
        }
        lines(text::started(started))
    }

    /// Repeats a comment of a script, which tells people what comes next.
    pub(crate) fn comment(&self, comment: &Text) -> io::Result<()> {
        if self.json { Ok(()) } else { lines([paint(DIM, format!("# {comment}"))]) }
    }

    /// Says what came of a command.
    pub(crate) fn answer(&self, command: &Command, answer: &Answer) -> io::Result<()> {
        if self.json {
            return self.answer_objects(&command.to_string(), answer);
        }
        if *command == Command::Help {
            return lines(crate::args::commands().map(str::to_owned));
        }
        if let Some(result) = text::line(answer) {
            lines([self.line(command, &result)])?;
        }
        if let Answer::Routes(routes) = answer {
            lines(text::table(routes).iter().map(|line| format!("         {line}")))?;
        }
        Ok(())
    }

    /// Says why a command was not carried out.
    pub(crate) fn problem(&self, command: &Command, problem: &anyhow::Error) -> io::Result<()> {
        let text = format!("{problem:#}");
        if self.json {
            return object(&self.record(&command.to_string(), ProblemRecord { error: &text }));
        }
        lines([self.line(command, &paint(BAD, text))])
    }

    fn answer_objects(&self, command: &str, answer: &Answer) -> io::Result<()> {
        match answer {
            Answer::Nothing => Ok(()),
            Answer::Routes(routes) => {
                routes.iter().try_for_each(|route| object(&self.record(command, route)))
            }
            other => object(&self.record(command, other)),
        }
    }

    fn record<'a, T: Serialize>(&self, command: &'a str, result: T) -> Record<'a, T> {
        Record { at_ms: (self.at().as_secs_f64() * 1e4).round() / 10.0, command, result }
    }

    fn line(&self, command: &Command, result: &str) -> String {
        let at = format!("{:>6.2}s", self.at().as_secs_f64());
        let command = format!("{:width$}", command.to_string(), width = self.column);
        format!("{}  {}  → {result}", paint(DIM, at), paint(BOLD, command))
    }

    fn at(&self) -> Duration {
        self.ready.elapsed()
    }
}

/// Lines of text, in colour where somebody sees it.
fn lines(lines: impl IntoIterator<Item = String>) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    lines.into_iter().try_for_each(|line| writeln!(out, "{line}"))?;
    out.flush()
}

/// One object, on one line.
fn object(object: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, object)?;
    writeln!(out)?;
    out.flush()
}
