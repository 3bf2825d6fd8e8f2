use listenfd::ListenFd;
use std::{env, io, os::fd::OwnedFd};
use thiserror::Error;

/// Sockets that are taken: as many as a process may have open where nobody has raised its limit.
const MAX_SOCKETS: usize = 1024;

/// A listening socket that the service manager opened and keeps open, whatever becomes of this process.
#[derive(Debug)]
pub struct Activated {
    /// What the service manager calls it (`FileDescriptorName=`), for messages.
    pub name: String,
    /// The socket: TCP, or a unix stream.
    pub socket: OwnedFd,
}

/// Why the service manager's sockets cannot be used. They stay open there.
#[derive(Debug, Error)]
pub enum ActivationError {
    /// More than anybody needs.
    #[error(
        "the service manager passes {0} sockets, more than {MAX_SOCKETS}; remove some from the socket unit"
    )]
    TooMany(String),
    /// Not something that callers connect to.
    #[error(
        "the service manager passes {name}, which is neither a TCP socket nor a unix stream; correct the socket unit: \
         ListenStream= is what is taken"
    )]
    Kind {
        /// What the service manager calls it.
        name: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
}

/// The sockets that the service manager passes to this process (`LISTEN_FDS`, systemd.socket(5)); none where it
/// passes none, or passes them to another process. They are marked so that no child gets them.
///
/// To be called once, at the start, before there are other threads: it takes the variables out of the environment.
///
/// # Errors
/// [`ActivationError`].
pub fn activated() -> Result<Vec<Activated>, ActivationError> {
    let count = env::var("LISTEN_FDS").unwrap_or_default();
    if count.parse::<usize>().is_ok_and(|count| count > MAX_SOCKETS) {
        return Err(ActivationError::TooMany(count));
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let mut passed = ListenFd::from_env();
    (0..passed.len())
        .map(|number| {
            let name = names.next().map_or_else(|| format!("socket {}", number + 1), str::to_owned);
            match take(&mut passed, number) {
                Ok(socket) => Ok(Activated { name, socket }),
                Err(source) => Err(ActivationError::Kind { name, source }),
            }
        })
        .collect()
}

fn take(passed: &mut ListenFd, number: usize) -> io::Result<OwnedFd> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    if let Ok(tcp) = passed.take_tcp_listener(number) {
        return tcp.map(OwnedFd::from).ok_or_else(gone);
    }
    passed.take_unix_listener(number)?.map(OwnedFd::from).ok_or_else(gone)
}
