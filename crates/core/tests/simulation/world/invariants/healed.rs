//! Once faults have ended all agree: one chain of grants, one journal, all of it committed, one primary, nobody held
//! by a promise, an edit goes through, and every agent has seen it.

use super::{Invariant, Seen};
use crate::world::node::Node;
use echelon_core::grant::Relation;

pub(crate) struct Healed;

impl Invariant for Healed {
    fn name(&self) -> &'static str {
        "all agree in the end"
    }

    fn saw(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Healed { nodes, agents } = seen else { return Ok(()) };
        let first = &nodes[0];
        let leading = nodes.iter().filter(|n| n.is_leading()).count();
        if leading != 1 {
            return Err(format!("{leading} managers lead"));
        }
        nodes.iter().try_for_each(|node| agrees(first, node))?;
        let older = agents.iter().find(|a| a.chain.compare(&first.disk.chain) != Relation::Same);
        if let Some(agent) = older {
            return Err(format!("an agent goes by {}", agent.chain.head().id));
        }
        match agents.iter().find(|a| a.at != first.disk.last()) {
            Some(agent) => Err(format!("an agent is at {}", agent.at.position)),
            None => Ok(()),
        }
    }
}

fn agrees(first: &Node, node: &Node) -> Result<(), String> {
    let host = node.host;
    let Some(member) = &node.member else { return Err(format!("{host} is down")) };
    if node.disk.chain != first.disk.chain || member.chain() != &node.disk.chain {
        return Err(format!(
            "{host} goes by {}, not {}",
            node.disk.chain.head().id,
            first.disk.chain.head().id
        ));
    }
    if node.disk.entries != first.disk.entries {
        return Err(format!(
            "{host} is at {}, not {}",
            node.disk.last().position,
            first.disk.last().position
        ));
    }
    if member.log().last() != node.disk.last() {
        return Err(format!("{host} takes {} for its last", member.log().last().position));
    }
    if node.shown != node.disk.last().revision() || member.log().committed() != node.shown {
        return Err(format!("{host} shows {}, not {}", node.shown, node.disk.last().position));
    }
    if let Some(seal) = node.disk.seals.iter().chain(member.seals().iter()).next() {
        return Err(format!("{host} is held by a promise to {}", seal.by));
    }
    match member.rolled_back() {
        Some(lost) => Err(format!("{host} has lost {lost}")),
        None => Ok(()),
    }
}
