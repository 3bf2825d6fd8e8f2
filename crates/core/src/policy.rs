//! Settings of domains, and how hosts inherit them.

use crate::check::Check;
use crate::id::DomainId;
use crate::name::{ManagerType, NameError};
use crate::package::NumberError;
use crate::setting::Setting;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The types a policy speaks of. `All` sorts first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TypeSelector {
    /// `*`: every type.
    All,
    /// One type.
    One(ManagerType),
}

impl fmt::Display for TypeSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad("*"),
            Self::One(ty) => ty.fmt(f),
        }
    }
}

impl FromStr for TypeSelector {
    type Err = NameError;
    fn from_str(value: &str) -> Result<Self, NameError> {
        if value == "*" { Ok(Self::All) } else { value.parse().map(Self::One) }
    }
}

impl TryFrom<String> for TypeSelector {
    type Error = NameError;
    fn try_from(value: String) -> Result<Self, NameError> {
        value.parse()
    }
}

impl From<TypeSelector> for String {
    fn from(value: TypeSelector) -> String {
        value.to_string()
    }
}

/// In which order the tree is walked for candidates; the keys are those of docs/routing.md.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Walk {
    /// Own domain, each parent up to the root, only then other branches.
    #[default]
    Chain,
    /// Own domain, its subdomains, the parent, the parent's other branches, and so on.
    Subtree,
    /// Fewest steps along the tree; on a tie the parent before the child.
    Hops,
}

impl Walk {
    /// All walks.
    pub const ALL: [Self; 3] = [Self::Chain, Self::Subtree, Self::Hops];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Subtree => "subtree",
            Self::Hops => "hops",
        }
    }
}

/// When new connections return to a better candidate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failback {
    /// After hold and jitter.
    #[default]
    Auto,
    /// When no connection is open.
    Dormant,
    /// When the current one fails, or an operator asks.
    Off,
}

impl Failback {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Dormant, Self::Off];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dormant => "dormant",
            Self::Off => "off",
        }
    }
}

/// One policy: what a domain sets for a type or for all. What is none is inherited.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PolicySettings {
    /// The walk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub walk: Option<Walk>,
    /// Whether hosts in and below this domain stay inside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boundary: Option<bool>,
    /// When to come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback: Option<Failback>,
    /// How long a better candidate must have been live; 0 to 1 h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback_hold: Option<Duration>,
    /// Up to how much longer, differently for each host; 0 to 1 h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback_jitter: Option<Duration>,
    /// How long a silent candidate is waited for before the next is tried beside it; 1 ms to 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_hedge: Option<Duration>,
    /// How long a connect may take; 10 ms to 60 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Duration>,
    /// How long open connections of a withdrawn manager are left; 0 to 1 h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Duration>,
    /// How long an own observation outranks older hearsay; 1 s to 1 h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence_ttl: Option<Duration>,
    /// How candidates are probed in the background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// How a host probes candidates in the background.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// By connecting, which proves reach only.
    Off,
    /// By this check, within its timeout. Where it demands an answer, the candidate in use and better ones that are
    /// live are asked at its interval, and as many misses in a row as it says count; what has failed is probed ever
    /// more seldom.
    By(Check),
}

impl PolicySettings {
    /// Whether it sets nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses durations outside their ranges.
    ///
    /// # Errors
    /// Names the first setting that is out of range, in milliseconds.
    pub fn validate(&self) -> Result<(), NumberError> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let times = [
            ("failback_hold in ms", self.failback_hold, Setting::FailbackHold),
            ("failback_jitter in ms", self.failback_jitter, Setting::FailbackJitter),
            ("connect_hedge in ms", self.connect_hedge, Setting::ConnectHedge),
            ("connect_timeout in ms", self.connect_timeout, Setting::ConnectTimeout),
            ("drain_timeout in ms", self.drain_timeout, Setting::DrainTimeout),
            ("evidence_ttl in ms", self.evidence_ttl, Setting::EvidenceTtl),
        ];
        times.into_iter().try_for_each(|(what, value, setting)| match (value, setting.range()) {
            (Some(d), Some((least, most))) => {
                NumberError::check(what, millis(d), millis(least), millis(most))
            }
            _ => Ok(()),
        })?;
        match &self.probe {
            Some(Probe::By(check)) => check.validate(),
            _ => Ok(()),
        }
    }

    /// These settings over `other`: what is set here wins.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        Self {
            walk: self.walk.or(other.walk),
            boundary: self.boundary.or(other.boundary),
            failback: self.failback.or(other.failback),
            failback_hold: self.failback_hold.or(other.failback_hold),
            failback_jitter: self.failback_jitter.or(other.failback_jitter),
            connect_hedge: self.connect_hedge.or(other.connect_hedge),
            connect_timeout: self.connect_timeout.or(other.connect_timeout),
            drain_timeout: self.drain_timeout.or(other.drain_timeout),
            evidence_ttl: self.evidence_ttl.or(other.evidence_ttl),
            probe: self.probe.as_ref().or(other.probe.as_ref()).cloned(),
        }
    }
}

/// One policy as the registry keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// The domain that sets it.
    pub domain: DomainId,
    /// For which types.
    pub ty: TypeSelector,
    /// What it sets; never empty.
    pub settings: PolicySettings,
}

/// The settings in force for one host and type: every one has a value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Effective {
    /// The walk.
    pub walk: Walk,
    /// When to come back.
    pub failback: Failback,
    /// See [`PolicySettings::failback_hold`].
    pub failback_hold: Duration,
    /// See [`PolicySettings::failback_jitter`].
    pub failback_jitter: Duration,
    /// See [`PolicySettings::connect_hedge`]; none = learned.
    pub connect_hedge: Option<Duration>,
    /// See [`PolicySettings::connect_timeout`].
    pub connect_timeout: Duration,
    /// See [`PolicySettings::drain_timeout`].
    pub drain_timeout: Duration,
    /// See [`PolicySettings::evidence_ttl`].
    pub evidence_ttl: Duration,
    /// See [`PolicySettings::probe`]; none = by connecting.
    pub probe: Option<Check>,
    /// The domain outside which every manager is excluded; none = no boundary.
    pub fence: Option<DomainId>,
}

impl Default for Effective {
    fn default() -> Self {
        Self::inherit(std::iter::empty())
    }
}

impl Effective {
    /// What a host inherits from `levels`: for each of its domains that sets anything, from its own up to
    /// the root, the settings for the type already laid over those for `*`.
    ///
    /// Each value is inherited on its own; the boundary is a place: the nearest domain that says either
    /// `true` or `false` decides.
    pub fn inherit(levels: impl Iterator<Item = (DomainId, PolicySettings)>) -> Self {
        let mut merged = PolicySettings::default();
        let mut fence = None;
        for (domain, settings) in levels {
            if merged.boundary.is_none() && settings.boundary == Some(true) {
                fence = Some(domain);
            }
            merged = merged.over(&settings);
        }
        Self {
            walk: merged.walk.unwrap_or_default(),
            failback: merged.failback.unwrap_or_default(),
            failback_hold: merged.failback_hold.unwrap_or(Duration::from_secs(30)),
            failback_jitter: merged.failback_jitter.unwrap_or(Duration::from_secs(30)),
            connect_hedge: merged.connect_hedge,
            connect_timeout: merged.connect_timeout.unwrap_or(Duration::from_secs(1)),
            drain_timeout: merged.drain_timeout.unwrap_or(Duration::from_secs(30)),
            evidence_ttl: merged.evidence_ttl.unwrap_or(Duration::from_secs(15)),
            probe: merged.probe.and_then(|probe| match probe {
                Probe::Off => None,
                Probe::By(check) => Some(check),
            }),
            fence,
        }
    }
}
