//! The lab's command line.

mod args;
mod conduct;
mod live;
mod printer;
mod text;

use anyhow::Context;
use args::{Args, Output};
use clap::Parser;
use conduct::Conductor;
use echelon_daemon::{Exit, LogConfig, Tasks, shutdown};
use echelon_lab::script::{MAX_SCRIPT, Names};
use echelon_lab::{Lab, Options, Progress, Script};
use echelon_topology::{MAX_INPUT, Topology};
use indicatif::{ProgressBar, ProgressStyle};
use printer::Printer;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long the runtime may take to end once the lab has ended: what is left are blocking calls to a disk.
const RUNTIME_END: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.output == Output::Json;
    match run(args) {
        Ok(exit) => exit.into(),
        Err(error) if reader_gone(&error) => Exit::Done.into(),
        Err(error) => {
            report(&error, json);
            Exit::Failed.into()
        }
    }
}

fn run(args: Args) -> anyhow::Result<Exit> {
    args.log.start(&LogConfig { filter: Some("error".into()), format: None })?;
    let topology = read_topology(&args.topology)?;
    let script = args.script.as_deref().map(|path| read_script(path, &topology)).transpose()?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let done = runtime.block_on(run_lab(args, topology, script));
    runtime.shutdown_timeout(RUNTIME_END);
    done
}

async fn run_lab(args: Args, topology: Topology, script: Option<Script>) -> anyhow::Result<Exit> {
    let tasks = Tasks::new();
    let _hangups = shutdown::on_signals(&tasks)?;
    let stop = tasks.shutdown();
    let commands = script.iter().flat_map(|script| &script.lines).map(|(_, command)| command);
    let mut printer = Printer::new(args.output, commands);
    let bar = progress_bar(args.output);
    let shown = bar.clone();
    let progress = Box::new(move |at| show_progress(&shown, at));
    let options = Options { keep: args.keep, progress: Some(progress) };
    let started = tokio::select! {
        started = Lab::start(topology, options) => started,
        () = stop.cancelled() => return Err(anyhow::anyhow!("interrupted")),
    };
    bar.finish_and_clear();
    let lab = started?;
    let done = match printer.started(lab.started()) {
        Ok(()) => conduct(&lab, &printer, script, args.output, stop).await,
        Err(error) => Err(error.into()),
    };
    lab.stop_for_good().await;
    done
}

async fn conduct(
    lab: &Lab,
    printer: &Printer,
    script: Option<Script>,
    output: Output,
    stop: tokio_util::sync::CancellationToken,
) -> anyhow::Result<Exit> {
    let conductor = Conductor { lab, printer, stop };
    let seen = output == Output::Table && io::stdin().is_terminal() && io::stdout().is_terminal();
    match script {
        Some(script) => conductor.script(&script).await,
        None if seen => conductor.terminal().await,
        None => conductor.pipe().await,
    }
}

fn read_topology(path: &Path) -> anyhow::Result<Topology> {
    let bytes = read(path, MAX_INPUT)?;
    Ok(echelon_topology::parse(&path.display().to_string(), &bytes)?)
}

/// Reads a script and checks it against the topology, before anything is started.
fn read_script(path: &Path, topology: &Topology) -> anyhow::Result<Script> {
    let bytes = read(path, MAX_SCRIPT)?;
    let script = Script::parse(&path.display().to_string(), &bytes)?;
    script.check(&Names::of(topology))?;
    Ok(script)
}

/// Reads a file, one byte beyond the limit at most, so that whoever parses it notices.
fn read(path: &Path, most: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let file = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    file.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

/// A bar on standard error, where that is a terminal and a person looks at it.
fn progress_bar(output: Output) -> ProgressBar {
    let bar = if output == Output::Json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message("starting the registry")
}

fn show_progress(bar: &ProgressBar, at: Progress) {
    let (message, done, all) = match at {
        Progress::Registry => ("enrolling hosts", 0, 0),
        Progress::Enrolled(done, all) => ("enrolling hosts", done, all),
        Progress::Agents(done, all) => ("starting agents", done, all),
        Progress::InSync(done, all) => ("agents in sync", done, all),
    };
    bar.set_message(message);
    bar.set_length(all as u64);
    bar.set_position(done as u64);
}

/// Whether whoever read the output has gone away, as `head` does: no fault of anybody.
fn reader_gone(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn report(error: &anyhow::Error, json: bool) {
    let message = format!("{error:#}");
    if json {
        let exit = Exit::Failed.code();
        let object = serde_json::json!({"error": "lab-failed", "exit": exit, "message": message});
        eprintln!("{object}");
    } else {
        anstream::eprintln!("{} {message}", text::paint(text::BAD, "error:"));
    }
}
