//! Why a manager was not reached, and why a call failed.

use crate::answers::Lost;
use echelon_core::endpoint::Endpoint;
use echelon_core::id::RequestId;
use echelon_core::message::{Failure, FailureClass, Retry};
use echelon_identity::directory::DirectoryError;
use echelon_transport::{BindError, ConnectProblem};
use std::error::Error;
use std::path::PathBuf;

/// Code with which a manager closes the connection of an identity that it does not know, or that is
/// denied. With any other code it is the manager that cannot serve.
const DENIED: u32 = 1;

/// One address that was tried in vain.
#[derive(Debug)]
pub struct Attempt {
    /// The address, as it was given.
    pub endpoint: Endpoint,
    /// What went wrong, for people.
    pub problem: String,
    /// Whether a manager answered and does not let this identity in.
    pub refused: bool,
}

impl Attempt {
    pub(crate) fn failed(endpoint: &Endpoint, error: echelon_transport::ConnectError) -> Self {
        let refused = matches!(
            error.problem,
            ConnectProblem::Refused(_) | ConnectProblem::Rejected { code: DENIED, .. }
        );
        Self { endpoint: endpoint.clone(), problem: error.problem.to_string(), refused }
    }

    pub(crate) fn unreached(endpoint: &Endpoint, problem: String) -> Self {
        Self { endpoint: endpoint.clone(), problem, refused: false }
    }
}

/// Why there is no connection to a manager. Nothing was asked of any; a retry is safe.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The identity cannot be used.
    #[error("the identity in {} cannot be used", path.display())]
    Identity {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DirectoryError,
    },
    /// Neither the caller nor the identity names a manager.
    #[error("no manager's address is known")]
    NoAddress,
    /// This machine gave no socket.
    #[error("no socket could be opened")]
    Socket(#[source] BindError),
    /// None of them let us in.
    #[error("{}: {}", verdict(tried), listed(tried))]
    Unreachable {
        /// What was tried, in order.
        tried: Vec<Attempt>,
    },
}

fn verdict(tried: &[Attempt]) -> &'static str {
    match is_refused(tried) {
        true => "no manager lets this identity in",
        false => "no manager can be reached",
    }
}

fn is_refused(tried: &[Attempt]) -> bool {
    tried.iter().any(|attempt| attempt.refused)
}

fn listed(tried: &[Attempt]) -> String {
    let each = tried.iter().map(|t| format!("{}: {}", t.endpoint, t.problem));
    each.collect::<Vec<_>>().join("; ")
}

impl ConnectError {
    /// The same for a person or a program.
    pub fn failure(&self) -> Failure {
        let (error, class, remedy) = match self {
            Self::Identity { .. } => {
                ("bad-identity", FailureClass::Failed, "name another with --identity DIR")
            }
            Self::NoAddress => ("no-address", FailureClass::Unreachable, "name one with --manager ADDR:PORT"),
            Self::Socket(_) => ("no-socket", FailureClass::Unreachable, ""),
            Self::Unreachable { tried } if is_refused(tried) => {
                ("not-allowed", FailureClass::NotAllowed, "use an identity of this framework: --identity DIR")
            }
            Self::Unreachable { .. } => (
                "unreachable",
                FailureClass::Unreachable,
                "check that registry-manager runs there, or name another with --manager ADDR:PORT",
            ),
        };
        failure(self, error, class, remedy, Retry::Safe)
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The manager said so; it says what state is left behind.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// No whole answer came to a call that changes nothing, or the call was not sent. A retry is safe.
    #[error("the manager gave no answer; nothing was changed, trying again is safe")]
    Lost(#[source] Lost),
    /// An edit was sent and no answer came. Sending the same change set again is safe.
    #[error("whether the edit was carried out is unknown (request id {request})")]
    OutcomeUnknown {
        /// The edit's request id.
        request: RequestId,
        /// Why no answer came.
        #[source]
        source: Lost,
    },
    /// The edit is larger than any manager takes. Nothing was sent.
    #[error("the edit has {size} bytes, more than the {most} that go into one; nothing was sent, split it")]
    EditTooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        most: usize,
    },
    /// The answer is larger than any that is expected.
    #[error("the manager's answer has more than {most} {what} and was not read to its end")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: usize,
    },
}

impl CallError {
    /// The same for a person or a program.
    pub fn failure(&self) -> Failure {
        let (error, class, retry) = match self {
            Self::Failed(failure) => return failure.clone(),
            Self::Lost(_) => ("connection-lost", FailureClass::Unreachable, Retry::Safe),
            Self::OutcomeUnknown { .. } => ("outcome-unknown", FailureClass::Unknown, Retry::Safe),
            Self::EditTooLarge { .. } => ("edit-too-large", FailureClass::Failed, Retry::Pointless),
            Self::TooMuch { .. } => ("answer-too-large", FailureClass::Failed, Retry::Pointless),
        };
        failure(self, error, class, "", retry)
    }
}

fn failure(error: &dyn Error, name: &str, class: FailureClass, remedy: &str, retry: Retry) -> Failure {
    let chain = std::iter::successors(Some(error), |&e| e.source());
    Failure {
        error: name.into(),
        class,
        message: chain.map(|e| e.to_string()).collect::<Vec<_>>().join(": "),
        place: String::new(),
        remedy: remedy.into(),
        retry,
    }
}
