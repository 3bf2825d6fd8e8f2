//! The registry agent's command line.

mod cli;

use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = cli::parse().and_then(|Cli { command, log }| match command {
        Command::Enroll(args) => cli::enroll(args, &log),
        Command::Run(args) => cli::run(args, &log),
        Command::Config(args) => Ok(cli::config(&args)),
    });
    match done {
        Ok(exit) => exit.into(),
        Err(failed) => {
            eprintln!("error: {:#}", failed.error);
            failed.exit.into()
        }
    }
}
