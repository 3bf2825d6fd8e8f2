//! A network of a test's own, in which packets can be lost.

use crate::binaries::{GIVEN, binaries};
use crate::skip::{have, skipped};
use std::env;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "ECHELON_TEST_NAMESPACE";

/// Of the network beyond the cable.
const PREFIX: u8 = 24;

/// Where `ip` is on systems that keep it out of users' paths.
const SBIN: &str = "/usr/sbin/ip";

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

    /// Lays the cable in a namespace, plugged in.
    fn lay() -> Self {
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

    /// Every packet is lost from now on.
    pub fn pull(&self) {
        ip(&format!("addr del {}/32 dev cable", Self::FAR));
    }

    /// Packets arrive again.
    pub fn plug(&self) {
        ip(&format!("addr add {}/32 dev cable", Self::FAR));
    }
}

fn program() -> &'static str {
    if Path::new(SBIN).exists() { SBIN } else { "ip" }
}

fn ip(line: &str) {
    let output = Command::new(program()).args(line.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {line}: {output:?}");
}

/// Runs the test `name` (its full path) again in a network namespace of its own, and there `test`. Where
/// that cannot be, says so.
pub fn in_namespace(name: &str, test: impl FnOnce(&Cable)) {
    if env::var_os(INSIDE).is_some() {
        return test(&Cable::lay());
    }
    const UNSHARE: [&str; 2] = ["--user", "--map-root-user"];
    let make = "link add cable type veth peer name far";
    let words = ["--net", program()].into_iter().chain(make.split_whitespace());
    let trial: Vec<_> = UNSHARE.into_iter().chain(words).collect();
    if !have(name, "unshare", &trial) {
        return;
    }
    let Ok(this) = env::current_exe() else { return skipped(name, "this program is not found") };
    let mut again = Command::new("unshare");
    again.args(UNSHARE).arg("--net").arg(this).args(["--exact", name, "--nocapture"]);
    again.env(INSIDE, "1").env(GIVEN, binaries().directory());
    let output = again.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "inside the namespace:\n{}\n{}", said[0], said[1]);
    assert!(said[0].contains("1 passed"), "the test did not run inside: {said:?}");
}
