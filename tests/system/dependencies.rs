//! The direction of dependencies, as docs/architecture.md draws it, read from `cargo metadata`.

use echelon_tests::binaries::cargo;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Normal dependencies of all packages that a default build for this machine resolves.
struct Graph {
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<String>>,
    members: BTreeSet<String>,
}

impl Graph {
    fn load() -> Self {
        let output = cargo("metadata").args(["--format-version=1", "--offline"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let normal = |dependency: &Value| {
            let kinds = list(&dependency["dep_kinds"]);
            kinds.iter().any(|kind| kind["kind"].is_null())
        };
        let edges = list(&metadata["resolve"]["nodes"]).into_iter().map(|node| {
            let dependencies = list(&node["deps"]).into_iter().filter(normal).map(|d| text(&d["pkg"]));
            (text(&node["id"]), dependencies.collect())
        });
        let packages = list(&metadata["packages"]);
        let names = packages.iter().map(|package| (text(&package["id"]), text(&package["name"])));
        let members = list(&metadata["workspace_members"]).iter().map(text).collect();
        Self { edges: edges.collect(), names: names.collect(), members }
    }

    fn name<'a>(&'a self, id: &str) -> &'a str {
        &self.names[id]
    }

    fn direct(&self, package: &str) -> BTreeSet<&str> {
        let member = self.members.iter().find(|id| self.name(id) == package);
        let id = member.unwrap_or_else(|| panic!("{package} is no member"));
        self.edges[id].iter().map(|id| self.name(id)).collect()
    }

    /// The members that depend on a package directly.
    fn users(&self, package: &str) -> BTreeSet<&str> {
        let members = self.members.iter().map(|id| self.name(id));
        members.filter(|member| self.direct(member).contains(package)).collect()
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("echelon-") || name.starts_with("registry-")
}

/// Core decides and does nothing else: whatever would let it wait, speak or write is not at hand. The
/// graph has a rule for every crate of the workspace.
#[test]
fn dependencies_point_in_the_drawn_direction() {
    let graph = Graph::load();
    let ours = |package: &str| -> BTreeSet<&str> {
        graph.direct(package).into_iter().filter(|name| is_ours(name)).collect()
    };
    let rules: [(&str, &[&str]); 15] = [
        ("echelon-core", &[]),
        ("echelon-daemon", &[]),
        ("echelon-topology", &["echelon-core"]),
        ("echelon-wire", &["echelon-core"]),
        ("echelon-identity", &["echelon-core", "echelon-wire"]),
        ("echelon-store", &["echelon-core", "echelon-wire"]),
        ("echelon-transport", &["echelon-core", "echelon-identity", "echelon-wire"]),
        ("echelon-client", &["echelon-core", "echelon-identity", "echelon-transport", "echelon-wire"]),
        (
            "echelon-console",
            &["echelon-client", "echelon-core", "echelon-daemon", "echelon-identity", "echelon-topology"],
        ),
        ("registry-manager", &LOWER),
        ("registry-agent", &AGENT),
        ("echelon-lab", &ALL),
        ("echelon-examples", &ALL),
        ("echelon-tests", &ALL),
        ("echelon-bench", &ALL),
    ];
    let rules = BTreeMap::from(rules);
    for member in graph.members.iter().map(|id| graph.name(id)) {
        let allowed = rules.get(member).unwrap_or_else(|| panic!("no rule for {member}"));
        for used in ours(member) {
            assert!(allowed.contains(&used), "{member} may not depend on {used}");
        }
    }
    assert_eq!(graph.users("echelon-tests"), BTreeSet::new());
}

/// What managers and agents are built on.
const LOWER: [&str; 6] = [
    "echelon-core",
    "echelon-daemon",
    "echelon-identity",
    "echelon-store",
    "echelon-transport",
    "echelon-wire",
];

/// The same for agents, which also read what their host's programs announce: packages are written there as in a
/// topology file.
const AGENT: [&str; 7] = [
    "echelon-core",
    "echelon-daemon",
    "echelon-identity",
    "echelon-store",
    "echelon-topology",
    "echelon-transport",
    "echelon-wire",
];

/// What drives the whole may use the whole, but the tests.
const ALL: [&str; 12] = [
    "echelon-client",
    "echelon-console",
    "echelon-core",
    "echelon-daemon",
    "echelon-identity",
    "echelon-lab",
    "echelon-store",
    "echelon-topology",
    "echelon-transport",
    "echelon-wire",
    "registry-agent",
    "registry-manager",
];

/// All that a package is built with by itself, however far away; features that others turn on do not count.
fn built_with(package: &str, arguments: &[&str]) -> BTreeSet<String> {
    let mut tree = cargo("tree");
    tree.args(["--offline", "-e", "normal", "--prefix", "none", "--format", "{p}", "-p", package]);
    let output = tree.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split_whitespace().next()).map(ToOwned::to_owned).collect()
}

/// What a crate must be able to be built without. A program that only asks the agent beside it takes
/// neither QUIC nor TLS along.
#[test]
fn crates_are_free_of_what_they_have_no_business_with() {
    let all = ["--all-features"].as_slice();
    let none = ["--no-default-features"].as_slice();
    let without: [(&str, &[&str], &[&str]); 6] = [
        (
            "echelon-core",
            all,
            &["tokio", "mio", "quinn", "rustls", "rusqlite", "tracing", "rand", "getrandom"],
        ),
        ("echelon-topology", all, &["tokio", "quinn", "rusqlite"]),
        ("echelon-wire", none, &["tokio", "quinn", "rusqlite"]),
        ("echelon-identity", all, &["tokio", "quinn", "rusqlite"]),
        ("echelon-console", all, &["rusqlite", "echelon-store", "registry-manager", "registry-agent"]),
        (
            "echelon-client",
            none,
            &["quinn", "quinn-proto", "rustls", "ring", "rcgen", "echelon-transport", "rusqlite"],
        ),
    ];
    for (package, arguments, unwanted) in without {
        let used = built_with(package, arguments);
        assert!(used.contains(package) && used.len() > 5, "{package}: {used:?}");
        for name in unwanted {
            assert!(!used.contains(*name), "{package} is built with {name}");
        }
    }
}

/// Each outside crate of weight has one owner, which is where it can be exchanged.
#[test]
fn owned_dependencies_have_one_user() {
    let graph = Graph::load();
    let owners = [
        ("quinn", "echelon-transport"),
        ("rustls", "echelon-transport"),
        ("rusqlite", "echelon-store"),
        ("rcgen", "echelon-identity"),
        ("petgraph", "echelon-core"),
        ("prost", "echelon-wire"),
    ];
    for (dependency, owner) in owners {
        assert_eq!(graph.users(dependency), BTreeSet::from([owner]), "users of {dependency}");
    }
}
