//! Everybody shows committed entries in one order: each follows on the one before it, a position is one entry, and
//! no request has two effects in one journal.

use super::{Invariant, Place, Seen, place};
use crate::world::carry::repeated;
use echelon_core::grant::Hash;
use echelon_core::member::link;
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Order {
    shown: BTreeMap<Place, Hash>,
    damaged: bool,
}

impl Invariant for Order {
    fn name(&self) -> &'static str {
        "one order"
    }

    fn saw(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Damaged { .. } => self.damaged = true,
            Seen::Committed { by, entries, .. } => {
                for pair in entries.windows(2) {
                    if link(&pair[0].mark.hash, &pair[1].bytes) != pair[1].mark.hash {
                        return Err(format!("{by}: {} does not follow", pair[1].mark.position));
                    }
                }
                for entry in *entries {
                    let hash = *self.shown.entry(place(&entry.mark.position)).or_insert(entry.mark.hash);
                    if hash != entry.mark.hash && !self.damaged {
                        return Err(format!("{by} shows another {}", entry.mark.position));
                    }
                }
            }
            Seen::Healed { nodes, .. } => {
                if let Some(request) = nodes.iter().find_map(|n| repeated(&n.disk)) {
                    return Err(format!("request {request} has two effects"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
