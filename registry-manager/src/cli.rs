//! What the binary does with its arguments.

mod init;
mod join;
mod leave;
mod recover;
mod restore;
mod root;
mod run;
mod token;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use echelon_core::message::FailureClass;
use echelon_core::passphrase::Passphrase;
use echelon_daemon::config::{self as settings, ConfigArgs};
use echelon_daemon::{Exit, LogArgs};
use echelon_identity::file;
use echelon_identity::token::{TOKEN_IN_ARGUMENTS, looks_like_token};
pub(crate) use init::{InitArgs, init};
pub(crate) use join::{JoinArgs, join};
pub(crate) use leave::{LeaveArgs, leave};
pub(crate) use recover::{RecoverArgs, recover};
use registry_manager::StartError;
use registry_manager::config::{self, Recorded};
use registry_manager::paths::Paths;
pub(crate) use restore::{RestoreArgs, restore};
pub(crate) use root::{RootCommand, root};
pub(crate) use run::{RunArgs, run};
use std::path::{Path, PathBuf};

/// Stores the hierarchy and its packages and pushes replicas to every agent.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  registry-manager init --framework acme\n  registry-manager run")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes the authority, this manager's identity and an empty registry.
    #[command(after_help = "Example:\n  registry-manager init --framework acme --advertise 10.0.0.5:29120")]
    Init(InitArgs),
    /// Makes this host a standby of a registry that there is: it gets an identity, an issuer and a copy of everything.
    #[command(
        after_help = "The token (echelon token create --access manager) is taken from the environment variable \
        ECHELON_TOKEN, or from --token-file.\n\n\
        Example:\n  ECHELON_TOKEN=$(cat token) registry-manager join --manager 10.0.0.5:29120 --advertise 10.0.0.6:29120"
    )]
    Join(JoinArgs),
    /// Serves agents and consoles until it is told to stop.
    #[command(after_help = "Example:\n  registry-manager run --http 127.0.0.1:29121")]
    Run(RunArgs),
    /// Makes what a backup holds the newest lineage of the registry; only while no manager runs.
    #[command(after_help = "Examples:
  registry-manager restore /backup/acme.tar --check
  registry-manager restore /backup/acme.tar --passphrase-file /root/passphrase --reason 'disk of hub is gone'")]
    Restore(RestoreArgs),
    /// Goes on with a state directory that has lost edits, by a new lineage; only while no manager runs.
    #[command(after_help = "Examples:
  registry-manager recover --reason 'the machine was set back to its snapshot'
  registry-manager recover --reason 'the machine was set back to its snapshot' --accept-loss --yes acme")]
    Recover(RecoverArgs),
    /// Takes this host's standby out of the registry.
    #[command(after_help = "Example:\n  registry-manager leave")]
    Leave(LeaveArgs),
    /// Exports or imports the root key, which is needed to add managers.
    #[command(
        subcommand,
        after_help = "Example:\n  registry-manager root export root.sealed --passphrase-file /root/passphrase"
    )]
    Root(RootCommand),
    /// Prints every key of the settings file with its default.
    #[command(after_help = "Example:\n  registry-manager config --default > /etc/echelon/manager.toml")]
    Config(ConfigArgs),
}

#[derive(Args)]
pub(crate) struct StateArgs {
    /// State directory.
    #[arg(long, value_name = "DIR", env = "ECHELON_MANAGER_STATE", default_value = config::DEFAULT_STATE)]
    pub(crate) state: PathBuf,
}

/// Reads the arguments. A secret among them is refused before anything could print it.
///
/// # Errors
/// With what the process exits.
pub(crate) fn parse() -> Result<Cli, Exit> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.any(|a| looks_like_token(&a.to_string_lossy())) {
        eprintln!("error: {TOKEN_IN_ARGUMENTS}");
        return Err(Exit::Usage);
    }
    Ok(Cli::parse())
}

/// Prints the default settings.
pub(crate) fn config(args: &ConfigArgs) -> Exit {
    args.print(config::DEFAULTS)
}

/// The exit code for what a manager refused.
fn of_class(class: FailureClass) -> Exit {
    match class {
        FailureClass::Failed => Exit::Failed,
        FailureClass::Forbidden => Exit::Refused,
        FailureClass::Unreachable => Exit::Unreachable,
        FailureClass::NotAllowed => Exit::NotAllowed,
        FailureClass::Unknown => Exit::OutcomeUnknown,
    }
}

/// What `init` was told.
fn recorded(state: &Path) -> anyhow::Result<Recorded> {
    let paths = Paths::of(state);
    if !paths.registry().exists() {
        return Err(StartError::no_registry(state).into());
    }
    Ok(settings::load(&paths.settings())?)
}

/// The passphrase in a file that only its owner may read.
fn passphrase(path: &Path) -> anyhow::Result<Passphrase> {
    let text = file::read_secret(path).context("the passphrase cannot be read")?;
    Passphrase::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use echelon_daemon::help::without_example;

    #[test]
    fn every_command_has_an_example_in_its_help() {
        assert_eq!(without_example(Cli::command()), Vec::<String>::new());
    }
}
