use std::process::{ExitCode, Termination};

/// How a process ended, for scripts: the exit codes that every Echelon binary shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Exit {
    /// 0: done.
    #[default]
    Done = 0,
    /// 1: failed; an unknown name, a bad file, or something internal.
    Failed = 1,
    /// 2: the command line is wrong. clap exits with the same number.
    Usage = 2,
    /// 3: a valid request that the registry's state forbids.
    Refused = 3,
    /// 4: no manager, or no primary, can be reached.
    Unreachable = 4,
    /// 5: not allowed.
    NotAllowed = 5,
    /// 6: the outcome is unknown; repeating with the same request id is safe.
    OutcomeUnknown = 6,
    /// 7: answered, and the answer is bad.
    BadAnswer = 7,
}

impl Exit {
    /// The number the process exits with, 0 to 7.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_scripts_rely_on() {
        let all = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Refused, 3),
            (Exit::Unreachable, 4),
            (Exit::NotAllowed, 5),
            (Exit::OutcomeUnknown, 6),
            (Exit::BadAnswer, 7),
        ];
        for (exit, code) in all {
            assert_eq!(exit.code(), code, "{exit:?}");
            assert_eq!(exit.report(), ExitCode::from(code), "{exit:?}");
        }
    }
}
