//! `echelon backup`.

use crate::console::Console;
use crate::problem::{Problem, failed, with_sources};
use crate::progress;
use echelon_client::IncomingBackup;
use echelon_core::backup::{BackupHead, BackupPart, Incoming, Taken};
use echelon_core::grant::Hash;
use echelon_core::id::Lineage;
use echelon_core::name::FrameworkName;
use echelon_core::passphrase::Passphrase;
use echelon_daemon::shell_word;
use echelon_identity::file;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How much of a backup is read at once to see that it is what was written.
const CHUNK: usize = 256 * 1024;

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// Where to put it
    file: PathBuf,
    /// Back the manager's keys up too, sealed with the passphrase in this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

/// A backup that was made; the shape of its JSON is what scripts rely on.
#[derive(Debug, Serialize)]
struct Document {
    file: PathBuf,
    framework: FrameworkName,
    lineage: Lineage,
    epoch: u64,
    revision: u64,
    /// Up to where edits were known to be committed.
    committed: u64,
    size: u64,
    blake3: String,
    keys: bool,
}

/// Makes a backup.
pub(crate) async fn run(args: Backup, console: &mut Console) -> Result<(), Problem> {
    let passphrase = args.passphrase_file.as_deref().map(passphrase).transpose()?;
    refuse_to_replace(&args)?;
    let manager = console.manager().await?;
    let asked = manager.backup(passphrase);
    let mut incoming =
        progress::shown("The manager makes a copy", asked).await.map_err(|e| Problem::from(e.failure()))?;
    let part = Part::make(&args.file)?;
    let hash = part.fill(&mut incoming).await?;
    let head = incoming.head().clone();
    part.verify(&head, hash)?;
    refuse_to_replace(&args)?;
    part.put_in_place(&args.file)?;
    manager.close().await;
    tell(console, Document::of(args.file, head, hash))
}

fn passphrase(path: &Path) -> Result<Passphrase, Problem> {
    let bad =
        |error: &dyn std::error::Error| failed("bad-passphrase", with_sources(error)).at(path.display());
    let text = file::read_secret(path).map_err(|e| bad(&e))?;
    Passphrase::parse(&text).map_err(|e| bad(&e))
}

fn refuse_to_replace(args: &Backup) -> Result<(), Problem> {
    if args.file.is_dir() || args.file.as_os_str() == "-" {
        return Err(failed("bad-file", "a backup is written to a file, whose name is given here")
            .at(args.file.display())
            .remedy("name the file in full, such as /backup/acme.tar")
            .pointless());
    }
    match !args.force && args.file.exists() {
        true => Err(failed("file-exists", "the file is there already and was left as it is")
            .at(args.file.display())
            .remedy("name another, or replace it with --force")
            .pointless()),
        false => Ok(()),
    }
}

/// A backup that is not whole yet, under a name that nobody takes for one. Gone with this value.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn make(whole: &Path) -> Result<Self, Problem> {
        let name =
            whole.file_name().ok_or_else(|| failed("bad-file", "this names no file").at(whole.display()))?;
        let name = format!(".{}.{}.part", name.to_string_lossy(), std::process::id());
        let path = whole.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(file::SECRET).open(&path);
        let file = file.map_err(|error| not_written(&path, &error))?;
        Ok(Self { path, file })
    }

    /// Writes all that comes, safe from a power loss at the end. Gives the hash of what was sent.
    async fn fill(&self, incoming: &mut IncomingBackup) -> Result<Hash, Problem> {
        let bar = progress::of_bytes(incoming.head().size);
        let mut to = &self.file;
        loop {
            match incoming.next().await.map_err(|e| Problem::from(e.failure()))? {
                Taken::Bytes(bytes) => {
                    to.write_all(&bytes).map_err(|error| not_written(&self.path, &error))?;
                    bar.set_position(incoming.received());
                }
                Taken::Whole(hash) => {
                    to.sync_all().map_err(|error| not_written(&self.path, &error))?;
                    bar.finish_and_clear();
                    return Ok(hash);
                }
            }
        }
    }

    /// Reads it again: a disk that lies is better found out today.
    fn verify(&self, head: &BackupHead, hash: Hash) -> Result<(), Problem> {
        let wrong = |error: &dyn std::error::Error| {
            failed("bad-backup", format!("what was written cannot be read back: {}", with_sources(error)))
                .at(self.path.display())
                .remedy("check the disk, or write to another one")
        };
        let mut read = Incoming::begin(BackupPart::Head(head.clone())).map_err(|e| wrong(&e))?;
        let mut file = File::open(&self.path).map_err(|e| wrong(&e))?;
        loop {
            let mut bytes = Vec::new();
            (&mut file).take(CHUNK as u64).read_to_end(&mut bytes).map_err(|e| wrong(&e))?;
            let part = match bytes.is_empty() {
                true => BackupPart::End(hash),
                false => BackupPart::Bytes(bytes),
            };
            if let Taken::Whole(_) = read.take(part).map_err(|e| wrong(&e))? {
                return Ok(());
            }
        }
    }

    fn put_in_place(self, whole: &Path) -> Result<(), Problem> {
        let parent = whole.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::rename(&self.path, whole)
            .and_then(|()| File::open(parent)?.sync_all())
            .map_err(|error| not_written(whole, &error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Once it is in place there is nothing of this name.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn not_written(path: &Path, error: &io::Error) -> Problem {
    failed("not-written", format!("the backup cannot be written: {error}"))
        .at(path.display())
        .remedy("see that its directory is there, may be written, and has room")
}

impl Document {
    fn of(file: PathBuf, head: BackupHead, hash: Hash) -> Self {
        let BackupHead { framework, position, committed, size, keys } = head;
        Self {
            file,
            framework,
            lineage: position.lineage,
            epoch: position.epoch,
            revision: position.revision,
            committed,
            size,
            blake3: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            keys,
        }
    }
}

fn tell(console: &mut Console, made: Document) -> Result<(), Problem> {
    if console.out.is_json() {
        return console.out.object(&made);
    }
    let keys = match made.keys {
        true => "The manager's keys are in it, sealed with your passphrase.",
        false => "It has no keys: it can be restored where a manager's are.",
    };
    let file = made.file.display();
    console.out.text(&format!(
        "Backed up {} at revision {} (epoch {} of lineage {}): {} bytes in {file}. {keys}\n\nLook at it with:\n  registry-manager restore {} --check\n",
        made.framework,
        made.revision,
        made.epoch,
        made.lineage,
        made.size,
        shell_word(&made.file.to_string_lossy())
    ))
}
