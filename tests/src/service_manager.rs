//! What systemd is to a service: a socket that it tells how it is (sd_notify(3)), and who watches it.

use crate::{DEADLINE, Sandbox};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Longest message that is taken.
const MAX_MESSAGE: usize = 4096;

/// The socket of one service.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl ServiceManager {
    /// For the service of this name.
    pub fn new(sandbox: &Sandbox, name: &str) -> Self {
        let path = sandbox.path(&format!("{name}.notify"));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, path }
    }

    /// Has a process tell it how it is, and twice in each `watchdog` that it lives.
    pub fn watch(&self, command: &mut Command, watchdog: Duration) {
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    }

    /// The next message, whatever it is.
    #[track_caller]
    pub fn hear(&self) -> String {
        let mut buffer = [0; MAX_MESSAGE];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => return String::from_utf8(buffer[..length].to_vec()).unwrap(),
                // By a signal to this process, such as the end of another test's child.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the service says nothing: {error}"),
            }
        }
    }

    /// The next message that is no mere sign of life.
    #[track_caller]
    pub fn hear_news(&self) -> String {
        loop {
            let message = self.hear();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }

    /// Whether it was told anything that was not read yet.
    pub fn was_told(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let told = self.socket.recv(&mut [0; MAX_MESSAGE]).is_ok();
        self.socket.set_nonblocking(false).unwrap();
        told
    }
}
