//! The command line.

use clap::{Parser, ValueEnum};
use echelon_daemon::LogArgs;
use std::path::PathBuf;

const COMMANDS: &str = "\
Commands, from a terminal, a pipe or the script; # begins a comment:
  down HOST [TYPE]       close the host's managers, or the one of a type, and cut their connections
  hang HOST TYPE         leave the manager listening, but accept and answer nothing any more
  up HOST [TYPE]         let them serve again
  withdraw HOST TYPE     withdraw the manager in the registry, as echelon package withdraw does
  restore HOST TYPE      lift that again
  registry down|up       end or start the registry manager
  agent down|up HOST     end or start a host's agent
  call HOST TYPE         call through the host's forwarder: who answers, and in how long
  expect HOST TYPE MANAGER [within 10s]
                         wait until MANAGER answers the host's calls; if not, a script ends, exit code 1
  routes TYPE            who serves each host, and why
  quit                   end the lab

All of it runs in one process. registry down and agent down are as near to a kill as that allows: every task
is cut off wherever it is, nothing is finished or said; but the QUIC connections of what was cut off close,
which those of a killed process do not do by themselves.";

const EXAMPLES: &str = "\
Examples:
  echelon-lab examples/reference/topology.toml
  echelon-lab examples/reference/topology.toml --script examples/reference/failover.lab
  echo 'call agent4 command-control' | echelon-lab examples/reference/topology.toml --output json
  echelon-lab topology.toml --keep /tmp/lab     # then: echelon --identity /tmp/lab/manager/console tree

Exit codes: 0 done; 1 an expect was not met, or something failed; 2 command line.";

/// Runs a whole topology on this machine: a real registry manager, a real agent for every host, and a stub
/// service for every manager, which answers each line with its host's name.
#[derive(Debug, Parser)]
#[command(
    name = "echelon-lab",
    version,
    after_help = EXAMPLES,
    after_long_help = format!("{COMMANDS}\n\n{EXAMPLES}"),
    mut_arg("log", |log| log.help("What to log: error, warn, info, debug or trace, or TARGET=LEVEL [default: error]"))
)]
pub(crate) struct Args {
    /// The topology file, TOML or JSON
    pub(crate) topology: PathBuf,
    /// Carry out the commands in this file, then end [default: read them from standard input]
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// For people, or for programs: one JSON object a line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Output,
    /// Keep the state of everything in this new directory [default: a temporary one, removed in the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// For whom results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// People.
    Table,
    /// Programs.
    Json,
}

/// The commands, as `help` shows them.
pub(crate) fn commands() -> impl Iterator<Item = &'static str> {
    COMMANDS.lines().take_while(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_its_help_names_every_command() {
        Args::command().debug_assert();
        let help = Args::command().render_long_help().to_string();
        for (word, _) in echelon_lab::command::USAGES.iter().filter(|(word, _)| *word != "help") {
            assert!(help.contains(&format!("  {word}")), "{word}");
        }
        assert!(commands().count() > echelon_lab::command::USAGES.len());
    }
}
