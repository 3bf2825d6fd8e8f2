//! `registry-manager recover`.

use crate::cli::StateArgs;
use anyhow::Context;
use clap::Args;
use echelon_core::name::{FrameworkName, Text};
use echelon_daemon::{Exit, LogArgs, LogConfig, StateDir, shell_word};
use registry_manager::StartError;
use registry_manager::paths::Paths;
use registry_manager::recover::{Found, RecoverError};
use std::io::{BufRead, IsTerminal, Write};

/// Arguments of `recover`.
#[derive(Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Why, for the history of grants.
    #[arg(long, value_name = "TEXT")]
    reason: Text,
    /// Go on though standbys may hold what this directory has lost.
    #[arg(long)]
    accept_loss: bool,
    /// The framework's name, so that nothing is asked.
    #[arg(long, value_name = "NAME")]
    yes: Option<FrameworkName>,
}

/// Goes on with what is there.
pub(crate) fn recover(args: &RecoverArgs, log: &LogArgs) -> anyhow::Result<Exit> {
    log.start(&LogConfig::default())?;
    let state = StateDir::open(&args.state.state, false)?;
    if !Paths::of(state.path()).registry().exists() {
        return Err(StartError::no_registry(state.path()).into());
    }
    let found = Found::open(state.path())?;
    print!("{}", situation(&found));
    if let Err(exit) = confirm(args, found.framework())? {
        return Ok(exit);
    }
    let done = match found.recover(args.reason.clone(), args.accept_loss) {
        Err(error @ (RecoverError::NotPrimary { .. } | RecoverError::Standbys { .. })) => {
            eprintln!("error: {error}");
            return Ok(Exit::Refused);
        }
        done => done?,
    };
    println!(
        "The registry up to revision {} counts from now on, and the registry manager on {} is its primary, by {}.",
        done.position.revision, done.host, done.grant
    );
    println!("\nNext:\n  registry-manager run --state {}", shell_word(&state.path().to_string_lossy()));
    Ok(Exit::Done)
}

fn situation(found: &Found) -> String {
    let position = found.position();
    let here = format!(
        "This directory holds the registry of {} up to revision {}",
        found.framework(),
        position.revision
    );
    match found.rolled_back() {
        Some(seen) => format!(
            "{here}; others have seen revision {}. Edits between the two are lost by going on from here.\n",
            seen.revision
        ),
        None => format!(
            "{here}. Whether it has lost edits is not known here; those that it lacks are lost by going on.\n"
        ),
    }
}

/// Whether this framework is meant; with what the process ends where it is not.
fn confirm(args: &RecoverArgs, framework: &FrameworkName) -> anyhow::Result<Result<(), Exit>> {
    let name = match &args.yes {
        Some(name) => name.to_string(),
        None if !std::io::stdin().is_terminal() => {
            eprintln!(
                "error: this has to be confirmed, and there is no terminal to ask at; nothing was changed; name the \
                 framework: --yes {framework}"
            );
            return Ok(Err(Exit::Usage));
        }
        None => {
            print!("Type the framework's name to go on: ");
            std::io::stdout().flush().context("asking for the framework's name")?;
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).context("reading the framework's name")?;
            line.trim().to_owned()
        }
    };
    if name != framework.as_str() {
        eprintln!("error: that is not the framework's name, which is {framework}; nothing was changed");
        return Ok(Err(Exit::Refused));
    }
    Ok(Ok(()))
}
