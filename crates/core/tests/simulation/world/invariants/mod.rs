//! What has to hold, whatever happens. Each in a file of its own.

mod agents;
mod committed;
mod healed;
mod kept;
mod managers;
mod order;
mod writer;

use super::agent::Agent;
use super::disk::Disk;
use super::node::Node;
use echelon_core::grant::{Chain, GrantId, Mark};
use echelon_core::id::HostId;
use echelon_core::member::Entry;
use echelon_core::position::Position;

/// What an invariant is told.
pub(crate) enum Seen<'a> {
    /// A manager makes entries of its own durable.
    Wrote { by: HostId, chain: &'a Chain, entries: &'a [Entry] },
    /// Entries are durable at a manager.
    Durable { at: HostId, entries: &'a [Entry] },
    /// A manager takes these entries for committed, and shows them; the first of them follow on what it has shown.
    Committed { by: HostId, leading: bool, chain: &'a Chain, entries: &'a [Entry] },
    /// A client was told that its edit is committed. Of the committed entries one, the newest of its kind, was
    /// committed under the new rule alone, with all that waited before it.
    Acknowledged { request: u64, mark: Mark, alone: Option<u64>, chain: &'a Chain },
    /// A grant is durable for the first time: the newest of this chain.
    Granted { chain: &'a Chain, lossy: bool },
    /// A manager goes by another chain.
    Adopted { by: HostId, before: &'a Chain, after: &'a Chain },
    /// A manager's disk was lost, or became an older one.
    Damaged { at: HostId },
    /// An agent has asked a manager with this disk.
    Agent { before: &'a Agent, after: &'a Agent, disk: &'a Disk },
    /// Faults have ended, and everybody had time to agree.
    Healed { nodes: &'a [Node], agents: &'a [Agent] },
}

/// A position, to look it up by.
type Place = (GrantId, u64);

fn place(position: &Position) -> Place {
    (GrantId::of(position), position.revision)
}

pub(crate) trait Invariant {
    fn name(&self) -> &'static str;
    /// Fails where it does not hold.
    fn saw(&mut self, seen: &Seen<'_>) -> Result<(), String>;
}

pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(writer::SingleWriter::default()),
        Box::new(committed::Committed::default()),
        Box::new(order::Order::default()),
        Box::new(kept::Kept::default()),
        Box::new(agents::AgentsGoForward),
        Box::new(managers::ManagersGoForward),
        Box::new(healed::Healed),
    ]
}
