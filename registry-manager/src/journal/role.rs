//! Tells the command of `on_promote` which role this manager has.

use crate::hooks::{Cause, Hooks, Promoted, RegistryRole};
use crate::hub::Hub;
use echelon_core::grant::{Basis, Grant, GrantId};
use echelon_core::member::Member;
use echelon_core::position::Position;

/// What was told last.
pub(super) struct Role {
    hooks: Hooks,
    /// Under which grant it leads, if it does; nothing was told yet before its start is.
    told: Option<Option<GrantId>>,
    /// What the registry was then, or later.
    at: Position,
}

impl Role {
    pub(super) fn new(hooks: Hooks, at: Position) -> Self {
        Self { hooks, told: None, at }
    }

    /// Tells what this manager is now, where that is news. Never waits.
    pub(super) fn see(&mut self, member: &Member, hub: &Hub) {
        let (head, before) = (member.chain().head(), self.at);
        let leads = member.is_leading().then_some(head.id);
        self.at = hub.registry().position();
        if self.told == Some(leads) {
            return;
        }
        let cause = match self.told.replace(leads) {
            None => Cause::Started,
            Some(Some(led)) if leads.is_none() => left(led, head),
            Some(_) => head.basis.into(),
        };
        if cause != Cause::Started {
            hub.metrics.promoted(cause);
        }
        self.hooks.promoted(&Promoted {
            success: true,
            cause,
            role: if leads.is_some() { RegistryRole::Primary } else { RegistryRole::Standby },
            host: hub.name_of(member.me()),
            primary: Some(hub.name_of(head.holder)),
            old: (cause != Cause::Started).then_some(before),
            // The first commit under a new grant takes others, and whoever moves an address need not wait for them.
            new: Position { lineage: head.id.lineage, epoch: head.id.epoch, revision: self.at.revision },
        });
    }
}

/// Why a manager that led under a grant is a standby under this one.
fn left(led: GrantId, head: &Grant) -> Cause {
    let by_hand = head.basis == Basis::Handover && head.parent.is_some_and(|parent| parent.grant == led);
    if by_hand { Cause::Planned } else { Cause::Fenced }
}
