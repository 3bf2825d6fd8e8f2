//! `registry-manager run`.

use crate::cli::{StateArgs, recorded};
use anyhow::Context;
use clap::Args;
use echelon_daemon::config::{ConfigError, layered, load_or_default};
use echelon_daemon::{Exit, Log, LogArgs, StateDir, Tasks, notify, shutdown};
use registry_manager::config::{self, Config, File};
use registry_manager::hooks::HookSettings;
use registry_manager::{Manager, StartError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tracing::{error, info};

/// Arguments of `run`.
#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Settings file [default: /etc/echelon/manager.toml, where it exists].
    #[arg(long, value_name = "FILE", env = "ECHELON_MANAGER_CONFIG")]
    config: Option<PathBuf>,
    /// UDP address to listen at [default: as given to init].
    #[arg(long, value_name = "ADDR:PORT", env = "ECHELON_MANAGER_LISTEN")]
    listen: Option<SocketAddr>,
    /// TCP address of metrics and health [default: 127.0.0.1:29121].
    #[arg(long, value_name = "ADDR:PORT", env = "ECHELON_MANAGER_HTTP")]
    http: Option<SocketAddr>,
}

/// Serves until it is told to stop.
pub(crate) fn run(args: &RunArgs, log: &LogArgs) -> anyhow::Result<Exit> {
    let file = args.file()?;
    let log = log.start(&file.log)?;
    let state = StateDir::open(&args.state.state, false)?;
    let config = args.resolve(state.path(), &file)?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(serve(args, &log, &config))
}

async fn serve(args: &RunArgs, log: &Log, config: &Config) -> anyhow::Result<Exit> {
    let tasks = Tasks::new();
    let mut hangups = shutdown::on_signals(&tasks)?;
    let manager = match Manager::start(config, tasks.clone()).await {
        Err(out @ StartError::Left { .. }) => {
            error!("{out}");
            return Ok(Exit::NotAllowed);
        }
        started => started?,
    };
    let pulse = manager.pulse();
    notify::watchdog(&tasks, move || {
        let pulse = pulse.clone();
        async move { pulse.answer().await }
    });
    notify::ready();
    let ending = tasks.shutdown();
    loop {
        tokio::select! {
            () = ending.cancelled() => break,
            () = hangups.next() => {
                notify::reloading();
                reload(args, log, config, &manager);
                notify::ready();
            }
        }
    }
    notify::stopping();
    manager.stop().await?;
    Ok(tasks.exit())
}

/// Reads the settings again. A bad file changes nothing.
fn reload(args: &RunArgs, log: &Log, running: &Config, manager: &Manager) {
    match take_again(args, log, running, manager) {
        Ok(waiting) => {
            manager.settings_taken(&waiting);
            info!("The settings file was read again");
        }
        Err(error) => {
            manager.settings_refused(&format!("{error:#}"));
            error!("The settings file cannot be used, and the old settings stay in force: {error:#}")
        }
    }
}

/// Gives the keys that changed and wait for a restart.
fn take_again(
    args: &RunArgs,
    log: &Log,
    running: &Config,
    manager: &Manager,
) -> anyhow::Result<Vec<&'static str>> {
    let file = args.file()?;
    let config = args.resolve(&running.state, &file)?;
    let other_format = log.reload(&file.log)?;
    manager.set_host_certificates(config.host_certificates)?;
    manager.set_hooks(config.hooks);
    let moved = [
        ("listen", config.listen != running.listen),
        ("http", config.http != running.http),
        ("log.format", other_format),
    ];
    Ok(moved.into_iter().filter_map(|(key, moved)| moved.then_some(key)).collect())
}

impl RunArgs {
    fn file(&self) -> Result<File, ConfigError> {
        load_or_default(self.config.as_deref(), Path::new(config::DEFAULT_CONFIG))
    }

    /// The settings that this file and the arguments make.
    fn resolve(&self, state: &Path, file: &File) -> anyhow::Result<Config> {
        let listen = match self.listen.or(file.listen) {
            Some(listen) => listen,
            None => recorded(state)?.listen,
        };
        let mut config = Config::new(state, listen);
        config.http = Some(layered(self.http, file.http, config::DEFAULT_HTTP));
        config.hooks = HookSettings { on_alarm: file.on_alarm.clone(), on_promote: file.on_promote.clone() };
        if let Some(lifetime) = file.host_certificates {
            config.host_certificates = lifetime.get();
        }
        Ok(config)
    }
}
