//! One module for each group of commands.

pub(crate) mod alarm;
pub(crate) mod apply;
pub(crate) mod backup;
pub(crate) mod completion;
pub(crate) mod domain;
pub(crate) mod edits;
pub(crate) mod export;
pub(crate) mod history;
pub(crate) mod host;
mod host_entry;
mod host_list;
mod host_show;
pub(crate) mod lineage;
pub(crate) mod man;
pub(crate) mod manager;
pub(crate) mod package;
pub(crate) mod policy;
pub(crate) mod promote;
pub(crate) mod route;
mod route_all;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod tree;
pub(crate) mod watch;

use crate::console::Console;
use crate::problem::Problem;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// How the registry manager is, and whether something is wrong
    #[command(after_help = "Examples:\n  echelon status\n  echelon status --check || echelon alarm list")]
    Status(status::Status),
    /// The domains with their hosts, packages and the state of each manager
    #[command(after_help = "Examples:\n  echelon tree\n  echelon tree /emea --file topology.toml")]
    Tree(tree::Tree),
    /// Add, rename, move and remove domains
    #[command(subcommand, after_help = "Example:\n  echelon domain add /emea /emea/de")]
    Domain(domain::Domain),
    /// Add, move, rename, drain, resume, remove, show and list hosts
    #[command(subcommand, after_help = "Example:\n  echelon host add agent5 agent6 --domain /sub1")]
    Host(host::Host),
    /// Add, withdraw, restore, remove and list packages
    #[command(subcommand, after_help = "Example:\n  echelon package add agent5 command-control --port 7000")]
    Package(package::Package),
    /// Make another registry manager the primary, or another manager of a type
    #[command(after_help = promote::EXAMPLES)]
    Promote(promote::Promote),
    /// List and show registry managers, take one out, and say how many have to hold an edit
    #[command(subcommand, after_help = "Example:\n  echelon manager list")]
    Manager(manager::Manager),
    /// Who was the primary registry manager since when, and which of two lineages goes on
    #[command(subcommand, after_help = "Example:\n  echelon lineage show")]
    Lineage(lineage::Lineage),
    /// Edits that were given up when the primary changed by force
    #[command(subcommand, after_help = "Example:\n  echelon edits lost")]
    Edits(edits::Edits),
    /// Set, unset and list the settings of domains
    #[command(subcommand, after_help = "Example:\n  echelon policy set /emea boundary=true")]
    Policy(policy::Policy),
    /// Who serves a host, and who would if others failed
    #[command(after_help = route::EXAMPLES)]
    Route(route::Route),
    /// Make the registry what a topology file says, in one edit; shows the difference first
    #[command(after_help = "Examples:
  echelon apply topology.toml --dry-run
  echelon apply topology.toml --prune")]
    Apply(apply::Apply),
    /// Print the registry as a topology file
    #[command(after_help = "Example:\n  echelon export > topology.toml")]
    Export,
    /// Create, list and revoke join tokens, with which hosts enrol
    #[command(
        subcommand,
        after_help = "Example:\n  ECHELON_TOKEN=$(echelon token create --host agent5 --ttl 10m)"
    )]
    Token(token::Token),
    /// Show committed edits: who, when, from where, what was before and what after
    #[command(after_help = history::EXAMPLES)]
    History(history::History),
    /// Show changes of configuration and liveness as they happen, until interrupted
    #[command(after_help = "Examples:
  echelon watch
  echelon watch --output json | jq 'select(.event == \"not-home\")'")]
    Watch,
    /// List what is wrong at the moment, and what to do about it
    #[command(subcommand, after_help = "Example:\n  echelon alarm list")]
    Alarm(alarm::Alarm),
    /// Copy the registry with its history into a file, while it runs
    #[command(after_help = "Examples:
  echelon backup /backup/acme.tar
  echelon backup /backup/acme.tar --passphrase-file /root/passphrase --force")]
    Backup(backup::Backup),
    /// Print the completion of these commands for a shell
    #[command(after_help = "Example:\n  echelon completion bash > /etc/bash_completion.d/echelon")]
    Completion(completion::Completion),
    /// Write the manual pages of these commands into a directory
    #[command(after_help = "Example:\n  echelon man /usr/local/share/man/man1")]
    Man(man::Man),
}

/// Does it.
pub(crate) async fn run(command: Command, console: &mut Console) -> Result<(), Problem> {
    match command {
        Command::Status(args) => status::run(&args, console).await,
        Command::Tree(args) => tree::run(args, console).await,
        Command::Domain(args) => domain::run(args, console).await,
        Command::Host(args) => host::run(args, console).await,
        Command::Package(args) => package::run(args, console).await,
        Command::Promote(args) => promote::run(args, console).await,
        Command::Manager(args) => manager::run(args, console).await,
        Command::Lineage(args) => lineage::run(args, console).await,
        Command::Edits(args) => edits::run(args, console).await,
        Command::Policy(args) => policy::run(args, console).await,
        Command::Route(args) => route::run(args, console).await,
        Command::Apply(args) => apply::run(args, console).await,
        Command::Export => export::run(console).await,
        Command::Token(args) => token::run(args, console).await,
        Command::History(args) => history::run(args, console).await,
        Command::Watch => watch::run(console).await,
        Command::Alarm(args) => alarm::run(args, console).await,
        Command::Backup(args) => backup::run(args, console).await,
        Command::Completion(args) => completion::run(&args, console),
        Command::Man(args) => man::run(&args, console),
    }
}
