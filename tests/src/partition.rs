//! Cuts between the processes of one machine, in a network namespace of one's own.

use std::net::IpAddr;
use std::process::Command;

/// Where `ip` is on systems that keep it out of users' paths.
const SBIN: &str = "/usr/sbin/ip";

/// Before all other rules.
const CUT: &str = "10";

/// Where the rule goes that has this machine's own addresses; it is before everything else otherwise.
const LOCAL: &str = "100";

/// What is cut in this process's namespace. What is sent from an address that a socket is bound to comes to nothing
/// at once; whoever sends it learns no more than that.
#[derive(Debug, Default)]
pub struct Partition {
    cuts: Vec<(IpAddr, IpAddr)>,
}

impl Partition {
    /// Nothing is cut yet.
    ///
    /// # Panics
    /// The namespace is not one of its own.
    pub fn new() -> Self {
        ip(&format!("rule add pref {LOCAL} lookup local"));
        ip("rule del pref 0");
        Self::default()
    }

    /// Nothing goes from the one to the other any more.
    pub fn cut_one_way(&mut self, from: IpAddr, to: IpAddr) {
        ip(&format!("rule add pref {CUT} from {from} to {to} blackhole"));
        self.cuts.push((from, to));
    }

    /// Nothing goes between the two any more.
    pub fn cut(&mut self, one: IpAddr, other: IpAddr) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Everything gets through again.
    pub fn heal(&mut self) {
        for (from, to) in self.cuts.drain(..) {
            ip(&format!("rule del pref {CUT} from {from} to {to} blackhole"));
        }
    }
}

fn ip(line: &str) {
    let program = if std::path::Path::new(SBIN).exists() { SBIN } else { "ip" };
    let output = Command::new(program).args(line.split_whitespace()).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run ip, of the package iproute2: {e}"));
    assert!(output.status.success(), "ip {line}: {output:?}");
}
