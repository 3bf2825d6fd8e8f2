//! A check by HTTP/1.1.

use bytes::Bytes;
use echelon_core::check::HttpStatus;
use echelon_core::endpoint::Endpoint;
use echelon_core::name::{HttpHost, Text, UrlPath};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Most bytes of an answer's head that are held: far more than a health endpoint has to say.
const MAX_HEAD: usize = 16 * 1024;

/// Most bytes of an answer's body that are taken before the connection is closed. The body decides nothing;
/// reading it spares the server an error for a connection that was closed while it wrote.
const MAX_BODY: usize = 64 * 1024;

/// What servers find in their logs.
const USER_AGENT: &str = concat!("echelon-check/", env!("CARGO_PKG_VERSION"));

/// Asks for `path` and looks at the status of the answer, which must come whole, up to its bound.
///
/// # Errors
/// Says why the check failed, for people.
pub(super) async fn get(
    stream: TcpStream,
    endpoint: &Endpoint,
    path: &UrlPath,
    wanted: Option<HttpStatus>,
    host: Option<&HttpHost>,
) -> Result<(), Text> {
    let host = host.map_or_else(|| endpoint.to_string(), HttpHost::to_string);
    let request = Request::get(path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| Text::lossy(&format!("this cannot be asked for: {e}")))?;
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream));
    let (mut server, connection) = handshake.await.map_err(broken)?;
    let answer = async {
        let answer = server.send_request(request).await.map_err(broken)?;
        read(answer).await
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    let status = tokio::select! {
        biased;
        status = &mut answer => status?,
        // Whatever it ended with, the answer says it.
        _ = &mut connection => answer.await?,
    };
    judge(status, wanted)
}

/// The answer's status, once its body has come.
async fn read(answer: Response<Incoming>) -> Result<StatusCode, Text> {
    let (status, mut body) = (answer.status(), answer.into_body());
    let mut length = 0;
    while length < MAX_BODY && !body.is_end_stream() {
        match body.frame().await {
            Some(frame) => length += frame.map_err(broken)?.data_ref().map_or(0, Bytes::len),
            None => break,
        }
    }
    Ok(status)
}

fn judge(status: StatusCode, wanted: Option<HttpStatus>) -> Result<(), Text> {
    let (passes, wanted) = match wanted {
        Some(wanted) => (status.as_u16() == wanted.get(), wanted.get().to_string()),
        None => (status.is_success(), "2xx".into()),
    };
    if passes { Ok(()) } else { Err(Text::lossy(&format!("answered {status}, not {wanted}"))) }
}

fn broken(error: hyper::Error) -> Text {
    let why = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    Text::lossy(&match () {
        () if error.is_parse_too_large() => format!("the head of the answer has more than {MAX_HEAD} bytes"),
        () if error.is_parse() => format!("the answer is no HTTP: {error}"),
        () => format!("the connection broke: {error}{why}"),
    })
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
