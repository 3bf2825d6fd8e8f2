//! A registry manager, over the network.

use crate::answers::{Answers, Lost, Reading, collect_rows};
use crate::backup::IncomingBackup;
use crate::documents::Documents;
use crate::errors::{Attempt, CallError, ConnectError};
use crate::race::first_of;
use echelon_core::change::ChangeSet;
use echelon_core::endpoint::Endpoint;
use echelon_core::grant::Grant;
use echelon_core::message::{EditAnswer, Query, RENEW_FIRST, Request, Response};
use echelon_core::passphrase::Passphrase;
use echelon_core::promotion::{DismissedReport, Promoted, Promotion};
use echelon_core::time::UnixMillis;
use echelon_identity::directory::{DirectoryError, MAX_MANAGERS};
use echelon_identity::{CertificateChain, CertificateRequest, Credentials, IdentityDirectory, TrustBundle};
use echelon_transport::{Connection, Endpoint as Socket, Settings, Target, left};
use echelon_wire::{MAX_EDIT_FRAME, MAX_SESSION_FRAME, Wire};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long one address is tried: three lost datagrams and a slow handshake fit, and a person still waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is said of an address whose host lives.
const NOBODY: &str = "nobody listens there";

/// Most addresses of one name that are tried: one family each of a few machines.
const MAX_RESOLVED: usize = 4;

/// Code with which a console that is done says goodbye.
const DONE: u32 = 1;

/// How long leaving waits until the goodbye is on its way. A manager that misses it notices by silence.
const GOODBYE: Duration = Duration::from_millis(20);

/// Most documents of one report: every host of the largest framework, twice.
const MAX_DOCUMENTS: usize = 2_000_000;

/// A connection to one registry manager.
#[derive(Debug)]
pub struct ManagerClient {
    socket: Socket,
    connection: Connection,
    endpoint: Endpoint,
}

impl ManagerClient {
    /// Connects as the identity in this directory to the first manager that answers: at `addresses`, or,
    /// where there are none, at those the directory names. Each is tried for 5 s, the next beside it after a
    /// quarter of a second or when those before it have failed. An identity past half of its life is renewed on the way, where the manager does so.
    ///
    /// # Errors
    /// The identity cannot be used, or no manager lets it in; see [`ConnectError`].
    pub async fn connect(identity: &IdentityDirectory, addresses: &[Endpoint]) -> Result<Self, ConnectError> {
        let own = Own::load(identity, addresses).map_err(|e| *e)?;
        let client = Self::connect_with(&own.credentials, &own.trust, &own.addresses).await?;
        if own.credentials.peer().is_ok_and(|peer| now() >= peer.renew_at()) {
            // A renewal that fails leaves the identity as good as it was; the next call tries again.
            let _ = client.renew(identity).await;
        }
        Ok(client)
    }

    /// As [`Self::connect`]; and the directory learns the addresses of all managers, where it named those that were
    /// tried. An identity whose issuer has left is renewed before anything else.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_and_learn(
        identity: &IdentityDirectory,
        addresses: &[Endpoint],
    ) -> Result<Self, ConnectError> {
        let client = Self::connect(identity, addresses).await?;
        match client.query::<Known>(Query::Managers).await {
            Ok(known) => {
                if addresses.is_empty() {
                    learn(identity, known);
                }
                Ok(client)
            }
            Err(CallError::Failed(failure)) if failure.error == RENEW_FIRST => {
                client.close().await;
                let own = Own::load(identity, addresses).map_err(|e| *e)?;
                let client = Self::connect_with(&own.credentials, &own.trust, &own.addresses).await?;
                // One that fails is told as the failure of whatever is asked next.
                let _ = client.renew(identity).await;
                client.close().await;
                Self::connect(identity, addresses).await
            }
            // Whatever is asked next says what is wrong.
            Err(_) => Ok(client),
        }
    }

    /// Connects with credentials at hand, as [`Self::connect`] does, and renews nothing.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(
        credentials: &Credentials,
        trust: &TrustBundle,
        addresses: &[Endpoint],
    ) -> Result<Self, ConnectError> {
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let settings = Settings { handshake: CONNECT_TIMEOUT, ..Settings::client() };
        let socket = Socket::bind_client(Some(credentials), Some(trust), settings);
        let socket = socket.map_err(ConnectError::Socket)?;
        let attempts = addresses.iter().cloned().map(|endpoint| {
            let socket = socket.clone();
            async move { reach(&socket, &endpoint).await.map(|connection| (connection, endpoint)) }
        });
        match first_of(attempts).await {
            Ok((connection, endpoint)) => Ok(Self { socket, connection, endpoint }),
            Err(tried) => Err(ConnectError::Unreachable { tried: tried.into_iter().flatten().collect() }),
        }
    }

    /// The address at which the manager was reached, as it was given.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Carries out an edit; with `dry_run` only says what it would change.
    ///
    /// # Errors
    /// [`CallError::OutcomeUnknown`] where the edit was sent and no answer came: sending the same set again
    /// is safe. With every other error nothing was changed.
    pub async fn edit(&self, set: ChangeSet, dry_run: bool) -> Result<EditAnswer, CallError> {
        let request = set.request;
        let edit = Request::Edit { set, dry_run };
        let size = edit.encoded_len();
        if size > MAX_EDIT_FRAME {
            return Err(CallError::EditTooLarge { size, most: MAX_EDIT_FRAME });
        }
        let mut answers = Answers::open(&self.connection, MAX_EDIT_FRAME).await.map_err(CallError::Lost)?;
        let answer = async {
            answers.send(&edit).await?;
            answers.next().await
        };
        let unknown = |source| CallError::OutcomeUnknown { request, source };
        match answer.await.map_err(unknown)? {
            Response::Edited(answer) => Ok(answer),
            Response::Failed(failure) => Err(CallError::Failed(failure)),
            other => Err(unknown(Lost::Unexpected(kind(&other)))),
        }
    }

    /// Asks for a step of a promotion.
    ///
    /// # Errors
    /// [`CallError::OutcomeUnknown`] where a step that changes who is primary was sent and no answer came: the same
    /// promotion, under the same id, can be asked for again. With every other error nothing was changed.
    pub async fn promotion(&self, step: Promotion) -> Result<Promoted, CallError> {
        let (request, changes) = (step.id(), step.changes_the_primary());
        let lost = |source| match changes {
            true => CallError::OutcomeUnknown { request, source },
            false => CallError::Lost(source),
        };
        let mut answers = Answers::open(&self.connection, MAX_EDIT_FRAME).await.map_err(CallError::Lost)?;
        let answer = async {
            answers.send(&Request::Promotion(step)).await?;
            answers.next().await
        };
        match answer.await.map_err(lost)? {
            Response::Promotion(promoted) => Ok(promoted),
            Response::Failed(failure) => Err(CallError::Failed(failure)),
            other => Err(lost(Lost::Unexpected(kind(&other)))),
        }
    }

    /// The grant that a manager proposes to be signed with these bytes.
    ///
    /// # Errors
    /// They are none, or hold more than this build understands: what cannot be shown is not to be signed.
    pub fn read_proposed(bytes: &[u8]) -> Result<Grant, CallError> {
        let grant = Grant::decode(bytes).map_err(|e| CallError::Lost(Lost::Decode(e)))?;
        match grant.proof.is_none() && grant.encode()[..] == *bytes {
            true => Ok(grant),
            false => Err(CallError::Lost(Lost::Document(
                "it proposes a grant that holds more than this build can show".into(),
            ))),
        }
    }

    /// Reads the whole registry, as far as a viewer may, and what is known of its managers.
    ///
    /// # Errors
    /// See [`CallError`]; nothing was changed, a retry is safe.
    pub async fn read(&self) -> Result<Reading, CallError> {
        collect_rows(self.ask(&Request::Read).await?).await
    }

    /// Asks for a report: its documents, in the manager's order.
    ///
    /// # Errors
    /// See [`CallError`]; nothing was changed, a retry is safe.
    pub async fn query<T: DeserializeOwned>(&self, query: Query) -> Result<Vec<T>, CallError> {
        let mut documents = self.documents(query).await?;
        let mut report = Vec::new();
        while let Some(part) = documents.next().await? {
            if report.len() + part.len() > MAX_DOCUMENTS {
                return Err(CallError::TooMuch { what: "documents", most: MAX_DOCUMENTS });
            }
            report.extend(part);
        }
        Ok(report)
    }

    /// Asks for a report and gives its documents as they come, which for some has no end.
    ///
    /// # Errors
    /// See [`CallError`]; nothing was changed, a retry is safe.
    pub async fn documents<T: DeserializeOwned>(&self, query: Query) -> Result<Documents<T>, CallError> {
        Ok(Documents::new(self.ask(&Request::Query(query)).await?))
    }

    /// Asks for a backup; with a passphrase, the manager's keys are part of it.
    ///
    /// # Errors
    /// See [`CallError`]; nothing was changed, a retry is safe.
    pub async fn backup(&self, passphrase: Option<Passphrase>) -> Result<IncomingBackup, CallError> {
        IncomingBackup::begin(self.ask(&Request::Backup { passphrase }).await?).await
    }

    /// Says that the edits which this manager keeps though they were given up are dealt with, up to this number of
    /// [`echelon_core::promotion::LostEditReport::number`].
    ///
    /// # Errors
    /// See [`CallError`]; a retry is safe.
    pub async fn dismiss(&self, through: u64) -> Result<DismissedReport, CallError> {
        let mut documents = Documents::new(self.ask(&Request::DismissLost { through }).await?);
        let first = documents.next().await?.and_then(|documents| documents.into_iter().next());
        first.ok_or(CallError::Lost(Lost::Ended))
    }

    /// Has this manager renew the certificate of this identity, which the connection was made as, and keeps the new
    /// one; connections from then on are made with it.
    ///
    /// # Errors
    /// The manager renews nothing, or the directory cannot be read or written. The identity is then as it was.
    pub async fn renew(&self, identity: &IdentityDirectory) -> Result<(), CallError> {
        let refused = |problem: String| CallError::Lost(Lost::Document(problem));
        let credentials = identity.load_credentials().map_err(|e| refused(e.to_string()))?;
        let trust = identity.load_trust().map_err(|e| refused(e.to_string()))?;
        let csr = CertificateRequest::new(credentials.key()).map_err(|e| refused(e.to_string()))?;
        let mut answers = self.ask(&Request::Renew { csr: csr.der().to_vec() }).await?;
        let chain = match answers.next().await.map_err(CallError::Lost)? {
            Response::Renewed(chain) => chain,
            Response::Failed(failure) => return Err(CallError::Failed(failure)),
            other => return Err(CallError::Lost(Lost::Unexpected(kind(&other)))),
        };
        let chain = CertificateChain::new(chain).map_err(|e| refused(e.to_string()))?;
        chain.verify(&trust, now()).map_err(|e| refused(e.to_string()))?;
        let renewed = Credentials::new(credentials.key().clone(), chain);
        let renewed = renewed.map_err(|e| refused(e.to_string()))?;
        identity.save_credentials(&renewed).map_err(|e| refused(e.to_string()))
    }

    /// Says goodbye, so that the manager need not wait for silence. Calls after it fail.
    pub async fn close(self) {
        // Whether the goodbye arrives makes no difference to what was done.
        let _ = tokio::time::timeout(GOODBYE, self.socket.close(DONE, "done")).await;
    }

    async fn ask(&self, request: &Request) -> Result<Answers, CallError> {
        let mut answers =
            Answers::open(&self.connection, MAX_SESSION_FRAME).await.map_err(CallError::Lost)?;
        answers.send(request).await.map_err(CallError::Lost)?;
        Ok(answers)
    }
}

fn known_managers(identity: &IdentityDirectory) -> Result<Vec<Endpoint>, DirectoryError> {
    match identity.load_managers() {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        loaded => loaded,
    }
}

async fn reach(socket: &Socket, endpoint: &Endpoint) -> Result<Connection, Vec<Attempt>> {
    let addresses = match resolve(endpoint).await {
        Ok(addresses) => addresses,
        Err(attempt) => return Err(vec![attempt]),
    };
    let attempts = addresses.into_iter().map(|address| {
        let (socket, endpoint) = (socket.clone(), endpoint.clone());
        async move {
            let target = Target::AnyManager;
            tokio::select! {
                connected = socket.connect(address, &target) => {
                    connected.map_err(|error| Attempt::failed(&endpoint, error))
                }
                () = left(address) => Err(Attempt::unreached(&endpoint, NOBODY.into())),
            }
        }
    });
    first_of(attempts).await
}

async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Attempt> {
    if let Some(address) = endpoint.socket_addr() {
        return Ok(vec![address]);
    }
    let lookup = tokio::net::lookup_host(endpoint.to_string());
    let found = match tokio::time::timeout(CONNECT_TIMEOUT, lookup).await {
        Ok(Ok(found)) => found.take(MAX_RESOLVED).collect(),
        Ok(Err(error)) => return Err(Attempt::unreached(endpoint, error.to_string())),
        Err(_) => return Err(Attempt::unreached(endpoint, "the resolver gave no answer".into())),
    };
    Ok(found)
}

/// Who connects, whom it trusts, and where it tries.
struct Own {
    credentials: Credentials,
    trust: TrustBundle,
    addresses: Vec<Endpoint>,
}

impl Own {
    fn load(identity: &IdentityDirectory, addresses: &[Endpoint]) -> Result<Self, Box<ConnectError>> {
        let unusable = |source| Box::new(ConnectError::Identity { path: identity.path().to_owned(), source });
        let credentials = identity.load_credentials().map_err(unusable)?;
        let trust = identity.load_trust().map_err(unusable)?;
        let addresses = match addresses {
            [] => known_managers(identity).map_err(unusable)?,
            given => given.to_vec(),
        };
        Ok(Self { credentials, trust, addresses })
    }
}

/// What is looked at of a [`echelon_core::report::ManagerReport`].
#[derive(Deserialize)]
struct Known {
    endpoint: Option<Endpoint>,
}

/// Keeps the addresses of the managers there are, the primary's first, and behind them those known before, so that a
/// standby is found when the primary is gone. What cannot be kept is learned the next time.
fn learn(identity: &IdentityDirectory, known: Vec<Known>) {
    let before = known_managers(identity).unwrap_or_default();
    let mut addresses: Vec<Endpoint> = Vec::new();
    for address in known.into_iter().filter_map(|known| known.endpoint).chain(before.iter().cloned()) {
        if addresses.len() < MAX_MANAGERS && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses != before {
        let _ = identity.save_managers(&addresses);
    }
}

/// What an answer is, for errors.
pub(crate) fn kind(response: &Response) -> &'static str {
    match response {
        Response::Failed(_) => "a failure",
        Response::Enrolled(_) => "an enrolment",
        Response::Renewed(_) => "a renewal",
        Response::Edited(_) => "an edit's answer",
        Response::Rows(_) => "rows",
        Response::Documents { .. } => "documents",
        Response::Backup(_) => "a backup",
        Response::Joined(_) => "a manager's joining",
        Response::Promotion(_) => "a promotion's answer",
        Response::Linked(_) => "a link",
        Response::Copied { .. } => "a copy",
    }
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
