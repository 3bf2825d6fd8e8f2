//! A registry manager.

use crate::http;
use crate::{Answer, Console, Process, Sandbox, Topology, binaries, wait_for};
use echelon_client::ManagerClient;
use echelon_identity::IdentityDirectory;
use rustix::process::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// The framework of every sandbox.
pub const FRAMEWORK: &str = "acme";

/// The manager's host.
pub const HOST: &str = "hub";

/// What processes log. More of the libraries' words than this would only slow tests down.
pub const LOG: &str = "info,registry_manager=debug,registry_agent=debug";

/// A registry manager and its state directory.
#[derive(Debug)]
pub struct Manager<'a> {
    sandbox: &'a Sandbox,
    name: String,
    state: PathBuf,
    listen: SocketAddr,
    http: SocketAddr,
    config: PathBuf,
    log: String,
    process: Option<Process>,
}

impl<'a> Manager<'a> {
    /// Makes a registry, as `registry-manager init` does; it does not run yet.
    pub fn init(sandbox: &'a Sandbox) -> Self {
        let manager = Self::in_directory(sandbox, "manager", sandbox.endpoint(29120));
        let answer = manager.init_again(FRAMEWORK);
        assert_eq!(answer.code, 0, "{answer:?}");
        manager
    }

    /// Makes a registry and starts it.
    pub fn running(sandbox: &'a Sandbox) -> Self {
        let mut manager = Self::init(sandbox);
        manager.start();
        manager
    }

    /// A manager with the state directory of this name, which may not be there yet.
    pub fn in_directory(sandbox: &'a Sandbox, name: &str, listen: SocketAddr) -> Self {
        let config = sandbox.file(&format!("{name}.toml"), "");
        let http = SocketAddr::new(listen.ip(), 29121);
        let (name, state) = (name.to_owned(), sandbox.path(name));
        Self { sandbox, name, state, listen, http, config, log: LOG.into(), process: None }
    }

    /// Makes a standby on the host of this name, as `registry-manager join` does with a token of `console`; it does
    /// not run yet.
    pub fn join(sandbox: &'a Sandbox, host: &str, primary: &Self, console: &Console) -> Self {
        let manager = Self::in_directory(sandbox, host, sandbox.endpoint(29120));
        let token = console.ok(&format!("token create --access manager --host {host}"));
        let mut command = manager.join_command(host, primary);
        let answer = Answer::of(command.env("ECHELON_TOKEN", token.trim()));
        assert_eq!(answer.code, 0, "{answer:?}");
        manager
    }

    /// `registry-manager join` for this state directory, without a token.
    pub fn join_command(&self, host: &str, primary: &Self) -> Command {
        let mut command = self.sandbox.command(&binaries().manager);
        command.args(["join", "--name", host, "--manager", &primary.listen.to_string()]);
        command.arg("--state").arg(&self.state).arg("--listen").arg(self.listen.to_string());
        command
    }

    /// `registry-manager init` for this state directory.
    pub fn init_again(&self, framework: &str) -> Answer {
        let mut command = self.sandbox.command(&binaries().manager);
        command.args(["init", "--framework", framework, "--name", HOST]);
        command.arg("--state").arg(&self.state).arg("--listen").arg(self.listen.to_string());
        Answer::of(command)
    }

    /// Replaces its settings file.
    pub fn configure(&self, toml: &str) {
        std::fs::write(&self.config, toml).unwrap();
    }

    /// `registry-manager run`.
    pub fn run_command(&self) -> Command {
        let mut command = self.sandbox.command(&binaries().manager);
        command.arg("run").arg("--state").arg(&self.state).arg("--config").arg(&self.config);
        command.arg("--http").arg(self.http.to_string()).env("ECHELON_LOG", &self.log);
        command
    }

    /// What it logs from its next start on.
    pub fn log_as(&mut self, filter: &str) {
        self.log = filter.to_owned();
    }

    /// Starts it and waits until it serves.
    pub fn start(&mut self) {
        self.start_as(self.run_command());
    }

    /// Starts it as this build of it, and waits until it serves.
    pub fn start_build(&mut self, program: &Path) {
        let usual = self.run_command();
        let mut command = self.sandbox.command(program);
        command.args(usual.get_args()).env("ECHELON_LOG", &self.log);
        self.start_as(command);
    }

    /// Starts it so that none of its files can become larger than `kib`, as on a disk that runs full.
    pub fn start_with_files_up_to(&mut self, kib: u32) {
        self.start_as(self.sandbox.with_files_up_to(kib, &self.run_command()));
    }

    fn start_as(&mut self, command: Command) {
        let mut process = Process::spawn(&self.name, command, &self.sandbox.logs());
        wait_for("the manager to serve", || {
            assert!(process.is_running(), "the manager ended:\n{}", process.log());
            http::get_tcp(self.http, "/readyz").ok().filter(|r| r.status == 200).ok_or("not ready")
        });
        self.process = Some(process);
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the manager was started")
    }

    /// Whether it was started and not ended since.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it accepts edits, or why it does not.
    ///
    /// # Errors
    /// It does not.
    pub fn accepts_edits(&self) -> Result<(), String> {
        match http::get_tcp(self.http, "/primary") {
            Ok(reply) if reply.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
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

    /// Stops its execution: to others it is silent, while its sockets stay open.
    pub fn pause(&mut self) {
        self.process().signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.process().signal(Signal::CONT);
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Where agents and consoles connect.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where metrics and health are served.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The place it lives in.
    pub fn sandbox(&self) -> &'a Sandbox {
        self.sandbox
    }

    /// The first console's identity directory.
    pub fn console_identity(&self) -> PathBuf {
        self.state.join("console")
    }

    /// The first console.
    pub fn console(&self) -> Console {
        Console::new(&self.console_identity())
    }

    /// A connection with the first console's identity.
    pub async fn client(&self) -> ManagerClient {
        let identity = IdentityDirectory::open(&self.console_identity()).unwrap();
        ManagerClient::connect(&identity, &[self.listen.into()]).await.unwrap()
    }

    /// A join token, made with these further arguments.
    pub fn token(&self, arguments: &str) -> String {
        self.console().ok(&format!("token create {arguments}")).trim().to_owned()
    }

    /// Applies a topology, without the lines that every file begins with.
    pub fn apply(&self, topology: &Topology) {
        let text = format!("framework = {FRAMEWORK:?}\n{topology}");
        let path = self.sandbox.file("topology.toml", text);
        self.console().ok(&format!("apply {}", path.display()));
    }

    /// `echelon status`.
    pub fn status(&self) -> Value {
        self.console().object("status")
    }

    /// Waits until so many agents are connected and level with the registry.
    #[track_caller]
    pub fn wait_in_sync(&self, agents: u64) {
        wait_for(&format!("{agents} agents in sync"), || {
            let status = self.status();
            match (status["agents_in_sync"].as_u64(), status["agents_connected"].as_u64()) {
                (Some(level), Some(connected)) if (level, connected) == (agents, agents) => Ok(()),
                _ => Err(status),
            }
        });
    }
}
