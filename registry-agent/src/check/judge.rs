//! What a row of checks comes to.

use crate::check::host_check::HostCheck;
use crate::check::run::Miss;
use echelon_core::message::Health;
use echelon_daemon::patience::{is_too_late, is_too_long};
use std::time::Duration;

/// Counts the misses of one package.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    misses_allowed: u32,
    demands_answer: bool,
    timeout: Duration,
    misses: u32,
    in_doubt: bool,
}

/// One check that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// By how much it began too late.
    pub(crate) late: Duration,
    /// How long it took.
    pub(crate) took: Duration,
    /// What came of it.
    pub(crate) result: Result<(), Miss>,
}

impl Judge {
    pub(crate) fn new(check: &HostCheck) -> Self {
        Self {
            misses_allowed: check.misses.max(1),
            demands_answer: check.demands_answer(),
            timeout: check.timeout,
            misses: 0,
            in_doubt: false,
        }
    }

    /// Whether the last check failed, and that was not enough for a verdict.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// The package's health after this check; none where it says nothing new: a first miss, or a failure
    /// on a machine too busy to have made the check properly, or that lacks what it takes.
    pub(crate) fn conclude(&mut self, made: Made) -> Option<Health> {
        let failed = made.result.is_err();
        let health = self.weigh(made);
        self.in_doubt = failed && health.is_none();
        health
    }

    fn weigh(&mut self, made: Made) -> Option<Health> {
        let miss = match made.result {
            Ok(()) => {
                self.misses = 0;
                return Some(Health::Passing);
            }
            Err(miss) => miss,
        };
        let (reason, _) = miss.met()?;
        if is_too_late(made.late, self.timeout) || is_too_long(made.took, self.timeout) {
            return None;
        }
        self.misses = self.misses.saturating_add(1);
        let failed = self.misses >= self.misses_allowed;
        failed.then_some(Health::Failing { demands_answer: self.demands_answer, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::NoConnection;
    use echelon_core::check::Check;
    use echelon_core::name::Text;

    const MS: Duration = Duration::from_millis(1);

    fn made(ok: bool) -> Made {
        let refused = || NoConnection::Refused(Text::lossy("connection refused"));
        let result = if ok { Ok(()) } else { Err(Miss::NoConnection(refused())) };
        Made { late: MS, took: MS, result }
    }

    fn is_failing(health: Option<Health>) -> bool {
        matches!(health, Some(Health::Failing { demands_answer: false, .. }))
    }

    #[test]
    fn as_many_misses_in_a_row_as_the_check_says_and_one_pass_makes_up_for_all() {
        let mut judge = Judge::new(&Check { misses: 3, ..Check::default() }.into());
        assert_eq!(judge.conclude(made(false)), None);
        assert_eq!(judge.conclude(made(false)), None);
        assert_eq!(judge.conclude(made(true)), Some(Health::Passing));
        assert_eq!(judge.conclude(made(false)), None);
        assert_eq!(judge.conclude(made(false)), None);
        assert!(is_failing(judge.conclude(made(false))));
        assert!(is_failing(judge.conclude(made(false))));
    }

    #[test]
    fn what_this_host_lacks_concludes_nothing() {
        let mut judge = Judge::new(&Check { misses: 1, ..Check::default() }.into());
        let lack = || Text::lossy("too many open files");
        for ours in [Miss::Ours(lack()), Miss::NoConnection(NoConnection::Ours(lack()))] {
            assert_eq!(judge.conclude(Made { result: Err(ours), ..made(false) }), None);
        }
        assert!(is_failing(judge.conclude(made(false))));
    }

    #[test]
    fn a_busy_machine_concludes_nothing_but_a_pass_is_a_pass() {
        let check = Check { misses: 1, ..Check::default() };
        let mut judge = Judge::new(&check.clone().into());
        let late = check.timeout / 4 + MS;
        assert_eq!(judge.conclude(Made { late, ..made(false) }), None);
        assert!(judge.is_in_doubt());
        let took = check.timeout * 3 + MS;
        assert_eq!(judge.conclude(Made { took, ..made(false) }), None);
        assert_eq!(judge.conclude(Made { late, ..made(true) }), Some(Health::Passing));
        assert!(!judge.is_in_doubt());
        assert!(is_failing(judge.conclude(made(false))) && !judge.is_in_doubt());
    }
}
