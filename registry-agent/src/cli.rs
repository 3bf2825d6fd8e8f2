//! What the binary does with its arguments.

mod enroll;
mod reload;
mod run;
mod settings;
mod successor;

use clap::{Args, Parser, Subcommand};
use echelon_daemon::config::ConfigArgs;
use echelon_daemon::{Exit, LogArgs};
pub(crate) use enroll::{EnrollArgs, enroll};
pub(crate) use run::{RunArgs, run};
use std::path::PathBuf;

/// Where state is kept that nobody said otherwise of.
pub(crate) const DEFAULT_STATE: &str = "/var/lib/echelon/agent";

/// Routes this host's callers to the nearest live manager.
#[derive(Parser)]
#[command(name = "registry-agent", version)]
#[command(after_help = "Example:\n  ECHELON_TOKEN=… registry-agent enroll --manager 10.0.0.5:29120\n  \
    registry-agent run --forward command-control=127.0.0.1:7400")]
pub(crate) struct Cli {
    /// About the log.
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Gets this host an identity, with a join token.
    Enroll(EnrollArgs),
    /// Routes until it is told to stop.
    Run(RunArgs),
    /// Prints every key of the settings file with its default.
    #[command(after_help = "Example:\n  registry-agent config --default > /etc/echelon/agent.toml")]
    Config(ConfigArgs),
}

/// Arguments about the state directory.
#[derive(Args)]
pub(crate) struct StateArgs {
    /// State directory [default: /var/lib/echelon/agent]
    #[arg(long, value_name = "DIR", env = "ECHELON_AGENT_STATE")]
    pub(crate) state: Option<PathBuf>,
}

/// A command that failed, and what the process exits with.
pub(crate) struct Failed {
    pub(crate) error: anyhow::Error,
    pub(crate) exit: Exit,
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { error: error.into(), exit: Exit::Failed }
    }
}

/// Reads the arguments. A secret among them is refused before anything could print it.
pub(crate) fn parse() -> Result<Cli, Failed> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.any(|a| echelon_identity::token::looks_like_token(&a.to_string_lossy())) {
        let error = anyhow::anyhow!(echelon_identity::token::TOKEN_IN_ARGUMENTS);
        return Err(Failed { error, exit: Exit::Usage });
    }
    Ok(Cli::parse())
}

/// Prints the default settings.
pub(crate) fn config(args: &ConfigArgs) -> Exit {
    args.print(settings::DEFAULTS)
}
