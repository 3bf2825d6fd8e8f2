//! What several tests need.

use crate::plan::{Options, Plan};
use crate::{Topology, diff, parse, to_registry};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::edit::{Context, Edited};
use echelon_core::grant::SyncRule;
use echelon_core::id::{DomainId, HostId, Lineage, RequestId};
use echelon_core::position::Position;
use echelon_core::refusal::Refusal;
use echelon_core::registry::Registry;
use echelon_core::row::{Actor, Meta};
use echelon_core::time::UnixMillis;
use uuid::Uuid;

/// A time that fits the request ids made here.
const NOW: u64 = 1_700_000_000_000;

pub(crate) fn topology(text: &str) -> Topology {
    parse("test.toml", format!("framework = \"acme\"\n{text}").as_bytes()).unwrap_or_else(|e| panic!("{e}"))
}

/// The registry of a file, registry packages included.
pub(crate) fn registry(text: &str) -> Registry {
    to_registry(&topology(text))
}

/// A registry as it is before anything is applied to it.
pub(crate) fn fresh() -> Registry {
    let position = Position { lineage: Lineage(Uuid::from_u128(7)), epoch: 1, revision: 0 };
    let meta = Meta {
        framework: "acme".parse().unwrap(),
        next_domain: DomainId(1),
        trust: vec![vec![1]],
        emptied: None,
        sync: SyncRule::alone(),
    };
    Registry::new(position, meta)
}

pub(crate) const KEEP: Options = Options { prune: false };
pub(crate) const PRUNE: Options = Options { prune: true };

/// Ids that do not depend on names, as a console's do not.
pub(crate) fn ids(start: u128) -> impl FnMut() -> HostId {
    let mut next = start << 64;
    move || {
        next += 1;
        HostId(Uuid::from_u128(next))
    }
}

pub(crate) fn plan(file: &Topology, registry: &Registry, options: Options) -> Plan {
    let start = u128::from(registry.position().revision) + 1;
    diff(file, registry, options, &mut ids(start)).unwrap_or_else(|e| panic!("{e}"))
}

/// The registry after a plan, carried out as one edit.
pub(crate) fn apply(registry: &Registry, plan: &Plan) -> Result<Registry, Refusal> {
    if plan.is_empty() {
        return Ok(registry.clone());
    }
    edit(registry, plan.changes.clone())
}

pub(crate) fn edit(registry: &Registry, changes: Vec<Change>) -> Result<Registry, Refusal> {
    let id = (u128::from(NOW) << 80) | (0x7 << 76) | u128::from(registry.position().revision + 1);
    let set =
        ChangeSet { request: RequestId(Uuid::from_u128(id)), if_revision: None, allow_shrink: true, changes };
    let context = Context {
        now: UnixMillis(NOW),
        actor: Actor::Console("test".parse().unwrap()),
        from: None,
        content: [registry.position().revision as u8; 32],
    };
    match registry.edit(&set, &context)? {
        Edited::Done(next, _) => Ok(*next),
        Edited::Repeated(_) => panic!("the request ids of tests differ"),
    }
}

/// What a plan shows, line by line.
pub(crate) fn shown(plan: &Plan) -> Vec<String> {
    plan.lines.iter().map(ToString::to_string).collect()
}
