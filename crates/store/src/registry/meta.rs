//! The one row that says how far the journal goes.

use super::sql::{lineage_bytes, position};
use crate::database::{from_sql, to_sql};
use crate::error::Problem;
use echelon_core::grant::{Hash, Mark};
use echelon_core::member::link;
use echelon_core::position::Position;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

/// How many of the newest entries have their hashes checked when the file is opened: the work of a second
/// at most, and far more than a crash can have damaged. Agents witness the rest.
pub(super) const CHECKED_ENTRIES: usize = 1_000;

/// After so many bytes of entries the check ends early: entries can have tens of megabytes each.
const CHECKED_BYTES: usize = 64 << 20;

/// How much of a journal is checked.
#[derive(Clone, Copy)]
pub(super) enum Extent {
    /// The newest entries.
    Newest,
    /// All of it.
    Whole,
}

impl Extent {
    fn covers(self, entries: usize, bytes: usize) -> bool {
        match self {
            Self::Newest => entries <= CHECKED_ENTRIES && bytes <= CHECKED_BYTES,
            Self::Whole => true,
        }
    }
}

/// The one row of the table `meta`.
pub(crate) struct Meta {
    pub(crate) head: Mark,
    pub(crate) committed: u64,
    pub(super) genesis_revision: u64,
    pub(super) genesis: Hash,
}

impl Meta {
    pub(crate) fn load(connection: &Connection) -> Result<Self, Problem> {
        let sql = "SELECT lineage, epoch, revision, chain, committed, genesis_revision, genesis FROM meta";
        let meta = connection.query_row(sql, [], |r| {
            let position = position(r.get(0)?, r.get(1)?, r.get(2)?);
            Ok(Self {
                head: Mark { position, hash: r.get(3)? },
                committed: from_sql(r.get(4)?),
                genesis_revision: from_sql(r.get(5)?),
                genesis: r.get(6)?,
            })
        });
        meta.optional()?.ok_or_else(nothing)
    }

    pub(super) fn insert(transaction: &Transaction<'_>, genesis: &Mark) -> Result<(), Problem> {
        let Position { lineage: _, epoch, revision } = genesis.position;
        transaction.execute(
            "INSERT INTO meta (one, lineage, epoch, revision, genesis_revision, genesis, chain, committed) \
             VALUES (1, ?1, ?2, ?3, ?3, ?4, ?4, ?3)",
            params![
                lineage_bytes(genesis.position),
                to_sql("the epoch", epoch)?,
                to_sql("the revision", revision)?,
                genesis.hash
            ],
        )?;
        Ok(())
    }

    pub(super) fn advance(transaction: &Transaction<'_>, head: &Mark, committed: u64) -> Result<(), Problem> {
        let changed = transaction
            .prepare_cached(
                "UPDATE meta SET lineage = ?1, epoch = ?2, revision = ?3, chain = ?4, committed = ?5",
            )?
            .execute(params![
                lineage_bytes(head.position),
                to_sql("the epoch", head.position.epoch)?,
                to_sql("the revision", head.position.revision)?,
                head.hash,
                to_sql("the committed revision", committed)?,
            ])?;
        match changed {
            1 => Ok(()),
            _ => Err(nothing()),
        }
    }

    /// Follows the chain from the newest entry down, as far as is to be checked. What the newest entry must
    /// be, this row says; every entry's hash is proved by the entry before it.
    pub(super) fn check_chain(&self, connection: &Connection, extent: Extent) -> Result<(), Problem> {
        let head = self.head.revision();
        let mut statement =
            connection.prepare("SELECT revision, chain, entry FROM journal ORDER BY revision DESC")?;
        let mut entries = statement.query([])?;
        let (mut checked, mut bytes) = (0, 0);
        let mut newer: Option<Linked> = None;
        while extent.covers(checked, bytes) {
            let entry = entries.next()?.map(Linked::load).transpose()?;
            let (revision, chain) = match &entry {
                Some(entry) => (entry.revision, entry.chain),
                None => (self.genesis_revision, self.genesis),
            };
            match &newer {
                None if revision == head && chain == self.head.hash => {}
                None => return Err(Problem::Chain { revision: head }),
                Some(newer) => newer.check_follows(revision, &chain)?,
            }
            let Some(entry) = entry else { break };
            (checked, bytes) = (checked + 1, bytes.saturating_add(entry.bytes.len()));
            newer = Some(entry);
        }
        if !(self.genesis_revision..=head).contains(&self.committed) {
            let committed = self.committed;
            return Err(Problem::Inconsistent(format!("revision {committed} of {head} is committed")));
        }
        Ok(())
    }
}

fn nothing() -> Problem {
    Problem::Inconsistent("it says no position".into())
}

/// An entry of the journal as far as the chain needs it.
struct Linked {
    revision: u64,
    chain: Hash,
    bytes: Vec<u8>,
}

impl Linked {
    fn load(row: &rusqlite::Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self { revision: from_sql(row.get(0)?), chain: row.get(1)?, bytes: row.get(2)? })
    }

    fn check_follows(&self, revision: u64, chain: &Hash) -> Result<(), Problem> {
        let next = revision.checked_add(1) == Some(self.revision);
        match next && link(chain, &self.bytes) == self.chain {
            true => Ok(()),
            false => Err(Problem::Chain { revision: self.revision }),
        }
    }
}
