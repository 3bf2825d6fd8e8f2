//! A cable to another machine, in a network namespace of one's own, that can be pulled.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

/// Of the network beyond the cable.
const PREFIX: u8 = 24;

/// Where `ip` is on systems that keep it out of users' paths.
const SBIN: &str = "/usr/sbin/ip";

/// What makes a namespace in which a cable can be laid, before the command that is to run in it: for root and for
/// users who may have namespaces.
pub const UNSHARE: [&str; 4] = ["unshare", "--user", "--map-root-user", "--net"];

/// A cable to another machine, which plays dead when it is pulled. The address of that machine is this one's
/// own as long as the cable is in; pulled, packets to it leave through the cable and nobody answers: neither
/// with a refusal nor with "unreachable".
#[derive(Debug)]
pub struct Cable(());

impl Cable {
    /// The address at its far end.
    pub const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));

    /// This machine's address at its near end.
    const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));

    /// A command that lays a cable and does nothing else: whether it succeeds after [`UNSHARE`] says whether a cable
    /// can be had on this machine.
    pub fn trial() -> Vec<&'static str> {
        let make = "link add cable type veth peer name far";
        [program()].into_iter().chain(make.split_whitespace()).collect()
    }

    /// Lays the cable in this process's namespace, plugged in.
    ///
    /// # Panics
    /// The namespace is not one of its own, or holds a cable already.
    pub fn lay() -> Self {
        ip("link set lo up");
        ip("link add cable type veth peer name far");
        ip("link set cable up");
        ip("link set far up");
        ip(&format!("addr add {}/{PREFIX} dev cable", Self::NEAR));
        // Nobody has this hardware address, and nobody is asked for the right one.
        ip(&format!("neigh replace {} lladdr 02:00:00:00:00:01 dev cable nud permanent", Self::FAR));
        let cable = Self(());
        cable.plug();
        cable
    }

    /// Every packet is lost from now on, those of open connections as well.
    pub fn pull(&self) {
        ip(&format!("addr del {}/32 dev cable", Self::FAR));
        ip(&format!("route del local {} dev cable table local", Self::FAR));
    }

    /// Packets arrive again.
    pub fn plug(&self) {
        ip(&format!("addr add {}/32 dev cable", Self::FAR));
        // Whoever connects keeps an address of his own when the cable is pulled, as he would on a machine of his own.
        ip(&format!("route replace local {} dev cable table local src {}", Self::FAR, Self::NEAR));
    }
}

fn program() -> &'static str {
    if Path::new(SBIN).exists() { SBIN } else { "ip" }
}

fn ip(line: &str) {
    let output = Command::new(program()).args(line.split_whitespace()).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run ip, of the package iproute2: {e}"));
    assert!(output.status.success(), "ip {line}: {output:?}");
}
