//! What a schedule is like: what it is about, how many take part, and how bad things are.

use super::aim::{Aim, Deed};
use super::faults::Act;
use super::message::{Kind, Trouble};
use super::random::Random;

/// What a schedule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Theme {
    /// Nothing in particular.
    Noise,
    /// Promotions by force while the primary lives, or others are on their way.
    Promises,
    /// Promotions one upon another.
    Relays,
    /// Hand-overs, and promotions of whoever has not heard of them.
    HandOvers,
    /// Changes of who counts.
    Counting,
    /// Lineages in conflict.
    Torn,
    /// Disks that are lost, or become older ones.
    Damage,
    /// Backups that are restored beside the living, most of them by managers that were taken out.
    Restored,
}

impl Theme {
    const ALL: [Self; 11] = [
        Self::Noise,
        Self::Promises,
        Self::Promises,
        Self::Relays,
        Self::HandOvers,
        Self::Counting,
        Self::Torn,
        Self::Damage,
        Self::Damage,
        Self::Restored,
        Self::Restored,
    ];

    /// Acts of which there are many.
    pub(crate) fn favours(self) -> &'static [Act] {
        match self {
            Self::Noise => &[],
            Self::Promises => &[Act::Contend],
            Self::Relays => &[Act::Relay, Act::Replace],
            Self::HandOvers => &[Act::HandOver, Act::HandOverUnheard],
            Self::Counting => &[Act::ChangeUnheard, Act::ChangeMinSync, Act::Remove],
            Self::Torn => &[Act::Tear, Act::Choose],
            Self::Damage => &[Act::RollBack, Act::Lose],
            Self::Restored => &[Act::Restore, Act::Remove, Act::Choose],
        }
    }

    /// Messages on which much depends.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Promises => {
                &[Kind::Seal, Kind::Sealed, Kind::Unseal, Kind::Grants, Kind::Fetch, Kind::Append]
            }
            Self::Relays => &[Kind::Grants, Kind::Append, Kind::Fetch, Kind::Standing],
            Self::HandOvers => &[Kind::Grants, Kind::Append, Kind::Appended, Kind::Standing],
            Self::Counting => &[Kind::Append, Kind::Appended, Kind::Committed, Kind::Standing],
            Self::Torn | Self::Restored => &[Kind::Grants, Kind::Append],
            Self::Noise | Self::Damage => &[Kind::Standing, Kind::Append, Kind::Missing, Kind::Committed],
        }
    }

    /// After which deeds a crash is of interest.
    fn deeds(self) -> &'static [Deed] {
        match self {
            Self::Promises => &[Deed::Seal, Deed::Send(Kind::Seal), Deed::Send(Kind::Sealed), Deed::Adopt],
            Self::Relays => &[Deed::Adopt, Deed::Lead, Deed::Send(Kind::Grants)],
            Self::HandOvers => &[Deed::Adopt, Deed::Fenced, Deed::Send(Kind::Grants), Deed::Append],
            Self::Counting => &[Deed::Append, Deed::Commit, Deed::Send(Kind::Committed)],
            Self::Torn | Self::Restored => &[Deed::Adopt, Deed::Seal],
            Self::Noise => &[Deed::Append, Deed::Commit, Deed::Send(Kind::Appended)],
            Self::Damage => &[Deed::RolledBack, Deed::Append],
        }
    }
}

pub(crate) struct Profile {
    pub(crate) theme: Theme,
    pub(crate) managers: usize,
    pub(crate) agents: usize,
    pub(crate) min_sync: u32,
    /// How many standbys count in the beginning.
    pub(crate) counted: usize,
    /// Of all messages, and of some kinds more.
    noise: Trouble,
    much: Vec<(Kind, Trouble)>,
    /// Whether messages between two managers keep their order.
    pub(crate) ordered: bool,
    /// Of ten thousand effects so many are the last thing a process does.
    pub(crate) crash: u64,
    pub(crate) aims: Vec<Aim>,
    /// Of a thousand things that are to be made durable so many are not, since the disk is full.
    pub(crate) full: u64,
    /// Whether disks are lost, or become older ones.
    pub(crate) damage: bool,
    /// Whether changes are committed under the new rule alone.
    pub(crate) alone: bool,
    /// Whether admins take their time, and until a standby is counted it takes long.
    pub(crate) slow: bool,
    /// Time between two faults or acts of an admin, in microseconds.
    pub(crate) pace: u64,
    /// How long the phase with faults lasts, in microseconds.
    pub(crate) length: u64,
}

impl Profile {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let theme = random.pick(&Theme::ALL).unwrap_or(Theme::Noise);
        let managers = random.pick(&[2, 2, 3, 3, 3, 4, 4, 5, 5, 6, 7]).unwrap_or(3);
        let wild = random.chance(if theme == Theme::Noise { 500 } else { 200 });
        let several = |random: &mut Random| if random.chance(600) { random.below(3) } else { 0 };
        let (kinds, deeds) = (several(random), several(random));
        Self {
            theme,
            managers,
            agents: random.below(4),
            min_sync: random.pick(&[0, 1, 1, 1, 2, 2, 3]).unwrap_or(1),
            counted: if random.chance(700) { managers - 1 } else { random.below(managers) },
            noise: if wild { Trouble::noise(random) } else { Trouble::default() },
            much: (0..kinds)
                .filter_map(|_| Some((random.pick(theme.kinds())?, Trouble::much(random))))
                .collect(),
            ordered: !random.chance(400),
            crash: if random.chance(400) { random.between(0, 12) } else { 0 },
            aims: (0..deeds).filter_map(|_| random.pick(theme.deeds()).map(Aim::new)).collect(),
            full: if random.chance(200) { random.between(1, 40) } else { 0 },
            damage: theme == Theme::Damage
                || matches!(theme, Theme::Noise | Theme::Torn) && random.chance(200),
            alone: random.chance(if theme == Theme::Counting { 400 } else { 150 }),
            slow: random.chance(400),
            pace: random.between(150_000, 1_500_000),
            length: random.between(8_000_000, 40_000_000),
        }
    }

    /// What goes wrong with messages of this kind.
    pub(crate) fn trouble(&self, kind: Kind) -> Trouble {
        self.much.iter().find(|(k, _)| *k == kind).map_or(self.noise, |(_, trouble)| *trouble)
    }
}
