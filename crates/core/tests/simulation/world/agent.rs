//! An agent as a witness: it keeps the newest chain of grants and the newest position, and goes back in neither. What
//! it makes of what it is told, the code decides that agents run.

use super::disk::Disk;
use echelon_core::grant::{Chain, Mark};
use echelon_core::witness::{Standing, Verdict, judge, standing};
use std::cmp::Ordering;

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
        match judge(Some(&self.chain), &disk.chain) {
            Verdict::Same => {}
            Verdict::Adopt => self.chain = disk.chain.clone(),
            Verdict::Refuse(_) => return false,
        }
        let Some(offered) = disk.mark(shown) else { return true };
        match standing(Some(&self.chain), &self.at.position, &offered.position) {
            Standing::Compares(Ordering::Greater) | Standing::Replaces => self.at = offered,
            Standing::Compares(_) | Standing::Outside => {}
        }
        true
    }
}
