//! From the bytes of a file to a [`Topology`].

use crate::document::{self, Node};
use crate::fault::{Fault, TopologyError};
use crate::problems::{Problems, alone};
use crate::topology::{HostEntry, Topology};
use echelon_core::name::{DomainPath, FrameworkName, HostName, ManagerType};
use echelon_core::policy::TypeSelector;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Most bytes of a file: 100,000 hosts with four packages each, written out, take about 25 MB; the TOML
/// parser may need a hundred times the file, in memory, for text that is all brackets.
pub const MAX_INPUT: usize = 32 << 20;

const FILE_KEYS: &[&str] = &["format", "framework", "domain", "policy", "host"];
const DOMAIN_KEYS: &[&str] = &["path"];
const HOST_KEYS: &[&str] = &["name", "domain", "address", "packages", "package"];

/// Reads a topology file, TOML or JSON; `file` is what the caller calls it, for errors.
///
/// # Errors
/// The first fault of the syntax; or else everything that is wrong, up to a limit, each with its line and
/// column.
pub fn parse(file: &str, input: &[u8]) -> Result<Topology, TopologyError> {
    let text = decode(file, input)?;
    let document =
        document::read(file, text).map_err(|(at, fault)| alone(file, text.as_bytes(), at, fault))?;
    let mut reader = Reader::new(text);
    let topology = reader.file(&document);
    reader.problems.finish(file)?;
    let unnamed = Fault::Missing { table: "the file", key: "framework", example: "\"acme\"" };
    topology.ok_or_else(|| alone(file, text.as_bytes(), 0, unnamed))
}

/// The text of a file, without the byte order mark that some editors put first.
pub(crate) fn decode<'i>(file: &str, input: &'i [u8]) -> Result<&'i str, TopologyError> {
    let input = input.strip_prefix("\u{feff}".as_bytes()).unwrap_or(input);
    let fail = |at, fault| Err(alone(file, input, at, fault));
    if input.len() > MAX_INPUT {
        return fail(0, Fault::TooLarge { bytes: input.len(), most: MAX_INPUT });
    }
    let text = match std::str::from_utf8(input) {
        Ok(text) => text,
        Err(e) => return fail(e.valid_up_to(), Fault::NotUtf8),
    };
    let control = |b: &u8| b.is_ascii_control() && !matches!(b, b'\n' | b'\r' | b'\t');
    match input.iter().position(control) {
        Some(at) => fail(at, Fault::Control(char::from(input.get(at).copied().unwrap_or_default()))),
        None => Ok(text),
    }
}

/// Reads a document, and remembers where things were that may be there once.
pub(crate) struct Reader<'i> {
    pub(crate) problems: Problems<'i>,
    domains: BTreeMap<DomainPath, usize>,
    hosts: BTreeMap<HostName, usize>,
    pub(crate) policies: BTreeMap<(DomainPath, TypeSelector), usize>,
    pub(crate) primaries: BTreeMap<ManagerType, usize>,
}

impl<'i> Reader<'i> {
    pub(crate) fn new(text: &'i str) -> Self {
        let problems = Problems::new(text);
        let (domains, hosts) = Default::default();
        let (policies, primaries) = Default::default();
        Self { problems, domains, hosts, policies, primaries }
    }

    fn file(&mut self, document: &Node<'_>) -> Option<Topology> {
        let entries = self.problems.table("the file", document, "a table: { \"framework\": … }")?;
        self.problems.require(document.at, entries, ("the file", "framework", "\"acme\""));
        let mut framework = None;
        let (mut domains, mut policies, mut hosts) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            let node = &entry.node;
            match &*entry.key {
                "format" => self.format(node),
                "framework" => framework = self.problems.name::<FrameworkName>("framework", node),
                "domain" => domains = self.each("domain", DOMAINS, node, Self::domain),
                "policy" => policies = self.each("policy", POLICIES, node, Self::policy),
                "host" => hosts = self.each("host", HOSTS, node, Self::host),
                _ => self.problems.unknown_key(entry, "the file", FILE_KEYS),
            }
        }
        Some(Topology { framework: framework?, domains, policies, hosts })
    }

    fn format(&mut self, node: &Node<'_>) {
        let number = self.problems.number("format", node, (0, u32::MAX));
        if let Some(found) = number.filter(|n| *n != 1) {
            let _: Option<()> = self.problems.note(node.at, Fault::Format { found: found.to_string() });
        }
    }

    /// Reads each table of a list of tables.
    pub(crate) fn each<T>(
        &mut self,
        key: &'static str,
        wanted: &'static str,
        node: &Node<'_>,
        read: fn(&mut Self, &Node<'_>) -> Option<T>,
    ) -> Vec<T> {
        let items = self.problems.list(key, node, wanted);
        items.iter().filter_map(|item| read(self, item)).collect()
    }

    fn domain(&mut self, node: &Node<'_>) -> Option<DomainPath> {
        let entries = self.problems.table("domain", node, DOMAINS)?;
        self.problems.require(node.at, entries, ("domain", "path", "\"/emea/de\""));
        let mut path = None;
        for entry in entries {
            match &*entry.key {
                "path" => path = self.problems.name("path", &entry.node),
                _ => self.problems.unknown_key(entry, "domain", DOMAIN_KEYS),
            }
        }
        let path: DomainPath = path?;
        match first_at(&mut self.domains, path.clone(), node.at) {
            None => Some(path),
            Some(earlier) => self.problems.duplicate(node.at, format!("domain {path}"), earlier),
        }
    }

    fn host(&mut self, node: &Node<'_>) -> Option<HostEntry> {
        let entries = self.problems.table("host", node, HOSTS)?;
        self.problems.require(node.at, entries, ("host", "name", "\"agent1\""));
        let (mut name, mut domain, mut address) = (None, None, None);
        let (mut short, mut long) = (Vec::new(), Vec::new());
        for entry in entries {
            let node = &entry.node;
            match &*entry.key {
                "name" => name = self.problems.name("name", node).map(|name: HostName| (name, node.at)),
                "domain" => domain = self.problems.name("domain", node),
                "address" => address = self.problems.name("address", node),
                "packages" => short = self.short_packages(node),
                "package" => long = self.each("package", PACKAGES, node, Self::package),
                _ => self.problems.unknown_key(entry, "host", HOST_KEYS),
            }
        }
        let (name, at) = name?;
        if let Some(earlier) = first_at(&mut self.hosts, name.clone(), at) {
            return self.problems.duplicate(at, format!("host {name}"), earlier);
        }
        let packages = self.packages_of(&name, at, short.into_iter().chain(long).collect());
        Some(HostEntry { name, domain, address, packages })
    }
}

/// Where `key` was before, if it was; else notes that it was first at `at`.
pub(crate) fn first_at<K: Ord>(seen: &mut BTreeMap<K, usize>, key: K, at: usize) -> Option<usize> {
    match seen.entry(key) {
        Entry::Occupied(earlier) => Some(*earlier.get()),
        Entry::Vacant(free) => {
            free.insert(at);
            None
        }
    }
}

const DOMAINS: &str = "a list of tables, each begun with [[domain]]";
const POLICIES: &str = "a list of tables, each begun with [[policy]]";
const HOSTS: &str = "a list of tables, each begun with [[host]]";
const PACKAGES: &str = "a list of tables, each begun with [[host.package]], or packages = [\"audit:7001\"]";

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
