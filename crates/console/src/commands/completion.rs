//! `echelon completion`.

use crate::args::Args;
use crate::console::Console;
use crate::problem::Problem;
use clap::CommandFactory;
use clap_complete::Shell;

/// For which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Completion, console: &mut Console) -> Result<(), Problem> {
    console.out.text(&String::from_utf8_lossy(&script(args.shell)))
}

/// The generator ends the process where it can't write, so that it writes to memory.
fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "echelon", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_completes_the_commands() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).unwrap();
            assert!(script.contains("withdraw"), "{shell}");
        }
    }
}
