//! What this host does when a route leads elsewhere: renders files and runs commands, as its own settings say.

mod claims;
mod faults;
mod file;
mod rule;
mod state;
mod teller;
mod template;
mod watcher;

pub use rule::{OnChange, OnChangeError, OnChanges, Rendering};
pub(crate) use watcher::Reactions;
