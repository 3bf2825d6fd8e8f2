//! A manager in a process of its own, to be killed, stopped and cut off.

use crate::Running;
use crate::running::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Bytes of a request, and of an answer.
pub const MESSAGE: usize = 64;

/// The argument with which this program becomes such a process.
const SERVE: &str = "serve";

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A manager that answers each line with [`MESSAGE`] bytes that begin with its name, and each HTTP request with the
/// same as its body.
#[derive(Debug)]
pub struct Victim {
    name: String,
    at: SocketAddr,
    /// How long it thinks about each answer.
    thinks: Duration,
    log: PathBuf,
    /// None while it is dead.
    running: Option<Running>,
}

impl Victim {
    /// Starts it, and waits until it listens.
    pub fn start(name: &str, at: SocketAddr, thinks: Duration, log: PathBuf) -> Self {
        let mut victim = Self { name: name.to_owned(), at, thinks, log, running: None };
        victim.revive();
        victim
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Starts it again.
    pub fn revive(&mut self) {
        let mut run = Command::new(std::env::current_exe().unwrap());
        run.args([SERVE, &self.name, &self.at.to_string(), &self.thinks.as_micros().to_string()]);
        self.running = Some(Running::start(run, &self.log));
        wait_for(&format!("{} at {}", self.name, self.at), || TcpStream::connect(self.at).ok());
    }

    /// Ends it at once, as a power cut would; when this is back, it is gone.
    pub fn kill9(&mut self) {
        self.running = None;
    }

    /// Stops it: the kernel goes on accepting for it, and nobody answers.
    pub fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let running = self.running.as_ref().expect("it runs");
        let id = Pid::from_raw(running.id().cast_signed()).expect("no process has the id 0");
        kill_process(id, signal).unwrap();
    }
}

/// Serves for ever where this process was started as such a manager; else comes back at once.
pub fn serve_if_asked() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [serve, name, at, thinks] = arguments.as_slice() else { return };
    if serve == SERVE {
        serve_for_ever(name, at.parse().unwrap(), Duration::from_micros(thinks.parse().unwrap()));
    }
}

fn serve_for_ever(name: &str, at: SocketAddr, thinks: Duration) -> ! {
    let listener = TcpListener::bind(at).unwrap();
    rustix::net::listen(&listener, BACKLOG).unwrap();
    let answer = format!("{name:<width$}\n", width = MESSAGE - 1);
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        let answer = answer.clone();
        // Whoever breaks off has seen what there was to see.
        thread::spawn(move || drop(converse(stream, &answer, thinks)));
    }
}

fn converse(stream: TcpStream, answer: &str, thinks: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut line) = (BufReader::new(stream.try_clone()?), String::new());
    while reader.read_line(&mut line)? > 0 {
        let is_http = line.trim_end().ends_with("HTTP/1.1");
        while is_http && line.trim_end() != "" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        thread::sleep(thinks);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {MESSAGE}\r\n\r\n");
        let head = if is_http { head } else { String::new() };
        (&stream).write_all((head + answer).as_bytes())?;
        line.clear();
    }
    Ok(())
}
