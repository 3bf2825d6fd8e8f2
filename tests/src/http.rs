//! The least of HTTP: one question, one answer.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
}

/// Asks a unix socket.
pub fn get_unix(socket: &Path, path: &str) -> io::Result<Reply> {
    ask_unix(socket, "GET", path, "")
}

/// Asks a unix socket with this method and body.
pub fn ask_unix(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<Reply> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    ask(stream, method, path, body)
}

/// Asks a unix socket for what may take so long.
pub fn get_unix_within(socket: &Path, path: &str, time: Duration) -> io::Result<Reply> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(time))?;
    ask(stream, "GET", path, "")
}

/// Asks a TCP port.
pub fn get_tcp(addr: SocketAddr, path: &str) -> io::Result<Reply> {
    ask_tcp(addr, "GET", path, "")
}

/// Asks a TCP port with this method and body.
pub fn ask_tcp(addr: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Reply> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    ask(stream, method, path, body)
}

fn ask(mut stream: impl Read + Write, method: &str, path: &str, body: &str) -> io::Result<Reply> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}\r\n{body}")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
    parse(&text).ok_or_else(|| io::Error::other(format!("no HTTP: {text:?}")))
}

fn parse(text: &str) -> Option<Reply> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Reply { status, body: body.to_owned() })
}
