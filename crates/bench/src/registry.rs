//! Real registry managers with a topology, and hosts enrolled with them.

use crate::binaries;
use crate::generate::FRAMEWORK;
use crate::manager::Manager;
use crate::running::{Running, output, wait_for};
use crate::service;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What processes log in benchmarks.
pub const LOG: &str = "warn";

/// A registry in a directory of its own, with its running manager, and standbys that have joined.
#[derive(Debug)]
pub struct Registry {
    directory: TempDir,
    /// The first one made the registry.
    managers: Vec<Manager>,
}

impl Registry {
    /// Makes a registry on loopback and starts its manager.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("echelon-bench-").tempdir().unwrap();
        let manager = Manager::new("hub", directory.path().join("manager"));
        let mut init = binaries().manager();
        let listen = manager.listen().to_string();
        init.args(["init", "--framework", FRAMEWORK, "--name", manager.host(), "--listen", &listen]);
        output(init.arg("--state").arg(manager.state()));
        let mut registry = Self { directory, managers: vec![manager] };
        registry.run();
        registry
    }

    /// Has a standby join, starts it, and waits until it counts.
    pub fn join(&mut self, host: &str) {
        let mut manager = Manager::new(host, self.path(&format!("manager-{host}")));
        let token = output(&mut self.console(&format!("token create --access manager --host {host}")));
        let mut join = binaries().manager();
        join.args(["join", "--name", host, "--manager", &self.listen().to_string()]);
        join.args(["--listen", &manager.listen().to_string()]).arg("--state").arg(manager.state());
        output(join.env("ECHELON_TOKEN", token.trim()));
        manager.launch();
        manager.wait_until_ready();
        self.managers.push(manager);
        self.wait_until_counts(host);
    }

    /// Waits until the standby on this host counts for commits.
    pub fn wait_until_counts(&self, host: &str) {
        let is_so =
            |line: &str| line.contains(&format!("\"host\":\"{host}\"")) && line.contains("\"counts\":true");
        wait_for(&format!("{host} to count"), || {
            let list = self.console("manager list --output json").output().unwrap();
            String::from_utf8_lossy(&list.stdout).lines().any(is_so).then_some(())
        });
    }

    /// The managers, that which made the registry first, then those that joined.
    pub fn managers(&self) -> &[Manager] {
        &self.managers
    }

    /// One of [`Self::managers`].
    pub fn manager(&mut self, at: usize) -> &mut Manager {
        &mut self.managers[at]
    }

    fn first(&self) -> &Manager {
        &self.managers[0]
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
        self.manager(0).launch();
    }

    /// Ends the manager in good order.
    pub fn terminate(&mut self) {
        self.manager(0).terminate();
    }

    /// What the manager counts.
    pub fn metrics(&self) -> String {
        self.first().get("/metrics").unwrap()
    }

    /// Ends the manager at once.
    pub fn kill9(&mut self) {
        self.manager(0).kill9();
    }

    /// The manager's process.
    pub fn process(&self) -> &Running {
        self.first().process()
    }

    /// Where agents and consoles connect.
    pub fn listen(&self) -> SocketAddr {
        self.first().listen()
    }

    /// The path of this name in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The identity of the first console.
    pub fn console_identity(&self) -> PathBuf {
        self.first().state().join("console")
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
        enroll.args(["enroll", "--host", host, "--manager", &self.listen().to_string()]);
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
}
