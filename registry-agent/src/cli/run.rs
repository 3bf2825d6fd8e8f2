//! `registry-agent run`.

use crate::cli::reload::reload;
use crate::cli::settings::{API_IN_STATE, DEFAULT_API, DEFAULT_FILE, File};
use crate::cli::successor::Start;
use crate::cli::{DEFAULT_STATE, Failed};
use anyhow::Context;
use clap::{ArgAction, Args};
use echelon_core::endpoint::Endpoint;
use echelon_daemon::config::{ConfigError, layered, layered_list, load_or_default};
use echelon_daemon::{Activated, Exit, Log, LogArgs, Tasks, activated, notify, shutdown};
use registry_agent::{
    Agent, AgentConfig, DEFAULT_STOP_GRACE, Forward, Handle, Inheritance, Listen, Predecessor,
    default_forward_threads,
};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

/// The flag with which a process takes over.
pub(crate) const TAKE_OVER: &str = "--take-over";

/// How long what is not the agent's own may take to end.
const DRAIN: Duration = Duration::from_secs(2);

/// Arguments of `run`.
#[derive(Args, Clone)]
#[command(after_help = "Example:\n  registry-agent run --forward command-control=127.0.0.1:7400 \
    --forward audit=unix:/run/echelon/audit.sock \
    --forward-http tasks=127.0.0.1:7480")]
pub(crate) struct RunArgs {
    /// State directory [default: /var/lib/echelon/agent]
    #[arg(long, value_name = "DIR", env = "ECHELON_AGENT_STATE")]
    state: Option<PathBuf>,
    /// Settings file [default: /etc/echelon/agent.toml, where it exists]
    #[arg(long, value_name = "FILE", env = "ECHELON_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// Where the local API listens; may be given several times [default: agent.sock in DIR, or
    /// unix:/run/echelon/agent.sock]
    #[arg(long, value_name = "unix:PATH|ADDR:PORT", env = "ECHELON_AGENT_API", value_delimiter = ',')]
    api: Vec<Listen>,
    /// A forwarder to managers of a type; may be given several times
    #[arg(
        long,
        value_name = "TYPE=ADDR:PORT|TYPE=unix:PATH",
        env = "ECHELON_AGENT_FORWARD",
        value_delimiter = ','
    )]
    forward: Vec<Forward>,
    /// A forwarder for HTTP/1.1, each request to the nearest manager of a type; may be given several times
    #[arg(
        long,
        value_name = "TYPE=ADDR:PORT|TYPE=unix:PATH",
        env = "ECHELON_AGENT_FORWARD_HTTP",
        value_delimiter = ','
    )]
    forward_http: Vec<Forward>,
    /// Whether programs are handed connections directly, on direct.sock beside the API's unix socket
    /// [default: true]
    #[arg(long, value_name = "true|false", env = "ECHELON_AGENT_DIRECT", action = ArgAction::Set)]
    direct: Option<bool>,
    /// Whether open connections to managers that are known to be dead are closed, so that callers reconnect
    /// [default: true]
    #[arg(long, value_name = "true|false", env = "ECHELON_AGENT_CLOSE_DEAD", action = ArgAction::Set)]
    close_dead: Option<bool>,
    /// A registry manager to contact first; may be given several times [default: those of the enrolment]
    #[arg(long, value_name = "ADDR:PORT", env = "ECHELON_AGENT_MANAGER", value_delimiter = ',')]
    manager: Vec<Endpoint>,
    /// Takes over from the agent that runs with this state directory, which is told to hand over all it listens at
    /// and then only finishes what is under way: no caller is refused. Where none runs this starts as ever
    #[arg(long = "take-over")]
    take_over: bool,
}

/// Runs the agent until it is told to stop.
pub(crate) fn run(args: RunArgs, log: &LogArgs) -> Result<Exit, Failed> {
    // Before there are other threads.
    let (sockets, start) = (activated()?, Start::of_this_process().context("finding this program")?);
    let file = settings(&args)?;
    let log = log.start(&file.log)?;
    let config = resolve(&args, file);
    if let Err(error) = registry_agent::raise_descriptor_limit() {
        warn!(%error, "The limit of open files stays as it is");
    }
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(serve(&args, &log, config, sockets, &start))
}

async fn serve(
    args: &RunArgs,
    log: &Log,
    config: AgentConfig,
    sockets: Vec<Activated>,
    start: &Start,
) -> Result<Exit, Failed> {
    let tasks = Tasks::new();
    let mut hangups = shutdown::on_signals(&tasks)?;
    let mut upgrades = signal(SignalKind::user_defined2()).context("listening for SIGUSR2")?;
    let predecessor = if args.take_over { Predecessor::ask(&config.state).await? } else { None };
    let inheritance = Inheritance { sockets, predecessor };
    let agent = Agent::start_with(config, inheritance, &tasks.shutdown()).await?;
    let routes = agent.routes().clone();
    notify::watchdog(&tasks, move || {
        let routes = routes.clone();
        async move { routes.answer().await }
    });
    notify::ready();
    let ending = agent.ending();
    loop {
        tokio::select! {
            () = ending.cancelled() => break,
            () = hangups.next() => {
                notify::reloading();
                reload(args, log, &agent).await;
                notify::ready();
            }
            Some(()) = upgrades.recv() => {
                notify::reloading();
                tokio::select! {
                    () = ending.cancelled() => break,
                    () = start.successor(agent.alarms()) => {}
                }
                notify::ready();
            }
        }
    }
    match agent.successor() {
        Some(successor) => notify::succeeded_by(successor),
        None => notify::stopping(),
    }
    let exit = finish(agent).await;
    tasks.drain(DRAIN).await?;
    Ok(exit)
}

async fn finish(agent: Handle) -> Exit {
    match agent.stop().await {
        Ok(exit) => exit,
        Err(cut_off) => {
            warn!("{cut_off}");
            Exit::Done
        }
    }
}

pub(crate) fn settings(args: &RunArgs) -> Result<File, ConfigError> {
    load_or_default(args.config.as_deref(), Path::new(DEFAULT_FILE))
}

/// The settings in force.
pub(crate) fn resolve(args: &RunArgs, file: File) -> AgentConfig {
    let named = args.state.clone().or(file.state);
    let api = match &named {
        Some(state) => state.join(API_IN_STATE),
        None => DEFAULT_API.into(),
    };
    AgentConfig {
        state: named.unwrap_or_else(|| DEFAULT_STATE.into()),
        managers: layered_list(args.manager.clone(), file.managers, Vec::new()),
        api: layered_list(args.api.clone(), file.api, vec![Listen::Unix(api)]),
        api_writers: file.api_writers,
        forwards: layered_list(args.forward.clone(), file.forward, Vec::new()),
        http_forwards: layered_list(args.forward_http.clone(), file.forward_http, Vec::new()),
        direct: layered(args.direct, file.direct, true),
        checks: file.check,
        on_change: file.on_change,
        forward_threads: layered(None, file.forward_threads, default_forward_threads()),
        close_dead: layered(args.close_dead, file.close_dead, true),
        stop_grace: layered(None, file.stop_grace.map(Into::into), DEFAULT_STOP_GRACE),
    }
}
