//! Taking over from the process that runs already, so that no caller notices an upgrade.
//!
//! The successor connects to a private socket in the state directory (0600; both must be of one user) and says which
//! versions of what follows it speaks. Then:
//!
//! | successor | predecessor |
//! |---|---|
//! | `Hello` | rests: session, replica, announcements and probes. It goes on letting callers in |
//! | | `Offer`, the lock of the state directory and all listening sockets as descriptors |
//! | opens all that it needs, without writing; `Ready` | gives up the private socket, the lock and the sockets' files |
//! | | `Granted` |
//! | serves; `Serving` | lets nobody new in, finishes what is under way, and ends |
//!
//! Callers who wait in a socket's queue are let in by whichever process comes first; they notice nothing. Whatever goes
//! wrong before `Serving`, the predecessor ends the successor for good, so that it can do nothing any more with what it
//! was handed, and takes everything up again. A successor that hears nothing more before `Granted` gives up.

mod message;
mod predecessor;
mod successor;
mod wire;

pub use predecessor::{Predecessor, TakeOverError};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub(crate) use successor::Succession;
pub use successor::TAKE_OVER_FAILED;

/// The socket in a state directory.
const FILE: &str = "take-over.sock";

/// How long a successor may take until it is ready, and then until it serves. It opens a replica in well under a
/// second; meanwhile routes stay as they were.
const PATIENCE: Duration = Duration::from_secs(5);

fn socket(state: &Path) -> PathBuf {
    state.join(FILE)
}
