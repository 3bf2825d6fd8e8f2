//! Becoming a registry manager of a registry that there is: an identity, an issuer of its own, and a copy of all.

mod ask;
mod pending;

use crate::clock::unix_now;
use crate::config::Recorded;
use crate::copies::CopyError;
use crate::failure::VERSIONS_APART;
use crate::left;
use crate::lineage::renewed;
use crate::paths::Paths;
use ask::ask;
use echelon_core::endpoint::Endpoint;
use echelon_core::id::HostId;
use echelon_core::message::{Failure, Joined};
use echelon_core::name::{DomainPath, FrameworkName, HostName};
use echelon_daemon::SecretError;
use echelon_identity::{
    CertificateChain, Credentials, IdentityDirectory, Issuer, JoinToken, KeyPair, Leaf, Spiffe, TrustBundle,
    file, lifetime,
};
use echelon_store::{RegistryStore, StoreError};
pub(crate) use pending::FILE as PENDING;
use pending::Pending;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What `join` is told.
#[derive(Clone, Debug)]
pub struct Join {
    /// The state directory; it must exist, and be locked by the caller.
    pub state: PathBuf,
    /// Where registry managers are; tried in this order.
    pub managers: Vec<Endpoint>,
    /// The name of the host that this manager runs on.
    pub host: HostName,
    /// The domain its host is to be in; none leaves that to the token and the registry.
    pub domain: Option<DomainPath>,
    /// Where it will listen.
    pub listen: SocketAddr,
    /// What it tells others to connect to.
    pub advertise: Endpoint,
    /// The join token.
    pub token: JoinToken,
}

/// What `join` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This is a registry manager of that framework now, and holds its registry.
    Joined {
        /// The framework.
        framework: FrameworkName,
        /// Whether the primary said that no copy of the root key was ever exported.
        root_unexported: bool,
    },
    /// It was one before; nothing was changed, and the token was not used.
    WasThere(FrameworkName),
}

/// Why this is no registry manager yet. Repeating the command goes on from where it stopped, and does not use the
/// token up twice.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No manager.
    #[error("no registry manager can be reached; nothing was changed, repeating is safe: {0}")]
    Unreachable(String),
    /// A manager said no.
    #[error("the registry refused: {}{}", .0.message, remedy(.0))]
    Refused(Box<Failure>),
    /// The request was sent and the answer did not come.
    #[error(
        "the request was sent and no answer came, so that it may or may not be done; repeat the same command with the \
         same token and state directory: the token is not used up twice: {0}"
    )]
    Unknown(String),
    /// The answer makes no sense.
    #[error("the manager's answer is not used, because {0}; check that it is of a matching version")]
    Answer(&'static str),
    /// Keys or certificates.
    #[error("the new manager's identity cannot be made or kept; repeating is safe")]
    Identity(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file of the wish.
    #[error("the wish to join cannot be kept; nothing was sent")]
    Pending(#[from] SecretError),
    /// The copy did not come.
    #[error("this is a registry manager now, but has no copy of the registry yet; repeat the command")]
    Copy(#[from] CopyError),
    /// No manager gives a copy to this one, and one at least says that it is none.
    #[error(
        "this registry manager was given an identity and no copy of the registry, and now it is not let in: {0}; repeat \
         the command in a moment, or where it was removed meanwhile, with a new token (echelon token create --access \
         manager --host HOST --replace)"
    )]
    Denied(String),
    /// The copy cannot be put in place.
    #[error(
        "this is a registry manager now, but the copy of the registry cannot be used; repeat the command"
    )]
    Store(#[from] StoreError),
    /// No socket.
    #[error("no socket could be opened")]
    Bind(#[from] echelon_transport::BindError),
}

fn remedy(failure: &Failure) -> String {
    if failure.remedy.is_empty() { String::new() } else { format!("; {}", failure.remedy) }
}

pub(crate) fn identity_error(e: impl std::error::Error + Send + Sync + 'static) -> JoinError {
    JoinError::Identity(Box::new(e))
}

/// Joins. Whatever goes wrong, repeating the call with the same options goes on and uses the token once only.
///
/// # Errors
/// [`JoinError`] says what is left behind.
pub async fn join(options: &Join) -> Result<Outcome, JoinError> {
    let paths = Paths::of(&options.state);
    if left::mark_of(&paths).map_err(identity_error)?.is_some() {
        left::set_aside(&paths).map_err(identity_error)?;
    }
    if paths.registry().exists() {
        // An earlier try may have ended right before.
        Pending::forget(&options.state);
        let issuer = crate::init::load_issuer(&paths).map_err(JoinError::Identity)?;
        return Ok(Outcome::WasThere(issuer.framework().clone()));
    }
    let mut spent = None;
    if let Some((credentials, trust)) = earlier(&paths)? {
        match fetch(options, &paths, &credentials, &trust).await {
            // It was taken out again before it had the copy: it joins anew.
            Err(JoinError::Denied(_)) => spent = Some(credentials.key().public_key_hash()),
            fetched => return fetched.map(|()| joined(options, &trust, false)),
        }
    }
    let pending = Pending::prepare(options, spent)?;
    let asked = ask(options, &pending).await;
    if matches!(&asked, Err(JoinError::Refused(failure)) if failure.error == VERSIONS_APART) {
        // Nothing of it is there, nor here: another build wishes anew.
        Pending::forget(&options.state);
    }
    let (answer, trust) = asked?;
    let credentials = keep(options, &paths, &pending, &answer, &trust)?;
    fetch(options, &paths, &credentials, &trust).await?;
    Ok(joined(options, &trust, answer.root_unexported))
}

fn joined(options: &Join, trust: &TrustBundle, root_unexported: bool) -> Outcome {
    Pending::forget(&options.state);
    Outcome::Joined { framework: trust.framework().clone(), root_unexported }
}

/// What an earlier try was given, where only the copy is missing. Its certificate may have ended since.
fn earlier(paths: &Paths) -> Result<Option<(Credentials, TrustBundle)>, JoinError> {
    let directory = match IdentityDirectory::open(&paths.identity()) {
        Err(e) if e.is_not_found() => return Ok(None),
        directory => directory.map_err(identity_error)?,
    };
    match directory.load_credentials() {
        Err(e) if e.is_not_found() => Ok(None),
        credentials => {
            let (credentials, trust) =
                (credentials.map_err(identity_error)?, directory.load_trust().map_err(identity_error)?);
            let issuer = crate::init::load_issuer(paths).map_err(JoinError::Identity)?;
            Ok(Some((renewed(credentials, &issuer).map_err(JoinError::Identity)?, trust)))
        }
    }
}

/// Checks the answer and keeps what it gives. The credentials come last: where they are, everything else is.
fn keep(
    options: &Join,
    paths: &Paths,
    pending: &Pending,
    answer: &Joined,
    trust: &TrustBundle,
) -> Result<Credentials, JoinError> {
    let issuer = issuer(pending, answer, trust)?;
    let key = pending.key()?;
    let credentials = certify(&issuer, answer.host, &options.host, answer.enrolment, &key)?;
    file::write(&paths.issuer(), &issuer.credentials().to_pem(), file::SECRET).map_err(identity_error)?;
    let settings = Recorded { listen: options.listen, advertise: options.advertise.clone() };
    let settings = toml::to_string(&settings).map_err(identity_error)?;
    file::write(&paths.settings(), &settings, file::SECRET).map_err(identity_error)?;
    let directory = IdentityDirectory::create(&paths.identity()).map_err(identity_error)?;
    directory.save_trust(trust).map_err(identity_error)?;
    directory.save_managers(&options.managers).map_err(identity_error)?;
    directory.save_credentials(&credentials).map_err(identity_error)?;
    Ok(credentials)
}

/// The issuer that the root has signed for this manager's key.
fn issuer(pending: &Pending, answer: &Joined, trust: &TrustBundle) -> Result<Issuer, JoinError> {
    if *trust.framework() != answer.framework {
        return Err(JoinError::Answer("it is of another framework than the token"));
    }
    let chain = CertificateChain::new(answer.issuer.clone()).map_err(identity_error)?;
    if !chain.certificates().last().is_some_and(|root| trust.contains(root)) {
        return Err(JoinError::Answer("its issuer is not signed by the root that the token names"));
    }
    let credentials = Credentials::new(pending.issuer_key()?, chain).map_err(identity_error)?;
    let issuer = Issuer::from_credentials(credentials).map_err(identity_error)?;
    match *issuer.framework() == answer.framework {
        true => Ok(issuer),
        false => Err(JoinError::Answer("its issuer is of another framework")),
    }
}

/// The manager's own certificate, signed by its own issuer.
fn certify(
    issuer: &Issuer,
    host: HostId,
    name: &HostName,
    enrolment: u32,
    key: &KeyPair,
) -> Result<Credentials, JoinError> {
    let subject = Spiffe::Manager(host);
    let leaf = Leaf { subject: &subject, name: name.as_str(), enrolment, lifetime: lifetime::MANAGER };
    let chain = issuer.issue(&leaf, &key.public_key(), unix_now()).map_err(identity_error)?;
    Credentials::new(key.clone(), chain).map_err(identity_error)
}

/// Gets a copy of the registry and puts it in place, which is what makes the state directory a manager's.
async fn fetch(
    options: &Join,
    paths: &Paths,
    credentials: &Credentials,
    trust: &TrustBundle,
) -> Result<(), JoinError> {
    crate::copies::clear_away(&paths.registry());
    let copy = crate::copies::beside(&paths.registry());
    ask::fetch(options, credentials, trust, &copy).await?;
    RegistryStore::install(&copy, &paths.registry())?;
    Ok(())
}
