//! How a package is checked on this host: as the registry says, or as the host's own settings say.

use echelon_core::check::{Check, CheckFault, CheckForm, CheckKind, CheckText, GrpcForm, HttpStatus};
use echelon_core::name::{HttpHost, ManagerType, UrlPath};
use echelon_daemon::HumanDuration;
use echelon_daemon::exec::{MAX_WORDS, are_arguments, names_program};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Interval of commands where nobody says otherwise. Starting a process costs a thousand times what a connect
/// costs, so that it is done less often.
const EXEC_INTERVAL: Duration = Duration::from_secs(5);

/// How long commands may take where nobody says otherwise.
const EXEC_TIMEOUT: Duration = Duration::from_secs(2);

/// A check of one of this host's packages. In settings it has the keys of a check in a topology file, or `exec`
/// with a command, which exists nowhere else: nothing that comes over the network is ever run.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "Keys")]
pub struct HostCheck {
    /// What is done.
    pub what: What,
    /// Time between two checks; 50 ms to 1 h.
    pub interval: Duration,
    /// How long one may take; 10 ms to 60 s.
    pub timeout: Duration,
    /// How many must fail in a row before the package counts as failed; 1 to 10.
    pub misses: u32,
}

/// Checks of this host's own, by the type of the package.
pub type HostChecks = BTreeMap<ManagerType, HostCheck>;

/// What a check on this host does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// Asks whoever listens at the package's endpoint.
    Ask(CheckKind),
    /// Runs a program by its absolute path, with its arguments. It passes with exit code 0.
    Exec(Vec<String>),
}

/// Keys in settings that make no check. Nothing was changed; a retry is pointless.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HostCheckError {
    /// What any check may have wrong.
    #[error(transparent)]
    Check(#[from] CheckFault),
    /// A command beside another kind of check.
    #[error("the check has exec and keys of another kind: keep one of them, a check is of one kind")]
    TwoKinds,
    /// No program, or one that would be searched for.
    #[error(
        "exec names no program by its absolute path: write it as in exec = [\"/usr/lib/acme/check\", \"-q\"]"
    )]
    NoProgram,
    /// A command of too many words, or with a NUL, which no argument can have.
    #[error("exec has more than {MAX_WORDS} words, or a NUL in one: put the command into a script")]
    Words,
}

impl HostCheck {
    /// Whether a pass proves more than reach.
    pub(crate) fn demands_answer(&self) -> bool {
        match &self.what {
            What::Ask(kind) => kind.demands_answer(),
            What::Exec(_) => true,
        }
    }
}

impl From<Check> for HostCheck {
    fn from(check: Check) -> Self {
        let Check { kind, interval, timeout, misses } = check;
        Self { what: What::Ask(kind), interval, timeout, misses }
    }
}

/// The keys of a check in settings.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    tcp: Option<bool>,
    send: Option<CheckText>,
    expect: Option<CheckText>,
    http: Option<UrlPath>,
    status: Option<HttpStatus>,
    host: Option<HttpHost>,
    grpc: Option<GrpcForm>,
    exec: Option<Vec<String>>,
    interval: Option<HumanDuration>,
    timeout: Option<HumanDuration>,
    misses: Option<u32>,
}

impl TryFrom<Keys> for HostCheck {
    type Error = HostCheckError;
    fn try_from(keys: Keys) -> Result<Self, HostCheckError> {
        let form = CheckForm {
            tcp: keys.tcp,
            send: keys.send,
            expect: keys.expect,
            http: keys.http,
            status: keys.status,
            host: keys.host,
            grpc: keys.grpc,
            interval: keys.interval.map(HumanDuration::get),
            timeout: keys.timeout.map(HumanDuration::get),
            misses: keys.misses,
        };
        match keys.exec {
            Some(command) => exec(command, form),
            None => Ok(form.check()?.into()),
        }
    }
}

fn exec(command: Vec<String>, form: CheckForm) -> Result<HostCheck, HostCheckError> {
    let (interval, timeout, misses) = (form.interval, form.timeout, form.misses);
    if form != (CheckForm { interval, timeout, misses, ..CheckForm::default() }) {
        return Err(HostCheckError::TwoKinds);
    }
    if !names_program(&command) {
        return Err(HostCheckError::NoProgram);
    }
    if !are_arguments(&command) {
        return Err(HostCheckError::Words);
    }
    let interval = interval.or(Some(EXEC_INTERVAL));
    let timeout = timeout.or(Some(EXEC_TIMEOUT));
    // Times and misses have the ranges of every check.
    let Check { interval, timeout, misses, .. } =
        CheckForm { interval, timeout, misses, ..CheckForm::default() }.check()?;
    Ok(HostCheck { what: What::Exec(command), interval, timeout, misses })
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_daemon::config::parse;
    use std::path::Path;

    fn read(text: &str) -> Result<HostCheck, String> {
        let file = format!("[control]\n{text}\n");
        let checks = parse::<BTreeMap<String, HostCheck>>(Path::new("f"), file.as_bytes());
        checks.map(|mut checks| checks.remove("control").unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_command_has_slower_defaults_and_all_other_kinds_those_of_the_registry() {
        let check = read("exec = [\"/bin/check\", \"-q\"]").unwrap();
        assert_eq!(check.what, What::Exec(vec!["/bin/check".into(), "-q".into()]));
        assert_eq!((check.interval, check.timeout, check.misses), (EXEC_INTERVAL, EXEC_TIMEOUT, 2));
        assert!(check.demands_answer());
        let check = read("expect = \"+PONG\"\nsend = \"PING\"\ninterval = \"1s\"").unwrap();
        assert!(matches!(&check.what, What::Ask(CheckKind::Exchange { .. })));
        assert_eq!((check.interval.as_millis(), check.timeout.as_millis()), (1000, 500));
        let http = CheckForm { http: Some("/".parse().unwrap()), ..CheckForm::default() };
        assert_eq!(read("http = \"/\"").unwrap(), http.check().unwrap().into());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, words) in [
            ("exec = []", "f:1:1: exec names no program by its absolute path"),
            ("exec = [\"check\"]", "exec names no program by its absolute path"),
            ("exec = [\"/a\", \"b\\u0000\"]", "or a NUL in one"),
            ("exec = [\"/a\"]\nhttp = \"/\"", "exec and keys of another kind"),
            ("exec = [\"/a\"]\ntimeout = \"2m\"", "check timeout in ms 120000 is out of range"),
            ("http = \"/\"\nexpect = \"a\"", "check has expect, which belongs to tcp"),
            ("\nhtpp = \"/\"", "f:3:1: unknown key `htpp`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(read(&format!("exec = [\"/a\"{}]", ", \"b\"".repeat(MAX_WORDS))).is_err());
    }
}
