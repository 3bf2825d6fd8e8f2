//! `registry-manager recover`.

use crate::cli::StateArgs;
use anyhow::{Context, bail};
use clap::Args;
use echelon_core::name::{FrameworkName, Text};
use echelon_daemon::{Exit, LogArgs, LogConfig, StateDir, shell_word};
use registry_manager::StartError;
use registry_manager::paths::Paths;
use registry_manager::recover::Found;
use std::io::{BufRead, Write};

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
        return Err(StartError::NoRegistry(state.path().display().to_string()).into());
    }
    let found = Found::open(state.path())?;
    print!("{}", situation(&found));
    confirm(args, found.framework())?;
    let done = found.recover(args.reason.clone(), args.accept_loss)?;
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

fn confirm(args: &RecoverArgs, framework: &FrameworkName) -> anyhow::Result<()> {
    let name = match &args.yes {
        Some(name) => name.to_string(),
        None => {
            print!("Type the framework's name to go on: ");
            std::io::stdout().flush().context("asking for the framework's name")?;
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).context("reading the framework's name")?;
            line.trim().to_owned()
        }
    };
    if name != framework.as_str() {
        bail!("that is not the framework's name, which is {framework}; nothing was changed");
    }
    Ok(())
}
