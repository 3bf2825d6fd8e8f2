//! The help of command lines.

use clap::Command;

/// The commands of a command line whose help shows no example, each with what leads to it: for tests, since every one has
/// to.
pub fn without_example(mut command: Command) -> Vec<String> {
    command.build();
    let mut found = Vec::new();
    look(&mut command, "", &mut found);
    found
}

fn look(command: &mut Command, before: &str, found: &mut Vec<String>) {
    let path = format!("{before}{} ", command.get_name());
    if !command.render_long_help().to_string().contains("Example") {
        found.push(path.trim_end().to_owned());
    }
    let further = command.get_subcommands_mut().filter(|sub| sub.get_name() != "help");
    further.for_each(|sub| look(sub, &path, found));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_without_an_example_is_found_below_others() {
        let with = |name: &'static str| Command::new(name).after_help("Example:\n  x");
        let deep = with("b").subcommands([with("c"), Command::new("d")]);
        assert_eq!(without_example(with("a").subcommand(deep)), ["a b d"]);
    }
}
