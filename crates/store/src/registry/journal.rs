//! The table of entries.

use super::meta::Meta;
use super::sql::{decoded, lineage_bytes, not_a_blob, position};
use super::{MAX_PART_BYTES, MAX_PART_ENTRIES, Remembered};
use crate::database::{from_sql, to_sql};
use crate::entry::Entry;
use crate::error::Problem;
use echelon_core::grant::{Chain, Mark};
use echelon_core::id::RequestId;
use echelon_core::member;
use echelon_core::row::Commit;
use echelon_core::time::UnixMillis;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

const ENTRY: &str = "an entry of the journal";

pub(super) fn insert(transaction: &Transaction<'_>, entry: &Entry) -> Result<(), Problem> {
    let (commit, at) = (&entry.commit, entry.mark.position);
    transaction
        .prepare_cached(
            "INSERT INTO journal (revision, epoch, lineage, at, request, content, chain, entry) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            to_sql("the revision", at.revision)?,
            to_sql("the epoch", at.epoch)?,
            lineage_bytes(at),
            // Only to look up what is remembered; the entry has the time itself.
            i64::try_from(commit.at.0).unwrap_or(i64::MAX),
            commit.request.0.into_bytes(),
            commit.content,
            entry.mark.hash,
            &entry.bytes[..],
        ])?;
    Ok(())
}

pub(super) fn remove(transaction: &Transaction<'_>, revision: u64) -> Result<(), Problem> {
    let revision = to_sql("the revision", revision)?;
    transaction.prepare_cached("DELETE FROM journal WHERE revision = ?1")?.execute([revision])?;
    Ok(())
}

/// The mark of this revision; that on which the first entry builds was made under the first of the grants.
pub(super) fn mark(connection: &Connection, revision: u64, grants: &Chain) -> Result<Option<Mark>, Problem> {
    let Meta { genesis_revision, genesis, .. } = Meta::load(connection)?;
    if revision == genesis_revision {
        let first = grants.first();
        return Ok(Some(Mark { position: first.id.at(revision), hash: genesis }));
    }
    let Ok(number) = i64::try_from(revision) else { return Ok(None) };
    let mark = connection
        .prepare_cached("SELECT lineage, epoch, revision, chain FROM journal WHERE revision = ?1")?
        .query_row([number], mark_in);
    Ok(mark.optional()?)
}

/// The mark in a row that begins with lineage, epoch, revision and hash.
fn mark_in(row: &rusqlite::Row<'_>) -> Result<Mark, rusqlite::Error> {
    Ok(Mark { position: position(row.get(0)?, row.get(1)?, row.get(2)?), hash: row.get(3)? })
}

pub(super) fn commit(connection: &Connection, revision: u64) -> Result<Option<Commit>, Problem> {
    let Ok(revision) = i64::try_from(revision) else { return Ok(None) };
    let mut statement = connection.prepare_cached("SELECT entry FROM journal WHERE revision = ?1")?;
    let mut rows = statement.query([revision])?;
    rows.next()?.map(|row| decoded(row, 0, ENTRY)).transpose()
}

/// The oldest entries after this revision, as far as a part holds them.
pub(super) fn after(connection: &Connection, revision: u64) -> Result<Vec<member::Entry>, Problem> {
    let revision = i64::try_from(revision).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT lineage, epoch, revision, chain, entry FROM journal WHERE revision > ?1 \
         ORDER BY revision LIMIT ?2",
    )?;
    let mut rows = statement.query(params![revision, MAX_PART_ENTRIES])?;
    let (mut entries, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let entry = row.get_ref(4)?.as_blob().map_err(not_a_blob)?;
        bytes = bytes.saturating_add(entry.len());
        if bytes > MAX_PART_BYTES && !entries.is_empty() {
            break;
        }
        entries.push(member::Entry { mark: mark_in(row)?, sync: None, bytes: entry.into() });
    }
    Ok(entries)
}

/// All entries after this mark.
pub(super) fn tail(connection: &Connection, after: &Mark) -> Result<Vec<Entry>, Problem> {
    let mut statement =
        connection.prepare_cached("SELECT entry FROM journal WHERE revision > ?1 ORDER BY revision")?;
    let mut rows = statement.query([to_sql("the revision", after.revision())?])?;
    let (mut entries, mut before) = (Vec::new(), *after);
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(0)?.as_blob().map_err(not_a_blob)?;
        let entry = Entry::read(&before, bytes.into())
            .map_err(|source| Problem::Undecodable { what: ENTRY, source: Box::new(source) })?;
        before = entry.mark;
        entries.push(entry);
    }
    Ok(entries)
}

/// The newest revision after this one.
pub(super) fn newest_after(connection: &Connection, revision: u64) -> Result<Option<u64>, Problem> {
    let sql = "SELECT max(revision) FROM journal WHERE revision > ?1";
    let newest: Option<i64> =
        connection.prepare_cached(sql)?.query_row([to_sql("the revision", revision)?], |r| r.get(0))?;
    Ok(newest.map(from_sql))
}

/// The change sets made at or after `since`, up to this revision.
pub(super) fn requests(
    connection: &Connection,
    since: UnixMillis,
    to: u64,
) -> Result<Vec<Remembered>, Problem> {
    let since = i64::try_from(since.0).unwrap_or(i64::MAX);
    connection
        .prepare(
            "SELECT request, content, lineage, epoch, revision FROM journal \
             WHERE at >= ?1 AND revision <= ?2 ORDER BY revision",
        )?
        .query_and_then([since, to_sql("the revision", to)?], |row| {
            Ok(Remembered {
                request: RequestId(uuid::Uuid::from_bytes(row.get(0)?)),
                content: row.get(1)?,
                position: position(row.get(2)?, row.get(3)?, row.get(4)?),
            })
        })?
        .collect()
}

/// When commits were made, from `since` on and up to this revision, and how many managers served before each.
pub(super) fn served(
    connection: &Connection,
    since: UnixMillis,
    to: u64,
) -> Result<Vec<(UnixMillis, u64)>, Problem> {
    let since = i64::try_from(since.0).unwrap_or(i64::MAX);
    connection
        .prepare("SELECT entry FROM journal WHERE at >= ?1 AND revision <= ?2 ORDER BY revision")?
        .query_and_then([since, to_sql("the revision", to)?], |r| {
            decoded::<Commit>(r, 0, ENTRY).map(|commit| (commit.at, commit.served))
        })?
        .collect()
}
