//! Which commands are run, as the manager's own settings file says.

use echelon_core::alarm::Severity;
use echelon_daemon::HumanDuration;
use echelon_daemon::exec::{MAX_WORDS, are_arguments, names_program};
use serde::Deserialize;
use std::time::Duration;

/// How long a command may take where nobody says otherwise: a mail server that is slow to answer, amply.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Range of the time that a command may take.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(600));

/// The least severity that is told where nobody says otherwise: for less nobody need get up.
const SEVERITY: Severity = Severity::Warning;

/// The hooks of a manager.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HookSettings {
    /// Run for each alarm that comes or goes.
    pub on_alarm: Option<OnAlarm>,
    /// Run for each change of this manager's role.
    pub on_promote: Option<Hook>,
}

/// A command.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "Keys")]
pub struct Hook {
    /// A program by its absolute path, with its arguments.
    pub command: Vec<String>,
    /// How long it may take; 10 ms to 10 min.
    pub timeout: Duration,
}

/// The command for alarms.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "AlarmKeys")]
pub struct OnAlarm {
    /// The command.
    pub hook: Hook,
    /// The least severity that is told.
    pub severity: Severity,
}

/// Keys in settings that make no hook. Nothing was changed; a retry is pointless.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HookError {
    /// No program, or one that would be searched for.
    #[error(
        "command names no program by its absolute path: write it as in command = [\"/usr/local/bin/page\", \"ops\"]"
    )]
    NoProgram,
    /// Too many words, or a NUL, which no argument can have.
    #[error("command has more than {MAX_WORDS} words, or a NUL in one: put it into a script")]
    Words,
    /// A time out of its range.
    #[error("timeout is out of range: use 10ms to 10m")]
    Timeout,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    command: Vec<String>,
    timeout: Option<HumanDuration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlarmKeys {
    command: Vec<String>,
    timeout: Option<HumanDuration>,
    severity: Option<Severity>,
}

impl TryFrom<Keys> for Hook {
    type Error = HookError;
    fn try_from(Keys { command, timeout }: Keys) -> Result<Self, HookError> {
        (names_program(&command).then_some(())).ok_or(HookError::NoProgram)?;
        (are_arguments(&command).then_some(())).ok_or(HookError::Words)?;
        let timeout = timeout.map_or(TIMEOUT, HumanDuration::get);
        match (TIMEOUTS.0..=TIMEOUTS.1).contains(&timeout) {
            true => Ok(Self { command, timeout }),
            false => Err(HookError::Timeout),
        }
    }
}

impl TryFrom<AlarmKeys> for OnAlarm {
    type Error = HookError;
    fn try_from(AlarmKeys { command, timeout, severity }: AlarmKeys) -> Result<Self, HookError> {
        let hook = Keys { command, timeout }.try_into()?;
        Ok(Self { hook, severity: severity.unwrap_or(SEVERITY) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::File;
    use echelon_daemon::config::parse;
    use std::path::Path;

    fn read(text: &str) -> Result<File, String> {
        parse(Path::new("m.toml"), text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn hooks_have_a_command_and_what_else_they_need_by_itself() {
        let file = read("[on_alarm]\ncommand = [\"/bin/mail\", \"ops\"]\n[on_promote]\ncommand = [\"/vip\"]\ntimeout = \"5s\"").unwrap();
        let on_alarm = file.on_alarm.unwrap();
        assert_eq!((on_alarm.severity, on_alarm.hook.timeout), (Severity::Warning, TIMEOUT));
        assert_eq!(on_alarm.hook.command, ["/bin/mail", "ops"]);
        assert_eq!(file.on_promote.unwrap().timeout, Duration::from_secs(5));
        let info = read("[on_alarm]\ncommand = [\"/a\"]\nseverity = \"info\"").unwrap();
        assert_eq!(info.on_alarm.unwrap().severity, Severity::Info);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (keys, words) in [
            ("command = []", "no program by its absolute path"),
            ("command = [\"mail\"]", "no program by its absolute path"),
            ("command = [\"/a\", \"b\\u0000\"]", "a NUL in one"),
            ("command = [\"/a\"]\ntimeout = \"11m\"", "timeout is out of range: use 10ms to 10m"),
            ("command = [\"/a\"]\nlimit = \"1s\"", "unknown key `limit`"),
            ("timeout = \"1s\"", "command"),
        ] {
            for section in ["on_alarm", "on_promote"] {
                let error = read(&format!("[{section}]\n{keys}\n")).unwrap_err();
                assert!(error.starts_with("m.toml:") && error.contains(words), "{keys}: {error}");
            }
        }
        assert!(read("[on_promote]\ncommand = [\"/a\"]\nseverity = \"info\"").is_err());
    }
}
