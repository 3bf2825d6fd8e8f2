//! What a test has to itself: a directory, loopback addresses, a log of every process.

use crate::loopback::Loopback;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;

/// A place of a test's own. When it goes, no log of a process in it may tell of a panic.
#[derive(Debug)]
pub struct Sandbox {
    directory: TempDir,
    loopback: Loopback,
    next: AtomicU8,
}

impl Sandbox {
    /// An empty one.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("echelon-").tempdir().unwrap();
        fs::create_dir(directory.path().join("logs")).unwrap();
        Self { directory, loopback: Loopback::claim(), next: AtomicU8::new(1) }
    }

    /// The path of this name in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where processes log.
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// A loopback address that nobody else on this machine uses.
    pub fn address(&self) -> IpAddr {
        let last = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(last < u8::MAX, "this test uses too many addresses");
        self.address_with(last)
    }

    /// The address of its own that ends in this byte, whoever may have it already.
    pub fn address_with(&self, last: u8) -> IpAddr {
        self.loopback.address(last)
    }

    /// A port on a new address of its own.
    pub fn endpoint(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(), port)
    }

    /// Writes a file into it.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A command that sees nothing of the user's own settings.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.directory.path()).env("RUST_BACKTRACE", "1");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.current_dir(self.directory.path()).stdin(std::process::Stdio::null());
        command
    }

    /// The same command, so that no file it writes can become larger than `kib`: to it the disk is full then.
    /// Logs are files too, and only of errors.
    pub fn with_files_up_to(&self, kib: u32, command: &Command) -> Command {
        let mut shell = self.command("sh".as_ref());
        // The signal that comes with it would end the process, where a full disk gives an error. A block has
        // 512 bytes (POSIX).
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2);
        shell.args(["-c", &script]).arg(command.get_program()).args(command.get_args());
        shell.env("ECHELON_LOG", "error");
        shell
    }

    /// Everything that processes in it have said, by file.
    pub fn all_logs(&self) -> Vec<(PathBuf, String)> {
        let files = fs::read_dir(self.logs()).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.clone(), String::from_utf8_lossy(&fs::read(path).unwrap()).into())).collect()
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for (path, log) in self.all_logs() {
            let panicked = log.to_ascii_lowercase().contains("panicked");
            assert!(!panicked, "{} tells of a panic:\n{log}", path.display());
        }
    }
}
