//! A backup on its way here.

use crate::answers::{Answers, Lost};
use crate::errors::CallError;
use crate::manager::kind;
use echelon_core::backup::{BackupHead, BackupPart, Incoming, Taken};
use echelon_core::message::Response;

/// A backup whose bytes come in.
pub struct IncomingBackup {
    answers: Answers,
    incoming: Incoming,
}

impl IncomingBackup {
    pub(crate) async fn begin(mut answers: Answers) -> Result<Self, CallError> {
        let first = part(&mut answers).await?;
        let incoming = Incoming::begin(first).map_err(|e| CallError::Lost(Lost::Backup(e)))?;
        Ok(Self { answers, incoming })
    }

    /// What it is.
    pub fn head(&self) -> &BackupHead {
        self.incoming.head()
    }

    /// How many bytes have come.
    pub fn received(&self) -> u64 {
        self.incoming.received()
    }

    /// What comes next; nothing after [`Taken::Whole`].
    ///
    /// # Errors
    /// See [`CallError`]; what came is of no use, a retry is safe.
    pub async fn next(&mut self) -> Result<Taken, CallError> {
        let part = part(&mut self.answers).await?;
        self.incoming.take(part).map_err(|e| CallError::Lost(Lost::Backup(e)))
    }
}

async fn part(answers: &mut Answers) -> Result<BackupPart, CallError> {
    match answers.next().await.map_err(CallError::Lost)? {
        Response::Backup(part) => Ok(part),
        Response::Failed(failure) => Err(CallError::Failed(failure)),
        other => Err(CallError::Lost(Lost::Unexpected(kind(&other)))),
    }
}
