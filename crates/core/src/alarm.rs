//! Alarms: what somebody should look at, for as long as it is so.
//!
//! Every process raises alarms of its own and takes them back; an agent's travel in its heartbeats. What a
//! registry manager sees of everybody else is worked out anew each time, in [`crate::survey`].

use crate::limits::MAX_ALARMS;
use crate::name::{AlarmName, Text};
use crate::time::Monotonic;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How bad it is. `echelon status --check` fails on all but the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nobody need get up for it.
    Info,
    /// Nothing is lost yet; something will be, or less stands between now and a loss.
    Warning,
    /// Somebody is not served, or what protects the system is gone.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// What a process has to tell of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// What kind of alarm it is. A process has at most one of each kind.
    pub name: AlarmName,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: Text,
    /// What to do about it; may be empty.
    pub remedy: Text,
}

impl Notice {
    /// A warning of the kind `name`. Message and remedy are cut at the limit of a [`Text`].
    ///
    /// # Panics
    /// `name` is no alarm's name: names are written in the code, never made from input.
    pub fn warning(name: &'static str, message: &str, remedy: &str) -> Self {
        let name = name.parse().expect("names of alarms in the code are lower case with dashes");
        Self { name, severity: Severity::Warning, message: Text::lossy(message), remedy: Text::lossy(remedy) }
    }

    /// The same as something to know; see [`Self::warning`].
    ///
    /// # Panics
    /// As [`Self::warning`].
    pub fn info(name: &'static str, message: &str, remedy: &str) -> Self {
        Self { severity: Severity::Info, ..Self::warning(name, message, remedy) }
    }

    /// The same as something critical; see [`Self::warning`].
    ///
    /// # Panics
    /// As [`Self::warning`].
    pub fn critical(name: &'static str, message: &str, remedy: &str) -> Self {
        Self { severity: Severity::Critical, ..Self::warning(name, message, remedy) }
    }
}

/// An alarm that a process has raised of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raised {
    /// The alarm.
    pub notice: Notice,
    /// Since how long it has been up.
    pub since: Duration,
}

/// The alarms of one process, at most [`MAX_ALARMS`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct OwnAlarms(BTreeMap<AlarmName, (Monotonic, Notice)>);

impl OwnAlarms {
    /// Raises an alarm, or changes what it says; it is up since it was raised first. Says whether that is
    /// news. Past the limit nothing is raised: there is enough to look at.
    pub fn raise(&mut self, now: Monotonic, notice: Notice) -> bool {
        let full = self.0.len() >= MAX_ALARMS;
        match self.0.get_mut(&notice.name) {
            Some((_, up)) if *up == notice => false,
            Some((_, up)) => {
                *up = notice;
                true
            }
            None if full => false,
            None => self.0.insert(notice.name.clone(), (now, notice)).is_none(),
        }
    }

    /// Takes an alarm back. Says whether it was up.
    pub fn clear(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// What is up, by name.
    pub fn list(&self, now: Monotonic) -> Vec<Raised> {
        let raised = |(since, notice): &(Monotonic, Notice)| Raised {
            notice: notice.clone(),
            since: now.since(*since),
        };
        self.0.values().map(raised).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(name: &'static str, message: &str) -> Notice {
        Notice::warning(name, message, "")
    }

    #[test]
    fn an_alarm_is_up_since_it_was_raised_first_until_it_is_cleared() {
        let mut alarms = OwnAlarms::default();
        let at = |s: u64| Monotonic(s * 1_000_000);
        assert!(alarms.raise(at(1), notice("b", "one")));
        assert!(!alarms.raise(at(2), notice("b", "one")), "the same is no news");
        assert!(alarms.raise(at(3), notice("b", "two")));
        assert!(alarms.raise(at(4), Notice::critical("a", "three", "act")));
        let list = alarms.list(at(5));
        let shown: Vec<_> = list.iter().map(|r| (r.notice.message.as_str(), r.since.as_secs())).collect();
        assert_eq!(shown, [("three", 1), ("two", 4)]);
        assert!(alarms.clear("b") && !alarms.clear("b"));
        assert_eq!(alarms.list(at(5)).len(), 1);
    }

    #[test]
    fn alarms_have_a_bound() {
        let mut alarms = OwnAlarms::default();
        for n in 0..=MAX_ALARMS {
            let name = format!("a{n}").parse().unwrap();
            let news = alarms.raise(Monotonic(0), Notice { name, ..notice("x", "") });
            assert_eq!(news, n < MAX_ALARMS);
        }
        assert_eq!(alarms.list(Monotonic(0)).len(), MAX_ALARMS);
    }

    #[test]
    fn severities_are_in_order() {
        assert!(Severity::Critical > Severity::Warning && Severity::Warning > Severity::Info);
    }
}
