//! Entries that another grant has made void.

use crate::database::{from_sql, to_sql};
use crate::error::Problem;
use crate::registry::sql::{decoded, grant_id};
use crate::registry::{MAX_PART_BYTES, MAX_PART_ENTRIES};
use echelon_core::grant::GrantId;
use echelon_core::row::Commit;
use echelon_core::time::UnixMillis;
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, Transaction, params};

/// An entry that this manager had, and that is no part of the registry's history.
#[derive(Clone, PartialEq, Debug)]
pub struct Lost {
    /// Counts them from 1 in the order in which they were lost, and those of one loss in that in which they were
    /// made.
    pub number: u64,
    /// The grant that does not build on it.
    pub lost_to: GrantId,
    /// What it was.
    pub commit: Commit,
    /// Who has dealt with it, and when; none while nobody has said so.
    pub dismissed: Option<Dismissal>,
}

/// That somebody has dealt with what was lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dismissal {
    /// When.
    pub at: UnixMillis,
    /// Who.
    pub by: String,
}

/// All of a row.
const COLUMNS: &str = "id, lineage, epoch, entry, dismissed_at, dismissed_by";

/// Keeps the journal's entries after this revision.
pub(crate) fn keep(transaction: &Transaction<'_>, after: u64, lost_to: GrantId) -> Result<(), Problem> {
    transaction.execute(
        "INSERT INTO surplus (lineage, epoch, entry) \
         SELECT ?1, ?2, entry FROM journal WHERE revision > ?3 ORDER BY revision",
        params![
            lost_to.lineage.0.into_bytes(),
            to_sql("the epoch", lost_to.epoch)?,
            to_sql("the revision", after)?
        ],
    )?;
    Ok(())
}

/// Takes all that were lost along to another file.
pub(crate) fn carry(from: &Connection, to: &Transaction<'_>) -> Result<(), Problem> {
    let mut rows = from.prepare(&format!("SELECT {COLUMNS} FROM surplus ORDER BY id"))?;
    let mut rows = rows.query([])?;
    let mut insert =
        to.prepare(&format!("INSERT INTO surplus ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"))?;
    while let Some(row) = rows.next()? {
        for column in 0..6 {
            insert.raw_bind_parameter(column + 1, ToSqlOutput::Borrowed(row.get_ref(column)?))?;
        }
        insert.raw_execute()?;
    }
    Ok(())
}

/// Notes that somebody has dealt with those up to this number, where nobody had before. Gives how many.
pub(crate) fn dismiss(
    transaction: &Transaction<'_>,
    through: u64,
    dismissal: &Dismissal,
) -> Result<usize, Problem> {
    let sql =
        "UPDATE surplus SET dismissed_at = ?1, dismissed_by = ?2 WHERE id <= ?3 AND dismissed_at IS NULL";
    let through = i64::try_from(through).unwrap_or(i64::MAX);
    let at = to_sql("the time", dismissal.at.0)?;
    Ok(transaction.execute(sql, params![at, dismissal.by, through])?)
}

/// Keeps, in another file, the entries of this one's journal after this revision.
pub(crate) fn carry_entries(
    from: &Connection,
    to: &Transaction<'_>,
    after: u64,
    lost_to: GrantId,
) -> Result<(), Problem> {
    let mut rows = from.prepare("SELECT entry FROM journal WHERE revision > ?1 ORDER BY revision")?;
    let mut rows = rows.query([to_sql("the revision", after)?])?;
    let mut insert = to.prepare("INSERT INTO surplus (lineage, epoch, entry) VALUES (?1, ?2, ?3)")?;
    let (lineage, epoch) = (lost_to.lineage.0.into_bytes(), to_sql("the epoch", lost_to.epoch)?);
    while let Some(row) = rows.next()? {
        insert.execute(params![lineage, epoch, ToSqlOutput::Borrowed(row.get_ref(0)?)])?;
    }
    Ok(())
}

/// The oldest ones after this number.
pub(crate) fn after(connection: &Connection, number: u64) -> Result<Vec<Lost>, Problem> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM surplus WHERE id > ?1 ORDER BY id LIMIT ?2"))?;
    let mut rows = statement.query([i64::try_from(number).unwrap_or(i64::MAX), MAX_PART_ENTRIES])?;
    let (mut lost, mut bytes) = (Vec::new(), 0_usize);
    while bytes < MAX_PART_BYTES {
        let Some(row) = rows.next()? else { break };
        let commit: Commit = decoded(row, 3, "an entry that was lost")?;
        bytes = bytes.saturating_add(row.get_ref(3)?.as_blob().map_or(0, <[u8]>::len));
        let lost_to = grant_id(row.get(1)?, row.get(2)?);
        let at: Option<i64> = row.get(4)?;
        let by: Option<String> = row.get(5)?;
        let dismissed = at.map(|at| Dismissal { at: UnixMillis(from_sql(at)), by: by.unwrap_or_default() });
        lost.push(Lost { number: from_sql(row.get(0)?), lost_to, commit, dismissed });
    }
    Ok(lost)
}
