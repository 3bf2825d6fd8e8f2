//! A machine of a test's own: systemd as its first process, over a copy of this machine's files that goes with it.

use crate::binaries::{binaries, workspace};
use crate::skip::{have, skipped};
use crate::{Process, Sandbox, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Command;

/// Whether this user may have mounts of their own, and overlays among them. `$0` is an empty directory.
const TRIAL: &str = "mount -t tmpfs tmpfs $0 && mkdir $0/upper $0/work $0/root &&
mount -t overlay overlay -o lowerdir=/,upperdir=$0/upper,workdir=$0/work $0/root";

/// Where the workspace is on the machine.
const SOURCES: &str = "/mnt";

/// Has mounts that nobody else sees and that go with the process.
const UNSHARE: [&str; 5] = ["--mount", "--propagation", "private", "sh", "-c"];

/// A machine that has started. It has a network of its own, with loopback alone, the binaries in `/usr/local/bin`, and
/// the workspace as the working directory of what is run on it. It ends with the test.
#[derive(Debug)]
pub struct Machine {
    /// Its first process, as this machine numbers it.
    init: Pid,
    _container: Process,
}

impl Machine {
    /// One for the test `name`; says so where this machine cannot have any.
    pub fn boot(name: &str, sandbox: &Sandbox) -> Option<Self> {
        let directory = sandbox.path("machine");
        fs::create_dir(&directory).unwrap();
        let mounted = [&UNSHARE[..], &[TRIAL, directory.to_str().unwrap()]].concat();
        if !have(name, "systemd-nspawn", &["--version"]) || !have(name, "unshare", &mounted) {
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(UNSHARE).arg(format!("{TRIAL} && exec systemd-nspawn \"$@\"")).arg(&directory);
        command.args(["--quiet", "--register=no", "--keep-unit", "--private-network", "--link-journal=no"]);
        command.arg(format!("--directory={}/root", directory.display())).arg("--machine=echelon");
        command.arg(format!("--bind-ro={}:{SOURCES}", workspace().display()));
        for program in ["registry-manager", "registry-agent", "echelon"] {
            let built = binaries().directory().join(program);
            command.arg(format!("--bind-ro={}:/usr/local/bin/{program}", built.display()));
        }
        // What this machine starts besides, such as databases, has no business on it.
        command.args(["--boot", "--", "--unit=basic.target"]).stdin(std::process::Stdio::null());
        let mut container = Process::spawn("machine", command, &sandbox.logs());
        let init = wait_for("the machine's first process", || match first_process(container.id()) {
            Some(init) => Ok(Some(init)),
            None if container.is_running() => Err("not there yet"),
            None => Ok(None),
        });
        let Some(init) = init else {
            skipped(name, &format!("systemd does not start in a container here: {}", container.log().trim()));
            return None;
        };
        let machine = Self { init, _container: container };
        wait_for("the machine to be up", || machine.attempt("systemctl is-active basic.target"));
        Some(machine)
    }

    /// What a command of the shell says as root on the machine.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn run(&self, command: &str) -> String {
        self.attempt(command).unwrap_or_else(|said| panic!("{command}: {said}"))
    }

    /// What it says, or everything that it said where it fails.
    pub fn attempt(&self, command: &str) -> Result<String, String> {
        let mut enter = Command::new("nsenter");
        enter.args(["--all", "--target", &self.init.as_raw_nonzero().to_string()]);
        enter.args(["bash", "-c", &format!("cd {SOURCES} && {command}")]);
        enter.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let output = enter.env("HOME", "/root").stdin(std::process::Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        if output.status.success() {
            return Ok(said);
        }
        Err(format!("{} {said} {}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Machine {
    /// With its first process all others end.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "---- journal of the machine ----\n{}",
                self.attempt("journalctl --no-pager -n 60").unwrap_or_default()
            );
        }
        // It may have ended already.
        let _ = kill_process(self.init, Signal::KILL);
    }
}

/// The child of a process of one thread that has become systemd.
fn first_process(parent: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let is_systemd = |child: &&str| {
        fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name == "systemd\n")
    };
    Pid::from_raw(children.split_whitespace().find(is_systemd)?.parse().ok()?)
}
