//! Links between managers: which are up at which end, and which directions carry nothing.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct Network {
    /// (a, b): a has a link to b.
    up: BTreeSet<(usize, usize)>,
    /// (a, b): nothing gets from a to b.
    blocked: BTreeSet<(usize, usize)>,
    /// When the newest message from a to b arrives.
    pub(crate) arrives: BTreeMap<(usize, usize), u64>,
}

impl Network {
    pub(crate) fn has_link(&self, at: usize, to: usize) -> bool {
        self.up.contains(&(at, to))
    }

    /// Notes that there is a link. Whether there was none.
    pub(crate) fn link(&mut self, at: usize, to: usize) -> bool {
        self.up.insert((at, to))
    }

    /// Notes that there is no link any more. Whether there was one.
    pub(crate) fn unlink(&mut self, at: usize, to: usize) -> bool {
        self.up.remove(&(at, to))
    }

    pub(crate) fn carries(&self, from: usize, to: usize) -> bool {
        !self.blocked.contains(&(from, to))
    }

    /// Whether packets get through both ways.
    pub(crate) fn is_open(&self, a: usize, b: usize) -> bool {
        self.carries(a, b) && self.carries(b, a)
    }

    pub(crate) fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    /// Lets packets through again, both ways.
    pub(crate) fn reach(&mut self, a: usize, b: usize) {
        self.blocked.remove(&(a, b));
        self.blocked.remove(&(b, a));
    }

    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
    }
}
