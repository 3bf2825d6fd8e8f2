//! Topologies of a given size, the same in every run.

use crate::random::{Random, SEED};
use echelon_core::registry::Registry;
use std::fmt::Write;

/// The framework of every generated topology.
pub const FRAMEWORK: &str = "acme";

/// The types that managers are of, the first ones first.
pub const TYPES: [&str; 5] = ["command-control", "audit", "telemetry", "storage", "scheduler"];

/// How large a topology is.
///
/// Its domains are a tree of three levels below the root in which every domain has as many subdomains as any
/// other, as far as the number allows. Hosts lie in domains at random. The first hosts carry the managers.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many domains, the root included.
    pub domains: usize,
    /// How many hosts.
    pub hosts: usize,
    /// How many managers.
    pub managers: usize,
    /// Of how many types they are; at most [`TYPES`]. The first manager is of the first type, and so on.
    pub types: usize,
    /// How many managers a host carries that carries any; at most `types`.
    pub per_host: usize,
}

impl Shape {
    /// What an agent's replica holds in these benchmarks: 2,000 managers of 5 types, each on a host of its own.
    pub const VIEW: Self = Self { domains: 500, hosts: 2_000, managers: 2_000, types: 5, per_host: 1 };

    /// A whole framework: 100,000 hosts in 5,000 domains with 500 managers of 5 types.
    pub const FRAMEWORK: Self = Self { domains: 5_000, hosts: 100_000, managers: 500, types: 5, per_host: 1 };

    /// The topology file.
    pub fn to_toml(&self) -> String {
        let paths = self.paths();
        let mut random = Random::new(SEED);
        let mut toml = format!("framework = \"{FRAMEWORK}\"\n");
        for host in 0..self.hosts {
            let domain = &paths[random.below(paths.len())];
            let [_, a, b, c] = (host as u32).to_be_bytes();
            let name = host_name(host);
            writeln!(toml, "\n[[host]]\nname = \"{name}\"\ndomain = \"{domain}\"").unwrap();
            writeln!(toml, "address = \"10.{a}.{b}.{c}\"").unwrap();
            let managers =
                (host * self.per_host..(host + 1) * self.per_host).take_while(|m| *m < self.managers);
            let packages: Vec<_> = managers
                .map(|m| format!("\"{}:{}\"", TYPES[m % self.types], 7000 + m % self.types))
                .collect();
            if !packages.is_empty() {
                writeln!(toml, "packages = [{}]", packages.join(", ")).unwrap();
            }
        }
        toml
    }

    /// The registry that the file describes.
    pub fn to_registry(&self) -> Registry {
        let topology = echelon_topology::parse("generated", self.to_toml().as_bytes()).unwrap();
        echelon_topology::to_registry(&topology)
    }

    /// The paths of all domains; each comes after its parent.
    pub fn paths(&self) -> Vec<String> {
        let fan = (1..).find(|fan| 1 + fan + fan * fan + fan * fan * fan >= self.domains).unwrap_or(1);
        let mut paths = vec!["/".to_owned()];
        for domain in 1..self.domains {
            let parent = paths[(domain - 1) / fan].trim_end_matches('/');
            paths.push(format!("{parent}/d{domain}"));
        }
        paths
    }
}

/// The name of a generated host.
pub fn host_name(host: usize) -> String {
    format!("host-{host:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_is_as_large_as_it_says_and_the_same_each_time() {
        let shape = Shape { domains: 40, hosts: 60, managers: 20, types: 5, per_host: 2 };
        let registry = shape.to_registry();
        assert_eq!((registry.host_count(), registry.manager_count()), (60, 20));
        assert_eq!(registry.packages_of(&TYPES[4].parse().unwrap()).count(), 4);
        assert_eq!(shape.paths().last().unwrap().matches('/').count(), 3);
        assert_eq!(shape.to_toml(), shape.to_toml());
    }
}
