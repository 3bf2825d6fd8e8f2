//! The registry's rows: those of the newest entry, committed or not.

use super::sql::decoded;
use crate::chain;
use crate::entry::Entry;
use crate::error::Problem;
use echelon_core::grant::Hash;
use echelon_core::position::Position;
use echelon_core::row::{Row, RowChange, RowKey};
use echelon_wire::Wire;
use rusqlite::{Connection, Transaction, params};
use std::collections::BTreeMap;

/// Inserts the rows that a registry begins with. Gives the hash that its first entry builds on.
pub(super) fn insert_all(
    transaction: &Transaction<'_>,
    position: Position,
    rows: &[Row],
) -> Result<Hash, Problem> {
    let mut encoded: Vec<_> = rows.iter().map(|row| (row.key(), row.encode())).collect();
    encoded.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut insert = transaction.prepare("INSERT INTO row (key, value) VALUES (?1, ?2)")?;
    for (key, value) in &encoded {
        insert.execute(params![&key.encode()[..], &value[..]])?;
    }
    Ok(chain::genesis(&position, encoded.iter().map(|(_, value)| &value[..])))
}

/// All rows, by key.
pub(super) fn load_all(connection: &Connection) -> Result<Vec<Row>, Problem> {
    let mut rows = connection
        .prepare("SELECT value FROM row")?
        .query_and_then([], |r| decoded::<Row>(r, 0, "a row"))?
        .collect::<Result<Vec<_>, Problem>>()?;
    rows.sort_by_cached_key(Row::key);
    Ok(rows)
}

/// The rows as they were before these entries, the last that were made.
pub(super) fn before(rows: Vec<Row>, tail: &[Entry]) -> Vec<Row> {
    if tail.is_empty() {
        return rows;
    }
    let mut by_key: BTreeMap<RowKey, Row> = rows.into_iter().map(|row| (row.key(), row)).collect();
    for change in tail.iter().rev().flat_map(|entry| &entry.commit.rows) {
        match &change.before {
            Some(row) => by_key.insert(change.key.clone(), row.clone()),
            None => by_key.remove(&change.key),
        };
    }
    by_key.into_values().collect()
}

/// Sets or removes one row. Whether there was one is compared with what the commit says, so that a memory
/// that has come apart from its file is found before it does more harm.
pub(super) fn apply(transaction: &Transaction<'_>, change: &RowChange) -> Result<(), Problem> {
    replace(transaction, &change.key, change.before.as_ref(), change.after.as_ref())
}

/// Makes one row what it was before the change.
pub(super) fn undo(transaction: &Transaction<'_>, change: &RowChange) -> Result<(), Problem> {
    replace(transaction, &change.key, change.after.as_ref(), change.before.as_ref())
}

fn replace(
    transaction: &Transaction<'_>,
    key: &RowKey,
    there: Option<&Row>,
    wanted: Option<&Row>,
) -> Result<(), Problem> {
    let bytes = key.encode();
    let changed = match (there, wanted) {
        (None, Some(row)) => transaction
            .prepare_cached("INSERT INTO row (key, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![&bytes[..], &row.encode()[..]])?,
        (Some(_), Some(row)) => transaction
            .prepare_cached("UPDATE row SET value = ?2 WHERE key = ?1")?
            .execute(params![&bytes[..], &row.encode()[..]])?,
        (_, None) => {
            transaction.prepare_cached("DELETE FROM row WHERE key = ?1")?.execute(params![&bytes[..]])?
        }
    };
    match changed {
        1 => Ok(()),
        _ => Err(Problem::Diverged { key: key.clone() }),
    }
}
