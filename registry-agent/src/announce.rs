//! What this host announces of its own packages: kept on disk, used at once, told to a registry manager.

mod announcer;
mod file;
mod offer;

pub(crate) use announcer::{AnnounceError, Announcer, Held, Outcome};
