//! A registry agent.

use crate::http::{self, Reply};
use crate::manager::LOG;
use crate::{Answer, Manager, Process, Sandbox, binaries, caller, wait_for};
use serde_json::Value;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Port of each host's first forwarder.
const FIRST_FORWARDER: u16 = 7100;

/// One host's agent and its state directory.
#[derive(Debug)]
pub struct Agent<'a> {
    sandbox: &'a Sandbox,
    name: String,
    address: IpAddr,
    state: PathBuf,
    forwards: Vec<String>,
    further: Vec<String>,
    log: String,
    settings: String,
    process: Option<Process>,
}

impl<'a> Agent<'a> {
    /// A host with no agent yet.
    pub fn new(sandbox: &'a Sandbox, name: &str) -> Self {
        let state = sandbox.path(&format!("agent-{name}"));
        let (name, address) = (name.to_owned(), sandbox.address());
        Self {
            sandbox,
            name,
            address,
            state,
            forwards: Vec::new(),
            further: Vec::new(),
            log: LOG.into(),
            settings: String::new(),
            process: None,
        }
    }

    /// A host that is enrolled.
    pub fn enrolled(manager: &Manager<'a>, name: &str) -> Self {
        let agent = Self::new(manager.sandbox(), name);
        agent.enroll_with(manager);
        agent
    }

    /// Enrols the host with a token for it.
    #[track_caller]
    pub fn enroll_with(&self, manager: &Manager<'a>) {
        let answer = self.enroll(manager.listen(), &manager.token(&format!("--host {}", self.name)), "");
        assert_eq!(answer.code, 0, "{answer:?}");
    }

    /// `registry-agent enroll`, with these further arguments.
    pub fn enroll(&self, manager: SocketAddr, token: &str, arguments: &str) -> Answer {
        let mut command = self.enroll_command(manager, arguments);
        command.env("ECHELON_TOKEN", token);
        Answer::of(command)
    }

    /// `registry-agent enroll` without a token.
    pub fn enroll_command(&self, manager: SocketAddr, arguments: &str) -> Command {
        let mut command = self.sandbox.command(&binaries().agent);
        command.args(["enroll", "--host", &self.name, "--manager", &manager.to_string()]);
        command.arg("--state").arg(&self.state).args(arguments.split_whitespace());
        command.env("ECHELON_LOG", "warn");
        command
    }

    /// From its next start on, callers of this type are served.
    pub fn forwarding(mut self, ty: &str) -> Self {
        self.forwards.push(ty.to_owned());
        self
    }

    /// `registry-agent run`.
    pub fn run_command(&self) -> Command {
        let mut command = self.sandbox.command(&binaries().agent);
        let config = self.configure(&self.settings);
        command.arg("run").arg("--state").arg(&self.state).arg("--config").arg(config);
        command.env("ECHELON_LOG", &self.log);
        for ty in &self.forwards {
            command.arg("--forward").arg(format!("{ty}={}", self.forwarder(ty)));
        }
        command.args(&self.further);
        command
    }

    /// From its next start on, nobody is served but by what its settings file says.
    #[must_use]
    pub fn without_forwarders(mut self) -> Self {
        self.forwards.clear();
        self
    }

    /// Writes its settings file, and says where that is.
    pub fn configure(&self, settings: &str) -> PathBuf {
        self.sandbox.file(&format!("agent-{}.toml", self.name), settings)
    }

    /// From its next start on, its settings file says this.
    #[must_use]
    pub fn with_settings(mut self, settings: &str) -> Self {
        self.settings = settings.to_owned();
        self
    }

    /// Further arguments from its next start on.
    pub fn also_run_with(&mut self, arguments: &[&str]) {
        self.further = arguments.iter().map(ToString::to_string).collect();
    }

    /// Starts it and waits until its API answers.
    pub fn start(&mut self) {
        self.start_as(self.run_command());
    }

    /// Starts it so that none of its files can become larger than `kib`, as on a disk that runs full.
    pub fn start_with_files_up_to(&mut self, kib: u32) {
        self.start_as(self.sandbox.with_files_up_to(kib, &self.run_command()));
    }

    fn start_as(&mut self, command: Command) {
        let name = format!("agent-{}", self.name);
        let mut process = Process::spawn(&name, command, &self.sandbox.logs());
        wait_for(&format!("the agent of {} to answer", self.name), || {
            assert!(process.is_running(), "the agent ended:\n{}", process.log());
            self.answers("/healthz")
        });
        self.process = Some(process);
    }

    /// Starts it and waits until it has a replica.
    pub fn start_ready(&mut self) {
        self.start();
        wait_for(&format!("the agent of {} to be ready", self.name), || self.answers("/readyz"));
    }

    /// Has a new process take over, with the arguments that it would be started with now, and waits until it has.
    /// Gives the old one, which only finishes what is under way.
    pub fn take_over(&mut self) -> Process {
        let mut command = self.run_command();
        command.arg("--take-over");
        let mut new = Process::spawn(&format!("agent-{}", self.name), command, &self.sandbox.logs());
        wait_for(&format!("the agent of {} to be taken over", self.name), || {
            assert!(new.is_running(), "the new agent ended:\n{}", new.log());
            if self.holder() == Some(new.id()) { self.answers("/healthz") } else { Err("it waits".into()) }
        });
        self.process.replace(new).expect("the agent was started")
    }

    /// Its process from now on, which somebody else started.
    pub fn follow(&mut self, process: Process) {
        self.process = Some(process);
    }

    /// The process that says to have its state directory.
    pub fn holder(&self) -> Option<u32> {
        std::fs::read_to_string(self.state.join("lock")).ok()?.trim().parse().ok()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent was started")
    }

    /// Ends it at once.
    pub fn kill9(&mut self) {
        self.process().kill9();
        self.process = None;
    }

    /// Asks it to end and waits for that.
    pub fn terminate(&mut self) -> ExitStatus {
        let status = self.process().terminate();
        self.process = None;
        status
    }

    /// The host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The socket of its API.
    pub fn api(&self) -> PathBuf {
        self.state.join("agent.sock")
    }

    /// Where callers of this type connect.
    pub fn forwarder(&self, ty: &str) -> SocketAddr {
        let at = self.forwards.iter().position(|t| t == ty).expect("a type that is forwarded");
        SocketAddr::new(self.address, FIRST_FORWARDER + u16::try_from(at).unwrap())
    }

    /// Asks its API.
    ///
    /// # Errors
    /// It does not answer.
    pub fn get(&self, path: &str) -> io::Result<Reply> {
        http::get_unix(&self.api(), path)
    }

    /// Announces a package through its API.
    #[track_caller]
    pub fn put(&self, ty: &str, body: &str) -> Reply {
        http::ask_unix(&self.api(), "PUT", &format!("/v1/packages/{ty}"), body).unwrap()
    }

    /// Withdraws a package through its API.
    #[track_caller]
    pub fn delete(&self, ty: &str) -> Reply {
        http::ask_unix(&self.api(), "DELETE", &format!("/v1/packages/{ty}"), "").unwrap()
    }

    /// A package as its API shows it.
    #[track_caller]
    pub fn package(&self, ty: &str) -> Reply {
        self.get(&format!("/v1/packages/{ty}")).unwrap()
    }

    /// Whether this path of its API is answered with 200.
    fn answers(&self, path: &str) -> Result<(), String> {
        match self.get(path) {
            Ok(Reply { status: 200, .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// What it logs from its next start on.
    pub fn log_as(&mut self, filter: &str) {
        self.log = filter.to_owned();
    }

    /// From its next start on, its settings file says this.
    pub fn set_settings(&mut self, toml: &str) {
        self.settings = toml.to_owned();
    }

    /// Its identity directory.
    pub fn identity(&self) -> PathBuf {
        self.state.join("identity")
    }

    /// How it finds its manager of this type now.
    #[track_caller]
    pub fn route(&self, ty: &str) -> Value {
        self.get(&format!("/v1/routes/{ty}")).unwrap().json()
    }

    /// Who serves it now; none where nobody does.
    #[track_caller]
    pub fn served_by(&self, ty: &str) -> Option<String> {
        self.route(ty)["chosen"]["host"].as_str().map(ToOwned::to_owned)
    }

    /// Waits until this manager serves it.
    #[track_caller]
    pub fn wait_served_by(&self, ty: &str, manager: &str) {
        wait_for(&format!("{} to be served by {manager}", self.name), || {
            let route = self.route(ty);
            (route["chosen"]["host"] == manager).then_some(()).ok_or(route)
        });
    }

    /// One call through its forwarder: who answered.
    ///
    /// # Errors
    /// It was not answered.
    pub fn call(&self, ty: &str) -> io::Result<String> {
        caller::call(self.forwarder(ty))
    }
}
