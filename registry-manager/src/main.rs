//! The registry manager's command line.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use echelon_core::endpoint::Endpoint;
use echelon_core::name::{FrameworkName, HostName, NameError};
use echelon_daemon::{
    Exit, LogArgs, LogConfig, StateDir, Tasks, config as settings, notify, shell_word, shutdown,
};
use registry_manager::config::{self, Config, File, Recorded};
use registry_manager::init::{Init, Outcome, init, likely_advertise};
use registry_manager::paths::Paths;
use registry_manager::{Manager, StartError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Stores the hierarchy and its packages and pushes replicas to every agent.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  registry-manager init --framework acme\n  registry-manager run")]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the authority, this manager's identity and an empty registry.
    #[command(after_help = "Example:\n  registry-manager init --framework acme --advertise 10.0.0.5:29120")]
    Init(InitArgs),
    /// Serves agents and consoles until it is told to stop.
    #[command(after_help = "Example:\n  registry-manager run --http 127.0.0.1:29121")]
    Run(RunArgs),
}

#[derive(Args)]
struct StateArgs {
    /// State directory.
    #[arg(long, value_name = "DIR", env = "ECHELON_MANAGER_STATE", default_value = config::DEFAULT_STATE)]
    state: PathBuf,
}

#[derive(Args)]
struct InitArgs {
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

#[derive(Args)]
struct RunArgs {
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

/// An address that agents can be told: any free port would be another at each start.
fn fixed_port(value: &str) -> Result<SocketAddr, String> {
    match value.parse::<SocketAddr>() {
        Ok(addr) if addr.port() == 0 => Err("give the port that agents are to connect to".into()),
        Ok(addr) => Ok(addr),
        Err(_) => Err("write ADDR:PORT, such as 0.0.0.0:29120 or [::]:29120".into()),
    }
}

/// An endpoint that somebody else can connect to.
fn reachable(value: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint = value.parse().map_err(|e: NameError| e.to_string())?;
    match endpoint.socket_addr() {
        Some(addr) if addr.ip().is_unspecified() => {
            Err("nobody can connect to this; give the address at which others reach this host".into())
        }
        _ => Ok(endpoint),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Init(args) => {
            cli.log.start(&LogConfig::default()).map_err(Into::into).and_then(|()| make(&args))
        }
        Command::Run(args) => run(&args, &cli.log),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(e) => {
            eprintln!("error: {e:#}");
            Exit::Failed.into()
        }
    }
}

fn make(args: &InitArgs) -> anyhow::Result<Exit> {
    let state = StateDir::open(&args.state.state, true)?;
    let host = args.name.clone().map_or_else(system_host_name, Ok)?;
    let advertise = args.advertise.clone().unwrap_or_else(|| likely_advertise(args.listen));
    let framework = args.framework.clone();
    let made =
        init(&Init { state: state.path().to_owned(), framework, host, listen: args.listen, advertise })?;
    let recorded = recorded(state.path())?;
    print!("{}", next_steps(state.path(), &args.framework, &recorded, made));
    Ok(Exit::Done)
}

fn system_host_name() -> anyhow::Result<HostName> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("reading this host's name")?;
    let name = name.trim().to_ascii_lowercase();
    name.parse().context("this host's own name cannot be used; give one with --name")
}

fn recorded(state: &Path) -> anyhow::Result<Recorded> {
    let paths = Paths::of(state);
    if !paths.registry().exists() {
        return Err(StartError::NoRegistry(state.display().to_string()).into());
    }
    Ok(settings::load(&paths.settings())?)
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
    let (dir, console, root) = (word(state.to_owned()), word(paths.console()), word(paths.root()));
    format!(
        "{first}

Next:
  registry-manager run --state {dir}
  echelon --identity {console} status
  ECHELON_TOKEN=$(echelon --identity {console} token create) \\
    registry-agent enroll --manager {addr}      # on every host

Keep a copy of the root key elsewhere, encrypted; without it no manager can be added once this disk is lost:
  openssl pkcs8 -topk8 -v2 aes-256-cbc -in {root} -out root-key.pem
"
    )
}

fn run(args: &RunArgs, log: &LogArgs) -> anyhow::Result<Exit> {
    let file: File = settings::load_or_default(args.config.as_deref(), Path::new(config::DEFAULT_CONFIG))?;
    log.start(&file.log)?;
    let state = StateDir::open(&args.state.state, false)?;
    let listen = match args.listen.or(file.listen) {
        Some(listen) => listen,
        None => recorded(state.path())?.listen,
    };
    let mut config = Config::new(state.path(), listen);
    config.http = Some(settings::layered(args.http, file.http, config::DEFAULT_HTTP));
    if let Some(lifetime) = file.host_certificates {
        config.host_certificates = lifetime.get();
    }
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(serve(&config))
}

async fn serve(config: &Config) -> anyhow::Result<Exit> {
    let tasks = Tasks::new();
    let _hangups = shutdown::on_signals(&tasks)?;
    let manager = Manager::start(config, tasks.clone()).await?;
    notify::watchdog(&tasks);
    notify::ready();
    tasks.shutdown().cancelled().await;
    notify::stopping();
    manager.stop().await?;
    Ok(tasks.exit())
}
