//! The answer to a question, part by part.

use crate::answers::{Answers, Lost};
use crate::errors::CallError;
use crate::manager::kind;
use echelon_core::message::Response;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// Documents as they come. Dropping it ends the question.
pub struct Documents<T> {
    answers: Answers,
    last: bool,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Documents<T> {
    pub(crate) fn new(answers: Answers) -> Self {
        Self { answers, last: false, kind: PhantomData }
    }

    /// The next part; none after the last one. A part may be empty: the manager is there, and has nothing to
    /// say yet.
    ///
    /// # Errors
    /// See [`CallError`]; nothing was changed, a retry is safe.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, CallError> {
        if self.last {
            return Ok(None);
        }
        let documents = match self.answers.next().await.map_err(CallError::Lost)? {
            Response::Documents { documents, last } => {
                self.last = last;
                documents
            }
            Response::Failed(failure) => return Err(CallError::Failed(failure)),
            other => return Err(CallError::Lost(Lost::Unexpected(kind(&other)))),
        };
        let read = |document: String| serde_json::from_str(&document);
        let part: Result<Vec<T>, _> = documents.into_iter().map(read).collect();
        part.map(Some).map_err(|e| CallError::Lost(Lost::Document(e.to_string())))
    }
}

impl<T> std::fmt::Debug for Documents<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Documents").field("last", &self.last).finish_non_exhaustive()
    }
}
