//! The command line as typed.

use crate::commands::Command;
use crate::problem::{Problem, failed};
use clap::{Parser, ValueEnum};
use echelon_core::endpoint::Endpoint;
use echelon_identity::token::looks_like_token;
use std::ffi::OsString;
use std::path::PathBuf;

/// The Hosts console: shows and edits the registry of an agent framework's hosts and managers.
#[derive(Debug, Parser)]
#[command(name = "echelon", version, max_term_width = 110)]
#[command(after_help = "Examples:
  echelon tree
  echelon host add agent5 agent6 --domain /sub1
  echelon route --host agent4 --type command-control
  echelon route --file topology.toml --all --type command-control --down agent3

Exit codes: 0 done, 1 failed, 2 command line, 3 the registry's state forbids it,
4 no manager reachable, 5 not allowed, 6 outcome unknown (repeating is safe),
7 answered, and the answer is bad")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Directory of the identity to use [default: ~/.config/echelon, else the manager's own console]
    #[arg(
        long,
        global = true,
        env = "ECHELON_IDENTITY",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) identity: Option<PathBuf>,
    /// Manager to talk to instead of those the identity names; may be given several times
    #[arg(
        long,
        global = true,
        env = "ECHELON_MANAGER",
        hide_env_values = true,
        value_name = "ADDR:PORT",
        value_delimiter = ',',
        help_heading = "Global options"
    )]
    pub(crate) manager: Vec<Endpoint>,
    /// Tables for people, or JSON for programs: one object, or one object a line
    #[arg(long, global = true, value_enum, default_value = "table", help_heading = "Global options")]
    pub(crate) output: Output,
}

/// For whom the output is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Output {
    // No comments for the documentation here: they would make every help text twice as long.
    Table,
    Json,
}

/// Refuses a join token among the arguments, which every user of the machine can read.
pub(crate) fn refuse_tokens(typed: &[OsString]) -> Result<(), Problem> {
    match typed.iter().skip(1).find(|argument| looks_like_token(&argument.to_string_lossy())) {
        None => Ok(()),
        Some(_) => Err(failed("token-in-arguments", "a join token was given as an argument, where every user of this machine can read it; nothing was done")
            .remedy("revoke it (echelon token revoke ID) and make another; hand that over in ECHELON_TOKEN or with --token-file FILE")
            .pointless()
            .usage()),
    }
}

/// Whether JSON is asked for, of a command line that may be wrong otherwise.
pub(crate) fn wants_json(typed: &[OsString]) -> bool {
    let after = typed.iter().skip_while(|a| *a != "--output").nth(1);
    typed.iter().any(|a| a == "--output=json") || after.is_some_and(|a| a == "json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use echelon_daemon::help::without_example;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_in_its_help() {
        assert_eq!(without_example(Args::command()), Vec::<String>::new());
    }

    #[test]
    fn what_the_manual_promises_is_taken() {
        for line in [
            "echelon status",
            "echelon status --check",
            "echelon history --since 17 --limit 3 --follow",
            "echelon watch --output json",
            "echelon alarm list",
            "echelon host list --unhealthy --not-home --stale 30s --version 1.4.2 --type audit",
            "echelon route --host a --type audit --actual --explain",
            "echelon tree /sub1 --output json",
            "echelon --manager 127.0.0.1:29120 --manager [::1]:29120 tree",
            "echelon tree --file t.toml",
            "echelon domain add /a /a/b",
            "echelon domain rename /a b --dry-run",
            "echelon domain move /a --parent /b --if-revision 7",
            "echelon domain remove /a --recursive --request-id 017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "echelon host add a b c --domain / --address 127.0.0.1",
            "echelon host move a b --domain /x",
            "echelon host rename a b",
            "echelon host remove a b --with-packages",
            "echelon host drain a - --for 2h --reason disk",
            "echelon host resume - --dry-run",
            "echelon host show a",
            "echelon host list --domain /a --type audit --file t.toml",
            "echelon host list --without-type audit",
            "echelon package add a audit --port 7000 --priority 1 --weight 2 --version 1.4.2",
            "echelon package add a b audit --endpoint db.example:7000",
            "echelon package withdraw a audit --reason moved",
            "echelon package restore a audit",
            "echelon package remove a audit --successor b",
            "echelon package list --type audit --state down",
            "echelon package withdraw - audit --allow-shrink",
            "echelon policy set / walk=hops failback_hold=5s --request-id 017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "echelon policy set /a --type audit boundary=true --if-revision 7",
            "echelon policy unset /a --type audit walk boundary",
            "echelon policy list",
            "echelon promote a --type audit web --dry-run",
            "echelon promote a --dry-run",
            "echelon promote a --reason upgrade",
            "echelon promote a --force --reason x --accept-loss --yes acme --request-id 017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "echelon manager list",
            "echelon manager show a",
            "echelon manager remove a --accept-loss --compromised --dry-run",
            "echelon manager set min_sync=0 --accept-loss",
            "echelon lineage show",
            "echelon lineage choose 017f22e2-79b0-7cc3-98c4-dc0c0c07398f --reason x --yes acme",
            "echelon lineage choose 017f22e2-79b0-7cc3-98c4-dc0c0c07398f --reason x --dry-run",
            "echelon edits lost",
            "echelon edits lost --apply --dry-run",
            "echelon edits lost --apply 18 19 --allow-shrink",
            "echelon promote a --type audit --type web --if-revision 7",
            "echelon promote a --from b --request-id 017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "echelon policy list /a --file t.toml",
            "echelon route --host a --type audit --down b --down c:audit --explain",
            "echelon route --all --type audit --candidates 2 --file t.toml",
            "echelon apply t.toml --dry-run --prune",
            "echelon export",
            "echelon token create --host a --domain / --access agent --allow-type x --replace --ttl 1h --uses 3 --out f",
            "echelon token list",
            "echelon token revoke 017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "echelon backup /tmp/b.tar",
            "echelon backup b.tar --passphrase-file p --force --output json",
            "echelon completion bash",
            "echelon man /tmp/man",
        ] {
            if let Err(e) = parse(line) {
                panic!("{line}: {e}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_asked() {
        for line in [
            "echelon",
            "echelon route --type audit",
            "echelon route --host a --all --type audit",
            "echelon route --host a",
            "echelon route --all --type audit --actual",
            "echelon route --host a --type audit --actual --down b",
            "echelon route --host a --type audit --actual --file t.toml",
            "echelon host list --stale soon",
            "echelon history --limit many",
            "echelon host add --domain /",
            "echelon host add a",
            "echelon host add A --domain /",
            "echelon host list --type a --without-type b",
            "echelon host drain a --for 31d",
            "echelon host drain a --for 0s",
            "echelon host drain a --for ever",
            "echelon host rename - b",
            "echelon promote",
            "echelon promote a --type",
            "echelon promote a --accept-loss",
            "echelon promote a --yes acme",
            "echelon promote a --type audit --force --reason x",
            "echelon lineage choose 017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "echelon manager set 2",
            "echelon manager set min_sync=all",
            "echelon edits lost --dry-run",
            "echelon promote a --type audit --from b",
            "echelon policy set /a",
            "echelon policy set /a walk",
            "echelon policy set /a wlak=hops",
            "echelon policy set /a walk=up",
            "echelon policy set /a evidence_ttl=2h",
            "echelon policy unset /a",
            "echelon policy unset /a wlak",
            "echelon domain add a",
            "echelon package add a audit --port 0",
            "echelon package add a audit --port 1 --endpoint a:1",
            "echelon package list --state asleep",
            "echelon token create --ttl soon",
            "echelon token create --access root",
            "echelon token create --replace",
            "echelon tree --request-id 017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "echelon domain add /a --request-id 7",
            "echelon --output yaml tree",
            "echelon --manager nowhere tree",
        ] {
            assert!(parse(line).is_err(), "taken: {line}");
        }
    }

    #[test]
    fn bad_names_are_named_and_bring_no_control_characters_to_the_terminal() {
        for (bad, wrong) in [("a".repeat(300), "has 300 bytes"), ("a\u{1b}[5m".into(), "at position 2")] {
            let error = Args::try_parse_from(["echelon", "host", "show", &bad]).unwrap_err();
            for json in [true, false] {
                let mut shown = Vec::new();
                crate::problem::write_usage(&error, json, &mut shown).unwrap();
                let shown = String::from_utf8(shown).unwrap();
                assert!(shown.contains(wrong) && !shown.contains("\u{1b}[5m"), "{shown:?}");
            }
        }
    }

    #[test]
    fn several_hosts_come_before_the_type() {
        let args = parse("echelon package add a b c audit --port 1").unwrap();
        let Command::Package(crate::commands::package::Package::Add { hosts, ty, .. }) = args.command else {
            panic!("another command");
        };
        assert_eq!((hosts.len(), ty.as_str()), (3, "audit"));
    }

    #[test]
    fn a_token_among_the_arguments_is_refused() {
        let token = echelon_identity::JoinToken::generate([7; 32]).unwrap().expose();
        for typed in [vec!["echelon", &token], vec!["echelon", "token", "revoke", &token]] {
            let typed: Vec<_> = typed.into_iter().map(OsString::from).collect();
            assert!(refuse_tokens(&typed).is_err());
        }
        assert!(refuse_tokens(&["echelon".into(), "tree".into()]).is_ok());
    }

    #[test]
    fn json_is_noticed_on_a_broken_command_line() {
        let typed = |line: &str| line.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        assert!(wants_json(&typed("echelon treee --output json")));
        assert!(wants_json(&typed("echelon --output=json")));
        assert!(!wants_json(&typed("echelon --output table json")));
    }
}
