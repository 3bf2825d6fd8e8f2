//! The edits that this manager keeps though they are no part of the registry: given up with the grant that they were
//! made under.

use crate::alarms;
use crate::clock::unix_now;
use crate::failure;
use crate::limits::MAX_LOST;
use crate::server::Shared;
use echelon_core::describe::describe;
use echelon_core::grant::GrantId;
use echelon_core::id::RequestId;
use echelon_core::message::Failure;
use echelon_core::name::ConsoleName;
use echelon_core::names::{Past, Side};
use echelon_core::promotion::{
    DismissedReport, LostEditReport, LostToReport, Mark, again, again_id, again_mark,
};
use echelon_core::registry::Registry;
use echelon_core::report::ActorReport;
use echelon_core::time::UnixMillis;
use echelon_store::{Dismissal, JournalReader, Lost};
use std::collections::HashMap;
use std::sync::Arc;
use tracing::info;

/// All of them, the oldest first, no more than [`MAX_LOST`]. Blocks on the disk.
pub(crate) fn edits(shared: &Shared) -> Result<Vec<LostEditReport>, Failure> {
    let unreadable = |e: &dyn std::error::Error| failure::internal(&failure::in_full(e));
    let reader = JournalReader::open(&shared.journal).map_err(|e| unreadable(&e))?;
    let lost = read(&reader).map_err(|e| unreadable(&e))?;
    let (registry, now) = (shared.hub.registry(), unix_now());
    // What is not committed is nobody's to know.
    let shown = registry.position().revision;
    let applied = Applied::find(&reader, &lost, shown).map_err(|e| unreadable(&e))?;
    let mut then = Then::of(&registry);
    Ok(lost.iter().map(|lost| report(shared, then.at(lost), lost, &applied, now)).collect())
}

/// Notes that this admin has dealt with those up to this number, which ends the alarm of them. They stay where they are.
pub(crate) async fn dismiss(
    shared: &Shared,
    admin: &ConsoleName,
    through: u64,
) -> Result<DismissedReport, Failure> {
    let dismissal = Dismissal { at: unix_now(), by: admin.to_string() };
    let dismissed = shared.edits.dismiss(through, dismissal).await? as u64;
    info!(admin = %admin, edits = dismissed, through, "Edits that were given up are dealt with, says an admin");
    alarms::look_for_lost(shared).await;
    Ok(DismissedReport { manager: shared.name(), dismissed })
}

fn read(reader: &JournalReader) -> Result<Vec<Lost>, echelon_store::StoreError> {
    let mut lost: Vec<Lost> = Vec::new();
    loop {
        let after = lost.last().map_or(0, |last| last.number);
        let part = reader.surplus(after)?;
        let room = MAX_LOST.saturating_sub(lost.len());
        if part.is_empty() || room == 0 {
            return Ok(lost);
        }
        lost.extend(part.into_iter().take(room));
    }
}

/// What ids were called when these edits were made, which are gone through in their order. Domains are numbered as they
/// are made: a number that was given away in what was given up is another domain's in the registry of today.
struct Then<'a> {
    registry: &'a Arc<Registry>,
    names: Past,
    /// The edit before: its revision, and the grant that gave it up.
    before: Option<(u64, GrantId)>,
}

impl<'a> Then<'a> {
    fn of(registry: &'a Arc<Registry>) -> Self {
        Self { registry, names: Past::of(Arc::clone(registry)), before: None }
    }

    /// The names right after this edit.
    fn at(&mut self, lost: &Lost) -> &Past {
        let revision = lost.commit.position.revision;
        let follows =
            self.before.is_some_and(|(at, to)| at.checked_add(1) == Some(revision) && to == lost.lost_to);
        if !follows {
            self.names = Past::of(Arc::clone(self.registry));
        }
        self.names.go(&lost.commit.rows, Side::After);
        self.before = Some((revision, lost.lost_to));
        &self.names
    }
}

/// By which committed revisions requests were carried out, as far as they may have made an edit once more.
struct Applied {
    by_request: HashMap<RequestId, u64>,
    by_mark: HashMap<Mark, u64>,
}

impl Applied {
    fn find(reader: &JournalReader, lost: &[Lost], to: u64) -> Result<Self, echelon_store::StoreError> {
        let mut found = Self { by_request: HashMap::new(), by_mark: HashMap::new() };
        let requests: HashMap<_, ()> = lost.iter().map(|lost| (lost.commit.request, ())).collect();
        let marks: HashMap<_, ()> = lost.iter().map(|lost| (mark(lost), ())).collect();
        // What makes an edit once more comes after all that it built on.
        let Some(mut at) = lost.iter().map(|lost| lost.commit.position.revision).min() else {
            return Ok(found);
        };
        at = at.saturating_sub(1);
        loop {
            let part = reader.requests(at, to)?;
            let Some((last, _)) = part.last() else { return Ok(found) };
            at = *last;
            for (revision, request) in part {
                if requests.contains_key(&request) {
                    found.by_request.insert(request, revision);
                }
                let mark = again_mark(request);
                if marks.contains_key(&mark) {
                    found.by_mark.insert(mark, revision);
                }
            }
        }
    }

    fn by(&self, lost: &Lost) -> Option<u64> {
        self.by_request.get(&lost.commit.request).or_else(|| self.by_mark.get(&mark(lost))).copied()
    }
}

fn mark(lost: &Lost) -> Mark {
    again_mark(again_id(&lost.commit.position, lost.commit.request, UnixMillis(0)))
}

fn report(shared: &Shared, names: &Past, lost: &Lost, applied: &Applied, now: UnixMillis) -> LostEditReport {
    let commit = &lost.commit;
    let again = again(&commit.rows, Some(names), now);
    LostEditReport {
        manager: shared.name(),
        number: lost.number,
        at_position: commit.position.into(),
        at: commit.at.to_string(),
        actor: ActorReport::from(&commit.actor),
        request_id: commit.request,
        lost_to: LostToReport { lineage: lost.lost_to.lineage, epoch: lost.lost_to.epoch },
        changed: describe(&commit.rows, Some(names)),
        applied: applied.by(lost),
        dismissed: lost.dismissed.as_ref().map(|dismissal| dismissal.at.to_string()),
        dismissed_by: lost.dismissed.as_ref().map(|dismissal| dismissal.by.clone()),
        again: again_id(&commit.position, commit.request, now),
        changes: again.changes,
        left_out: again.left_out,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use echelon_core::change::Change;
    use echelon_core::grant::SyncRule;
    use echelon_core::id::{DomainId, HostId, Lineage};
    use echelon_core::position::Position;
    use echelon_core::row::{Actor, Commit, Domain, Host, Meta, Row, RowChange};
    use uuid::Uuid;

    fn position(revision: u64) -> Position {
        Position { lineage: Lineage(Uuid::from_u128(1)), epoch: 1, revision }
    }

    fn domain(id: u64, name: &str) -> Row {
        Row::Domain(Domain { id: DomainId(id), place: Some((DomainId::ROOT, name.parse().unwrap())) })
    }

    fn host(id: u128, name: &str, domain: u64) -> Row {
        let (id, name) = (HostId(Uuid::from_u128(id)), name.parse().unwrap());
        Row::Host(Host { id, name, domain: DomainId(domain), address: None, drained: None })
    }

    /// The registry of today, in which domain 1 is another one than in what was given up.
    fn today() -> Arc<Registry> {
        let meta = Meta {
            framework: "test".parse().unwrap(),
            next_domain: DomainId(2),
            trust: Vec::new(),
            emptied: None,
            sync: SyncRule::alone(),
        };
        let root = Row::Domain(Domain { id: DomainId::ROOT, place: None });
        Arc::new(Registry::from_rows(position(9), vec![Row::Meta(meta), root, domain(1, "today")]).unwrap())
    }

    fn lost(revision: u64, to: u64, row: Row) -> Lost {
        let rows = vec![RowChange { key: row.key(), before: None, after: Some(row) }];
        let commit = Commit {
            position: position(revision),
            at: UnixMillis(0),
            actor: Actor::Console("admin".parse().unwrap()),
            from: None,
            request: RequestId(Uuid::from_u128(u128::from(revision))),
            content: [0; 32],
            rows,
            served: 0,
            shrinks: false,
            alone: false,
        };
        let lost_to = GrantId { lineage: Lineage(Uuid::from_u128(2)), epoch: to };
        Lost { number: revision, lost_to, commit, dismissed: None }
    }

    fn made_in(then: &mut Then<'_>, lost: &Lost) -> String {
        let changes = again(&lost.commit.rows, Some(then.at(lost)), UnixMillis(0)).changes;
        match changes.first() {
            Some(Change::AddHost { domain, .. }) => domain.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn domains_are_called_as_they_were_when_the_edits_were_made_that_were_given_up() {
        let registry = today();
        let mut then = Then::of(&registry);
        then.at(&lost(5, 2, domain(1, "then")));
        assert_eq!(made_in(&mut then, &lost(6, 2, host(7, "a", 1))), "/then");
        // What was given up another time, or is not what came next, says nothing of those names.
        assert_eq!(made_in(&mut then, &lost(7, 3, host(8, "b", 1))), "/today");
        then.at(&lost(5, 2, domain(1, "then")));
        assert_eq!(made_in(&mut then, &lost(9, 2, host(9, "c", 1))), "/today");
    }
}
