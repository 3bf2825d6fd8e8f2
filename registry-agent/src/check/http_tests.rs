use super::*;
use crate::check::run::ask;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect};
use axum::{Router, routing};
use echelon_core::check::CheckKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(10);

fn check(path: &str, status: Option<u32>, host: Option<&str>) -> CheckKind {
    let status = status.map(|s| s.try_into().unwrap());
    CheckKind::Http { path: path.parse().unwrap(), status, host: host.map(|h| h.parse().unwrap()) }
}

async fn service(app: Router) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().into();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    endpoint
}

/// A server that answers every connection with these bytes and keeps it open.
async fn raw(answer: Vec<u8>) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().into();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                // Fails once the check has read enough.
                let _ = stream.write_all(&answer).await;
                std::future::pending::<()>().await;
            });
        }
    });
    endpoint
}

async fn why(kind: &CheckKind, endpoint: &Endpoint, limit: Duration) -> String {
    ask(kind, endpoint, limit).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_status_of_200_to_299_passes_unless_one_is_asked_for() {
    let app = Router::new()
        .route("/ok", routing::get(|| async { "fine" }))
        .route("/empty", routing::get(|| async { StatusCode::NO_CONTENT }))
        .route("/moved", routing::get(|| async { Redirect::temporary("/ok") }))
        .route("/ill", routing::get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "x".repeat(100)) }))
        .route("/posted", routing::post(|| async { "fine" }));
    let at = service(app).await;
    for (path, status) in [("/ok", None), ("/empty", None), ("/empty", Some(204)), ("/moved", Some(307))] {
        ask(&check(path, status, None), &at, LIMIT).await.unwrap();
    }
    for (path, status, words) in [
        ("/ill", None, "answered 503 Service Unavailable, not 2xx"),
        ("/ok", Some(204), "answered 200 OK, not 204"),
        ("/moved", None, "answered 307 Temporary Redirect, not 2xx"),
        ("/none?a=b", None, "answered 404 Not Found, not 2xx"),
        ("/posted", None, "answered 405 Method Not Allowed, not 2xx"),
    ] {
        assert_eq!(why(&check(path, status, None), &at, LIMIT).await, words, "{path}");
    }
}

#[tokio::test]
async fn the_host_asked_for_is_the_endpoint_or_the_one_that_was_given() {
    let host = |headers: HeaderMap| async move {
        match headers.get("host").map(|h| h.to_str().unwrap().to_owned()) {
            Some(host) if host == "web.example:80" => StatusCode::OK.into_response(),
            Some(host) if host.starts_with("127.0.0.1:") => StatusCode::ACCEPTED.into_response(),
            _ => StatusCode::BAD_REQUEST.into_response(),
        }
    };
    let at = service(Router::new().route("/", routing::get(host))).await;
    ask(&check("/", Some(200), Some("web.example:80")), &at, LIMIT).await.unwrap();
    ask(&check("/", Some(202), None), &at, LIMIT).await.unwrap();
}

#[tokio::test]
async fn answers_that_hang_break_off_or_are_no_http_fail() {
    let short = Duration::from_millis(200);
    let ok = check("/", None, None);
    let silent = raw(Vec::new()).await;
    assert_eq!(why(&ok, &silent, short).await, "no answer within 200ms");
    let half = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()).await;
    assert_eq!(why(&ok, &half, short).await, "no answer within 200ms");
    let other = raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()).await;
    let words = why(&ok, &other, LIMIT).await;
    assert!(words.starts_with("the answer is no HTTP"), "{words}");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(why(&ok, &closed.into(), LIMIT).await, "connection refused");
}

#[tokio::test]
async fn an_endless_answer_is_read_to_its_bound() {
    let ok = check("/", None, None);
    let mut endless = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_vec();
    endless.extend([b'x'; MAX_BODY + 1]);
    ask(&ok, &raw(endless).await, LIMIT).await.unwrap();
    let mut head = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    head.extend([b'x'; 4 * MAX_HEAD]);
    let words = why(&ok, &raw(head).await, LIMIT).await;
    assert!(words.starts_with("the head of the answer has more than 16384 bytes"), "{words}");
}
