use super::*;
use crate::check::run::ask as run;
use echelon_core::check::CheckKind;
use h2::server::{self, SendResponse};
use hyper::Response;
use hyper::header::HeaderValue;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_secs(10);

/// What a server of these tests does with a call about a service.
type Behaviour = Arc<dyn Fn(String, SendResponse<Bytes>) + Send + Sync>;

async fn service(behaviour: Behaviour) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().into();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(converse(stream, Arc::clone(&behaviour)));
        }
    });
    endpoint
}

async fn converse(stream: TcpStream, behaviour: Behaviour) {
    let Ok(mut connection) = server::handshake(stream).await else { return };
    while let Some(Ok((request, answer))) = connection.accept().await {
        let behaviour = Arc::clone(&behaviour);
        tokio::spawn(async move {
            assert_eq!(request.uri().path(), CHECK_PATH);
            assert_eq!(request.headers()["content-type"], "application/grpc");
            assert_eq!(request.headers()["te"], "trailers");
            let mut body = request.into_body();
            let mut bytes = Vec::new();
            while let Some(chunk) = body.data().await {
                bytes.extend_from_slice(&chunk.unwrap());
            }
            // A request of one field, after the prefix.
            let service = bytes.get(PREFIX + 2..).unwrap_or_default().to_vec();
            behaviour(String::from_utf8(service).unwrap(), answer);
        });
    }
}

/// Answers with this message and these trailers.
fn answers(message: Vec<u8>, status: &'static str) -> Behaviour {
    Arc::new(move |_, answer| full(answer, &message, status))
}

fn full(mut answer: SendResponse<Bytes>, message: &[u8], status: &'static str) {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = answer.send_response(head, false).unwrap();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    stream.send_data(body.into(), false).unwrap();
    let trailers = [("grpc-status", status)].into_iter();
    let trailers = trailers.map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect();
    // Fails once the check has heard enough.
    let _ = stream.send_trailers(trailers);
}

fn kind(service: Option<&str>) -> CheckKind {
    CheckKind::Grpc { service: service.map(|s| s.parse().unwrap()) }
}

async fn why(service: Option<&str>, at: &Endpoint, limit: Duration) -> String {
    run(&kind(service), at, limit).await.unwrap_err().to_string()
}

#[tokio::test]
async fn serving_passes_and_every_other_word_is_the_reason() {
    run(&kind(None), &service(answers(vec![8, 1], "0")).await, LIMIT).await.unwrap();
    for (message, status, words) in [
        (vec![8, 2], "0", "answered NOT_SERVING"),
        (vec![8, 3], "0", "answered SERVICE_UNKNOWN"),
        (vec![], "0", "answered UNKNOWN"),
        (vec![8, 9], "0", "answered with the unknown status 9"),
        (vec![8, 1], "5", "the server knows no service a.B"),
        (vec![8, 1], "12", "the server does not offer the health protocol"),
        (vec![8, 1], "14", "answered UNAVAILABLE"),
        (vec![8, 1], "99", "answered with an unknown status"),
        (vec![8], "0", "the answer is none of the health protocol"),
        (vec![0; MAX_ANSWER], "0", "the answer has more than 4096 bytes"),
    ] {
        let at = service(answers(message, status)).await;
        assert_eq!(why(Some("a.B"), &at, LIMIT).await, words);
    }
}

#[tokio::test]
async fn the_service_asked_about_is_the_one_that_was_given() {
    let at = service(Arc::new(|service, answer| {
        let status = if service == "acme.Control" { 1 } else { 2 };
        full(answer, &[8, status], "0");
    }))
    .await;
    run(&kind(Some("acme.Control")), &at, LIMIT).await.unwrap();
    assert_eq!(why(None, &at, LIMIT).await, "answered NOT_SERVING");
    assert_eq!(why(Some("acme.Other"), &at, LIMIT).await, "answered NOT_SERVING");
}

#[tokio::test]
async fn a_failure_without_a_body_says_its_status() {
    let head = |status: u16, grpc: &'static str| -> Behaviour {
        Arc::new(move |_, mut answer| {
            let head = Response::builder().status(status).header("grpc-status", grpc).body(()).unwrap();
            answer.send_response(head, true).unwrap();
        })
    };
    assert_eq!(why(None, &service(head(200, "7")).await, LIMIT).await, "answered PERMISSION_DENIED");
    let other = why(None, &service(head(404, "0")).await, LIMIT).await;
    assert_eq!(other, "answered 404 Not Found, not gRPC");
}

#[tokio::test]
async fn servers_that_hang_leave_or_speak_something_else_fail() {
    let short = Duration::from_millis(200);
    let mute = service(Arc::new(|_, answer| std::mem::forget(answer))).await;
    assert_eq!(why(None, &mute, short).await, "no answer within 200ms");
    let reset = service(Arc::new(|_, mut answer| answer.send_reset(h2::Reason::REFUSED_STREAM))).await;
    let words = why(None, &reset, LIMIT).await;
    assert!(words.starts_with("no gRPC is spoken there: "), "{words}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().into();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        }
    });
    let words = why(None, &at, LIMIT).await;
    assert!(
        words.starts_with("no gRPC is spoken there") || words.starts_with("the connection broke"),
        "{words}"
    );
}
