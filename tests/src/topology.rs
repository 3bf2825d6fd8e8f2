//! Topology files, written by tests.

use std::fmt::{Display, Write};
use std::net::IpAddr;

/// The type of manager that tests route to.
pub const TYPE: &str = "command-control";

/// The port of its managers, on their hosts' addresses.
pub const PORT: u16 = 7000;

/// A topology to apply.
#[derive(Clone, Debug, Default)]
pub struct Topology(String);

impl Topology {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets keys of the root's policy, as TOML: `failback_hold = "2s"`.
    #[must_use]
    pub fn policy(self, keys: &str) -> Self {
        self.add(format_args!("[[policy]]\n{keys}\n"))
    }

    /// A host with a manager of [`TYPE`].
    #[must_use]
    pub fn manager(self, name: &str, domain: &str, address: IpAddr) -> Self {
        self.add(format_args!(
            "[[host]]\nname = {name:?}\ndomain = {domain:?}\naddress = \"{address}\"\npackages = [\"{TYPE}:{PORT}\"]\n"
        ))
    }

    /// A host with a manager of [`TYPE`] that is checked so, as TOML: `http = "/healthz"`.
    #[must_use]
    pub fn checked(self, name: &str, domain: &str, address: IpAddr, check: &str) -> Self {
        self.host(name, domain, address)
            .add(format_args!("[[host.package]]\ntype = \"{TYPE}\"\nport = {PORT}\ncheck = {{ {check} }}\n"))
    }

    /// A host without packages.
    #[must_use]
    pub fn host(self, name: &str, domain: &str, address: IpAddr) -> Self {
        self.add(format_args!("[[host]]\nname = {name:?}\ndomain = {domain:?}\naddress = \"{address}\"\n"))
    }

    fn add(mut self, text: impl Display) -> Self {
        write!(self.0, "{text}").unwrap();
        self
    }
}

impl Display for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
