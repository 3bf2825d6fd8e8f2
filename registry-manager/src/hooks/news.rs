//! Which alarms are news to the command of `on_alarm`.

use crate::hooks::runner::Kind;
use echelon_core::alarm::Severity;
use echelon_core::name::AlarmName;
use echelon_core::report::AlarmReport;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What tells one alarm from another.
pub(crate) type Key = (AlarmName, String);

/// What the command has been told, or is about to be. Of an alarm that comes and goes before there was room for it,
/// nothing is told.
#[derive(Default)]
pub(crate) struct AlarmNews(BTreeMap<Key, AlarmReport>);

/// An alarm that came, got another severity, or is over.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Told {
    pub(super) alarm: AlarmReport,
    pub(super) raised: bool,
}

impl AlarmNews {
    /// What is to be told next where these alarms are up, the worst first, at most so many; counts as told from then
    /// on. Where nobody wants to be told, all is forgotten.
    pub(super) fn take(
        &mut self,
        least: Option<Severity>,
        up: &BTreeMap<Key, AlarmReport>,
        room: usize,
    ) -> Vec<Told> {
        let Some(least) = least else {
            self.0.clear();
            return Vec::new();
        };
        let wanted = |alarm: &AlarmReport| alarm.severity >= least && !is_of_the_hook(alarm);
        let known = |key: &Key| self.0.get(key).map(|known| known.severity);
        let raised = up.iter().filter(|(key, a)| wanted(a) && known(key) != Some(a.severity));
        let over = self.0.iter().filter(|(key, _)| !up.get(*key).is_some_and(wanted));
        let mut news: Vec<Told> = raised.map(|(_, a)| Told { alarm: a.clone(), raised: true }).collect();
        news.extend(over.map(|(_, a)| Told { alarm: a.clone(), raised: false }));
        news.sort_by_key(|told| Reverse(told.alarm.severity));
        news.truncate(room);
        news.iter().for_each(|told| self.note(told));
        news
    }

    fn note(&mut self, Told { alarm, raised }: &Told) {
        let key = (alarm.name.clone(), alarm.subject.clone());
        match raised {
            true => drop(self.0.insert(key, alarm.clone())),
            false => drop(self.0.remove(&key)),
        }
    }
}

/// Whether it says that the command itself fails: it would be run for that, and fail, and so on.
fn is_of_the_hook(alarm: &AlarmReport) -> bool {
    alarm.name.as_str() == Kind::Alarm.alarm()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(name: &str, severity: Severity) -> (Key, AlarmReport) {
        let (subject, message, remedy) = ("a".to_owned(), String::new(), String::new());
        let report =
            AlarmReport { name: name.parse().unwrap(), severity, subject, message, remedy, since_ms: 7 };
        ((report.name.clone(), report.subject.clone()), report)
    }

    fn told(news: &[Told]) -> Vec<(&str, bool)> {
        news.iter().map(|told| (told.alarm.name.as_str(), told.raised)).collect()
    }

    const ALL: Option<Severity> = Some(Severity::Info);

    #[test]
    fn an_alarm_is_told_when_it_comes_when_it_gets_worse_and_when_it_is_over() {
        let mut news = AlarmNews::default();
        let mut up = BTreeMap::from([alarm("silent", Severity::Warning)]);
        assert_eq!(told(&news.take(ALL, &up, 9)), [("silent", true)]);
        up.values_mut().for_each(|alarm| alarm.message = "in other words".into());
        assert_eq!(told(&news.take(ALL, &up, 9)), []);
        up.extend([alarm("silent", Severity::Critical)]);
        assert_eq!(told(&news.take(ALL, &up, 9)), [("silent", true)]);
        assert_eq!(told(&news.take(ALL, &BTreeMap::new(), 9)), [("silent", false)]);
        assert_eq!(told(&news.take(ALL, &BTreeMap::new(), 9)), []);
    }

    #[test]
    fn what_there_is_no_room_for_comes_later_if_it_is_still_so_and_the_worst_comes_first() {
        let mut news = AlarmNews::default();
        let up = [("b", Severity::Warning), ("c", Severity::Critical), ("d", Severity::Warning)];
        let mut up = BTreeMap::from(up.map(|(name, severity)| alarm(name, severity)));
        assert_eq!(told(&news.take(ALL, &up, 0)), []);
        assert_eq!(told(&news.take(ALL, &up, 1)), [("c", true)]);
        up.remove(&alarm("b", Severity::Warning).0);
        assert_eq!(told(&news.take(ALL, &up, 9)), [("d", true)], "b came and went unnoticed");
    }

    #[test]
    fn only_what_is_bad_enough_is_told_and_never_that_the_command_fails() {
        let mut news = AlarmNews::default();
        let up = [("small", Severity::Info), ("on-alarm-failed", Severity::Critical)];
        let mut up = BTreeMap::from(up.map(|(name, severity)| alarm(name, severity)));
        up.extend([alarm("silent", Severity::Warning)]);
        let warning = Some(Severity::Warning);
        assert_eq!(told(&news.take(warning, &up, 9)), [("silent", true)]);
        up.extend([alarm("silent", Severity::Info)]);
        assert_eq!(told(&news.take(warning, &up, 9)), [("silent", false)], "no longer bad enough");
        up.extend([alarm("silent", Severity::Warning)]);
        assert_eq!(news.take(warning, &up, 9).len(), 1);
        assert_eq!(news.take(None, &up, 9), []);
        assert_eq!(told(&news.take(warning, &up, 9)), [("silent", true)], "a new command knows nothing");
    }
}
