//! The registry manager's command line.

mod cli;

use cli::{Cli, Command};
use echelon_daemon::Exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Cli { command, log } = match cli::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    let done = match command {
        Command::Init(args) => cli::init(&args, &log),
        Command::Join(args) => cli::join(args, &log),
        Command::Run(args) => cli::run(&args, &log),
        Command::Restore(args) => cli::restore(&args, &log),
        Command::Recover(args) => cli::recover(&args, &log),
        Command::Leave(args) => cli::leave(&args, &log),
        Command::Root(command) => cli::root(&command, &log),
        Command::Config(args) => Ok(cli::config(&args)),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(e) => {
            eprintln!("error: {e:#}");
            Exit::Failed.into()
        }
    }
}
