//! What a schedule is like: how many take part, and how bad things are.

use super::random::Random;

pub(crate) struct Profile {
    pub(crate) managers: usize,
    pub(crate) agents: usize,
    pub(crate) min_sync: u32,
    /// Of a thousand messages so many are lost, doubled, late.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) late: u64,
    /// Whether messages between two managers keep their order.
    pub(crate) ordered: bool,
    /// Of ten thousand effects so many are the last thing a process does.
    pub(crate) crash: u64,
    /// Whether disks are lost, or become older ones.
    pub(crate) damage: bool,
    /// Whether changes are committed under the new rule alone.
    pub(crate) alone: bool,
    /// Time between two faults or acts of an admin, in microseconds.
    pub(crate) pace: u64,
    /// How long the phase with faults lasts, in microseconds.
    pub(crate) length: u64,
}

impl Profile {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let wild = random.chance(500);
        let rate = |random: &mut Random, most| if wild { random.between(0, most) } else { 0 };
        Self {
            managers: random.between(2, 6) as usize,
            agents: random.below(4),
            min_sync: random.pick(&[0, 1, 1, 1, 2, 2, 3]).unwrap_or(1),
            lost: rate(random, 60),
            doubled: rate(random, 60),
            late: rate(random, 100),
            ordered: !wild,
            crash: if random.chance(500) { random.between(0, 12) } else { 0 },
            damage: random.chance(200),
            alone: random.chance(250),
            pace: random.between(150_000, 1_500_000),
            length: random.between(8_000_000, 40_000_000),
        }
    }
}
