//! The shipped binaries, built once.

use serde_json::Value;
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Names the directory with the binaries, for a test that runs itself again where it cannot build.
pub const GIVEN: &str = "ECHELON_TEST_BINARIES";

/// What cargo tells a test of the package it belongs to. It is untrue of what the nested build builds, and
/// would make build scripts that look at it run again.
const OF_THIS_PACKAGE: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "LD_LIBRARY_PATH"];

/// Where the binaries are.
#[derive(Debug)]
pub struct Binaries {
    /// `registry-manager`.
    pub manager: PathBuf,
    /// `registry-agent`.
    pub agent: PathBuf,
    /// `echelon`.
    pub console: PathBuf,
    /// `echelon-lab`.
    pub lab: PathBuf,
}

/// The binaries, of the profile that the tests are built with. The first call builds them, where cargo
/// has not done so already; cargo locks its target directory, so that several test processes may ask at
/// once.
pub fn binaries() -> &'static Binaries {
    // A failure is kept too: it would be the same for every test.
    static BUILT: OnceLock<Result<Binaries, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match env::var_os(GIVEN) {
        Some(directory) => Binaries::find(&|name| Some(Path::new(&directory).join(name))),
        None => {
            let built = build()?;
            Binaries::find(&|name| built.get(name).cloned())
        }
    });
    built.as_ref().unwrap_or_else(|why| panic!("{why}"))
}

impl Binaries {
    fn find(path: &dyn Fn(&str) -> Option<PathBuf>) -> Result<Self, String> {
        let find = |name: &str| {
            path(name).filter(|path| path.exists()).ok_or_else(|| format!("cargo built no {name}"))
        };
        Ok(Self {
            manager: find("registry-manager")?,
            agent: find("registry-agent")?,
            console: find("echelon")?,
            lab: find("echelon-lab")?,
        })
    }

    /// The directory they are all in.
    pub fn directory(&self) -> &Path {
        self.manager.parent().unwrap()
    }
}

/// The executable of an example, which is built with the binaries.
pub fn example(name: &str) -> PathBuf {
    let path = binaries().directory().join("examples").join(name);
    assert!(path.exists(), "there is no {}; build it with: cargo build --examples", path.display());
    path
}

/// The workspace's directory.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Cargo, for the workspace.
pub fn cargo(subcommand: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if OF_THIS_PACKAGE.iter().any(|prefix| name.starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    cargo.arg(subcommand).arg("--locked").current_dir(workspace());
    cargo
}

/// The directory that this test was built into: `TARGET/PROFILE/deps/NAME`.
fn target_directory() -> PathBuf {
    env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

fn build() -> Result<BTreeMap<String, PathBuf>, String> {
    let mut cargo = cargo("build");
    cargo.args(["--bins", "--examples", "--message-format=json", "--target-dir"]).arg(target_directory());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    if !output.status.success() {
        return Err(format!("cargo did not build the binaries: {}", output.status));
    }
    let messages = String::from_utf8(output.stdout).unwrap();
    Ok(messages.lines().filter_map(|line| executable(&serde_json::from_str(line).unwrap())).collect())
}

/// Name and path of the executable that one of cargo's messages tells of.
fn executable(message: &Value) -> Option<(String, PathBuf)> {
    let path = message["executable"].as_str()?;
    Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
}
