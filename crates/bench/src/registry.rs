//! A real registry manager with a topology, and hosts enrolled with it.

use crate::binaries;
use crate::generate::FRAMEWORK;
use crate::running::{Running, output, wait_for};
use crate::service;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What processes log in benchmarks.
pub const LOG: &str = "warn";

/// A running registry manager in a directory of its own.
#[derive(Debug)]
pub struct Registry {
    directory: TempDir,
    listen: SocketAddr,
    http: SocketAddr,
    /// None while it is stopped.
    running: Option<Running>,
}

impl Registry {
    /// Makes a registry on loopback and starts its manager.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("echelon-bench-").tempdir().unwrap();
        let listen = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut registry = Self { directory, listen, http, running: None };
        let mut init = binaries().manager();
        init.args(["init", "--framework", FRAMEWORK, "--name", "hub", "--listen", &listen.to_string()]);
        output(init.arg("--state").arg(registry.state()));
        registry.run();
        registry
    }

    /// Starts the manager, which is stopped, and waits until it answers.
    pub fn run(&mut self) {
        self.launch();
        wait_for("the manager to answer", || {
            self.console("status").output().unwrap().status.success().then_some(())
        });
    }

    /// Starts the manager, which is stopped, and waits for nothing.
    pub fn launch(&mut self) {
        let mut run = binaries().manager();
        run.args(["run", "--http", &self.http.to_string()]).arg("--state").arg(self.state());
        run.env("ECHELON_LOG", LOG);
        self.running = Some(Running::start(run, &self.path("manager.log")));
    }

    /// Ends the manager in good order.
    pub fn terminate(&mut self) {
        if let Some(running) = self.running.take() {
            running.terminate();
        }
    }

    /// What the manager counts.
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: manager\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends the manager at once.
    pub fn kill9(&mut self) {
        self.running = None;
    }

    /// The manager's process.
    pub fn process(&self) -> &Running {
        self.running.as_ref().expect("the manager runs")
    }

    /// Where agents and consoles connect.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The path of this name in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The identity of the first console.
    pub fn console_identity(&self) -> PathBuf {
        self.state().join("console")
    }

    /// `echelon LINE`, split at white space.
    pub fn console(&self, line: &str) -> Command {
        let mut command = binaries().console();
        command.arg("--identity").arg(self.console_identity()).args(line.split_whitespace());
        command
    }

    /// Applies a topology.
    pub fn apply(&self, toml: &str) {
        let path = self.path("topology.toml");
        std::fs::write(&path, toml).unwrap();
        output(self.console("apply").arg(path));
    }

    /// Enrols a host of the registry; gives its state directory.
    pub fn enroll(&self, host: &str) -> PathBuf {
        let token = output(&mut self.console(&format!("token create --host {host}")));
        let state = self.path(&format!("agent-{host}"));
        let mut enroll = binaries().agent();
        enroll.args(["enroll", "--host", host, "--manager", &self.listen.to_string()]);
        output(enroll.arg("--state").arg(&state).env("ECHELON_TOKEN", token.trim()).env("ECHELON_LOG", LOG));
        state
    }

    /// `registry-agent run` for a state directory; its API is at `agent.sock` there.
    pub fn agent(&self, state: &Path) -> Command {
        let config = self.path("agent.toml");
        std::fs::write(&config, "").unwrap();
        let mut run = binaries().agent();
        run.arg("run").arg("--state").arg(state).arg("--config").arg(config).env("ECHELON_LOG", LOG);
        run
    }

    /// A running agent of the host `asker`, which forwards `relay` to the manager of type `ty` at `service`, and has
    /// done so once.
    pub fn forwarding(&self, ty: &str, service: SocketAddr, relay: SocketAddr) -> Running {
        let near = format!("[[host]]\nname = \"near\"\npackages = [\"{ty}:{}\"]\n", service.port());
        self.apply(&format!(
            "framework = \"acme\"\n{near}domain = \"/a\"\naddress = \"127.0.0.1\"\n\n\
             [[host]]\nname = \"asker\"\ndomain = \"/a\"\n"
        ));
        let mut run = self.agent(&self.enroll("asker"));
        run.args(["--forward", &format!("{ty}={relay}")]);
        let agent = Running::start(run, &self.path("agent.log"));
        wait_for(&format!("an answer through {relay}"), || service::answers(relay).then_some(()));
        agent
    }

    fn state(&self) -> PathBuf {
        self.path("manager")
    }
}
