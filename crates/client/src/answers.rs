//! One request and what comes back on its channel.

use crate::errors::CallError;
use crate::manager::kind;
use echelon_core::backup::BackupError;
use echelon_core::message::{LivenessEntry, Request, Response, RowsPart};
use echelon_core::position::Position;
use echelon_core::registry::Registry;
use echelon_core::row::Row;
use echelon_transport::{Channel, CloseReason, Connection, RecvError, SendError};
use echelon_wire::{DecodeError, Wire};
use std::time::Duration;

/// How long a manager may take to its next word. The largest `apply` takes it seconds; a manager that says
/// nothing for this long is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Most rows of one registry that are read: a million hosts with a few packages each.
const MAX_ROWS: usize = 5_000_000;

/// Why no answer came. Whether the request was carried out is not known from this alone.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The connection is gone.
    #[error("the connection to the manager is gone")]
    Closed(#[source] CloseReason),
    /// The request did not leave.
    #[error("the request could not be sent")]
    Send(#[source] SendError),
    /// The answer broke off.
    #[error("the manager's answer broke off")]
    Receive(#[source] RecvError),
    /// The channel ended before an answer.
    #[error("the manager ended the call without an answer")]
    Ended,
    /// Nothing for too long.
    #[error("the manager said nothing for {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    /// Bytes that are no answer.
    #[error("the manager's answer cannot be read")]
    Decode(#[source] DecodeError),
    /// A document that is not what was asked for, or rows that contradict each other.
    #[error("the manager's answer makes no sense here: {0}")]
    Document(String),
    /// A backup that is not whole.
    #[error("the backup did not arrive whole")]
    Backup(#[source] BackupError),
    /// An answer to another question.
    #[error("the manager answered with {0}, which was not asked for")]
    Unexpected(&'static str),
}

/// A call under way.
pub(crate) struct Answers {
    channel: Channel,
    max: usize,
}

impl Answers {
    /// A channel on which answers may have up to `max` bytes a frame. Nothing is sent yet.
    pub(crate) async fn open(connection: &Connection, max: usize) -> Result<Self, Lost> {
        let opened = tokio::time::timeout(ANSWER_TIMEOUT, connection.open()).await;
        let channel = opened.map_err(|_| Lost::Timeout)?.map_err(Lost::Closed)?;
        Ok(Self { channel, max })
    }

    /// Sends the one request.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<(), Lost> {
        let sending = async {
            self.channel.send(&request.encode()).await?;
            self.channel.sender.finish().await
        };
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, sending).await;
        sent.map_err(|_| Lost::Timeout)?.map_err(Lost::Send)
    }

    /// The next frame of the answer.
    pub(crate) async fn next(&mut self) -> Result<Response, Lost> {
        let received = tokio::time::timeout(ANSWER_TIMEOUT, self.channel.recv(self.max)).await;
        let frame = received.map_err(|_| Lost::Timeout)?.map_err(Lost::Receive)?;
        Response::decode(&frame.ok_or(Lost::Ended)?).map_err(Lost::Decode)
    }
}

/// A registry as a manager has it, and what it knows of the managers in it.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The committed state, without identities, denials and tokens.
    pub registry: Registry,
    /// The newest word of every agent that was heard.
    pub liveness: Vec<LivenessEntry>,
}

/// Puts the parts of a read together.
pub(crate) async fn collect_rows(mut answers: Answers) -> Result<Reading, CallError> {
    let mut whole = Parts::default();
    loop {
        match answers.next().await.map_err(CallError::Lost)? {
            Response::Rows(part) => {
                let last = part.last;
                whole.add(part)?;
                if last {
                    return whole.reading();
                }
            }
            Response::Failed(failure) => return Err(CallError::Failed(failure)),
            other => return Err(CallError::Lost(Lost::Unexpected(kind(&other)))),
        }
    }
}

#[derive(Default)]
struct Parts {
    position: Option<Position>,
    rows: Vec<Row>,
    liveness: Vec<LivenessEntry>,
}

impl Parts {
    fn add(&mut self, part: RowsPart) -> Result<(), CallError> {
        if *self.position.get_or_insert(part.position) != part.position {
            return Err(nonsense("its parts are of different revisions"));
        }
        if self.rows.len() + part.rows.len() + self.liveness.len() + part.liveness.len() > MAX_ROWS {
            return Err(CallError::TooMuch { what: "rows", most: MAX_ROWS });
        }
        self.rows.extend(part.rows);
        self.liveness.extend(part.liveness);
        Ok(())
    }

    fn reading(self) -> Result<Reading, CallError> {
        let position = self.position.ok_or_else(|| nonsense("it has no position"))?;
        let registry = Registry::from_rows(position, self.rows).map_err(nonsense)?;
        Ok(Reading { registry, liveness: self.liveness })
    }
}

fn nonsense(problem: impl ToString) -> CallError {
    CallError::Lost(Lost::Document(problem.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::grant::SyncRule;
    use echelon_core::id::DomainId;
    use echelon_core::row::{Domain, Meta};

    fn part(revision: u64, rows: Vec<Row>, last: bool) -> RowsPart {
        let lineage = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f".parse().unwrap();
        RowsPart { position: Position { lineage, epoch: 1, revision }, rows, liveness: Vec::new(), last }
    }

    fn meta() -> Row {
        Row::Meta(Meta {
            framework: "acme".parse().unwrap(),
            next_domain: DomainId(1),
            trust: vec![vec![1]],
            emptied: None,
            sync: SyncRule::alone(),
        })
    }

    #[test]
    fn parts_of_one_revision_make_a_registry() {
        let root = Row::Domain(Domain { id: DomainId::ROOT, place: None });
        let mut parts = Parts::default();
        parts.add(part(7, vec![meta()], false)).unwrap();
        parts.add(part(7, vec![root], true)).unwrap();
        let reading = parts.reading().unwrap();
        assert_eq!(reading.registry.position().revision, 7);
        assert_eq!(reading.registry.meta().framework.as_str(), "acme");
    }

    #[test]
    fn parts_of_two_revisions_and_rows_that_are_no_registry_are_refused() {
        let mut parts = Parts::default();
        parts.add(part(7, vec![meta()], false)).unwrap();
        assert!(parts.add(part(8, Vec::new(), true)).is_err());
        assert!(Parts::default().reading().is_err());
        let mut parts = Parts::default();
        parts.add(part(7, Vec::new(), true)).unwrap();
        assert!(parts.reading().unwrap_err().to_string().contains("answer"));
    }
}
