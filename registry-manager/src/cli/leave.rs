//! `registry-manager leave`.

use crate::cli::{StateArgs, of_class, recorded};
use anyhow::Context;
use clap::Args;
use echelon_daemon::{Exit, LogArgs, LogConfig, StateDir, StateDirError};
use registry_manager::leave::{self, LeaveError, Outcome};
use registry_manager::left;
use registry_manager::paths::Paths;
use std::path::Path;

/// Arguments of `leave`.
#[derive(Args)]
pub(crate) struct LeaveArgs {
    #[command(flatten)]
    state: StateArgs,
}

/// Takes this host's manager out of the registry.
pub(crate) fn leave(args: &LeaveArgs, log: &LogArgs) -> anyhow::Result<Exit> {
    log.start(&LogConfig::default())?;
    let state = &args.state.state;
    // The manager may run meanwhile; where it does not, it must not begin to.
    let (_locked, runs) = match StateDir::open(state, false) {
        Ok(locked) => (Some(locked), false),
        Err(StateDirError::InUse { .. }) => (None, true),
        Err(e) => return Err(e.into()),
    };
    let paths = Paths::of(state);
    if let Some(why) = left::mark_of(&paths)? {
        println!("The registry manager of {} has left already: {why}.", state.display());
        return Ok(Exit::Done);
    }
    recorded(state)?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    match runtime.block_on(leave::leave(&paths)) {
        Ok(outcome) => {
            print!("{}", told(state, &outcome, runs));
            Ok(Exit::Done)
        }
        Err(error) => {
            let exit = exit(&error);
            eprintln!("error: {:#}", anyhow::Error::from(error));
            Ok(exit)
        }
    }
}

fn exit(error: &LeaveError) -> Exit {
    match error {
        LeaveError::Refused(failure) => of_class(failure.class),
        LeaveError::Unreachable(..) => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

fn told(state: &Path, outcome: &Outcome, runs: bool) -> String {
    let mut text = match outcome {
        Outcome::Left(host) => format!(
            "The registry manager on {host} has left. Hosts and consoles with certificates of it renew them elsewhere.\n"
        ),
        Outcome::WasOut(host) => format!("The registry manager on {host} was removed before.\n"),
    };
    if runs {
        text += "Its process ends by itself within seconds.\n";
    }
    text += &format!(
        "{} stays as it is, marked as left: no manager starts from it. To be a standby again: registry-manager join\n",
        state.display()
    );
    text
}
