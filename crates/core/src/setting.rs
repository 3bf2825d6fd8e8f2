//! Settings of a policy by name, as operators write them.

use crate::check::{Check, CheckForm};
use crate::duration;
use crate::name::quoted;
use crate::policy::{Failback, PolicySettings, Probe, Walk};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The name of a setting; docs/routing.md says what each does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// See [`PolicySettings::walk`].
    Walk,
    /// See [`PolicySettings::boundary`].
    Boundary,
    /// See [`PolicySettings::failback`].
    Failback,
    /// See [`PolicySettings::failback_hold`].
    FailbackHold,
    /// See [`PolicySettings::failback_jitter`].
    FailbackJitter,
    /// See [`PolicySettings::connect_hedge`].
    ConnectHedge,
    /// See [`PolicySettings::connect_timeout`].
    ConnectTimeout,
    /// See [`PolicySettings::drain_timeout`].
    DrainTimeout,
    /// See [`PolicySettings::evidence_ttl`].
    EvidenceTtl,
    /// See [`PolicySettings::probe`].
    Probe,
}

/// Text that is no setting. A retry is pointless.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettingError {
    /// No `KEY=VALUE`.
    #[error("{} is no setting: write KEY=VALUE, as in walk=chain", quoted(.0))]
    NoValue(String),
    /// No setting is called so.
    #[error("there is no setting {}; the settings are {}", quoted(.0), names())]
    Unknown(String),
    /// No value of this setting.
    #[error("{setting} cannot be {}: write {wanted}", quoted(found))]
    Value {
        /// The setting.
        setting: Setting,
        /// What was written.
        found: String,
        /// What can be.
        wanted: String,
    },
}

fn names() -> String {
    Setting::ALL.map(Setting::as_str).join(", ")
}

impl Setting {
    /// All settings, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::Walk,
        Self::Boundary,
        Self::Failback,
        Self::FailbackHold,
        Self::FailbackJitter,
        Self::ConnectHedge,
        Self::ConnectTimeout,
        Self::DrainTimeout,
        Self::EvidenceTtl,
        Self::Probe,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Walk => "walk",
            Self::Boundary => "boundary",
            Self::Failback => "failback",
            Self::FailbackHold => "failback_hold",
            Self::FailbackJitter => "failback_jitter",
            Self::ConnectHedge => "connect_hedge",
            Self::ConnectTimeout => "connect_timeout",
            Self::DrainTimeout => "drain_timeout",
            Self::EvidenceTtl => "evidence_ttl",
            Self::Probe => "probe",
        }
    }

    /// The shortest and the longest duration it can be; none for a setting that is no duration.
    pub fn range(self) -> Option<(Duration, Duration)> {
        const HOUR: u64 = 3_600_000;
        let (least, most) = match self {
            Self::Walk | Self::Boundary | Self::Failback | Self::Probe => return None,
            Self::FailbackHold | Self::FailbackJitter | Self::DrainTimeout => (0, HOUR),
            Self::ConnectHedge => (1, 10_000),
            Self::ConnectTimeout => (10, 60_000),
            Self::EvidenceTtl => (1_000, HOUR),
        };
        Some((Duration::from_millis(least), Duration::from_millis(most)))
    }

    /// What can be written after its `=`.
    fn wanted(self) -> String {
        match (self, self.range()) {
            (_, Some((least, most))) => {
                format!(
                    "a duration from {} to {}, as in 250ms or 30s",
                    duration::print(least),
                    duration::print(most)
                )
            }
            (Self::Walk, _) => "chain, subtree or hops".into(),
            (Self::Failback, _) => "auto, dormant or off".into(),
            (Self::Probe, _) => r#"off, tcp, or a check as in {"http":"/healthz"} or {"grpc":true}"#.into(),
            _ => "true or false".into(),
        }
    }

    /// Settings that set this one alone, to what is written.
    fn set(self, text: &str) -> Option<PolicySettings> {
        let mut one = PolicySettings::default();
        match self {
            Self::Walk => one.walk = Some(Walk::ALL.into_iter().find(|w| w.as_str() == text)?),
            Self::Failback => one.failback = Some(Failback::ALL.into_iter().find(|f| f.as_str() == text)?),
            Self::Boundary => one.boundary = Some(text.parse().ok()?),
            Self::Probe => one.probe = Some(Probe::read(text)?),
            _ => {
                let (least, most) = self.range()?;
                let value = duration::parse(text).ok().filter(|d| (least..=most).contains(d))?;
                *one.time_mut(self)? = Some(value);
            }
        }
        Some(one)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Setting {
    type Err = SettingError;
    fn from_str(name: &str) -> Result<Self, SettingError> {
        Self::ALL.into_iter().find(|s| s.as_str() == name).ok_or_else(|| SettingError::Unknown(name.into()))
    }
}

impl FromStr for PolicySettings {
    type Err = SettingError;
    /// Reads one `KEY=VALUE`.
    fn from_str(text: &str) -> Result<Self, SettingError> {
        let (name, value) = text.split_once('=').ok_or_else(|| SettingError::NoValue(text.into()))?;
        let setting: Setting = name.parse()?;
        setting.set(value).ok_or_else(|| SettingError::Value {
            setting,
            found: value.into(),
            wanted: setting.wanted(),
        })
    }
}

impl Probe {
    /// Reads `off`, `tcp`, or a check as JSON; none where it is anything else.
    fn read(text: &str) -> Option<Self> {
        let form = match text {
            "off" => return Some(Self::Off),
            "tcp" => CheckForm::default(),
            text => serde_json::from_str(text).ok()?,
        };
        form.check().ok().map(Self::By)
    }

    /// As it is read.
    pub fn text(&self) -> String {
        match self {
            Self::Off => "off".into(),
            Self::By(check) if *check == Check::default() => "tcp".into(),
            // Texts and numbers, which JSON has words for.
            Self::By(check) => serde_json::to_string(&CheckForm::shortest(check)).unwrap_or_default(),
        }
    }
}

impl PolicySettings {
    /// The duration of this name; none where the setting is no duration.
    fn time_mut(&mut self, setting: Setting) -> Option<&mut Option<Duration>> {
        match setting {
            Setting::Walk | Setting::Boundary | Setting::Failback | Setting::Probe => None,
            Setting::FailbackHold => Some(&mut self.failback_hold),
            Setting::FailbackJitter => Some(&mut self.failback_jitter),
            Setting::ConnectHedge => Some(&mut self.connect_hedge),
            Setting::ConnectTimeout => Some(&mut self.connect_timeout),
            Setting::DrainTimeout => Some(&mut self.drain_timeout),
            Setting::EvidenceTtl => Some(&mut self.evidence_ttl),
        }
    }

    /// These settings without those named.
    #[must_use]
    pub fn without(&self, settings: &BTreeSet<Setting>) -> Self {
        let mut rest = self.clone();
        for setting in settings {
            match setting {
                Setting::Walk => rest.walk = None,
                Setting::Boundary => rest.boundary = None,
                Setting::Failback => rest.failback = None,
                Setting::Probe => rest.probe = None,
                time => rest.time_mut(*time).map_or((), |time| *time = None),
            }
        }
        rest
    }

    /// The settings that are set, as they are written, in the order of [`Setting::ALL`].
    pub fn texts(&self) -> impl Iterator<Item = (Setting, String)> + use<> {
        let time = |d: Option<Duration>| d.map(duration::print);
        let texts = [
            (Setting::Walk, self.walk.map(|w| w.as_str().into())),
            (Setting::Boundary, self.boundary.map(|b| b.to_string())),
            (Setting::Failback, self.failback.map(|f| f.as_str().into())),
            (Setting::FailbackHold, time(self.failback_hold)),
            (Setting::FailbackJitter, time(self.failback_jitter)),
            (Setting::ConnectHedge, time(self.connect_hedge)),
            (Setting::ConnectTimeout, time(self.connect_timeout)),
            (Setting::DrainTimeout, time(self.drain_timeout)),
            (Setting::EvidenceTtl, time(self.evidence_ttl)),
            (Setting::Probe, self.probe.as_ref().map(Probe::text)),
        ];
        texts.into_iter().filter_map(|(setting, text)| Some((setting, text?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 10] = [
        "walk=hops",
        "boundary=true",
        "failback=dormant",
        "failback_hold=0s",
        "failback_jitter=1h",
        "connect_hedge=1ms",
        "connect_timeout=1m",
        "drain_timeout=30s",
        "evidence_ttl=1s",
        r#"probe={"http":"/healthz","timeout":"2s"}"#,
    ];

    fn all() -> PolicySettings {
        ALL.iter()
            .fold(PolicySettings::default(), |all, one| one.parse::<PolicySettings>().unwrap().over(&all))
    }

    #[test]
    fn each_setting_is_read_written_and_taken_away_by_its_name() {
        let written: Vec<_> = all().texts().map(|(setting, text)| format!("{setting}={text}")).collect();
        assert_eq!(written, ALL);
        for setting in Setting::ALL {
            assert_eq!(setting.as_str().parse(), Ok(setting));
            let rest = all().without(&BTreeSet::from([setting]));
            let left: Vec<_> = rest.texts().map(|(setting, _)| setting).collect();
            let expected: Vec<_> = Setting::ALL.into_iter().filter(|s| *s != setting).collect();
            assert_eq!(left, expected);
        }
        assert!(all().without(&Setting::ALL.into()).is_empty());
    }

    #[test]
    fn what_is_no_setting_says_what_would_be() {
        let message = |text: &str| text.parse::<PolicySettings>().unwrap_err().to_string();
        assert!(message("walk").contains("write KEY=VALUE"));
        assert!(message("wlak=chain").ends_with("walk, boundary, failback, failback_hold, failback_jitter, connect_hedge, connect_timeout, drain_timeout, evidence_ttl, probe"));
        assert!(message("walk=up").ends_with("chain, subtree or hops"));
        assert!(message("boundary=yes").ends_with("true or false"));
        for (text, range) in [
            ("failback_hold=2h", "from 0s to 1h"),
            ("connect_hedge=0ms", "from 1ms to 10s"),
            ("connect_timeout=5", "from 10ms to 1m"),
            ("evidence_ttl=999ms", "from 1s to 1h"),
        ] {
            assert!(message(text).contains(range), "{}", message(text));
        }
    }

    #[test]
    fn probes_are_off_tcp_or_a_check() {
        for text in ["off", "tcp", r#"{"grpc":true}"#, r#"{"tcp":true,"send":"PING\n","expect":"PONG"}"#] {
            let read: PolicySettings = format!("probe={text}").parse().unwrap();
            assert_eq!(read.probe.unwrap().text(), text);
        }
        for text in
            ["on", "http", "{}x", r#"{"http":"/","tcp":true}"#, r#"{"tcp":false}"#, r#"{"timeout":"2m"}"#]
        {
            let refused = format!("probe={text}").parse::<PolicySettings>().unwrap_err();
            assert!(refused.to_string().contains("off, tcp, or a check"), "{refused}");
        }
    }

    #[test]
    fn whatever_is_read_is_within_the_ranges_that_the_registry_holds_to() {
        for setting in Setting::ALL {
            let Some((least, most)) = setting.range() else { continue };
            for edge in [least, most] {
                let text = format!("{setting}={}", duration::print(edge));
                assert_eq!(text.parse::<PolicySettings>().unwrap().validate(), Ok(()), "{text}");
            }
        }
    }
}
