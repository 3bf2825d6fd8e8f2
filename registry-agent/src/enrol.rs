//! Enrolment: how a host gets its identity.

mod ask;
mod pending;

use crate::record::{EnrolledAs, IDENTITY, RecordError};
use ask::ask;
use echelon_core::endpoint::Endpoint;
use echelon_core::message::{Enrolled, Failure};
use echelon_core::name::{DomainPath, HostName, NameError};
use echelon_daemon::{StateDir, StateDirError};
use echelon_identity::chain::ChainError;
use echelon_identity::credentials::CredentialsError;
use echelon_identity::directory::DirectoryError;
use echelon_identity::key::KeyError;
use echelon_identity::peer::CertificateError;
use echelon_identity::request::RequestError;
use echelon_identity::{CertificateChain, Credentials, IdentityDirectory, JoinToken, Spiffe, TrustBundle};
use pending::Pending;
use std::io;
use std::path::{Path, PathBuf};

/// What enrolment is told.
#[derive(Clone, Debug)]
pub struct EnrolOptions {
    /// The state directory, which is made where it is missing.
    pub state: PathBuf,
    /// Where registry managers are; tried in this order, and kept for later.
    pub managers: Vec<Endpoint>,
    /// The host's name.
    pub host: HostName,
    /// The domain it asks for; none leaves that to the token and the registry.
    pub domain: Option<DomainPath>,
    /// The join token.
    pub token: JoinToken,
}

/// What an enrolment came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Enrolment {
    /// The host is enrolled now.
    New(EnrolledAs),
    /// It was enrolled before. Nothing was changed, and the token was not used.
    Already(EnrolledAs),
}

/// Why a host was not enrolled, or may not know that it is.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// A file in it.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The identity's files.
    #[error("the new identity cannot be kept; repeat the command, which does not use the token up twice")]
    Directory(#[from] DirectoryError),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// No socket.
    #[error("no socket could be opened; nothing was sent")]
    Bind(#[from] echelon_transport::BindError),
    /// No manager.
    #[error("no registry manager can be reached; nothing was changed, repeating is safe: {0}")]
    Unreachable(String),
    /// A manager said no.
    #[error("the registry refused: {}{}", .0.message, remedy(.0))]
    Refused(Box<Failure>),
    /// The request was sent and the answer did not come.
    #[error(
        "the request was sent and no answer came, so that the host may or may not be enrolled; repeat the same \
         command with the same token and state directory: it is not used up twice: {0}"
    )]
    Unknown(String),
    /// The answer makes no sense.
    #[error("the manager's answer is not used, because {0}; check that it is of a matching version")]
    Answer(&'static str),
    /// The certificate cannot be read.
    #[error("the manager's answer is not used: its certificate names nobody")]
    Certificate(#[from] CertificateError),
    /// The chain does not hold.
    #[error("the manager's answer is not used: its certificates are not to be trusted")]
    Chain(#[from] ChainError),
    /// The certificate is for another key.
    #[error("the manager's answer is not used: its certificate is not for this host's key")]
    Credentials(#[from] CredentialsError),
    /// The work was cut off.
    #[error("enrolment was cut off; repeat the command, which does not use the token up twice")]
    Stopped,
}

fn remedy(failure: &Failure) -> String {
    if failure.remedy.is_empty() { String::new() } else { format!("; {}", failure.remedy) }
}

/// Enrols this host: makes a key, which never leaves it, and has a registry manager certify it. Whatever
/// goes wrong, repeating the call with the same options uses the token once only.
///
/// # Errors
/// [`EnrolError`] says what is left behind.
pub async fn enroll(options: EnrolOptions) -> Result<Enrolment, EnrolError> {
    let state = options.state.clone();
    // Looked at before the lock, which a running agent holds.
    let (known, opened) = blocking(move || match already(&state)? {
        Some(enrolled) => Ok((Some(enrolled), None)),
        None => {
            let lock = StateDir::open(&state, true)?;
            Ok((already(&state)?, Some(lock)))
        }
    })
    .await?;
    if let Some(enrolled) = known {
        return Ok(Enrolment::Already(enrolled));
    }
    let prepare = options.clone();
    let pending = blocking(move || Pending::prepare(&prepare)).await?;
    let (answer, trust) = ask(&options, &pending).await?;
    let enrolled = blocking(move || keep(&options, &pending, answer, &trust)).await?;
    drop(opened);
    Ok(Enrolment::New(enrolled))
}

/// The system's host name in lower case, for hosts that are enrolled under it.
///
/// # Errors
/// It cannot be read, or cannot be a host's name.
pub fn system_host_name() -> Result<HostName, SystemNameError> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(text.trim().to_ascii_lowercase().parse()?)
}

/// Why the system's own name is of no use here.
#[derive(Debug, thiserror::Error)]
pub enum SystemNameError {
    /// It cannot be read.
    #[error("this system's host name cannot be read; name the host with --host")]
    Io(#[from] io::Error),
    /// It cannot be a host's name.
    #[error("this system's host name cannot be used; name the host with --host")]
    Name(#[from] NameError),
}

fn already(state: &Path) -> Result<Option<EnrolledAs>, EnrolError> {
    let directory = match IdentityDirectory::open(&state.join(IDENTITY)) {
        Err(error) if error.is_not_found() => return Ok(None),
        directory => directory?,
    };
    match directory.load_credentials() {
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(EnrolledAs::load(state)?),
    }
}

/// Checks the answer and keeps what it gives. The credentials come last: they are what makes the host
/// enrolled, so that a crash before leaves the request to be repeated.
fn keep(
    options: &EnrolOptions,
    pending: &Pending,
    answer: Enrolled,
    trust: &TrustBundle,
) -> Result<EnrolledAs, EnrolError> {
    let chain = CertificateChain::new(answer.chain)?;
    chain.verify(trust, crate::clock::unix_now())?;
    let peer = chain.peer()?;
    if peer.framework != answer.framework || *trust.framework() != answer.framework {
        return Err(EnrolError::Answer("its certificate is of another framework"));
    }
    if peer.subject != Spiffe::Host(answer.host) {
        return Err(EnrolError::Answer("its certificate is not for this host"));
    }
    let credentials = Credentials::new(pending.key()?, chain)?;
    let enrolled = EnrolledAs {
        framework: answer.framework,
        host_id: answer.host,
        host: options.host.clone(),
        domain: answer.domain,
        enrolment: answer.enrolment,
    };
    let directory = IdentityDirectory::create(&options.state.join(IDENTITY))?;
    directory.save_trust(trust)?;
    directory.save_managers(&options.managers)?;
    enrolled.save(&options.state)?;
    directory.save_credentials(&credentials)?;
    Pending::forget(&options.state);
    Ok(enrolled)
}

/// Runs what waits for the disk where it holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EnrolError> + Send + 'static,
) -> Result<T, EnrolError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(EnrolError::Stopped))
}
