//! `echelon host show`.

use super::host_entry::{HostEntry, word};
use crate::console::Console;
use crate::inventory::Inventory;
use crate::problem::Problem;
use crate::rough::rough_ms;
use crate::style;
use crate::table::{NOTHING, Table, cell, maybe};
use echelon_core::describe::describe_policy;
use echelon_core::id::HostId;
use echelon_core::name::HostName;
use echelon_core::report::{AgentState, Outcome, UsingReport};
use echelon_core::row::Host;
use serde::Serialize;
use serde_json::{Map, Value};

/// One host in full; its JSON is what scripts rely on.
#[derive(Serialize)]
struct HostDocument {
    id: HostId,
    #[serde(flatten)]
    host: HostEntry,
    agent: AgentWord,
    /// The policies of its domain and of those above it, the nearest first.
    policies: Vec<Map<String, Value>>,
}

/// What is known of a host's agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum AgentWord {
    /// It reports.
    Heard,
    /// It did, and does no longer.
    Silent,
    /// It never did, since the manager's start.
    Unheard,
}

impl AgentWord {
    fn of(agent: &AgentState) -> Self {
        match agent {
            AgentState { silent: true, .. } => Self::Silent,
            AgentState { heard_ms: Some(_), .. } => Self::Heard,
            _ => Self::Unheard,
        }
    }
}

/// Shows it.
pub(super) async fn run(name: &HostName, console: &mut Console) -> Result<(), Problem> {
    let (inventory, mut agents) = Inventory::load_with_agents(console, Some(name)).await?;
    let host = inventory.host(name)?;
    let agent = agents.remove(name).unwrap_or_default();
    let document = HostDocument {
        id: host.id,
        agent: AgentWord::of(&agent),
        host: HostEntry::new(&inventory, host, Some(agent)),
        policies: policies(&inventory, host),
    };
    match console.out.is_json() {
        true => console.out.object(&document),
        false => print(&document, console),
    }
}

fn policies(inventory: &Inventory, host: &Host) -> Vec<Map<String, Value>> {
    let registry = &inventory.registry;
    let domains = registry.hierarchy().lineage(host.domain);
    domains.flat_map(|domain| registry.policies_of(domain.id)).map(|p| describe_policy(p, registry)).collect()
}

fn print(document: &HostDocument, console: &mut Console) -> Result<(), Problem> {
    let HostDocument { id, host, policies, .. } = document;
    let agent = host.agent.clone().unwrap_or_default();
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    for line in [
        format!("name       {}", host.name),
        format!("id         {id}"),
        format!("domain     {}", host.domain),
        format!("address    {}", or_nothing(host.address.as_ref().map(ToString::to_string))),
        format!("drained    {}", or_nothing(host.drained.as_ref().map(ToString::to_string))),
        format!("enrolment  {}", or_nothing(enrolment(&agent))),
        format!("agent      {}", describe_agent(&agent)),
        format!("replica    {}", replica(&agent)),
    ] {
        console.out.line(line)?;
    }
    for policy in policies {
        console.out.line(format!("policy     {}", policy_line(policy)))?;
    }
    section(console, "PACKAGES", host.packages.is_empty(), |console| {
        console.out.table(&super::package::table(&host.packages, false))
    })?;
    section(console, "NOT AT HOME", agent.using.is_empty(), |console| {
        console.out.table(&using(&agent.using))
    })?;
    section(console, "ALARMS", agent.alarms.is_empty(), |console| {
        console.out.table(&super::alarm::table(&agent.alarms))
    })
}

fn section(
    console: &mut Console,
    heading: &str,
    is_empty: bool,
    show: impl FnOnce(&mut Console) -> Result<(), Problem>,
) -> Result<(), Problem> {
    if is_empty {
        return Ok(());
    }
    let dim = style::DIM;
    console.out.line("")?;
    console.out.line(format!("{dim}{heading}{dim:#}"))?;
    show(console)
}

fn enrolment(agent: &AgentState) -> Option<String> {
    let enrolment = agent.enrolment.as_ref()?;
    let types: Vec<_> = enrolment.allow_types.iter().map(ToString::to_string).collect();
    let types = if types.is_empty() { String::new() } else { format!(", may announce {}", types.join(" ")) };
    Some(format!("number {} of {}, access {}{types}", enrolment.number, enrolment.enrolled, enrolment.access))
}

fn describe_agent(agent: &AgentState) -> String {
    let heard = match agent.heard_ms {
        Some(ms) => format!(", heard {} ago", rough_ms(ms)),
        None if agent.enrolment.is_some() => ", not since the manager's start".into(),
        None => ": the host was never enrolled".into(),
    };
    let build = agent.build.as_ref().map(|build| format!(", version {build}")).unwrap_or_default();
    format!("{}{heard}{build}", word(agent))
}

fn replica(agent: &AgentState) -> String {
    let revision = agent.revision.map(|revision| format!(" at revision {revision}")).unwrap_or_default();
    match (agent.in_sync, agent.behind_ms) {
        (true, _) => format!("level{revision}"),
        (false, Some(ms)) => format!("not known to be level for {}{revision}", rough_ms(ms)),
        (false, None) => NOTHING.into(),
    }
}

fn policy_line(policy: &Map<String, Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let of = |key| policy.get(key).map(text).unwrap_or_default();
    let settings = policy.iter().filter(|(key, _)| !matches!(key.as_str(), "domain" | "type"));
    let settings: Vec<_> = settings.map(|(key, value)| format!("{key}={}", text(value))).collect();
    format!("{} {}  {}", of("domain"), of("type"), settings.join(" "))
}

fn using(using: &[UsingReport]) -> Table {
    let mut table = Table::new(["TYPE", "SERVED BY", "OUTCOME", "SINCE", "CAUSE"]);
    for u in using {
        let outcome = match u.outcome {
            Outcome::Home => "home",
            Outcome::Failover => "failover",
            Outcome::LastResort => "last resort",
            Outcome::Unserved => "unserved",
        };
        let served = maybe(u.manager.as_ref());
        table.row([cell(&u.ty), served, cell(outcome), cell(rough_ms(u.since_ms)), cell(&u.cause)]);
    }
    table
}
