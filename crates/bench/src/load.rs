//! Callers who come at a steady rate, whether or not those before them were answered.

use crate::running::DEADLINE;
use crate::victim::MESSAGE;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a caller waits for an answer; then it has failed.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What callers speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speech {
    /// One line of [`MESSAGE`] bytes.
    Line,
    /// One `GET`.
    Http,
}

/// A call: one new connection, one request.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it began.
    pub began: Instant,
    /// How long it took until its answer, or its end.
    pub took: Duration,
    /// Who answered, or what went wrong.
    pub answer: Result<String, String>,
}

impl Call {
    /// When it was over.
    pub fn ended(&self) -> Instant {
        self.began + self.took
    }
}

/// Calls that are being made.
pub struct Load {
    stop: CancellationToken,
    calls: JoinHandle<Vec<Call>>,
}

impl Load {
    /// Begins to call there, so many times a second.
    pub fn start(at: SocketAddr, rate: u32, speech: Speech) -> Self {
        let stop = CancellationToken::new();
        let calls = tokio::spawn(run(at, rate, speech, stop.clone()));
        Self { stop, calls }
    }

    /// Begins no more calls, waits for those under way, and gives all in the order in which they began.
    pub async fn stop(self) -> Vec<Call> {
        self.stop.cancel();
        self.calls.await.unwrap()
    }
}

async fn run(at: SocketAddr, rate: u32, speech: Speech, stop: CancellationToken) -> Vec<Call> {
    let (mut ticks, mut calls) = (interval(Duration::from_secs(1) / rate), JoinSet::new());
    // Callers of the real world do not wait for a late benchmark either.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        calls.spawn(call(at, speech));
    }
    let mut calls = calls.join_all().await;
    calls.sort_by_key(|call| call.began);
    calls
}

/// Calls again and again until this manager answers.
///
/// # Panics
/// It takes longer than [`DEADLINE`].
pub async fn wait_until_answered_by(name: &str, at: SocketAddr, speech: Speech) {
    let begin = Instant::now();
    loop {
        let last = call(at, speech).await.answer;
        if last.as_deref() == Ok(name) {
            return;
        }
        assert!(begin.elapsed() < DEADLINE, "{name} does not answer at {at}: {last:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// One call.
async fn call(at: SocketAddr, speech: Speech) -> Call {
    let began = Instant::now();
    let answer = match timeout(PATIENCE, exchange(at, speech)).await {
        Ok(Ok(name)) => Ok(name),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    };
    Call { began, took: began.elapsed(), answer }
}

async fn exchange(at: SocketAddr, speech: Speech) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    let request = match speech {
        Speech::Line => format!("{:<width$}\n", "who", width = MESSAGE - 1),
        Speech::Http => "GET / HTTP/1.1\r\nhost: manager\r\nconnection: close\r\n\r\n".to_owned(),
    };
    stream.write_all(request.as_bytes()).await?;
    let body = match speech {
        Speech::Line => {
            let mut answer = vec![0; MESSAGE];
            stream.read_exact(&mut answer).await?;
            answer
        }
        Speech::Http => {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            body(&answer)?
        }
    };
    let text = String::from_utf8_lossy(&body);
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

fn body(answer: &[u8]) -> std::io::Result<Vec<u8>> {
    let wrong = |what: &str| std::io::Error::other(format!("{what}: {}", String::from_utf8_lossy(answer)));
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        return Err(wrong("not a 200"));
    }
    let end =
        answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(|| wrong("no end of the head"))?;
    match answer[end + 4..].len() {
        MESSAGE => Ok(answer[end + 4..].to_vec()),
        _ => Err(wrong("not a whole body")),
    }
}
