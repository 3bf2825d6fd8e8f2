//! A manager's service that speaks HTTP/1.1, as a process of its own that can be killed: `http-stub NAME ADDR DIR`.
//!
//! What it has acted on stands in `DIR/NAME.done`, one id a line, written before it answers. While there is a file
//! `DIR/NAME.busy` it answers 503.

#![allow(clippy::unwrap_used, reason = "whatever goes wrong in a harness is a test that failed")]

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

struct Service {
    name: String,
    done: File,
    busy: PathBuf,
}

struct Request {
    method: String,
    path: String,
    headers: String,
    body: Vec<u8>,
}

fn main() {
    let [name, at, dir] = std::env::args().skip(1).collect::<Vec<_>>().try_into().expect("NAME ADDR DIR");
    let file = |end: &str| PathBuf::from(&dir).join(format!("{name}.{end}"));
    let done = OpenOptions::new().create(true).append(true).open(file("done")).unwrap();
    let service = Arc::new(Service { done, busy: file("busy"), name: name.clone() });
    let listener = TcpListener::bind(&at).unwrap();
    for stream in listener.incoming() {
        let (stream, service) = (stream.unwrap(), Arc::clone(&service));
        // Whoever breaks off has seen what there was to see.
        std::thread::spawn(move || drop(service.converse(&stream)));
    }
}

impl Service {
    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(request) = read(&mut reader, stream)? {
            self.answer(&request, &mut reader, stream)?;
        }
        Ok(())
    }

    fn answer(
        &self,
        request: &Request,
        from: &mut BufReader<&TcpStream>,
        mut to: &TcpStream,
    ) -> io::Result<()> {
        if self.busy.exists() {
            let head = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy";
            return to.write_all(head.as_bytes());
        }
        let parts: Vec<&str> = request.path.split('/').skip(1).collect();
        match parts[..] {
            ["do", id, pause] => {
                (&self.done).write_all(format!("{id}\n").as_bytes())?;
                std::thread::sleep(Duration::from_millis(pause.parse().unwrap()));
                whole(to, self.name.as_bytes())
            }
            ["wait", name, id] => {
                (&self.done).write_all(format!("{id}\n").as_bytes())?;
                if name == self.name {
                    std::thread::sleep(Duration::MAX);
                }
                whole(to, self.name.as_bytes())
            }
            ["echo"] => whole(to, &request.body),
            ["heard"] => {
                whole(to, format!("{} {}\n{}", request.method, request.path, request.headers).as_bytes())
            }
            ["bytes", count] => {
                write!(to, "HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n")?;
                io::copy(&mut io::repeat(b'x').take(count.parse().unwrap()), &mut to).map(drop)
            }
            ["events"] => {
                to.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for number in 0.. {
                    let event = format!("data: {} {number}\n\n", self.name);
                    write!(to, "{:x}\r\n{event}\r\n", event.len())?;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(())
            }
            ["talk"] => {
                to.write_all(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: talk\r\n\r\n")?;
                io::copy(from, &mut to)?;
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            _ => whole(to, self.name.as_bytes()),
        }
    }
}

fn whole(mut to: &TcpStream, body: &[u8]) -> io::Result<()> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    to.write_all(&answer)
}

fn read(from: &mut BufReader<&TcpStream>, mut to: &TcpStream) -> io::Result<Option<Request>> {
    let mut first = String::new();
    if from.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut headers = String::new();
    while from.read_line(&mut headers)? > 2 {}
    let lower = headers.to_ascii_lowercase();
    if lower.contains("expect: 100-continue") {
        to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    if lower.contains("transfer-encoding: chunked") {
        while chunk(from, &mut body)? {}
    } else if let Some(length) = lower.split("content-length: ").nth(1) {
        body.resize(length.lines().next().unwrap().parse().unwrap(), 0);
        from.read_exact(&mut body)?;
    }
    let mut words = first.split(' ').map(ToOwned::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    Ok(Some(Request { method, path, headers, body }))
}

/// Reads one chunk, or the trailers behind the last.
fn chunk(from: &mut BufReader<&TcpStream>, body: &mut Vec<u8>) -> io::Result<bool> {
    let mut size = String::new();
    from.read_line(&mut size)?;
    let size = u64::from_str_radix(size.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
    from.take(size).read_to_end(body)?;
    let mut line = String::new();
    while from.read_line(&mut line)? > 2 {}
    Ok(size > 0)
}
