//! Values as the registry's tables have them.

use crate::database::from_sql;
use crate::error::Problem;
use echelon_core::grant::GrantId;
use echelon_core::id::Lineage;
use echelon_core::position::Position;
use echelon_wire::Wire;
use rusqlite::types::ValueRef;
use uuid::Uuid;

pub(crate) fn position(lineage: [u8; 16], epoch: i64, revision: i64) -> Position {
    grant_id(lineage, epoch).at(from_sql(revision))
}

pub(crate) fn grant_id(lineage: [u8; 16], epoch: i64) -> GrantId {
    GrantId { lineage: Lineage(Uuid::from_bytes(lineage)), epoch: from_sql(epoch) }
}

pub(crate) fn lineage_bytes(position: Position) -> [u8; 16] {
    position.lineage.0.into_bytes()
}

/// The value in a column that a file of ours always has as bytes.
pub(crate) fn decode<T: Wire>(what: &'static str, bytes: &[u8]) -> Result<T, Problem> {
    T::decode(bytes).map_err(|source| Problem::Undecodable { what, source: Box::new(source) })
}

/// A column of bytes, decoded.
pub(crate) fn decoded<T: Wire>(
    row: &rusqlite::Row<'_>,
    column: usize,
    what: &'static str,
) -> Result<T, Problem> {
    decode(what, row.get_ref(column)?.as_blob().map_err(not_a_blob)?)
}

/// As [`decoded`], of a column that may be empty.
pub(crate) fn decoded_if_any<T: Wire>(
    row: &rusqlite::Row<'_>,
    column: usize,
    what: &'static str,
) -> Result<Option<T>, Problem> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        _ => decoded(row, column, what).map(Some),
    }
}

pub(crate) fn not_a_blob(error: rusqlite::types::FromSqlError) -> Problem {
    Problem::Inconsistent(error.to_string())
}
