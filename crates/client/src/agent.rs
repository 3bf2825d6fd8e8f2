//! The agent on this machine, over its unix socket.

use crate::handover::Handover;
use crate::watch::Watch;
use bytes::Bytes;
use echelon_core::name::ManagerType;
use echelon_core::report::{Chosen, RoleReport, RouteHistory, RouteReport};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest answer that is read: a route over 10,000 managers has under 3 MiB.
const MAX_ANSWER: usize = 8 << 20;

/// How long the whole call may take. The agent answers from memory; a second already means a stuck machine,
/// and a caller that waits longer would rather have an error.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Names the agent's socket for programs that are not told it otherwise.
const SOCKET_VARIABLE: &str = "ECHELON_AGENT_SOCKET";

/// Why the agent gave no answer, or not the one that was wanted. Nothing was changed by asking;
/// [`Self::is_retriable`] says whether asking again can help.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody listens at the socket, or this user may not connect.
    #[error(
        "no agent answers at {}; check that registry-agent runs and that this user may use its socket \
         (group echelon)", path.display()
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke in the middle.
    #[error("the agent broke off its answer; it may be restarting, ask again")]
    Broken(#[source] hyper::Error),
    /// The connection ended before an answer.
    #[error("the agent ended the connection without an answer; it may be restarting, ask again")]
    Ended,
    /// No answer in time.
    #[error("the agent gave no answer in time; ask again, and look at its log")]
    Timeout,
    /// The agent knows no manager of the type.
    #[error("the agent knows no manager of type {ty}; check the name, or add one: echelon package add")]
    UnknownType {
        /// The type.
        ty: ManagerType,
    },
    /// This host has no package of the type, or none any more.
    #[error(
        "this host has no package of type {ty}; announce it (PUT /v1/packages/{ty}), or add it: echelon package add"
    )]
    NoPackage {
        /// The type.
        ty: ManagerType,
    },
    /// The agent has nobody to name.
    #[error("nobody serves {ty} here: {cause}")]
    Unserved {
        /// The type.
        ty: ManagerType,
        /// Why.
        cause: String,
    },
    /// The agent cannot say now.
    #[error("the agent cannot answer ({status}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the agent said, at most the first line.
        message: String,
    },
    /// Not what an agent says.
    #[error(
        "the answer is none of an agent's; check that the socket is its, and that both are of one version"
    )]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AgentError {
    /// Whether the same call can succeed later without anybody changing the call.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            Self::Broken(_) | Self::Ended | Self::Timeout | Self::Unserved { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::UnknownType { .. } | Self::NoPackage { .. } | Self::Malformed(_) => false,
        }
    }
}

/// The agent on this machine. Cheap to clone; clones share the connections that they keep.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use echelon_client::LocalAgent;
///
/// let agent = LocalAgent::from_env();
/// let ty = "command-control".parse()?;
/// println!("nearest: {}", agent.nearest(&ty).await?.endpoint);
/// let connection = agent.connect(&ty).await?;
/// println!("connected to {}", connection.host);
/// let mut watch = agent.watch(ty);
/// while let Ok(route) = watch.next().await {
///     println!("now: {:?}", route.chosen);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LocalAgent {
    socket: PathBuf,
    pub(crate) handover: Arc<Handover>,
}

impl LocalAgent {
    /// Where agents listen that were not told otherwise.
    pub const DEFAULT_SOCKET: &'static str = "/run/echelon/agent.sock";

    /// The agent that listens at this unix socket. Nothing is opened yet.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        let socket = socket.into();
        let handover = Arc::new(Handover::beside(&socket));
        Self { socket, handover }
    }

    /// The agent at the socket that the environment variable `ECHELON_AGENT_SOCKET` names, or else at
    /// [`Self::DEFAULT_SOCKET`].
    pub fn from_env() -> Self {
        Self::at(usual_socket())
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// How this host finds its manager of a type now. That nobody serves is an answer too, with outcome
    /// `unserved` and the reason.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn route(&self, ty: &ManagerType) -> Result<RouteReport, AgentError> {
        self.read(ty, &path::<RouteReport>(ty), CALL_TIMEOUT).await
    }

    /// Where the route for a type has led since the agent started, the newest last. Asking for it has the route kept
    /// up to date from then on.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn history(&self, ty: &ManagerType) -> Result<RouteHistory, AgentError> {
        self.read(ty, &path::<RouteHistory>(ty), CALL_TIMEOUT).await
    }

    /// The manager of a type that this host uses now.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn nearest(&self, ty: &ManagerType) -> Result<Chosen, AgentError> {
        let RouteReport { chosen, cause, .. } = self.route(ty).await?;
        chosen.ok_or_else(|| AgentError::Unserved { ty: ty.clone(), cause })
    }

    /// Follows the route for a type: the present one, and then each that differs.
    pub fn watch(&self, ty: ManagerType) -> Watch {
        Watch::new(self.clone(), ty)
    }

    /// What this host's own package of a type is: primary of its type, under which number, or backup.
    ///
    /// The number is a token to hand to what the primary writes to, which must remember the largest that it has seen
    /// and refuse lower ones. It is no lock: this answer may be old, as it says, and somebody else primary by now.
    ///
    /// # Errors
    /// [`AgentError::NoPackage`] where the host has none; else see [`AgentError`].
    pub async fn role(&self, ty: &ManagerType) -> Result<RoleReport, AgentError> {
        self.read(ty, &path::<RoleReport>(ty), CALL_TIMEOUT).await
    }

    /// Follows the role of this host's package of a type: the present one, and then each that differs in role or number.
    /// [`AgentError::NoPackage`] says that it was removed, or is not there yet: a manager is not, or no longer, primary.
    pub fn watch_role(&self, ty: ManagerType) -> Watch<RoleReport> {
        Watch::new(self.clone(), ty)
    }

    /// Reads from a path of the API what it tells of a type.
    pub(crate) async fn read<T: OfType>(
        &self,
        ty: &ManagerType,
        path: &str,
        limit: Duration,
    ) -> Result<T, AgentError> {
        let (status, body) = self.get(path, limit).await?;
        let told = serde_json::from_slice(&body);
        match (status, told) {
            (StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE, Ok(told)) => Ok(told),
            (StatusCode::OK, Err(source)) => Err(AgentError::Malformed(source.into())),
            (StatusCode::NOT_FOUND, _) => Err(T::missing(ty.clone())),
            (status, _) => Err(refused(status, &body)),
        }
    }

    /// How the agent is: the document of its `/v1/status`, whose fields grow with the agent.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn status(&self) -> Result<serde_json::Value, AgentError> {
        match self.get("/v1/status", CALL_TIMEOUT).await? {
            (StatusCode::OK, body) => {
                serde_json::from_slice(&body).map_err(|source| AgentError::Malformed(source.into()))
            }
            (status, body) => Err(refused(status, &body)),
        }
    }

    async fn get(&self, path: &str, limit: Duration) -> Result<(StatusCode, Bytes), AgentError> {
        timeout(limit, self.exchange(path)).await.map_err(|_| AgentError::Timeout)?
    }

    async fn exchange(&self, path: &str) -> Result<(StatusCode, Bytes), AgentError> {
        let connect = UnixStream::connect(&self.socket).await;
        let stream = connect.map_err(|source| AgentError::Connect { path: self.socket.clone(), source })?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(AgentError::Broken)?;
        // The connection ends once the sender, which `ask` owns, is gone. Its own error says nothing that
        // the answer's does not.
        let (answer, _) = tokio::join!(ask(sender, path), connection);
        answer
    }
}

/// What an agent tells of one type.
pub trait OfType: DeserializeOwned {
    /// Where in the API, between `/v1/` and the type.
    const SECTION: &'static str;

    /// What it means that there is nothing to tell.
    fn missing(ty: ManagerType) -> AgentError;
}

impl OfType for RouteReport {
    const SECTION: &'static str = "routes";
    fn missing(ty: ManagerType) -> AgentError {
        AgentError::UnknownType { ty }
    }
}

impl OfType for RouteHistory {
    const SECTION: &'static str = "history";
    fn missing(ty: ManagerType) -> AgentError {
        AgentError::UnknownType { ty }
    }
}

impl OfType for RoleReport {
    const SECTION: &'static str = "roles";
    fn missing(ty: ManagerType) -> AgentError {
        AgentError::NoPackage { ty }
    }
}

/// Where the API tells this of a type.
pub(crate) fn path<T: OfType>(ty: &ManagerType) -> String {
    format!("/v1/{}/{ty}", T::SECTION)
}

async fn ask(
    mut sender: http1::SendRequest<Empty<Bytes>>,
    path: &str,
) -> Result<(StatusCode, Bytes), AgentError> {
    let request = Request::get(path).header(header::HOST, "localhost").body(Empty::new());
    let request = request.map_err(|source| AgentError::Malformed(source.into()))?;
    let answer = sender.send_request(request).await.map_err(AgentError::Broken)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    Ok((status, body.map_err(AgentError::Malformed)?.to_bytes()))
}

/// The socket that the environment names, or else the default.
pub(crate) fn usual_socket() -> PathBuf {
    let named = std::env::var_os(SOCKET_VARIABLE).filter(|named| !named.is_empty());
    named.unwrap_or_else(|| LocalAgent::DEFAULT_SOCKET.into()).into()
}

/// What the agent says about a refusal: the `message` of its JSON, else the first line of its text.
fn refused(status: StatusCode, body: &[u8]) -> AgentError {
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = document.as_ref().and_then(|d| d.get("message")).and_then(|m| m.as_str());
    let text = String::from_utf8_lossy(body);
    let message = message.unwrap_or_else(|| text.lines().next().unwrap_or("no reason given"));
    let message = echelon_core::name::Text::lossy(message).to_string();
    AgentError::Refused { status: status.as_u16(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::report::Outcome;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    const UNSERVED: &str = r#"{"host":"agent1","type":"audit","basis":"live","outcome":"unserved",
        "cause":"no manager","home":null,"isolated":false,"chosen":null,"candidates":[]}"#;

    /// An agent that gives one answer to one caller, and what that caller asked.
    fn answering(answer: String) -> (tempfile::TempDir, LocalAgent, tokio::task::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        (dir, LocalAgent::at(socket), asked)
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_route_is_asked_for_by_type_and_read() {
        let (_dir, agent, asked) = answering(http("200 OK", UNSERVED));
        let report = agent.route(&"audit".parse().unwrap()).await.unwrap();
        assert_eq!(report.ty.as_str(), "audit");
        assert!(asked.await.unwrap().starts_with("GET /v1/routes/audit HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn nobody_to_serve_is_an_answer() {
        let (_dir, agent, _asked) = answering(http("503 Service Unavailable", UNSERVED));
        let report = agent.route(&"audit".parse().unwrap()).await.unwrap();
        assert_eq!((report.outcome, report.cause.as_str()), (Outcome::Unserved, "no manager"));
    }

    #[tokio::test]
    async fn refusals_say_why() {
        let body = r#"{"error":"no-replica","message":"no replica yet"}"#;
        let (_dir, agent, _asked) = answering(http("503 Service Unavailable", body));
        let error = agent.route(&"audit".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.to_string(), "the agent cannot answer (503): no replica yet");
        let (_dir, agent, _asked) = answering(http("404 Not Found", "{}"));
        let error = agent.route(&"audit".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, AgentError::UnknownType { .. }), "{error}");
    }

    #[tokio::test]
    async fn no_agent_and_no_answer_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let error = LocalAgent::at(dir.path().join("none.sock")).status().await.unwrap_err();
        assert!(matches!(error, AgentError::Connect { .. }), "{error}");
        for broken in [String::new(), "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".into()] {
            let (_dir, agent, _asked) = answering(broken);
            let error = agent.status().await.unwrap_err();
            assert!(matches!(error, AgentError::Broken(_) | AgentError::Malformed(_)), "{error}");
        }
    }
}
