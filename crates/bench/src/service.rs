//! A service behind forwarders, and what its callers measure.
//!
//! Blocking threads on both sides: a thread that waits costs nothing, one that is woken costs the same whoever
//! stands between, and there is nothing here to tune in anybody's favour.

use crate::Samples;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a request, and of an answer.
const MESSAGE: usize = 64;

/// Connections that are served at a time.
const THREADS: usize = 64;

/// What is written to a stream at a time.
const CHUNK: usize = 256 * 1024;

/// Longest wait for anything from the other side.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the first byte of a request asks for.
mod wish {
    /// An answer, after which the service closes.
    pub(super) const ONCE: u8 = 1;
    /// An answer; further requests follow.
    pub(super) const KEEP: u8 = 2;
    /// Bytes until the caller closes.
    pub(super) const STREAM: u8 = 3;
}

/// Starts a service on loopback. Its threads end with the process.
pub fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 1024).unwrap();
    for _ in 0..THREADS {
        let listener = listener.try_clone().unwrap();
        thread::spawn(move || {
            let chunk = vec![7; CHUNK];
            loop {
                // Whoever breaks off has seen what there was to see.
                let _ = serve(&mut listener.accept().unwrap().0, &chunk);
            }
        });
    }
    listener.local_addr().unwrap()
}

fn serve(stream: &mut TcpStream, chunk: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; MESSAGE];
    loop {
        stream.read_exact(&mut request)?;
        match request[0] {
            wish::STREAM => loop {
                stream.write_all(chunk)?;
            },
            kind => {
                stream.write_all(&request)?;
                if kind == wish::ONCE {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether somebody answers there.
pub fn answers(addr: SocketAddr) -> bool {
    TcpStream::connect(addr).is_ok_and(answers_on)
}

/// Whether somebody answers on this connection.
pub fn answers_on(mut stream: TcpStream) -> bool {
    let mut request = [0; MESSAGE];
    request[0] = wish::ONCE;
    let patient = stream.set_read_timeout(Some(PATIENCE)).is_ok();
    patient && stream.write_all(&request).is_ok() && stream.read_exact(&mut request).is_ok()
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, kind: u8) {
    let (mut request, mut answer) = ([0x55; MESSAGE], [0; MESSAGE]);
    request[0] = kind;
    stream.write_all(&request).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(request, answer, "somebody else's answer");
}

/// How long a new connection takes until its first request is answered, one after the other.
pub fn first_requests(addr: SocketAddr, count: usize) -> Samples {
    Samples::new((0..count).map(|_| {
        let begin = Instant::now();
        let mut stream = connect(addr);
        ask(&mut stream, wish::ONCE);
        let took = begin.elapsed();
        end(stream);
        took
    }))
}

/// How long further requests on one connection take, one after the other.
pub fn later_requests(addr: SocketAddr, count: usize) -> Samples {
    later_requests_on(connect(addr), count)
}

/// The same on a connection that is there already.
pub fn later_requests_on(mut stream: TcpStream, count: usize) -> Samples {
    ask(&mut stream, wish::KEEP);
    Samples::of(count, || ask(&mut stream, wish::KEEP))
}

/// How long a connection takes that `connect` makes, and how long until its first request is answered.
pub fn set_ups(count: usize, mut connect: impl FnMut() -> TcpStream) -> (Samples, Samples) {
    let both = (0..count).map(|_| {
        let begin = Instant::now();
        let mut stream = connect();
        let set_up = begin.elapsed();
        ask(&mut stream, wish::ONCE);
        let first = begin.elapsed();
        end(stream);
        (set_up, first)
    });
    let (set_up, first): (Vec<_>, Vec<_>) = both.unzip();
    (Samples::new(set_up), Samples::new(first))
}

/// New connections a second, each with one request, made by so many callers side by side.
pub fn connections_per_second(addr: SocketAddr, callers: usize, time: Duration) -> f64 {
    let begin = Instant::now();
    let caller = || {
        let mut count = 0_u64;
        while begin.elapsed() < time {
            let mut stream = connect(addr);
            ask(&mut stream, wish::ONCE);
            end(stream);
            count += 1;
        }
        count
    };
    let count: u64 = thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    count as f64 / begin.elapsed().as_secs_f64()
}

/// Bytes a second of one stream.
pub fn stream(addr: SocketAddr, time: Duration) -> f64 {
    stream_on(connect(addr), time)
}

/// The same on a connection that is there already.
pub fn stream_on(mut stream: TcpStream, time: Duration) -> f64 {
    stream.write_all(&[wish::STREAM; MESSAGE]).unwrap();
    let mut buffer = vec![0; CHUNK];
    let (begin, mut bytes) = (Instant::now(), 0_u64);
    while begin.elapsed() < time {
        bytes += stream.read(&mut buffer).unwrap() as u64;
    }
    bytes as f64 / begin.elapsed().as_secs_f64()
}

/// Waits until the service has closed, so that it is not this side whose port stays taken for a minute.
fn end(mut stream: TcpStream) {
    let mut rest = [0; 1];
    assert_eq!(stream.read(&mut rest).unwrap(), 0, "nothing follows an answer");
}
