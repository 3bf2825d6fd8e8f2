//! Whether a person means it.

use super::show;
use crate::console::Console;
use crate::problem::{Problem, failed};
use crate::sides::Side;
use echelon_core::message::FailureClass;
use echelon_core::promotion::EvidenceReport;
use std::io::{BufRead, IsTerminal, Write, stdin};

/// How it is confirmed that this framework is meant.
#[derive(Clone, Debug)]
pub(crate) enum Confirmation {
    /// Its name was given along.
    Given(String),
    /// Somebody at a terminal is asked for it.
    Asked,
}

impl Confirmation {
    /// As `--yes` says, or by a question.
    ///
    /// # Errors
    /// There is nobody to ask.
    pub(crate) fn new(yes: Option<&str>) -> Result<Self, Problem> {
        match yes {
            Some(name) => Ok(Self::Given(name.to_owned())),
            None if stdin().is_terminal() => Ok(Self::Asked),
            None => Err(failed(
                "not-confirmed",
                "this has to be confirmed, and there is no terminal to ask at; nothing was done",
            )
            .remedy("look at it with --dry-run, then name the framework: --yes FRAMEWORK")
            .pointless()
            .usage()),
        }
    }

    /// Shows the evidence and asks for the framework's name.
    pub(crate) fn ask(
        &self,
        console: &mut Console,
        evidence: &EvidenceReport,
        given_up: &[Side],
    ) -> Result<(), Problem> {
        show(console, evidence, given_up, true)?;
        let mut to = anstream::stderr().lock();
        write!(to, "Type the framework's name ({}) to go on: ", evidence.framework)?;
        to.flush()?;
        let mut typed = String::new();
        stdin().lock().read_line(&mut typed)?;
        is_meant(typed.trim(), &evidence.framework)
    }

    /// Whether the name that was given along is that of this framework.
    pub(crate) fn check(&self, framework: &str) -> Result<(), Problem> {
        match self {
            Self::Given(name) => is_meant(name, framework),
            Self::Asked => Ok(()),
        }
    }
}

fn is_meant(named: &str, framework: &str) -> Result<(), Problem> {
    match named == framework {
        true => Ok(()),
        false => Err(failed(
            "not-confirmed",
            format!("this framework is {framework}, not {named:?}; nothing was changed"),
        )
        .remedy(format!("name it: --yes {framework}"))
        .class(FailureClass::Forbidden)),
    }
}
