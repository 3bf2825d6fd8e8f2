//! What systemd does for a service with a socket unit: it holds the listening sockets, and starts the service again
//! whenever it ends.

use crate::{Process, Sandbox};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks at the service.
const LOOK: Duration = Duration::from_millis(1);

/// Has two sockets passed to a program as systemd passes them: from descriptor 3 on, with the process id of the program
/// itself. They come as standard input and output, because nothing else is inherited.
const PASS: &str =
    "exec 3<&0 4<&1 </dev/null >&2; LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=one:two exec \"$0\" \"$@\"";

/// A service that is started again whenever it ends, with the same sockets.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    starts: AtomicU32,
    running: Mutex<Option<Process>>,
}

impl Supervisor {
    /// Starts the service. `sockets` are two that listen; its environment is that of `command`.
    pub fn start(sandbox: &Sandbox, name: &str, command: &Command, sockets: [OwnedFd; 2]) -> Self {
        let shared = Arc::new(Shared::default());
        let service =
            Service { name: name.to_owned(), logs: sandbox.logs(), template: template(command), sockets };
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || service.keep_running(&shared)
        });
        let this = Self { shared, thread: Some(thread) };
        crate::wait_until("the service to be started", || this.starts() > 0);
        this
    }

    /// How many times it was started.
    pub fn starts(&self) -> u32 {
        self.shared.starts.load(Ordering::SeqCst)
    }

    /// Does something with the process that runs.
    pub fn with<T>(&self, act: impl FnOnce(&mut Process) -> T) -> T {
        act(self.shared.running.lock().unwrap().as_mut().expect("it was started"))
    }

    /// Ends it for good: with its process, the sockets are closed.
    pub fn end(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Program, arguments and environment, which a command gives only once.
type Template = (PathBuf, Vec<std::ffi::OsString>, Vec<(std::ffi::OsString, std::ffi::OsString)>, PathBuf);

struct Service {
    name: String,
    logs: PathBuf,
    template: Template,
    sockets: [OwnedFd; 2],
}

impl Service {
    fn keep_running(&self, shared: &Shared) {
        while !shared.over.load(Ordering::SeqCst) {
            let mut running = shared.running.lock().unwrap();
            if running.as_mut().is_none_or(|process| !process.is_running()) {
                *running = Some(self.spawn().unwrap());
                shared.starts.fetch_add(1, Ordering::SeqCst);
            }
            drop(running);
            std::thread::sleep(LOOK);
        }
        *shared.running.lock().unwrap() = None;
    }

    fn spawn(&self) -> io::Result<Process> {
        let (program, arguments, environment, directory) = &self.template;
        let mut command = Command::new("bash");
        command.args(["-c", PASS]).arg(program).args(arguments);
        command.env_clear().envs(environment.iter().cloned()).current_dir(directory);
        let [one, two] = &self.sockets;
        command.stdin(Stdio::from(one.try_clone()?)).stdout(Stdio::from(two.try_clone()?));
        Ok(Process::spawn_with_output(&self.name, command, &self.logs))
    }
}

fn template(command: &Command) -> Template {
    let arguments = command.get_args().map(ToOwned::to_owned).collect();
    let set = command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    let directory = command.get_current_dir().unwrap_or(Path::new("/")).to_owned();
    (command.get_program().into(), arguments, set.collect(), directory)
}
