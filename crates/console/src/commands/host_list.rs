//! `echelon host list`.

use super::host_entry::{HostEntry, word};
use crate::console::Console;
use crate::inventory::{From, Inventory, PackageEntry};
use crate::problem::{Problem, failed};
use crate::rough::rough_ms;
use crate::table::{NOTHING, Table, cell, maybe};
use comfy_table::{Cell, Color};
use echelon_core::duration;
use echelon_core::name::{DomainPath, ManagerType, Text};
use echelon_core::report::{AgentState, CandidateState};
use echelon_core::row::Host;
use std::time::Duration;

/// Which hosts to list.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only hosts in or below this domain
    #[arg(long, value_name = "PATH")]
    domain: Option<DomainPath>,
    /// Only hosts with a package of this type
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "without_type")]
    ty: Option<ManagerType>,
    /// Only hosts without a package of this type
    #[arg(long, value_name = "TYPE")]
    without_type: Option<ManagerType>,
    /// Only hosts with a package that fails its check, or an agent that is silent or not connected
    #[arg(long)]
    unhealthy: bool,
    /// Only hosts that use a manager which is not their home; with --type, one of that type
    #[arg(long)]
    not_home: bool,
    /// Only hosts whose agent was not heard, or whose replica was not level, for longer than this
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    stale: Option<Duration>,
    /// Only hosts where the package of --type has this version; without --type, the agent
    #[arg(long, value_name = "V")]
    version: Option<Text>,
    #[command(flatten)]
    from: From,
}

fn limit(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| format!("it {error}"))
}

/// Lists them.
pub(super) async fn run(args: &List, console: &mut Console) -> Result<(), Problem> {
    args.check_file()?;
    let (inventory, mut agents) = match args.from.file {
        Some(_) => (Inventory::load(console, &args.from).await?, None),
        None => {
            let (inventory, agents) = Inventory::load_with_agents(console, None).await?;
            (inventory, Some(agents))
        }
    };
    let domain = args.domain.as_ref().map(|path| inventory.domain(path)).transpose()?;
    let below = |host: &Host| {
        domain.is_none_or(|domain| inventory.registry.hierarchy().is_within(host.domain, domain))
    };
    let hosts = inventory.registry.hosts_by_name().filter(|host| below(host));
    let entries = hosts.map(|host| {
        let agent = agents.as_mut().map(|agents| agents.remove(&host.name).unwrap_or_default());
        HostEntry::new(&inventory, host, agent)
    });
    let entries = entries.filter(|entry| args.wants(entry));
    if console.out.is_json() {
        return entries.into_iter().try_for_each(|entry| console.out.object(&entry));
    }
    console.out.table(&table(&entries.collect::<Vec<_>>(), args.from.file.is_none()))
}

impl List {
    /// A file knows nothing of agents.
    fn check_file(&self) -> Result<(), Problem> {
        let of_agents = [
            ("--unhealthy", self.unhealthy),
            ("--not-home", self.not_home),
            ("--stale", self.stale.is_some()),
            ("--version without --type", self.version.is_some() && self.ty.is_none()),
        ];
        match of_agents.into_iter().find(|(_, asked)| *asked && self.from.file.is_some()) {
            None => Ok(()),
            Some((option, _)) => Err(failed(
                "needs-a-manager",
                format!("{option} asks for what agents report, which no file knows"),
            )
            .remedy("leave out --file to ask a registry manager, or leave out the option")
            .pointless()),
        }
    }

    fn wants(&self, entry: &HostEntry) -> bool {
        let package = |ty: &ManagerType| entry.packages.iter().find(|package| package.ty == *ty);
        let agent = |is: &dyn Fn(&AgentState) -> bool| entry.agent.as_ref().is_some_and(is);
        self.ty.as_ref().is_none_or(|ty| package(ty).is_some() || self.not_home)
            && self.without_type.as_ref().is_none_or(|ty| package(ty).is_none())
            && (!self.unhealthy || is_unhealthy(entry))
            && (!self.not_home || agent(&|agent| is_away_from_home(agent, self.ty.as_ref())))
            && self.stale.is_none_or(|limit| agent(&|agent| agent.is_stale(limit)))
            && self.version.as_ref().is_none_or(|version| match &self.ty {
                Some(ty) => package(ty).is_some_and(|package| package.version.as_ref() == Some(version)),
                None => agent(&|agent| agent.build.as_ref() == Some(version)),
            })
    }
}

fn is_unhealthy(entry: &HostEntry) -> bool {
    let fails = |package: &PackageEntry| package.state == Some(CandidateState::Down);
    entry.packages.iter().any(fails) || entry.agent.as_ref().is_some_and(AgentState::is_away)
}

fn is_away_from_home(agent: &AgentState, ty: Option<&ManagerType>) -> bool {
    agent.using.iter().any(|using| ty.is_none_or(|ty| using.ty == *ty))
}

fn table(entries: &[HostEntry], online: bool) -> Table {
    let mut table = match online {
        true => Table::new([
            "HOST", "DOMAIN", "ADDRESS", "AGENT", "HEARD", "VERSION", "REPLICA", "NOT HOME", "PACKAGES",
            "DRAINED",
        ]),
        false => Table::new(["HOST", "DOMAIN", "ADDRESS", "PACKAGES", "DRAINED"]),
    };
    for entry in entries {
        let of_host = [cell(&entry.name), cell(&entry.domain), maybe(entry.address.as_ref())];
        let of_agent = entry.agent.as_ref().map(cells).into_iter().flatten();
        let packages = listed(entry.packages.iter().map(in_short));
        table.row(of_host.into_iter().chain(of_agent).chain([packages, maybe(entry.drained.as_ref())]));
    }
    table
}

fn cells(agent: &AgentState) -> [Cell; 5] {
    let replica = match (agent.in_sync, agent.behind_ms) {
        (true, _) => cell("level").fg(Color::DarkGreen),
        (false, Some(behind)) => cell(format!("behind {}", rough_ms(behind))).fg(Color::DarkYellow),
        (false, None) => cell(NOTHING),
    };
    [
        agent_word(agent),
        maybe(agent.heard_ms.map(|ms| format!("{} ago", rough_ms(ms)))),
        maybe(agent.build.as_ref()),
        replica,
        listed(agent.using.iter().map(|using| using.ty.to_string())),
    ]
}

fn agent_word(agent: &AgentState) -> Cell {
    let color = match word(agent) {
        "connected" => Color::DarkGreen,
        "none" => Color::DarkGrey,
        "silent" => Color::DarkRed,
        _ => Color::DarkYellow,
    };
    cell(word(agent)).fg(color)
}

fn listed(words: impl Iterator<Item = String>) -> Cell {
    let words = words.collect::<Vec<_>>().join(" ");
    cell(if words.is_empty() { NOTHING.to_owned() } else { words })
}

fn in_short(package: &PackageEntry) -> String {
    match package.state {
        None | Some(CandidateState::Live) => package.ty.to_string(),
        Some(state) => format!("{}({state})", package.ty),
    }
}
