//! `registry-manager join`.

use crate::cli::init::{fixed_port, reachable, system_host_name};
use crate::cli::{StateArgs, of_class, token};
use anyhow::Context;
use clap::Args;
use echelon_core::endpoint::Endpoint;
use echelon_core::name::{DomainPath, HostName};
use echelon_daemon::{Exit, LogArgs, LogConfig, StateDir, shell_word};
use registry_manager::config;
use registry_manager::init::likely_advertise;
use registry_manager::join::{Join, JoinError, Outcome, join as join_registry};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Arguments of `join`.
#[derive(Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Address of a registry manager of the registry; may be given several times.
    #[arg(long, value_name = "ADDR:PORT", required = true, value_delimiter = ',')]
    manager: Vec<Endpoint>,
    /// Name of this host in the registry [default: the system's host name].
    #[arg(long, value_name = "HOST")]
    name: Option<HostName>,
    /// The domain this host is to be in [default: as the token or the registry says].
    #[arg(long, value_name = "PATH")]
    domain: Option<DomainPath>,
    /// UDP address to listen at.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = config::DEFAULT_LISTEN, value_parser = fixed_port)]
    listen: SocketAddr,
    /// What others are told to connect to [default: this host's address].
    #[arg(long, value_name = "ADDR:PORT", value_parser = reachable)]
    advertise: Option<Endpoint>,
    /// File with the join token, or - for standard input [default: the variable ECHELON_TOKEN].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Makes this host a registry manager of a registry that there is.
pub(crate) fn join(args: JoinArgs, log: &LogArgs) -> anyhow::Result<Exit> {
    log.start(&LogConfig::default())?;
    let token = token::given(args.token_file.as_deref())?;
    let state = StateDir::open(&args.state.state, true)?;
    let options = Join {
        state: state.path().to_owned(),
        managers: args.manager,
        host: args.name.map_or_else(system_host_name, Ok)?,
        domain: args.domain,
        listen: args.listen,
        advertise: args.advertise.unwrap_or_else(|| likely_advertise(args.listen)),
        token,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("starting the runtime")?.block_on(join_registry(&options)) {
        Ok(outcome) => {
            print!("{}", in_words(&outcome, &options, state.path()));
            Ok(Exit::Done)
        }
        Err(error) => {
            let exit = exit(&error);
            eprintln!("error: {:#}", anyhow::Error::from(error));
            Ok(exit)
        }
    }
}

/// The primary's host alone has the root key.
const NOT_EXPORTED: &str = "\nWarning: no copy of the root key was exported: should the primary's host be lost, no \
     registry manager can join any more. There:\n  registry-manager root export FILE --passphrase-file PASSPHRASE\n";

fn in_words(outcome: &Outcome, options: &Join, state: &Path) -> String {
    let dir = shell_word(&state.to_string_lossy());
    match outcome {
        Outcome::Joined { framework, root_unexported } => format!(
            "Joined the registry of {framework} as a standby on {}. Others will connect to {}.\n\nNext:\n  \
             registry-manager run --state {dir}\n{}",
            options.host,
            options.advertise,
            if *root_unexported { NOT_EXPORTED } else { "" }
        ),
        Outcome::WasThere(framework) => format!(
            "{dir} holds the registry of {framework} already. Nothing was changed, and the token was not used.\n\nNext:\n  \
             registry-manager run --state {dir}\n"
        ),
    }
}

fn exit(error: &JoinError) -> Exit {
    match error {
        JoinError::Unreachable(_) => Exit::Unreachable,
        JoinError::Unknown(_) => Exit::OutcomeUnknown,
        JoinError::Refused(failure) => of_class(failure.class),
        _ => Exit::Failed,
    }
}
