//! A check by the gRPC health protocol.

use bytes::{BufMut, Bytes, BytesMut};
use echelon_core::endpoint::Endpoint;
use echelon_core::name::{ServiceName, Text};
use echelon_wire::grpc_health::{CHECK_PATH, Serving, answer, question};
use h2::client::{Builder, SendRequest};
use hyper::{HeaderMap, Request, StatusCode, header};
use std::time::Duration;
use tokio::net::TcpStream;

/// Most bytes of the headers of one answer.
const MAX_HEADERS: u32 = 16 * 1024;

/// Most bytes of an answer: it is one number, and leaves room for fields of later versions.
const MAX_ANSWER: usize = 4096;

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The status of a call that went well.
const OK: &str = "0";

/// The words for a call's other statuses, from 1 (`grpc/status.h`).
const STATUSES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Asks whether `service`, or the server as a whole, serves.
///
/// # Errors
/// Says why the check failed, for people.
pub(super) async fn check(
    stream: TcpStream,
    endpoint: &Endpoint,
    limit: Duration,
    service: Option<&ServiceName>,
) -> Result<(), Text> {
    let mut settings = Builder::new();
    settings.enable_push(false).max_header_list_size(MAX_HEADERS);
    let (server, connection) = settings.handshake::<_, Bytes>(stream).await.map_err(broken)?;
    let mut asked = std::pin::pin!(ask(server, endpoint, limit, service));
    let mut connection = std::pin::pin!(connection);
    let serving = tokio::select! {
        biased;
        serving = &mut asked => serving?,
        // Whatever it ended with, the call says it.
        _ = &mut connection => asked.await?,
    };
    match serving {
        Serving::Serving => Ok(()),
        Serving::NotServing => Err(Text::lossy("answered NOT_SERVING")),
        Serving::Unknown => Err(Text::lossy("answered UNKNOWN")),
        Serving::ServiceUnknown => Err(Text::lossy("answered SERVICE_UNKNOWN")),
        Serving::Other(number) => Err(Text::lossy(&format!("answered with the unknown status {number}"))),
    }
}

async fn ask(
    server: SendRequest<Bytes>,
    endpoint: &Endpoint,
    limit: Duration,
    service: Option<&ServiceName>,
) -> Result<Serving, Text> {
    let request = Request::post(format!("http://{endpoint}{CHECK_PATH}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, concat!("echelon-check/", env!("CARGO_PKG_VERSION")))
        .header("grpc-timeout", format!("{}m", limit.as_millis().max(1)))
        .body(())
        .map_err(|e| Text::lossy(&format!("this cannot be asked for: {e}")))?;
    let mut server = server.ready().await.map_err(broken)?;
    let (answer, mut sender) = server.send_request(request, false).map_err(broken)?;
    sender.send_data(framed(service.map_or("", ServiceName::as_str)), true).map_err(broken)?;
    let (head, mut body) = answer.await.map_err(broken)?.into_parts();
    if head.status != StatusCode::OK {
        return Err(Text::lossy(&format!("answered {}, not gRPC", head.status)));
    }
    // A call that failed at once has its status in the only headers there are.
    passed(&head.headers, service)?;
    let mut message = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(broken)?;
        if message.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Err(Text::lossy(&format!("the answer has more than {MAX_ANSWER} bytes")));
        }
        message.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await.map_err(broken)?;
    passed(&trailers.unwrap_or_default(), service)?;
    unframed(&message).ok_or_else(|| Text::lossy("the answer is none of the health protocol"))
}

fn framed(service: &str) -> Bytes {
    let question = question(service);
    let mut frame = BytesMut::with_capacity(PREFIX + question.len());
    frame.put_u8(0);
    // Names of services are far below 4 GiB.
    frame.put_u32(u32::try_from(question.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&question);
    frame.freeze()
}

/// The one message in an answer; none where it is not exactly one, or is compressed, which nobody asked for.
fn unframed(body: &[u8]) -> Option<Serving> {
    let ([0, length @ ..], message) = body.split_first_chunk::<PREFIX>()? else { return None };
    let whole = usize::try_from(u32::from_be_bytes(*length)).ok()? == message.len();
    if whole { answer(message) } else { None }
}

/// Refuses an answer whose status says that the call failed.
fn passed(headers: &HeaderMap, service: Option<&ServiceName>) -> Result<(), Text> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let Some(status) = text("grpc-status").filter(|status| status != OK) else { return Ok(()) };
    let number = status.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
    let word = number.and_then(|n| STATUSES.get(n)).copied().unwrap_or("with an unknown status");
    Err(Text::lossy(&match (word, service) {
        ("NOT_FOUND", Some(service)) => format!("the server knows no service {service}"),
        ("UNIMPLEMENTED", _) => "the server does not offer the health protocol".into(),
        _ => format!("answered {word}"),
    }))
}

fn broken(error: h2::Error) -> Text {
    Text::lossy(&match error.is_io() {
        true => format!("the connection broke: {error}"),
        false => format!("no gRPC is spoken there: {error}"),
    })
}

#[cfg(test)]
#[path = "grpc_tests.rs"]
mod tests;
