//! What could not be told, as one alarm.

use crate::alarms::Alarms;
use crate::on_change::rule::OnChange;
use echelon_core::alarm::Notice;
use echelon_core::name::{ManagerType, Text};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The alarm of a rule that cannot be followed.
const FAILED: &str = "on-change-failed";

/// What to do about it.
const CORRECT: &str = "see the agent's log; correct the template, the command or [[on_change]], then: systemctl reload registry-agent";

/// What could not be told, by rule and type. Two rules may have one program, so that its name is no key.
#[derive(Clone)]
pub(super) struct Faults {
    alarms: Alarms,
    up: Arc<Mutex<Up>>,
}

type Up = BTreeMap<(OnChange, ManagerType), Text>;

impl Faults {
    pub(super) fn new(alarms: Alarms) -> Self {
        Self { alarms, up: Arc::default() }
    }

    /// This rule cannot be followed for this type.
    pub(super) fn raise(&self, rule: &OnChange, ty: &ManagerType, why: &Text) {
        let key = (rule.clone(), ty.clone());
        self.change(|up| up.insert(key, why.clone()).as_ref() != Some(why));
    }

    /// It can.
    pub(super) fn clear(&self, rule: &OnChange, ty: &ManagerType) {
        self.change(|up| up.remove(&(rule.clone(), ty.clone())).is_some());
    }

    /// Nobody follows this rule any more.
    pub(super) fn forget(&self, rule: &OnChange) {
        self.change(|up| {
            let before = up.len();
            up.retain(|(of, _), _| of != rule);
            up.len() != before
        });
    }

    /// Shows what is up, where that has changed.
    fn change(&self, change: impl FnOnce(&mut Up) -> bool) {
        let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        if !change(&mut up) {
            return;
        }
        let all: Vec<String> =
            up.iter().map(|((rule, ty), why)| format!("{}: {why}", rule.label(ty))).collect();
        match all.is_empty() {
            true => self.alarms.clear(FAILED),
            false => {
                let message = format!("programs of this host are not told of changes: {}", all.join("; "));
                self.alarms.raise(Notice::warning(FAILED, &message, CORRECT));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use echelon_core::policy::TypeSelector;
    use std::time::Duration;

    #[test]
    fn rules_of_one_program_do_not_clear_each_others_faults() {
        let (alarms, ty) = (Alarms::new(Clock::start()), "audit".parse::<ManagerType>().unwrap());
        let rule = |unit: &str| OnChange {
            ty: TypeSelector::One(ty.clone()),
            rendering: None,
            command: Some(["/usr/bin/systemctl", "reload", unit].map(str::to_owned).to_vec()),
            debounce: Duration::ZERO,
            timeout: Duration::ZERO,
        };
        let (faults, [a, b]) = (Faults::new(alarms.clone()), ["a", "b"].map(rule));
        let shown = || alarms.list().pop().map(|raised| raised.notice.message.to_string());
        faults.raise(&a, &ty, &Text::lossy("no unit a"));
        faults.raise(&b, &ty, &Text::lossy("no unit b"));
        faults.clear(&a, &ty);
        let left = shown().unwrap();
        assert!(left.ends_with(": /usr/bin/systemctl (audit): no unit b"), "{left}");
        faults.forget(&a);
        assert_eq!(shown(), Some(left));
        faults.forget(&b);
        assert_eq!(shown(), None);
    }
}
