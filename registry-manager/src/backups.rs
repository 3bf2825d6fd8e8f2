//! Backups, for admins who ask for them.

use crate::backup::{self, PackError, Subject};
use crate::failure;
use crate::limits::BACKUP_QUEUE;
use crate::requests::{RequestEnd, fail, respond};
use crate::server::Shared;
use echelon_core::backup::{BackupHead, BackupPart, MAX_BACKUP};
use echelon_core::message::Response;
use echelon_core::passphrase::Passphrase;
use echelon_store::{Copied, JournalReader};
use echelon_transport::Channel;
use echelon_wire::MAX_PART;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::{info, warn};
use uuid::Uuid;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
enum BackupFault {
    #[error("the registry's file could not be copied")]
    Store(#[from] echelon_store::StoreError),
    #[error("the copy of the registry's file could not be read")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error("it has {0} bytes, and a backup has {MAX_BACKUP} at most")]
    TooLarge(u64),
    #[error("this manager has not got all that the newest grant builds on; ask again later, or another one")]
    NotLevel,
}

/// Sends a backup of the state that is there when it is this one's turn; with a passphrase, of the keys too.
pub(crate) async fn serve(
    shared: &Shared,
    channel: &mut Channel,
    passphrase: Option<Passphrase>,
) -> Result<(), RequestEnd> {
    // Never closed.
    let turn = Arc::clone(&shared.backups).acquire_owned().await.ok();
    let (send, mut parts) = mpsc::channel(BACKUP_QUEUE);
    let shared = Arc::clone(shared);
    let work = tokio::task::spawn_blocking(move || {
        let _kept = turn;
        back_up(&shared, passphrase.as_ref(), &send)
    });
    while let Some(part) = parts.recv().await {
        respond(channel, &Response::Backup(part)).await?;
    }
    match work.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(fault)) => {
            let why = failure::in_full(&fault);
            warn!(error = %why, "A backup of the registry could not be made");
            fail(channel, failure::not_backed_up(&why)).await
        }
        Err(e) => fail(channel, failure::internal(&e)).await,
    }
}

/// Makes the backup and gives it part by part, until it is whole or nobody takes it any more.
fn back_up(
    shared: &Shared,
    passphrase: Option<&Passphrase>,
    send: &mpsc::Sender<BackupPart>,
) -> Result<(), BackupFault> {
    // The file learns of it later than this manager knows it.
    let committed = shared.edits.situation().standing.committed;
    let (file, copied) = copy(&shared.journal)?;
    if copied.grants.head().parent.is_some_and(|parent| parent.mark.revision() > copied.head.revision()) {
        return Err(BackupFault::NotLevel);
    }
    let framework = shared.hub.registry().meta().framework.clone();
    let position = copied.head.position;
    let committed = committed.clamp(copied.committed, copied.head.revision());
    let subject = Subject {
        framework: framework.clone(),
        lineage: position.lineage,
        epoch: position.epoch,
        revision: position.revision,
        committed,
        host: shared.name(),
        host_id: shared.host(),
    };
    let packed = backup::pack(file, subject, &shared.paths, passphrase)?;
    if packed.size > MAX_BACKUP {
        return Err(BackupFault::TooLarge(packed.size));
    }
    let (size, keys) = (packed.size, passphrase.is_some());
    info!(revision = position.revision, size, keys, "Sends a backup of the registry");
    Ok(send_all(BackupHead { framework, position, committed, size, keys }, packed.reader, send)?)
}

fn send_all(head: BackupHead, mut reader: impl Read, send: &mpsc::Sender<BackupPart>) -> io::Result<()> {
    // Whoever asked may be gone; then there is nothing more to do.
    if send.blocking_send(BackupPart::Head(head)).is_err() {
        return Ok(());
    }
    let mut hasher = blake3::Hasher::new();
    loop {
        let mut bytes = Vec::new();
        (&mut reader).take(MAX_PART as u64).read_to_end(&mut bytes)?;
        let ended = bytes.is_empty();
        hasher.update(&bytes);
        let part = match ended {
            true => BackupPart::End(*hasher.finalize().as_bytes()),
            false => BackupPart::Bytes(bytes),
        };
        if send.blocking_send(part).is_err() || ended {
            return Ok(());
        }
    }
}

/// A copy of the registry's file that has no name any more: whatever happens, nothing of it stays behind. It is made in
/// the state directory, because nobody else can read it there.
fn copy(registry: &Path) -> Result<(File, Copied), BackupFault> {
    let path = registry.with_extension(format!("copy-{}", Uuid::now_v7().simple()));
    let copied = JournalReader::open(registry)?.copy_to(&path)?;
    let file = File::open(&path);
    std::fs::remove_file(&path)?;
    Ok((file?, copied))
}
