//! One asker with three managers on its way up: in its own domain, in the parent, and in the root.

use crate::running::{output, wait_for};
use crate::{Registry, Running};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

/// The type of the managers.
pub const TYPE: &str = "command-control";

/// Their hosts, from the nearest, and the domains of these.
const MANAGERS: [(&str, &str); 3] = [("near", "/a/b"), ("mid", "/a"), ("far", "/")];

/// A registry with three managers and one asker, and an agent on every manager's host, which checks it.
pub struct Trio {
    /// The registry.
    pub registry: Registry,
    managers: [SocketAddr; 3],
    /// Where the asker's agent keeps its state.
    asker: PathBuf,
    _agents: Vec<Running>,
}

impl Trio {
    /// Managers are at these places, and checked as a topology file says.
    pub fn start(managers: [SocketAddr; 3], check: &str) -> Self {
        let registry = Registry::start();
        registry.apply(&topology(managers, check));
        let agents = MANAGERS.map(|(host, _)| {
            Running::start(registry.agent(&registry.enroll(host)), &registry.path(&format!("{host}.log")))
        });
        let asker = registry.enroll("asker");
        Self { registry, managers, asker, _agents: agents.into() }
    }

    /// Managers are checked so from now on.
    pub fn check(&self, check: &str) {
        self.registry.apply(&topology(self.managers, check));
    }

    /// Waits until the registry manager has heard that the nearest manager works, so that an agent that starts now
    /// begins with it instead of waiting for its hold to end.
    pub fn wait_until_nearest_is_live(&self) {
        let (nearest, _) = MANAGERS[0];
        let line = format!("{nearest} ");
        wait_for(&format!("{nearest} to be live"), || {
            let mut list = self.registry.console(&format!("package list --type {TYPE} --state live"));
            output(&mut list).lines().any(|row| row.starts_with(&line)).then_some(())
        });
    }

    /// Starts the asker's agent, with a forwarder: `--forward` or `--forward-http`.
    pub fn forward(&self, flag: &str, at: SocketAddr) -> Running {
        let mut run = self.registry.agent(&self.asker);
        run.args([flag, &format!("{TYPE}={at}")]);
        Running::start(run, &self.registry.path("asker.log"))
    }

    /// The socket of the asker's API.
    pub fn api(&self) -> PathBuf {
        self.asker.join("agent.sock")
    }

    /// The managers' hosts and where they are, from the nearest.
    pub fn managers(&self) -> [(&'static str, SocketAddr); 3] {
        let [near, mid, far] = self.managers;
        [(MANAGERS[0].0, near), (MANAGERS[1].0, mid), (MANAGERS[2].0, far)]
    }
}

fn topology(managers: [SocketAddr; 3], check: &str) -> String {
    let manager = |((name, domain), at): ((&str, &str), SocketAddr)| {
        format!(
            "\n[[host]]\nname = \"{name}\"\ndomain = \"{domain}\"\naddress = \"{}\"\n[[host.package]]\n\
             type = \"{TYPE}\"\nport = {}\ncheck = {check}\n",
            at.ip(),
            at.port()
        )
    };
    let asker = "\n[[host]]\nname = \"asker\"\ndomain = \"/a/b\"\n".to_owned();
    let hosts = MANAGERS.into_iter().zip(managers).map(manager).chain([asker]);
    format!("framework = \"{}\"\n{}", crate::generate::FRAMEWORK, hosts.collect::<String>())
}

/// A port of this machine that nobody uses now.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
