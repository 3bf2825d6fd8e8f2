//! `echelon man`.

use crate::args::Args;
use crate::console::Console;
use crate::problem::{Problem, failed};
use clap::CommandFactory;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// The directory, which must exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// The answer for programs.
#[derive(Serialize)]
struct Document<'a> {
    directory: &'a Path,
}

/// Writes one page for each command.
pub(crate) fn run(args: &Man, console: &mut Console) -> Result<(), Problem> {
    let directory = &args.directory;
    clap_mangen::generate_to(Args::command(), directory).map_err(|error| {
        failed("unwritable", format!("the manual pages could not be written: {error}"))
            .at(directory.display())
            .remedy("name a directory that exists and that this user may write to")
    })?;
    match console.out.is_json() {
        true => console.out.object(&Document { directory }),
        false => console.out.line(format!(
            "manual pages are in {}; read one with: man {}",
            directory.display(),
            directory.join("echelon.1").display()
        )),
    }
}
