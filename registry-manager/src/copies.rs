//! Copies of the whole registry, from one manager to another: made online, sent in parts, checked where they arrive.

use crate::failure;
use crate::limits::{COPY_PART, COPY_SILENCE, SEND_DEADLINE};
use crate::server::Shared;
use echelon_core::message::{Failure, Request, Response};
use echelon_store::JournalReader;
use echelon_transport::{Channel, Connection};
use echelon_wire::{MAX_SESSION_FRAME, Wire};
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use uuid::Uuid;

/// Why there is no copy. What came of it is removed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file could not be written.
    #[error("the copy could not be written to {path}")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The other manager did not give it.
    #[error("the other manager gave no copy: {0}")]
    Refused(String),
    /// It broke off.
    #[error("the copy broke off: {0}")]
    Broken(String),
}

/// A copy that was made to be sent; removed once it is.
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        // What cannot be removed is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where a copy lies while it is made or arrives: beside the registry, so that it can be put in place.
pub(crate) fn beside(registry: &Path) -> PathBuf {
    registry.with_extension(format!("copy-{}", Uuid::now_v7().simple()))
}

/// Removes what an end in the middle has left behind.
pub(crate) fn clear_away(registry: &Path) {
    let Some((dir, stem)) = registry.parent().zip(registry.file_stem().and_then(|s| s.to_str())) else {
        return;
    };
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let prefix = format!("{stem}.copy-");
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)) {
        let _ = std::fs::remove_file(entry.path());
    }
}

/// Sends a copy of this manager's registry.
pub(crate) async fn give(shared: &Shared, channel: &mut Channel) -> Result<(), Failure> {
    // Never closed.
    let _turn = shared.copies.acquire().await.ok();
    let (from, made) = (shared.journal.clone(), Made(beside(&shared.journal)));
    let path = made.0.clone();
    let copy = tokio::task::spawn_blocking(move || JournalReader::open(&from)?.copy_to(&path)).await;
    copy.map_err(|e| failure::internal(&e))?.map_err(|e| failure::internal(&failure::in_full(&e)))?;
    let mut file = File::open(&made.0).await.map_err(|e| failure::internal(&e))?;
    loop {
        let mut part = vec![0; COPY_PART];
        let read = file.read(&mut part).await.map_err(|e| failure::internal(&e))?;
        part.truncate(read);
        let last = read == 0;
        let frame = Response::Copied { part, last }.encode();
        let sent = timeout(SEND_DEADLINE, channel.send(&frame)).await;
        sent.map_err(|_| failure::nobody_listens())?.map_err(|_| failure::nobody_listens())?;
        if last {
            return Ok(());
        }
    }
}

/// Fetches a copy of another manager's registry into a file, which must not be there yet.
///
/// # Errors
/// See [`CopyError`].
pub(crate) async fn fetch(connection: &Connection, path: &Path) -> Result<(), CopyError> {
    let fetched = fetch_all(connection, path).await;
    if fetched.is_err() {
        // The first error says why.
        let _ = std::fs::remove_file(path);
    }
    fetched
}

async fn fetch_all(connection: &Connection, path: &Path) -> Result<(), CopyError> {
    let broken = |e: &dyn std::fmt::Display| CopyError::Broken(e.to_string());
    let file_error = |source| CopyError::File { path: path.to_owned(), source };
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).await.map_err(file_error)?;
    let mut channel = connection.open().await.map_err(|e| broken(&e))?;
    channel.send(&Request::Copy.encode()).await.map_err(|e| broken(&e))?;
    loop {
        let frame = timeout(COPY_SILENCE, channel.recv(MAX_SESSION_FRAME)).await;
        let frame = frame.map_err(|_| broken(&"the other manager fell silent"))?.map_err(|e| broken(&e))?;
        let frame = frame.ok_or_else(|| broken(&"the other manager ended it"))?;
        match Response::decode(&frame).map_err(|e| broken(&e))? {
            Response::Copied { part, last } => {
                file.write_all(&part).await.map_err(file_error)?;
                if last {
                    return file.sync_all().await.map_err(file_error);
                }
            }
            Response::Failed(failure) => return Err(CopyError::Refused(failure.message)),
            _ => return Err(broken(&"the other manager answered something else")),
        }
    }
}
