//! Loopback addresses that stand in for addresses of a network.

use echelon_core::endpoint::Address;
use echelon_core::package::Listens;
use echelon_topology::Topology;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// The first address that is given out. The whole of 127.0.0.0/8 is this machine; people who write loopback
/// addresses by hand stay in 127.0.0.0/16 or nearby, so that these are far from theirs.
const FIRST: u32 = 0x7f40_0001; // 127.64.0.1

/// The last one: four million in all, more than there can be hosts in a lab.
const LAST: u32 = 0x7f7f_fffe; // 127.127.255.254

/// Gives out 127.64.0.1, 127.64.0.2 and so on, but for those that the topology itself uses.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    next: u32,
    taken: BTreeSet<Ipv4Addr>,
}

/// There are more managers than addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the topology has more managers than the lab has loopback addresses: try a part of it")]
pub struct AddressesError;

impl Addresses {
    /// Addresses that the topology does not use.
    pub(crate) fn beside(topology: &Topology) -> Self {
        let of_hosts = topology.hosts.iter().filter_map(|h| h.address.as_ref());
        let packages = topology.hosts.iter().flat_map(|h| &h.packages);
        let of_packages = packages.filter_map(|p| match &p.spec.listens {
            Listens::At(endpoint) => Some(&endpoint.address),
            _ => None,
        });
        let v4 = |address: &Address| match address {
            Address::Ip(ip) => match ip.to_canonical() {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            },
            Address::Name(_) => None,
        };
        Self { next: FIRST, taken: of_hosts.chain(of_packages).filter_map(v4).collect() }
    }

    /// The next one.
    ///
    /// # Errors
    /// There is none left.
    pub(crate) fn next(&mut self) -> Result<Ipv4Addr, AddressesError> {
        while self.next <= LAST {
            let address = Ipv4Addr::from_bits(self.next);
            self.next += 1;
            // Those that end in 0 or 255 look like networks and broadcasts, and only confuse.
            let odd_looking = matches!(address.octets()[3], 0 | 255);
            if !odd_looking && !self.taken.contains(&address) {
                return Ok(address);
            }
        }
        Err(AddressesError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside(text: &str) -> Addresses {
        let text = format!("framework = \"test\"\n{text}");
        Addresses::beside(&echelon_topology::parse("t.toml", text.as_bytes()).unwrap())
    }

    #[test]
    fn addresses_are_distinct_and_none_of_the_topologys() {
        let mut addresses = beside(
            "[[host]]\nname = \"a\"\naddress = \"127.64.0.2\"\n[[host.package]]\ntype = \"x\"\nendpoint = \"127.64.0.3:1\"",
        );
        let given: Vec<_> = (0..600).map(|_| addresses.next().unwrap()).collect();
        assert_eq!(given[0], Ipv4Addr::new(127, 64, 0, 1));
        assert_eq!(given[1], Ipv4Addr::new(127, 64, 0, 4));
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 600);
        assert!(given.iter().all(|ip| ip.is_loopback() && !matches!(ip.octets()[3], 0 | 255)));
    }

    #[test]
    fn an_end_comes_as_an_error() {
        let mut addresses = Addresses { next: LAST, ..beside("") };
        assert_eq!(addresses.next(), Ok(Ipv4Addr::new(127, 127, 255, 254)));
        assert_eq!(addresses.next(), Err(AddressesError));
    }
}
