//! `registry-manager restore`.

use crate::cli::{StateArgs, passphrase};
use anyhow::Context;
use clap::Args;
use echelon_core::name::Text;
use echelon_daemon::{Exit, LogArgs, LogConfig, StateDir, shell_word};
use echelon_identity::file;
use registry_manager::paths::Paths;
use registry_manager::restore::{self, Done, Restore, Restored};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Arguments of `restore`.
#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// Backup, as `echelon backup` makes them.
    file: PathBuf,
    #[command(flatten)]
    state: StateArgs,
    /// File with the passphrase of the keys in the backup.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Why, for the history of grants.
    #[arg(long, value_name = "TEXT", conflicts_with = "check")]
    reason: Option<Text>,
    /// Only look at the backup, from end to end; nothing is restored.
    #[arg(long)]
    check: bool,
}

/// Restores a backup, or looks at it.
pub(crate) fn restore(args: &RestoreArgs, log: &LogArgs) -> anyhow::Result<Exit> {
    log.start(&LogConfig::default())?;
    let passphrase = args.passphrase_file.as_deref().map(passphrase).transpose()?;
    if args.check {
        let scratch = Scratch::make()?;
        let held = restore::check(&args.file, &scratch.0, passphrase.as_ref())?;
        print!("{}", checked(&held, passphrase.is_some()));
        return Ok(Exit::Done);
    }
    let state = StateDir::open(&args.state.state, true)?;
    let wish = Restore {
        file: args.file.clone(),
        state: state.path().to_owned(),
        passphrase,
        reason: args.reason.clone(),
    };
    let done = restore::restore(&wish)?;
    print!("{}", told(state.path(), &done));
    Ok(Exit::Done)
}

/// A directory of this process's own, for a database that is only looked at. Gone with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("registry-manager-check-{}", std::process::id()));
        let made = std::fs::DirBuilder::new().mode(file::PRIVATE_DIRECTORY).create(&path);
        made.with_context(|| format!("cannot make {}; name another directory in TMPDIR", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is in a directory for things that may be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn held(restored: &Restored) -> String {
    let Restored { framework, made, made_on, position, uncommitted, hosts, .. } = restored;
    let uncommitted = match uncommitted {
        0 => String::new(),
        n => format!(" The last {n} edits of them were not known to be committed; they count in a restore."),
    };
    format!(
        "The registry of {framework} up to revision {} (epoch {} of lineage {}) with {hosts} hosts, backed up by {made_on} at {made}.{uncommitted}",
        position.revision, position.epoch, position.lineage
    )
}

fn checked(restored: &Restored, opened: bool) -> String {
    let keys = match (restored.keys, opened) {
        (true, true) => "The passphrase opens the keys in it.",
        (true, false) => {
            "It has the manager's keys, sealed; give --passphrase-file to try whether they open."
        }
        (false, _) => "It has no keys: it can be restored where this manager's are, or those of another one.",
    };
    format!(
        "{}\nThe backup is whole: every page, entry and grant in it was looked at. {keys}\n",
        held(restored)
    )
}

fn told(state: &Path, done: &Done) -> String {
    let Done { restored, host, grant, keys_taken, set_aside, lost, conflict, others } = done;
    let mut text = format!("Restored into {}. {}\n", state.display(), held(restored));
    text += &format!("The registry manager on {host} is its primary, by {grant}.\n");
    if *keys_taken {
        text += "Its keys were taken from the backup: see that no other process runs with them.\n";
    }
    if let Some(aside) = set_aside {
        text += &format!("The registry that was here before is in {}.\n", aside.display());
    }
    if let Some(lost) = lost {
        text += &format!(
            "That one went up to revision {} (epoch {}); what the backup has not got of it is kept: echelon edits lost\n",
            lost.revision, lost.epoch
        );
    }
    if let Some(grant) = conflict {
        text += &format!(
            "This directory also knew {grant}, which the backup is older than. Whoever goes by that refuses the restored \
             registry until an admin has chosen: echelon lineage choose\n"
        );
    }
    let word = |path: PathBuf| shell_word(&path.to_string_lossy());
    let console = Paths::of(state).console();
    text += &format!("\nNext:\n  registry-manager run --state {}\n", word(state.to_owned()));
    if console.join("identity.pem").exists() {
        text += &format!("  echelon --identity {} status\n", word(console));
    }
    if !others.is_empty() {
        let names: Vec<_> = others.iter().map(ToString::to_string).collect();
        text += &format!(
            "\nThe other registry managers follow once they are connected: {}. None counts for commits before it is level. What \
             they have after revision {} is given up, and kept by them: echelon edits lost\n",
            names.join(", "),
            restored.position.revision
        );
    }
    text
}
