//! A host's own announcements, from the moment they are made until the registry shows them.

use crate::announce::{Announcement, HostWord, next_number};
use crate::id::RequestId;
use crate::limits::{MAX_PACKAGES_PER_HOST, REQUEST_TTL};
use crate::name::ManagerType;
use crate::package::Package;
use crate::position::Position;
use crate::time::UnixMillis;
use crate::view::Place;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The newest announcement of each type. Older ones have no effect any more, and are forgotten.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Announcements {
    packages: BTreeMap<ManagerType, Said>,
}

/// An announcement, and how far it has come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Said {
    /// See [`Announcement::number`].
    pub number: RequestId,
    /// The number under which it was made, where it has been given another since. Not kept on disk: those who know it
    /// by that wait in the process that made it.
    #[serde(skip)]
    pub first: Option<RequestId>,
    /// See [`Announcement::word`].
    pub word: HostWord,
    /// When it was made, by the host's clock.
    pub since: UnixMillis,
    /// How far it has come.
    pub stage: Stage,
}

/// How far an announcement has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// No registry manager has been told.
    Kept,
    /// One was told, at least once, and has not answered: perhaps it is committed.
    Offered,
    /// It was committed here; the host's place may not show it yet.
    Committed(Position),
    /// It was committed here, and the host's place is at least as new.
    Settled(Position),
}

/// What has become of something that a host says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saying {
    /// It is the newest announcement now, known by this number.
    New(RequestId),
    /// The newest announcement says the same already: it is the one known by this number, see [`Said::known_as`].
    Same(RequestId),
    /// There is nothing left to say: the registry has it so already, or was never told otherwise.
    Idle,
}

/// Why something cannot be announced. Nothing has changed; saying it again is pointless as long as nothing else
/// does.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SayError {
    /// The host's identity does not allow it.
    #[error(
        "this host's identity does not allow it to announce packages of type {0}; enrol it again with a token \
         made with --replace and --allow-type {0}, or have the operator record the package"
    )]
    NotAllowed(ManagerType),
    /// There is nothing to withdraw.
    #[error("this host has no package of type {0}, and has announced none")]
    Unknown(ManagerType),
    /// There are too many.
    #[error("this host has announced {MAX_PACKAGES_PER_HOST} packages already")]
    TooMany,
}

impl Announcements {
    /// The newest announcement of a type.
    pub fn get(&self, ty: &ManagerType) -> Option<&Said> {
        self.packages.get(ty)
    }

    /// As they were found on disk. What is committed counts as shown: if the place on disk lacks it, it was
    /// removed, or will be seen with the registry's next word.
    pub fn loaded(mut self) -> Self {
        for said in self.packages.values_mut() {
            if let Stage::Committed(position) = said.stage {
                said.stage = Stage::Settled(position);
            }
        }
        self
    }

    /// Takes in what the host says of a package now. `place` is what the registry has; `fresh` is a new number.
    ///
    /// # Errors
    /// [`SayError`].
    pub fn say(
        &mut self,
        (ty, word): (&ManagerType, HostWord),
        place: &Place,
        fresh: RequestId,
        now: UnixMillis,
    ) -> Result<Saying, SayError> {
        if !place.allow_types.contains(ty) {
            return Err(SayError::NotAllowed(ty.clone()));
        }
        let (recorded, said) = (place.package(ty), self.packages.get(ty));
        match said {
            Some(said) if said.word == word && said.holds(recorded) => {
                return Ok(Saying::Same(said.known_as()));
            }
            None if self.packages.len() >= MAX_PACKAGES_PER_HOST => return Err(SayError::TooMany),
            _ => {}
        }
        if word == HostWord::Withdraws {
            match (recorded, said) {
                (None, None) => return Err(SayError::Unknown(ty.clone())),
                (None, Some(Said { stage: Stage::Kept, .. })) => {
                    self.packages.remove(ty);
                    return Ok(Saying::Idle);
                }
                (Some(package), None) if package.is_withdrawn_by_host() => return Ok(Saying::Idle),
                _ => {}
            }
        }
        let recorded = recorded.and_then(|p| p.host_side).map(|side| side.number);
        let number = next_number(fresh, recorded.max(said.map(|said| said.number)));
        let said = Said { number, first: None, word, since: now, stage: Stage::Kept };
        self.packages.insert(ty.clone(), said);
        Ok(Saying::New(number))
    }

    /// The types whose newest announcement the registry has not confirmed.
    pub fn pending(&self) -> impl Iterator<Item = (&ManagerType, &Said)> {
        self.packages.iter().filter(|(_, said)| said.is_pending())
    }

    /// What the registry is to be told of a type, which counts as told from now on. One that was never told
    /// takes a `fresh` number where its own is about to be too old to be taken.
    pub fn offer(&mut self, ty: &ManagerType, fresh: RequestId, now: UnixMillis) -> Option<Announcement> {
        let said = self.packages.get_mut(ty).filter(|said| said.is_pending())?;
        let old = said.number.made_at().is_none_or(|made| made < now - REQUEST_TTL / 2);
        if said.stage == Stage::Kept && old {
            said.take_number(next_number(fresh, Some(said.number)));
        }
        said.stage = Stage::Offered;
        Some(Announcement { number: said.number, ty: ty.clone(), word: said.word.clone() })
    }

    /// An announcement is committed.
    pub fn committed(&mut self, ty: &ManagerType, number: RequestId, position: Position) {
        if let Some(said) = self.packages.get_mut(ty).filter(|said| said.number == number) {
            said.stage = Stage::Committed(position);
        }
    }

    /// An announcement's number was refused as being of the future; it is given the `fresh` one. Nothing of the
    /// old one was carried out.
    pub fn renumber(&mut self, ty: &ManagerType, number: RequestId, fresh: RequestId) {
        if let Some(said) = self.packages.get_mut(ty).filter(|said| said.number == number) {
            said.take_number(fresh);
            said.stage = Stage::Kept;
        }
    }

    /// Forgets an announcement that will never be taken in, or has nothing left to say.
    pub fn forget(&mut self, ty: &ManagerType, number: RequestId) {
        if self.packages.get(ty).is_some_and(|said| said.number == number) {
            self.packages.remove(ty);
        }
    }

    /// Compares with the host's place. `confirmed` is a position that the place is at least as new as. Gives the
    /// types that an operator has removed, whose announcements are forgotten: only a new one brings them back.
    pub fn see(&mut self, place: &Place, confirmed: Option<Position>) -> Vec<ManagerType> {
        let mut removed = Vec::new();
        self.packages.retain(|ty, said| {
            let (Stage::Committed(at) | Stage::Settled(at)) = said.stage else { return true };
            let shown = place.package(ty).map(|p| p.host_side.map(|side| side.number));
            let reached = match confirmed.map(|confirmed| at.is_after(&confirmed)) {
                // Another chain of states may lack it. Where it does not, the number is known there.
                Some(None) => {
                    said.stage = Stage::Offered;
                    return true;
                }
                Some(Some(later)) => !later,
                None => false,
            };
            if reached || shown.flatten() >= Some(said.number) {
                said.stage = Stage::Settled(at);
            }
            let gone = reached && shown.is_none();
            removed.extend(gone.then(|| ty.clone()));
            !gone
        });
        removed
    }

    /// What the registry does not show yet, and its own host goes by already.
    pub fn unsettled(&self) -> Vec<Announcement> {
        let unsettled = self.packages.iter().filter(|(_, s)| !matches!(s.stage, Stage::Settled(_)));
        let announcement = |(ty, s): (&ManagerType, &Said)| Announcement {
            number: s.number,
            ty: ty.clone(),
            word: s.word.clone(),
        };
        unsettled.map(announcement).collect()
    }
}

impl Said {
    /// Whether the registry has not confirmed it.
    pub fn is_pending(&self) -> bool {
        matches!(self.stage, Stage::Kept | Stage::Offered)
    }

    /// The number by which whoever made it knows it: the same however often it is given another.
    pub fn known_as(&self) -> RequestId {
        self.first.unwrap_or(self.number)
    }

    fn take_number(&mut self, fresh: RequestId) {
        self.first = Some(self.known_as());
        self.number = fresh;
    }

    /// Whether it still counts: it is on its way, or the registry has recorded what it says and nobody has
    /// changed that since.
    fn holds(&self, recorded: Option<&Package>) -> bool {
        let says_the_same = |package: &Package| {
            let mut said = package.clone();
            self.word.apply(&mut said, self.number);
            said == *package
        };
        !matches!(self.stage, Stage::Settled(_)) || recorded.is_some_and(says_the_same)
    }
}
