//! Chains on their way: only what the other side lacks is told, in parts.
//!
//! Each side begins by naming what it keeps ([`trail`]); whoever tells a chain leaves out what the other one has by
//! that, or was told before. What is told names what it follows on by a digest, so that two branches from one grant, and
//! two grants of one name, are no matter.

use super::{Chain, ChainError, Grant};
use crate::digest::Digest;

/// Most names in a trail: distances that double span [`super::MAX_GRANTS`] with fewer.
pub const MAX_TRAIL: usize = 24;

/// Names what somebody keeps: its chain, beginnings of it that are 1, 3, 7, ... grants shorter, and at the end
/// [`Digest::default`], the beginning of any. Whoever shares a beginning with it finds, among these, one that lacks no
/// more than twice what they do not share.
pub fn trail(kept: Option<&Chain>) -> Vec<Digest> {
    let Some(chain) = kept else { return vec![Digest::default()] };
    let (count, mut trail, mut less) = (chain.grants().len(), Vec::new(), 0);
    while less < count {
        trail.push(chain.digest_of_first(count - less));
        less = 2 * less + 1;
    }
    trail.push(Digest::default());
    trail
}

/// Some grants of a chain, on their way to somebody who has those before them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The digest of those before them; none where they are the first.
    pub after: Option<Digest>,
    /// The grants. None where the chain ends with those before them.
    pub grants: Vec<Grant>,
    /// Whether more of the chain follows.
    pub more: bool,
}

/// What one side tells the other of the chains that it goes by.
#[derive(Clone, Debug)]
pub struct Outgoing {
    trail: Vec<Digest>,
    told: Option<Chain>,
}

impl Outgoing {
    /// To somebody who keeps what this [`trail`] names; to a build that knows of no grants where it is empty.
    pub fn new(trail: Vec<Digest>) -> Self {
        Self { trail, told: None }
    }

    /// Whether the other side was told this chain last, or began with it, or knows of none.
    pub fn has_told(&self, chain: &Chain) -> bool {
        let last = self.told.as_ref().map(Chain::digest).or_else(|| self.trail.first().copied());
        last.is_none_or(|last| last == chain.digest())
    }

    /// The chain that was told last.
    pub fn told(&self) -> Option<&Chain> {
        self.told.as_ref()
    }

    /// What is to be told now, at least one part, in order; each has at most `most` bytes by `size`, or one grant.
    pub fn tell(&mut self, chain: &Chain, most: usize, size: impl Fn(&Grant) -> usize) -> Vec<Part> {
        let named = self.trail.iter().find_map(|digest| chain.count_with_digest(*digest));
        let told = self.told.as_ref().map(|told| told.common(chain));
        let has = named.max(told).unwrap_or(0);
        let (mut parts, mut room) = (vec![Part::after(chain, has)], most);
        for (count, grant) in chain.grants().enumerate().skip(has) {
            let size = size(grant);
            if size > room && parts.last().is_some_and(|part| !part.grants.is_empty()) {
                parts.push(Part::after(chain, count));
                room = most;
            }
            room = room.saturating_sub(size);
            parts.last_mut().into_iter().for_each(|part| part.grants.push(grant.clone()));
        }
        parts.iter_mut().rev().skip(1).for_each(|part| part.more = true);
        self.told = Some(chain.clone());
        parts
    }
}

impl Part {
    fn after(chain: &Chain, count: usize) -> Self {
        let after = (count > 0).then(|| chain.digest_of_first(count));
        Self { after, grants: Vec::new(), more: false }
    }
}

/// Why what comes is no part of a chain. What came before it is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PartError {
    /// It follows on something else than what is there, or brings nothing though more is to come.
    #[error("what is told of a chain of grants does not follow on what is known")]
    Gap,
    /// What it makes is none.
    #[error("what is told is no chain of grants")]
    Chain(#[from] ChainError),
}

/// The other end of [`Outgoing`].
#[derive(Clone, Debug)]
pub struct Incoming {
    kept: Option<Chain>,
    heard: Option<Chain>,
    /// Whether more of what is heard is to come.
    unfinished: bool,
}

impl Incoming {
    /// From somebody who was told the [`trail`] of what is kept.
    pub fn new(kept: Option<Chain>) -> Self {
        Self { kept, heard: None, unfinished: false }
    }

    /// What was heard last, as far as it has come.
    pub fn heard(&self) -> Option<&Chain> {
        self.heard.as_ref()
    }

    /// Takes in a part. Gives the chain as far as it has come; whether that is all of it, the part says. Nothing in it
    /// is proved.
    ///
    /// # Errors
    /// It is none, or does not follow; see [`PartError`].
    pub fn take(&mut self, part: Part) -> Result<Chain, PartError> {
        if part.more && part.grants.is_empty() {
            return Err(PartError::Gap);
        }
        let chain = match self.beginning(part.after)? {
            Some(beginning) => beginning.followed_by(part.grants)?,
            None => Chain::new(part.grants)?,
        };
        (self.heard, self.unfinished) = (Some(chain.clone()), part.more);
        Ok(chain)
    }

    /// The beginning with this digest of what is known.
    fn beginning(&self, digest: Option<Digest>) -> Result<Option<Chain>, PartError> {
        if self.unfinished {
            let goes_on = |heard: &Chain| digest == Some(heard.digest());
            return self.heard.clone().filter(goes_on).map(Some).ok_or(PartError::Gap);
        }
        let Some(digest) = digest else { return Ok(None) };
        let mut known = [&self.heard, &self.kept].into_iter().flatten();
        let beginning = |chain: &Chain| chain.beginning(chain.count_with_digest(digest)?);
        known.find_map(beginning).map(Some).ok_or(PartError::Gap)
    }

    /// The way back: to somebody who goes by what it has told.
    pub fn answer(&self) -> Outgoing {
        Outgoing { trail: Vec::new(), told: self.heard.clone() }
    }
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
