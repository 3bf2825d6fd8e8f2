//! An agent as a witness: it keeps the newest chain of grants and the newest position, and goes back in neither.

use super::disk::Disk;
use echelon_core::grant::{Chain, Mark, Relation};

#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) chain: Chain,
    /// The newest entry that it was shown.
    pub(crate) at: Mark,
}

impl Agent {
    pub(crate) fn new(disk: &Disk) -> Self {
        Self { chain: disk.chain.clone(), at: disk.last() }
    }

    /// Hears what a manager goes by and has committed. Whether it is served by that manager now; if not, the
    /// manager is to hear of the agent's chain.
    pub(crate) fn visit(&mut self, disk: &Disk, shown: u64) -> bool {
        let lost = match self.chain.compare(&disk.chain) {
            Relation::Same => false,
            Relation::Newer(cut) => self.at.revision() > cut.parent.mark.revision(),
            _ => return false,
        };
        let Some(newest) = disk.mark(shown) else { return false };
        // Of what it was shown some was given up: it waits for a manager that has all that was not.
        let floor = if lost { self.kept_by(&disk.chain) } else { self.at.revision() };
        if lost && shown < floor {
            return false;
        }
        self.chain = disk.chain.clone();
        if lost || shown > floor {
            self.at = newest;
        }
        true
    }

    fn kept_by(&self, chain: &Chain) -> u64 {
        match self.chain.compare(chain) {
            Relation::Newer(cut) => self.at.revision().min(cut.parent.mark.revision()),
            _ => self.at.revision(),
        }
    }
}
