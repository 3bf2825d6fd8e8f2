//! The shipped binaries, built for release.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Names the directory with the binaries, where they are not to be built.
pub const GIVEN: &str = "ECHELON_BENCH_BINARIES";

/// Where the binaries are. The first call builds them.
pub fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| Binaries(env::var_os(GIVEN).map_or_else(build, PathBuf::from)))
}

/// A directory with the binaries.
#[derive(Debug)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// `registry-manager`.
    pub fn manager(&self) -> Command {
        self.command("registry-manager")
    }

    /// `registry-agent`.
    pub fn agent(&self) -> Command {
        self.command("registry-agent")
    }

    /// `echelon`.
    pub fn console(&self) -> Command {
        self.command("echelon")
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// A command that sees nothing of the user's own settings.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.0.join(name));
        command.env_clear().env("HOME", "/nonexistent").env("PATH", env::var_os("PATH").unwrap_or_default());
        command
    }
}

/// Builds into the directory that this benchmark was built into: `TARGET/release/deps/NAME`.
fn build() -> PathBuf {
    let target = env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    // What cargo says of this package is untrue of what is built here.
    for name in env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()) {
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    // By name: in the directory of a package cargo builds that package alone.
    let packages = ["registry-manager", "registry-agent", "echelon-console"];
    cargo.args(["build", "--locked", "--release", "--bins", "--target-dir"]).arg(&target);
    cargo.args(packages.iter().flat_map(|name| ["-p", name]));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    assert!(cargo.status().unwrap().success(), "cargo did not build the binaries");
    target.join("release")
}
