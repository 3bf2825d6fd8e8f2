//! `registry-manager init`.

use crate::cli::{StateArgs, recorded};
use anyhow::Context;
use clap::Args;
use echelon_core::endpoint::Endpoint;
use echelon_core::name::{FrameworkName, HostName, NameError};
use echelon_daemon::{Exit, LogArgs, LogConfig, StateDir, shell_word};
use registry_manager::config::{self, Recorded};
use registry_manager::init::{self, Init, Outcome, likely_advertise};
use registry_manager::paths::Paths;
use registry_manager::root::{export_command, is_unexported};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Arguments of `init`.
#[derive(Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Name of the agent framework whose hosts these are.
    #[arg(long, value_name = "NAME")]
    framework: FrameworkName,
    /// Name of this host in the registry [default: the system's host name].
    #[arg(long, value_name = "HOST")]
    name: Option<HostName>,
    /// UDP address to listen at.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = config::DEFAULT_LISTEN, value_parser = fixed_port)]
    listen: SocketAddr,
    /// What agents and consoles are told to connect to [default: this host's address].
    #[arg(long, value_name = "ADDR:PORT", value_parser = reachable)]
    advertise: Option<Endpoint>,
}

/// An address that agents can be told: any free port would be another at each start.
pub(super) fn fixed_port(value: &str) -> Result<SocketAddr, String> {
    match value.parse::<SocketAddr>() {
        Ok(addr) if addr.port() == 0 => Err("give the port that agents are to connect to".into()),
        Ok(addr) => Ok(addr),
        Err(_) => Err("write ADDR:PORT, such as 0.0.0.0:29120 or [::]:29120".into()),
    }
}

/// An endpoint that somebody else can connect to.
pub(super) fn reachable(value: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint = value.parse().map_err(|e: NameError| e.to_string())?;
    match endpoint.socket_addr() {
        Some(addr) if addr.ip().is_unspecified() => {
            Err("nobody can connect to this; give the address at which others reach this host".into())
        }
        _ => Ok(endpoint),
    }
}

/// Makes a registry, unless there is one.
pub(crate) fn init(args: &InitArgs, log: &LogArgs) -> anyhow::Result<Exit> {
    log.start(&LogConfig::default())?;
    let state = StateDir::open(&args.state.state, true)?;
    let host = args.name.clone().map_or_else(system_host_name, Ok)?;
    let advertise = args.advertise.clone().unwrap_or_else(|| likely_advertise(args.listen));
    let framework = args.framework.clone();
    let made = init::init(&Init {
        state: state.path().to_owned(),
        framework,
        host,
        listen: args.listen,
        advertise,
    })?;
    let recorded = recorded(state.path())?;
    print!("{}", next_steps(state.path(), &args.framework, &recorded, made));
    Ok(Exit::Done)
}

pub(super) fn system_host_name() -> anyhow::Result<HostName> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("reading this host's name")?;
    let name = name.trim().to_ascii_lowercase();
    name.parse().context("this host's own name cannot be used; give one with --name")
}

/// What is to be done with a root key of which there is no copy.
fn export_hint(paths: &Paths) -> String {
    match is_unexported(paths) {
        true => format!(
            "\nKeep a copy of the root key elsewhere; without it no manager can be added once this disk is lost:\n  {}\n",
            export_command(paths)
        ),
        false => String::new(),
    }
}

fn next_steps(state: &Path, framework: &FrameworkName, recorded: &Recorded, made: Outcome) -> String {
    let (shown, addr) = (state.display(), &recorded.advertise);
    let first = match made {
        Outcome::Made => {
            format!("Made the registry of {framework} in {shown}. Agents will connect to {addr}.")
        }
        Outcome::WasThere => {
            format!(
                "{shown} holds the registry of {framework} already. Nothing was changed: agents connect to {addr}."
            )
        }
    };
    let word = |path: PathBuf| shell_word(&path.to_string_lossy());
    let paths = Paths::of(state);
    let (dir, console) = (word(state.to_owned()), word(paths.console()));
    format!(
        "{first}

Next:
  registry-manager run --state {dir}
  echelon --identity {console} status
  ECHELON_TOKEN=$(echelon --identity {console} token create) \\
    registry-agent enroll --manager {addr}      # on every host
{}",
        export_hint(&Paths::of(state))
    )
}
