//! The Hosts console: what operators type, and what their scripts call.

mod args;
mod commands;
mod console;
mod edit;
mod feed;
mod hosts;
mod inventory;
mod line;
mod managers;
mod members;
mod out;
mod parallel;
mod problem;
mod progress;
mod promotion;
mod rough;
mod sides;
mod stream;
mod style;
mod table;

use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    if let Err(problem) = args::refuse_tokens(&typed) {
        return problem.report(args::wants_json(&typed));
    }
    let args = match args::Args::try_parse_from(&typed) {
        Ok(args) => args,
        Err(error) => return problem::report_usage(&error, args::wants_json(&typed)),
    };
    let json = args.global.output == args::Output::Json;
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => problem.report(json),
    }
}

fn run(args: args::Args) -> Result<(), problem::Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut console = console::Console::new(args.global);
    runtime.block_on(commands::run(args.command, &mut console))?;
    console.out.finish()
}
