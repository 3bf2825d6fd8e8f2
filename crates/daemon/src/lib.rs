//! Gives every process its configuration, logs, counted tasks, shutdown and exit codes.
//!
//! A leaf: it knows nothing of domains, hosts or managers. A binary uses it in this order:
//!
//! ```no_run
//! use echelon_daemon::{Exit, LogArgs, LogConfig, StateDir, Tasks, config, notify, shutdown};
//! use std::{path::Path, time::Duration};
//!
//! #[derive(Default, serde::Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct File {
//!     listen: Option<String>,
//!     log: LogConfig,
//! }
//!
//! # async fn run(flag: Option<String>, log: LogArgs) -> Result<Exit, Box<dyn std::error::Error>> {
//! let file: File = config::load_or_default(None, Path::new("/etc/echelon/agent.toml"))?;
//! log.start(&file.log)?;
//! let listen = config::layered(flag, file.listen, "127.0.0.1:29122".to_owned());
//! let state = StateDir::open(Path::new("/var/lib/echelon/agent"), false)?;
//!
//! let tasks = Tasks::new();
//! let mut hangups = shutdown::on_signals(&tasks)?;
//! let stop = tasks.shutdown();
//! tasks.spawn("listener", async move { stop.cancelled().await });
//! notify::watchdog(&tasks, || async { /* ask the main parts */ });
//! notify::ready();
//!
//! tasks.shutdown().cancelled().await;
//! notify::stopping();
//! tasks.drain(Duration::from_secs(10)).await?;
//! # let _ = (listen, state, hangups.next().await);
//! Ok(tasks.exit())
//! # }
//! ```

mod activation;
mod bounded;
pub mod config;
mod duration;
pub mod exec;
mod exit;
mod given;
pub mod help;
mod log;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod notify;
pub mod patience;
mod retry;
pub mod secret;
pub mod shutdown;
mod state_dir;
mod tasks;
#[cfg(test)]
mod test_child;
mod text;
mod unix_socket;

pub use activation::{Activated, ActivationError, activated};
pub use config::ConfigError;
pub use duration::{HumanDuration, ParseDurationError};
pub use exit::Exit;
pub use given::{GivenError, GivenSecret};
pub use log::{Log, LogArgs, LogConfig, LogError, LogFormat};
pub use retry::retry_after;
pub use secret::SecretError;
pub use state_dir::{StateDir, StateDirError, create_private_dir};
pub use tasks::{DrainError, Tasks};
pub use text::shell_word;
pub use unix_socket::{BindUnixError, bind_unix};
