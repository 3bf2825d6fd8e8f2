//! A caller of a local API, who keeps its connection.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// One connection. It understands answers with `Content-Length`, which all that is asked here has.
#[derive(Debug)]
pub struct Caller {
    stream: UnixStream,
    request: String,
    answer: Vec<u8>,
}

impl Caller {
    /// Connects, to ask for this path again and again.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(socket: &Path, path: &str) -> io::Result<Self> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Ok(Self { stream: UnixStream::connect(socket)?, request, answer: vec![0; 1 << 20] })
    }

    /// One question: the status, and the body.
    ///
    /// # Errors
    /// No answer came.
    pub fn ask(&mut self) -> io::Result<(u16, &[u8])> {
        self.stream.write_all(self.request.as_bytes())?;
        let mut held = 0;
        loop {
            let read = self.stream.read(&mut self.answer[held..])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            held += read;
            if let Some((status, body, length)) = head(&self.answer[..held])
                && held >= body + length
            {
                return Ok((status, &self.answer[body..body + length]));
            }
        }
    }
}

/// The status of an answer, where its body begins, and how long that is.
fn head(answer: &[u8]) -> Option<(u16, usize, usize)> {
    // A head is far shorter; the body need not be looked through.
    let start = &answer[..answer.len().min(1024)];
    let end = start.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&start[..end]).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, end + 4, length.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Some((200, 38, 3)));
        assert_eq!(head(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n"), None);
    }
}
