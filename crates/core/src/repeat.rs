//! Whether a request that got no answer may be sent once more, and to whom.
//!
//! A connection can be tried at several managers without anybody noticing; a request cannot, once a manager may
//! have acted on it. Here it is decided what may be repeated; whoever carries requests sends them. The rules are
//! those of RFC 9110, sections 9.2.2 (idempotent methods) and 15.6.4 (503).

use crate::id::HostId;
use crate::route::Target;
use std::collections::BTreeSet;

/// Times that one request is sent at most. A request that makes managers crash must not go through all of them,
/// and callers of managers that are overloaded must not multiply what they have to do. Managers that cannot be
/// connected to do not count: nothing is sent to them.
pub const MAX_TRIES: u32 = 4;

/// What sending a request twice would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The same as sending it once: its method is idempotent, or its caller gave it a key by which managers know it
    /// again.
    Same,
    /// It may act twice.
    Again,
}

/// How one try ended without an answer for the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Not a byte of the request was given to the network.
    Unsent,
    /// Some of it may have arrived, and no answer began.
    Broken,
    /// The manager is overloaded: it answered 503 and said when to come again.
    Overloaded,
}

/// What a try that ended went over, and what is so now.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The manager's host.
    pub host: HostId,
    /// The connection had served other requests before. Servers close those that are idle whenever they like, so
    /// that its end says nothing about the manager.
    pub reused: bool,
    /// All of the body that has been read from the caller is still held.
    pub held: bool,
    /// A manager has not been sought for too long.
    pub in_time: bool,
    /// The managers to try, in the order of the route as it is now.
    pub targets: &'a [Target],
    /// How many of these, from the first on, are usable.
    pub usable: usize,
}

/// What to do about a try that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Send it once more, to the first of the targets that is not passed over.
    Repeat,
    /// Tell the caller.
    Tell,
}

/// The tries of one request.
#[derive(Clone, Debug)]
pub struct Tries {
    effect: Effect,
    ended: u32,
    passed_over: BTreeSet<HostId>,
    fresh: bool,
}

impl Tries {
    /// Of a request that has not been sent yet.
    pub fn new(effect: Effect) -> Self {
        Self { effect, ended: 0, passed_over: BTreeSet::new(), fresh: false }
    }

    /// What sending the request twice would do.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Managers to which this request is not sent again.
    pub fn passed_over(&self) -> &BTreeSet<HostId> {
        &self.passed_over
    }

    /// The first manager that is not passed over.
    pub fn first<'a>(&self, targets: &'a [Target]) -> Option<&'a Target> {
        targets.iter().find(|target| !self.passed_over.contains(&target.host))
    }

    /// Whether the next try needs a connection of its own: one that had served others has failed it already, and
    /// its neighbours are no younger.
    pub fn needs_fresh(&self) -> bool {
        self.fresh
    }

    /// Takes in how a try ended, and says what to do.
    pub fn ended(&mut self, end: End, now: &Circumstances<'_>) -> Next {
        self.ended = self.ended.saturating_add(1);
        if now.reused && end != End::Overloaded {
            self.fresh = true;
        } else {
            self.passed_over.insert(now.host);
        }
        let may = self.is_harmless(end) && now.held && now.in_time && self.ended < MAX_TRIES;
        if may && self.first(worth(end, now)).is_some() { Next::Repeat } else { Next::Tell }
    }

    /// Whether nothing can happen twice. A 503 proves nothing: it may be a manager's word for what failed behind
    /// it, after it had done its own part.
    fn is_harmless(&self, end: End) -> bool {
        match end {
            End::Unsent => true,
            End::Broken | End::Overloaded => self.effect == Effect::Same,
        }
    }
}

/// Whom it is worth trying after this end. Where a manager has too much to do, those in doubt are no better: often
/// they have too much to do themselves, and asking all of them would multiply what they have.
fn worth<'a>(end: End, now: &Circumstances<'a>) -> &'a [Target] {
    match end {
        End::Overloaded => now.targets.get(..now.usable).unwrap_or(now.targets),
        End::Unsent | End::Broken => now.targets,
    }
}
