//! `registry-manager root`.

use crate::cli::{StateArgs, passphrase};
use clap::{Args, Subcommand};
use echelon_daemon::{Exit, LogArgs, LogConfig};
use registry_manager::paths::Paths;
use registry_manager::root::{self, Imported};
use std::path::PathBuf;

/// What to do with the root key.
#[derive(Subcommand)]
pub(crate) enum RootCommand {
    /// Writes the root key to a file that only a passphrase opens.
    #[command(
        after_help = "Example:\n  registry-manager root export root.sealed --passphrase-file /root/passphrase"
    )]
    Export(ExportArgs),
    /// Brings an exported root key back, for a manager to be added.
    #[command(
        after_help = "Example:\n  registry-manager root import root.sealed --passphrase-file /root/passphrase"
    )]
    Import(FileArgs),
}

/// Which file, and whose.
#[derive(Args)]
pub(crate) struct FileArgs {
    /// The exported key.
    file: PathBuf,
    /// File with the passphrase, which only its owner may read.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `root export`.
#[derive(Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    to: FileArgs,
    /// Replace what is there.
    #[arg(long)]
    force: bool,
}

/// Does it; the manager may run meanwhile.
pub(crate) fn root(command: &RootCommand, log: &LogArgs) -> anyhow::Result<Exit> {
    log.start(&LogConfig::default())?;
    match command {
        RootCommand::Export(ExportArgs { to, force }) => {
            root::export(&Paths::of(&to.state.state), &to.file, &passphrase(&to.passphrase_file)?, *force)?;
            println!(
                "Exported the root key to {}. Move it to another place than the passphrase, off this host.",
                to.file.display()
            );
        }
        RootCommand::Import(from) => {
            let paths = Paths::of(&from.state.state);
            let root = paths.root();
            match root::import(&paths, &from.file, &passphrase(&from.passphrase_file)?)? {
                Imported::Done => println!("Imported the root key to {}: managers can join.", root.display()),
                Imported::WasThere => {
                    println!("{} is this root key already. Nothing was changed.", root.display())
                }
            }
        }
    }
    Ok(Exit::Done)
}
