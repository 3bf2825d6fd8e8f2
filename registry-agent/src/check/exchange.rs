//! A check by TCP: a connect, and an exchange of texts where one is asked for.

use echelon_core::check::CheckText;
use echelon_core::name::{Text, quoted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most bytes of an answer that are looked through: what is expected stands near its beginning.
const MAX_ANSWER: usize = 64 * 1024;

/// Bytes read at a time.
const CHUNK: usize = 2048;

/// Sends, and waits for what is expected.
///
/// # Errors
/// Says why the check failed, for people.
pub(super) async fn exchange(
    mut stream: TcpStream,
    send: &CheckText,
    expect: &CheckText,
) -> Result<(), Text> {
    let broken = |e: std::io::Error| Text::lossy(&format!("the connection broke: {e}"));
    stream.write_all(send.as_str().as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    let mut chunk = [0; CHUNK];
    while !contains(&answer, expect.as_str().as_bytes()) {
        let length = stream.read(&mut chunk).await.map_err(broken)?;
        if length == 0 || answer.len() > MAX_ANSWER {
            let wanted = quoted(expect.as_str());
            return Err(Text::lossy(&format!("the answer does not contain {wanted}")));
        }
        answer.extend(chunk.iter().take(length));
    }
    Ok(())
}

fn contains(answer: &[u8], expected: &[u8]) -> bool {
    expected.is_empty() || answer.windows(expected.len()).any(|window| window == expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::run::ask as run;
    use echelon_core::check::CheckKind;
    use echelon_core::endpoint::Endpoint;
    use std::time::Duration;
    use tokio::io::AsyncBufReadExt;
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(5);

    /// A service that answers each line with `answer`; none hangs.
    async fn service(answer: Option<&'static str>) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().into();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (read, mut write) = stream.split();
                    let mut lines = tokio::io::BufReader::new(read).lines();
                    while let Ok(Some(_)) = lines.next_line().await {
                        match answer {
                            Some(answer) => write.write_all(answer.as_bytes()).await.unwrap(),
                            None => std::future::pending().await,
                        }
                    }
                });
            }
        });
        endpoint
    }

    fn exchange(send: &str, expect: &str) -> CheckKind {
        let text = |t: &str| t.to_owned().try_into().unwrap();
        CheckKind::Exchange { send: text(send), expect: text(expect) }
    }

    #[tokio::test]
    async fn an_exchange_passes_on_the_expected_answer_only() {
        let endpoint = service(Some("+PONG\r\n")).await;
        run(&exchange("PING\n", "PONG"), &endpoint, LIMIT).await.unwrap();
        let short = Duration::from_millis(200);
        let why = run(&exchange("PING\n", "ready"), &endpoint, short).await.unwrap_err();
        assert_eq!(why.to_string(), "no answer within 200ms");
    }

    #[tokio::test]
    async fn a_service_that_hangs_passes_a_connect_and_fails_an_exchange() {
        let endpoint = service(None).await;
        run(&CheckKind::Connect, &endpoint, LIMIT).await.unwrap();
        let short = Duration::from_millis(100);
        let why = run(&exchange("PING\n", "PONG"), &endpoint, short).await.unwrap_err();
        assert_eq!(why.to_string(), "no answer within 100ms");
    }

    #[tokio::test]
    async fn an_answer_that_ends_or_never_ends_without_what_is_expected_fails() {
        let endless = service(Some(Box::leak("x".repeat(200_000).into_boxed_str()))).await;
        let why = run(&exchange("a\n", "PONG"), &endless, LIMIT).await.unwrap_err();
        assert_eq!(why.to_string(), "the answer does not contain \"PONG\"");
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let why = run(&CheckKind::Connect, &closed.into(), LIMIT).await.unwrap_err();
        assert_eq!(why.to_string(), "connection refused");
    }
}
