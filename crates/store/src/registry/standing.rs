//! The one row that says by whose word a manager goes.

use super::rows;
use super::sql::{decoded, decoded_if_any};
use crate::database::from_sql;
use crate::error::Problem;
use echelon_core::grant::{Chain, Grant, GrantId};
use echelon_core::member::Seals;
use echelon_core::name::ManagerType;
use echelon_core::package::Role;
use echelon_core::position::Position;
use echelon_core::row::Row;
use echelon_core::time::UnixMillis;
use echelon_wire::Wire;
use rusqlite::{Connection, Transaction, params};

/// By whose word a manager goes, and what it has promised. Of this manager alone, but for the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// All grants that it knows of.
    pub grants: Chain,
    /// The promises that it is held by.
    pub seals: Seals,
    /// A position that others have seen and this file has lost.
    pub rolled_back: Option<Position>,
}

impl Standing {
    /// The row; none in a file of a build that had no grants.
    pub(crate) fn load(connection: &Connection) -> Result<Option<Self>, Problem> {
        let mut statement = connection.prepare("SELECT grants, seal, rolled_back FROM standing")?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Self {
            grants: decoded(row, 0, "the chain of grants")?,
            seals: decoded_if_any(row, 1, "promises")?.unwrap_or_default(),
            rolled_back: decoded_if_any(row, 2, "the position that was lost")?,
        }))
    }

    pub(super) fn insert(transaction: &Transaction<'_>, grants: &Chain) -> Result<(), Problem> {
        transaction.execute("INSERT INTO standing (one, grants) VALUES (1, ?1)", [&grants.encode()[..]])?;
        Ok(())
    }

    /// Goes by other grants; promises were of the old ones, and what those had lost does not matter any more.
    pub(super) fn set_grants(transaction: &Transaction<'_>, grants: &Chain) -> Result<(), Problem> {
        let sql = "UPDATE standing SET grants = ?1, seal = NULL, rolled_back = NULL";
        changed_one(transaction.execute(sql, [&grants.encode()[..]])?)
    }

    pub(super) fn set_seals(transaction: &Transaction<'_>, seals: &Seals) -> Result<(), Problem> {
        let seals = (!seals.is_empty()).then(|| seals.encode().to_vec());
        changed_one(transaction.execute("UPDATE standing SET seal = ?1", params![seals])?)
    }

    /// Takes out what concerns one manager alone.
    pub(super) fn disown(transaction: &Transaction<'_>) -> Result<(), Problem> {
        changed_one(transaction.execute("UPDATE standing SET seal = NULL, rolled_back = NULL", [])?)
    }

    pub(super) fn set_rolled_back(transaction: &Transaction<'_>, seen: &Position) -> Result<(), Problem> {
        changed_one(transaction.execute("UPDATE standing SET rolled_back = ?1", [&seen.encode()[..]])?)
    }
}

fn changed_one(changed: usize) -> Result<(), Problem> {
    match changed {
        1 => Ok(()),
        _ => Err(Problem::Inconsistent("it says no grants".into())),
    }
}

/// The chain of a registry that was made by a build without grants: its primary may write since it was made.
pub(super) fn of_old_file(connection: &Connection, position: Position) -> Result<Chain, Problem> {
    let registry = ManagerType::registry();
    let rows = rows::load_all(connection)?;
    let holder = rows.iter().find_map(|row| match row {
        Row::Package(p) if p.ty == registry && p.role == Some(Role::Primary) => Some(p.host),
        _ => None,
    });
    let holder = holder.ok_or_else(|| Problem::Inconsistent("it names no primary".into()))?;
    let name = rows.into_iter().find_map(|row| match row {
        Row::Host(host) if host.id == holder => Some(host.name),
        _ => None,
    });
    let name = name.ok_or_else(|| Problem::Inconsistent("its primary is on no host".into()))?;
    let first: Option<i64> = connection.query_row("SELECT min(at) FROM journal", [], |r| r.get(0))?;
    let at = UnixMillis(first.map_or(0, from_sql));
    Chain::begin(Grant::first(GrantId::of(&position).lineage, holder, name, at))
        .map_err(|e| Problem::Inconsistent(e.to_string()))
}
