//! `registry-agent enroll`.

use crate::cli::{DEFAULT_STATE, Failed, StateArgs};
use anyhow::Context;
use clap::Args;
use echelon_core::endpoint::Endpoint;
use echelon_core::message::FailureClass;
use echelon_core::name::{DomainPath, HostName};
use echelon_daemon::{Exit, GivenError, GivenSecret, LogArgs, LogConfig};
use echelon_identity::JoinToken;
use registry_agent::{EnrolError, EnrolOptions, EnrolledAs, Enrolment, system_host_name};
use std::path::{Path, PathBuf};

/// A token has 166 characters.
const TOKEN: GivenSecret =
    GivenSecret { what: "join token", variable: "ECHELON_TOKEN", option: "--token-file", max: 4096 };

/// Arguments of `enroll`.
#[derive(Args)]
#[command(
    after_help = "The token is taken from the environment variable ECHELON_TOKEN, or from --token-file.\n\n\
    Example:\n  ECHELON_TOKEN=$(cat token) registry-agent enroll --manager 10.0.0.5:29120 --domain /emea/de"
)]
pub(crate) struct EnrollArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Address of a registry manager; may be given several times
    #[arg(
        long,
        value_name = "ADDR:PORT",
        required = true,
        env = "ECHELON_AGENT_MANAGER",
        value_delimiter = ','
    )]
    manager: Vec<Endpoint>,
    /// This host's name in the registry [default: the system's host name in lower case]
    #[arg(long, value_name = "NAME")]
    host: Option<HostName>,
    /// The domain this host is to be in [default: as the token or the registry says]
    #[arg(long, value_name = "PATH")]
    domain: Option<DomainPath>,
    /// File with the join token, or - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Enrols this host.
pub(crate) fn enroll(args: EnrollArgs, log: &LogArgs) -> Result<Exit, Failed> {
    log.start(&LogConfig::default())?;
    let token = token(args.token_file.as_deref())?;
    let host = args.host.map_or_else(system_host_name, Ok)?;
    let state = args.state.state.unwrap_or_else(|| DEFAULT_STATE.into());
    let (managers, domain) = (args.manager, args.domain);
    let options = EnrolOptions { state: state.clone(), managers, host, domain, token };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime")?;
    match runtime.block_on(registry_agent::enroll(options)) {
        Ok(enrolment) => {
            print!("{}", in_words(&enrolment, &state));
            Ok(Exit::Done)
        }
        Err(error) => Err(Failed { exit: exit(&error), error: error.into() }),
    }
}

/// The token from the file that was named, else from the environment.
fn token(file: Option<&Path>) -> Result<JoinToken, Failed> {
    let text = TOKEN.read(file).map_err(|error| Failed {
        exit: if matches!(error, GivenError::Missing { .. }) { Exit::Usage } else { Exit::Failed },
        error: error.into(),
    })?;
    Ok(JoinToken::parse(&text)?)
}

fn in_words(enrolment: &Enrolment, state: &Path) -> String {
    let who = |e: &EnrolledAs| format!("{} in {} of {}", e.host, e.domain, e.framework);
    let dir = state.display();
    match enrolment {
        Enrolment::New(e) => {
            format!("Enrolled as {}. Next:\n  registry-agent run --state {dir}\n", who(e))
        }
        Enrolment::Already(e) => format!(
            "{dir} is enrolled already, as {}. Nothing was changed, and the token was not used.\n\
             To enrol this host anew, name another directory with --state, and get a token with\n  \
             echelon token create --host {} --replace\n",
            who(e),
            e.host
        ),
    }
}

fn exit(error: &EnrolError) -> Exit {
    match error {
        EnrolError::Unreachable(_) => Exit::Unreachable,
        EnrolError::Unknown(_) | EnrolError::Stopped => Exit::OutcomeUnknown,
        EnrolError::Refused(failure) => match failure.class {
            FailureClass::Failed => Exit::Failed,
            FailureClass::Forbidden => Exit::Refused,
            FailureClass::Unreachable => Exit::Unreachable,
            FailureClass::NotAllowed => Exit::NotAllowed,
            FailureClass::Unknown => Exit::OutcomeUnknown,
        },
        _ => Exit::Failed,
    }
}
