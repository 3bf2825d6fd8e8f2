//! The process of a registry manager.

use crate::binaries;
use crate::registry::LOG;
use crate::running::{Running, wait_for};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};

/// A registry manager with its state directory, on loopback.
#[derive(Debug)]
pub struct Manager {
    host: String,
    state: PathBuf,
    listen: SocketAddr,
    http: SocketAddr,
    /// None while it is stopped.
    running: Option<Running>,
}

impl Manager {
    /// One on this host, with this state directory, which is still to be made.
    pub(crate) fn new(host: &str, state: PathBuf) -> Self {
        let listen = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { host: host.to_owned(), state, listen, http, running: None }
    }

    /// Starts it, which is stopped, and waits for nothing.
    pub fn launch(&mut self) {
        let mut run = binaries().manager();
        run.args(["run", "--http", &self.http.to_string()]).arg("--state").arg(&self.state);
        run.env("ECHELON_LOG", LOG);
        self.running = Some(Running::start(run, &self.state.with_extension("log")));
    }

    /// Waits until it serves agents.
    pub fn wait_until_ready(&self) {
        wait_for(&format!("{} to serve", self.host), || self.says_yes("/readyz"));
    }

    /// Waits until it accepts edits.
    pub fn wait_until_primary(&self) {
        wait_for(&format!("{} to accept edits", self.host), || self.says_yes("/primary"));
    }

    fn says_yes(&self, path: &str) -> Option<()> {
        self.get(path).ok()?.starts_with("HTTP/1.1 200 ").then_some(())
    }

    /// The whole answer of its HTTP listener.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.http)?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: manager\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Ends it at once, as a power cut would.
    pub fn kill9(&mut self) {
        self.running = None;
    }

    /// Ends it in good order.
    pub fn terminate(&mut self) {
        if let Some(running) = self.running.take() {
            running.terminate();
        }
    }

    /// Its process.
    pub fn process(&self) -> &Running {
        self.running.as_ref().expect("the manager runs")
    }

    /// Its host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where agents, consoles and other managers connect.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }
}
