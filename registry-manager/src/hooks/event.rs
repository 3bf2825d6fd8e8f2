//! What happened, as a hook's command finds it in its environment.

use crate::hooks::Teller;
use crate::hooks::news::Told;
use crate::hooks::waiting::Job;
use echelon_core::grant::Basis;
use echelon_core::name::HostName;
use echelon_core::position::Position;
use echelon_core::time::UnixMillis;
use std::fmt;
use std::time::Duration;

/// What a registry manager is among those of its registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegistryRole {
    /// It accepts edits.
    Primary,
    /// It follows one that does.
    Standby,
}

impl fmt::Display for RegistryRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
        })
    }
}

/// Why the role of a registry manager changed, or was to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The manager has started and is this: what it was before its end nobody may have undone.
    Started,
    /// The primary handed over.
    Planned,
    /// An admin said so, because the primary was dead.
    Forced,
    /// A backup was restored.
    Restored,
    /// Of two lineages an admin chose one.
    Chosen,
    /// A majority elected it.
    Elected,
    /// It was the primary, and heard that somebody else is.
    Fenced,
}

impl Cause {
    /// All but the start, which changes nothing.
    pub(crate) const OF_CHANGES: [Self; 6] =
        [Self::Planned, Self::Forced, Self::Restored, Self::Chosen, Self::Elected, Self::Fenced];

    /// As metrics and hooks say it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Planned => "planned",
            Self::Forced => "forced",
            Self::Restored => "restored",
            Self::Chosen => "chosen",
            Self::Elected => "elected",
            Self::Fenced => "fenced",
        }
    }
}

/// Why whoever holds a grant of this kind is primary.
impl From<Basis> for Cause {
    fn from(basis: Basis) -> Self {
        match basis {
            Basis::Init => Self::Started,
            Basis::Handover => Self::Planned,
            Basis::Force => Self::Forced,
            Basis::Restore => Self::Restored,
            Basis::Choice => Self::Chosen,
            Basis::Majority => Self::Elected,
        }
    }
}

/// That the role of this registry manager has changed, or was to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promoted {
    /// Whether what was wanted came about. Where not, the role is what it was.
    pub success: bool,
    /// Why.
    pub cause: Cause,
    /// What it is now.
    pub role: RegistryRole,
    /// This manager's host.
    pub host: HostName,
    /// The host of the primary, as far as this manager knows.
    pub primary: Option<HostName>,
    /// The registry's state before; none at a start.
    pub old: Option<Position>,
    /// The registry's state now.
    pub new: Position,
}

impl Promoted {
    pub(super) fn job(&self) -> Job {
        let mut env = vec![
            ("ECHELON_EVENT", "promote".to_owned()),
            ("ECHELON_SUCCESS", self.success.to_string()),
            ("ECHELON_CAUSE", self.cause.word().to_owned()),
            ("ECHELON_ROLE", self.role.to_string()),
            ("ECHELON_HOST", self.host.to_string()),
            ("ECHELON_PRIMARY", self.primary.as_ref().map(HostName::to_string).unwrap_or_default()),
            ("ECHELON_OLD", self.old.map(in_full).unwrap_or_default()),
            ("ECHELON_NEW", in_full(self.new)),
        ];
        env.extend(position(&self.new));
        Job { what: format!("{} ({})", self.role, self.cause.word()), env }
    }
}

impl Told {
    pub(super) fn job(&self, by: &Teller, now: UnixMillis) -> Job {
        let (alarm, state) = (&self.alarm, if self.raised { "raised" } else { "cleared" });
        let since = now - Duration::from_millis(alarm.since_ms);
        let mut env = vec![
            ("ECHELON_EVENT", "alarm".to_owned()),
            ("ECHELON_STATE", state.to_owned()),
            // All is well again.
            ("ECHELON_SUCCESS", (!self.raised).to_string()),
            ("ECHELON_ALARM", alarm.name.to_string()),
            ("ECHELON_SEVERITY", alarm.severity.to_string()),
            ("ECHELON_SUBJECT", alarm.subject.clone()),
            ("ECHELON_SINCE", since.to_string()),
            ("ECHELON_MESSAGE", alarm.message.clone()),
            ("ECHELON_REMEDY", alarm.remedy.clone()),
            ("ECHELON_FRAMEWORK", by.framework.to_string()),
            ("ECHELON_HOST", by.host.to_string()),
        ];
        env.extend(position(&by.position));
        Job { what: format!("{} of {} ({state})", alarm.name, alarm.subject), env }
    }
}

fn position(at: &Position) -> [(&'static str, String); 3] {
    [
        ("ECHELON_LINEAGE", at.lineage.to_string()),
        ("ECHELON_EPOCH", at.epoch.to_string()),
        ("ECHELON_REVISION", at.revision.to_string()),
    ]
}

/// A position in one word: `LINEAGE/EPOCH.REVISION`.
fn in_full(at: Position) -> String {
    format!("{}/{at}", at.lineage)
}
