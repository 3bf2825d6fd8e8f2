//! Why a command did not do what it was asked, for people and for programs.

use crate::style;
use echelon_core::message::{Failure, FailureClass, Retry};
use echelon_core::refusal::Refusal;
use echelon_daemon::Exit;
use serde::Serialize;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It failed.
    Failed(Box<Failure>),
    /// The command line is at fault.
    Usage(Box<Failure>),
    /// Whoever read the output has gone away, as `head` does. No fault of anybody.
    ReaderGone,
    /// It answered, and the answer, which was shown, is bad.
    BadAnswer,
}

/// A failure of this console's own, class `failed`, safe to try again.
pub(crate) fn failed(error: &str, message: impl ToString) -> Problem {
    Problem::Failed(Box::new(Failure {
        error: error.into(),
        class: FailureClass::Failed,
        message: message.to_string(),
        place: String::new(),
        remedy: String::new(),
        retry: Retry::Safe,
    }))
}

/// An error and all its sources, outermost first.
pub(crate) fn with_sources(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |&e| e.source()).map(|e| e.to_string()).collect::<Vec<_>>().join(": ")
}

impl Problem {
    fn change(mut self, change: impl FnOnce(&mut Failure)) -> Self {
        if let Self::Failed(failure) | Self::Usage(failure) = &mut self {
            change(failure);
        }
        self
    }

    /// Says what to do.
    pub(crate) fn remedy(self, remedy: impl ToString) -> Self {
        self.change(|f| f.remedy = remedy.to_string())
    }

    /// Says where.
    pub(crate) fn at(self, place: impl ToString) -> Self {
        self.change(|f| f.place = place.to_string())
    }

    /// It would fail again.
    pub(crate) fn pointless(self) -> Self {
        self.change(|f| f.retry = Retry::Pointless)
    }

    /// Of another class than `failed`.
    pub(crate) fn class(self, class: FailureClass) -> Self {
        self.change(|f| f.class = class)
    }

    /// The stable name of the failure; empty where it is none.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Failed(failure) | Self::Usage(failure) => &failure.error,
            Self::ReaderGone | Self::BadAnswer => "",
        }
    }

    /// Tells the user on standard error, and the shell by the exit code.
    pub(crate) fn report(self, json: bool) -> ExitCode {
        let (failure, exit) = match self {
            Self::Failed(failure) => {
                let exit = exit(failure.class);
                (failure, exit)
            }
            Self::Usage(failure) => (failure, Exit::Usage),
            Self::ReaderGone => return Exit::Done.into(),
            Self::BadAnswer => return Exit::BadAnswer.into(),
        };
        // Where not even standard error takes it, the exit code still tells.
        let _ = write_failure(&failure, exit, json, &mut anstream::stderr().lock());
        exit.into()
    }

    /// The command line is at fault, not what it asks for.
    pub(crate) fn usage(self) -> Self {
        match self {
            Self::Failed(failure) => Self::Usage(failure),
            other => other,
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        Failure::from(refusal).into()
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => failed("input-output", error),
        }
    }
}

/// The exit code of a class of failures.
fn exit(class: FailureClass) -> Exit {
    match class {
        FailureClass::Failed => Exit::Failed,
        FailureClass::Forbidden => Exit::Refused,
        FailureClass::Unreachable => Exit::Unreachable,
        FailureClass::NotAllowed => Exit::NotAllowed,
        FailureClass::Unknown => Exit::OutcomeUnknown,
    }
}

/// The shape of an error in JSON, which scripts rely on.
#[derive(Serialize)]
struct Document<'a> {
    error: &'a str,
    exit: u8,
    message: &'a str,
    r#where: &'a str,
    remedy: &'a str,
    retry: Retry,
}

fn write_failure(failure: &Failure, exit: Exit, json: bool, to: &mut dyn Write) -> io::Result<()> {
    if json {
        let document = Document {
            error: &failure.error,
            exit: exit.code(),
            message: &failure.message,
            r#where: &failure.place,
            remedy: &failure.remedy,
            retry: failure.retry,
        };
        serde_json::to_writer(&mut *to, &document)?;
        return writeln!(to);
    }
    let (bad, help) = (style::BAD, style::GOOD);
    writeln!(to, "{bad}error:{bad:#} {}", printable(&failure.message))?;
    if !failure.place.is_empty() {
        writeln!(to, "{help}where:{help:#} {}", printable(&failure.place))?;
    }
    if !failure.remedy.is_empty() {
        writeln!(to, "{help}help:{help:#} {}", printable(&failure.remedy))?;
    }
    Ok(())
}

fn repeats_controls(error: &clap::Error) -> bool {
    error.context().any(|(_, value)| value.to_string().chars().any(|c| c.is_control() && c != '\n'))
}

/// The text without control characters, which may come from another machine; line ends stay.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// Tells of a wrong command line as clap does, or prints the help that was asked for.
pub(crate) fn report_usage(error: &clap::Error, json: bool) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return Exit::Done.into();
    }
    let _ = write_usage(error, json, &mut anstream::stderr().lock());
    Exit::Usage.into()
}

/// The same, to be looked at.
pub(crate) fn write_usage(error: &clap::Error, json: bool, to: &mut dyn Write) -> io::Result<()> {
    let text = error.render().to_string();
    match json {
        // An argument that was pasted from somewhere is not let loose on the terminal.
        false if repeats_controls(error) => return write!(to, "{}", printable(&text)),
        false => return write!(to, "{}", error.render().ansi()),
        true => {}
    }
    let (message, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let document = Document {
        error: "command-line",
        exit: Exit::Usage.code(),
        message: message.trim_start_matches("error: "),
        r#where: "",
        remedy: rest.trim(),
        retry: Retry::Pointless,
    };
    serde_json::to_writer(&mut *to, &document)?;
    writeln!(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shown(problem: Problem, json: bool) -> String {
        let Problem::Failed(failure) = problem else { panic!("no failure") };
        let mut shown = Vec::new();
        write_failure(&failure, exit(failure.class), json, &mut shown).unwrap();
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn an_error_has_the_shape_that_scripts_rely_on() {
        let refusal = Refusal::UnknownHost { host: "agent9".parse().unwrap() };
        let document: Value = serde_json::from_str(&shown((&refusal).into(), true)).unwrap();
        assert_eq!(
            document,
            json!({
                "error": "unknown-host", "exit": 1, "message": "there is no host agent9", "where": "",
                "remedy": "look it up with: echelon tree; or add it: echelon host add agent9 --domain PATH",
                "retry": "pointless",
            })
        );
    }

    #[test]
    fn people_get_message_place_and_help() {
        let problem = failed("bad-file", "unknown key").at("t.toml:3:1").remedy("remove it");
        let plain = anstream::adapter::strip_str(&shown(problem, false)).to_string();
        assert_eq!(plain, "error: unknown key\nwhere: t.toml:3:1\nhelp: remove it\n");
    }

    #[test]
    fn control_characters_from_elsewhere_do_not_reach_the_terminal() {
        let plain = shown(failed("x", "a\u{1b}[2Jb\u{7}"), false);
        assert!(plain.contains("a [2Jb "), "{plain:?}");
    }

    #[test]
    fn classes_are_exit_codes() {
        let all = [
            (FailureClass::Failed, 1),
            (FailureClass::Forbidden, 3),
            (FailureClass::Unreachable, 4),
            (FailureClass::NotAllowed, 5),
            (FailureClass::Unknown, 6),
        ];
        for (class, code) in all {
            assert_eq!(exit(class).code(), code);
        }
    }
}
