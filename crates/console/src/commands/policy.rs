//! `echelon policy`.

use crate::console::Console;
use crate::edit::{EditArgs, edit};
use crate::inventory::{From, Inventory};
use crate::problem::Problem;
use crate::table::{Table, cell};
use echelon_core::change::Change;
use echelon_core::describe::settings;
use echelon_core::name::DomainPath;
use echelon_core::policy::{PolicySettings, TypeSelector};
use echelon_core::setting::Setting;
use serde::Serialize;
use serde_json::{Map, Value};

/// The settings, for the help of these commands.
const SETTINGS: &str = "Settings, each inherited on its own from the nearest domain that sets it:
  walk             chain, subtree or hops
  boundary         true or false: whether hosts stay inside the domain
  failback         auto, dormant or off
  failback_hold    0s to 1h        failback_jitter  0s to 1h
  connect_hedge    1ms to 10s      connect_timeout  10ms to 1m
  drain_timeout    0s to 1h        evidence_ttl     1s to 1h
  probe            off, tcp, or a check that candidates must pass when they are probed in
                   the background, such as {\"http\":\"/healthz\"} or {\"grpc\":true}";

/// What to do with policies.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Policy {
    /// Set settings of a domain; the others stay
    #[command(after_long_help = format!("{SETTINGS}\n\nExample:\n  echelon policy set /emea --type audit walk=hops failback_hold=1m"))]
    #[command(after_help = "Example:\n  echelon policy set /emea --type audit walk=hops failback_hold=1m")]
    Set {
        /// The domain that sets them for its hosts and those of its subdomains
        path: DomainPath,
        /// For managers of this type only [default: all types]
        #[arg(long = "type", value_name = "TYPE", default_value = "*", hide_default_value = true)]
        ty: TypeSelector,
        /// Settings; --help lists them
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<PolicySettings>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Take settings of a domain away, so that they are inherited again
    #[command(after_help = "Example:\n  echelon policy unset /emea --type audit walk")]
    Unset {
        /// The domain
        path: DomainPath,
        /// What was set for managers of this type [default: for all types]
        #[arg(long = "type", value_name = "TYPE", default_value = "*", hide_default_value = true)]
        ty: TypeSelector,
        /// Names of the settings
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<Setting>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// List what domains set, by path and type
    #[command(
        after_help = "Examples:\n  echelon policy list\n  echelon policy list /emea --file topology.toml"
    )]
    List {
        /// Only policies of this domain and its subdomains
        #[arg(value_name = "PATH", default_value = "/", hide_default_value = true)]
        path: DomainPath,
        #[command(flatten)]
        from: From,
    },
}

/// One policy; its JSON is what scripts rely on.
#[derive(Serialize)]
struct Entry {
    domain: DomainPath,
    #[serde(rename = "type")]
    ty: TypeSelector,
    #[serde(flatten)]
    settings: Map<String, Value>,
    #[serde(skip)]
    texts: Vec<String>,
}

/// Does it.
pub(crate) async fn run(command: Policy, console: &mut Console) -> Result<(), Problem> {
    let (change, args) = match command {
        Policy::List { path, from } => return list(&path, &from, console).await,
        Policy::Set { path, ty, settings, edit } => {
            let all = settings.iter().fold(PolicySettings::default(), |all, one| one.over(&all));
            (Change::SetPolicy { domain: path, ty, settings: all }, edit)
        }
        Policy::Unset { path, ty, keys, edit } => {
            (Change::UnsetPolicy { domain: path, ty, keys: keys.into_iter().collect() }, edit)
        }
    };
    edit(console, &args, vec![change]).await
}

async fn list(path: &DomainPath, from: &From, console: &mut Console) -> Result<(), Problem> {
    let inventory = Inventory::load(console, from).await?;
    let top = inventory.domain(path)?;
    let registry = &inventory.registry;
    let wanted = registry.policies().filter(|p| registry.hierarchy().is_within(p.domain, top));
    let mut entries: Vec<_> = wanted
        .map(|p| Entry {
            domain: registry.path(p.domain),
            ty: p.ty.clone(),
            settings: settings(&p.settings),
            texts: p.settings.texts().map(|(setting, text)| format!("{setting}={text}")).collect(),
        })
        .collect();
    entries.sort_by(|a, b| (&a.domain, &a.ty).cmp(&(&b.domain, &b.ty)));
    if console.out.is_json() {
        return entries.iter().try_for_each(|entry| console.out.object(entry));
    }
    let mut table = Table::new(["DOMAIN", "TYPE", "SETTINGS"]);
    for entry in &entries {
        table.row([cell(&entry.domain), cell(&entry.ty), cell(entry.texts.join(" "))]);
    }
    console.out.table(&table)
}
