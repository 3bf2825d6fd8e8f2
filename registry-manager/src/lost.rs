//! The edits that this manager keeps though they are no part of the registry: given up with the grant that they were
//! made under.

use crate::alarms;
use crate::clock::unix_now;
use crate::failure;
use crate::limits::MAX_LOST;
use crate::server::Shared;
use echelon_core::describe::describe;
use echelon_core::id::RequestId;
use echelon_core::message::Failure;
use echelon_core::name::ConsoleName;
use echelon_core::promotion::{
    DismissedReport, LostEditReport, LostToReport, Mark, again, again_id, again_mark,
};
use echelon_core::registry::Registry;
use echelon_core::report::ActorReport;
use echelon_core::time::UnixMillis;
use echelon_store::{Dismissal, JournalReader, Lost};
use std::collections::HashMap;
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
    Ok(lost.iter().map(|lost| report(shared, &registry, lost, &applied, now)).collect())
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

fn report(
    shared: &Shared,
    registry: &Registry,
    lost: &Lost,
    applied: &Applied,
    now: UnixMillis,
) -> LostEditReport {
    let commit = &lost.commit;
    let again = again(&commit.rows, Some(registry), now);
    LostEditReport {
        manager: shared.name(),
        number: lost.number,
        at_position: commit.position.into(),
        at: commit.at.to_string(),
        actor: ActorReport::from(&commit.actor),
        request_id: commit.request,
        lost_to: LostToReport { lineage: lost.lost_to.lineage, epoch: lost.lost_to.epoch },
        changed: describe(&commit.rows, Some(registry)),
        applied: applied.by(lost),
        dismissed: lost.dismissed.as_ref().map(|dismissal| dismissal.at.to_string()),
        dismissed_by: lost.dismissed.as_ref().map(|dismissal| dismissal.by.clone()),
        again: again_id(&commit.position, commit.request, now),
        changes: again.changes,
        left_out: again.left_out,
    }
}
