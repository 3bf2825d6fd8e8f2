//! Scripts: commands in a file, and the checks that are made before anything is started.

use crate::command::{Command, SyntaxError};
use echelon_core::name::{HostName, ManagerType, Text};
use echelon_topology::Topology;
use std::collections::{BTreeMap, BTreeSet};

/// Most bytes of a script: some ten thousand commands, an hour of them.
pub const MAX_SCRIPT: usize = 1 << 20;

/// Most names that an error lists; a longer list helps nobody.
const MAX_LISTED: usize = 12;

/// Commands in the order in which they are to be carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// What the file is called, for errors.
    pub file: String,
    /// The commands and the lines that they are on, from 1.
    pub lines: Vec<(usize, Command)>,
    /// The comments that have lines of their own, without the `#`, and those lines.
    pub comments: Vec<(usize, Text)>,
}

/// What is wrong with a line of a script. Nothing was started.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct ScriptError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub problem: LineProblem,
}

/// See [`ScriptError`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LineProblem {
    /// More than [`MAX_SCRIPT`].
    #[error("the script has {0} bytes: at most {MAX_SCRIPT} are read; split it")]
    TooLarge(usize),
    /// Not text.
    #[error("this is no UTF-8 text: save the script as UTF-8")]
    NotUtf8,
    /// No command.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// It speaks of something that the topology does not have.
    #[error(transparent)]
    Name(#[from] NameProblem),
}

/// A command speaks of something that the topology does not have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameProblem {
    /// No such host.
    #[error("the topology has no host {host}: use {}", listed(.known))]
    Host {
        /// What was written.
        host: HostName,
        /// The hosts.
        known: Vec<String>,
    },
    /// The host has no such manager.
    #[error("{host} has no manager of type {ty}: {}", has(.host, .known))]
    Manager {
        /// The host.
        host: HostName,
        /// What was written.
        ty: ManagerType,
        /// Its types.
        known: Vec<String>,
    },
    /// The host has no manager at all.
    #[error("{host} has no manager: name a host that has one")]
    NoManager {
        /// The host.
        host: HostName,
    },
    /// No host has such a manager.
    #[error("the topology has no manager of type {ty}: use {}", listed(.known))]
    Type {
        /// What was written.
        ty: ManagerType,
        /// The types.
        known: Vec<String>,
    },
    /// Registry managers are not stubs.
    #[error("the registry manager is no stub: write registry down, or registry up")]
    Registry,
}

fn listed(names: &[String]) -> String {
    match names.len() {
        0 => "nothing, it has none".to_owned(),
        1..=MAX_LISTED => names.join(", "),
        n => format!(
            "{} and {} more",
            names.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(", "),
            n - MAX_LISTED
        ),
    }
}

fn has(host: &HostName, types: &[String]) -> String {
    if types.is_empty() { format!("{host} has none at all") } else { format!("it has {}", listed(types)) }
}

impl Script {
    /// Reads a script; `file` is what it is called in errors.
    ///
    /// # Errors
    /// Names the first line that is wrong.
    pub fn parse(file: &str, input: &[u8]) -> Result<Self, ScriptError> {
        let fail = |line, problem| ScriptError { file: file.to_owned(), line, problem };
        if input.len() > MAX_SCRIPT {
            return Err(fail(1, LineProblem::TooLarge(input.len())));
        }
        let text = std::str::from_utf8(input)
            .map_err(|e| fail(line_of(input, e.valid_up_to()), LineProblem::NotUtf8))?;
        let (mut lines, mut comments) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let command = Command::on_line(line).map_err(|e| fail(number, e.into()))?;
            lines.extend(command.map(|command| (number, command)));
            let comment = line.trim_start().strip_prefix('#').map(|text| Text::lossy(text.trim()));
            comments.extend(comment.map(|text| (number, text)));
        }
        Ok(Self { file: file.to_owned(), lines, comments })
    }

    /// Checks that the topology has everything that the script speaks of.
    ///
    /// # Errors
    /// Names the first line that speaks of something else.
    pub fn check(&self, names: &Names) -> Result<(), ScriptError> {
        let fail = |line, problem: NameProblem| ScriptError {
            file: self.file.clone(),
            line,
            problem: problem.into(),
        };
        self.lines.iter().try_for_each(|(line, command)| names.check(command).map_err(|e| fail(*line, e)))
    }
}

fn line_of(input: &[u8], at: usize) -> usize {
    1 + input.iter().take(at).filter(|b| **b == b'\n').count()
}

/// What commands can speak of: the hosts, and the managers of each.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<HostName, BTreeSet<ManagerType>>);

impl Names {
    /// The hosts and managers of a topology, registry managers left out.
    pub fn of(topology: &Topology) -> Self {
        let managers = |host: &echelon_topology::HostEntry| {
            let packages = host.packages.iter().filter(|p| p.is_manager() && !p.ty.is_registry());
            packages.map(|p| p.ty.clone()).collect()
        };
        Self(topology.hosts.iter().map(|host| (host.name.clone(), managers(host))).collect())
    }

    /// The manager types of the topology.
    pub fn types(&self) -> BTreeSet<ManagerType> {
        self.0.values().flatten().cloned().collect()
    }

    /// Adds a host without managers, where it is missing.
    pub fn add_host(&mut self, host: HostName) {
        self.0.entry(host).or_default();
    }

    /// Checks that the topology has what a command speaks of.
    ///
    /// # Errors
    /// See [`NameProblem`].
    pub fn check(&self, command: &Command) -> Result<(), NameProblem> {
        let stub = matches!(command, Command::Down { .. } | Command::Up { .. });
        for (host, ty) in command.hosts() {
            let managers = self.managers_of(host)?;
            match ty {
                Some(ty) if !managers.contains(ty) => return Err(no_manager(host, ty, managers)),
                None if stub && managers.is_empty() => {
                    return Err(NameProblem::NoManager { host: host.clone() });
                }
                _ => {}
            }
        }
        match command.routed_type() {
            Some(ty) => self.check_type(ty),
            None => Ok(()),
        }
    }

    fn managers_of(&self, host: &HostName) -> Result<&BTreeSet<ManagerType>, NameProblem> {
        let known = || self.0.keys().map(ToString::to_string).collect();
        self.0.get(host).ok_or_else(|| NameProblem::Host { host: host.clone(), known: known() })
    }

    fn check_type(&self, ty: &ManagerType) -> Result<(), NameProblem> {
        if self.0.values().any(|types| types.contains(ty)) {
            return Ok(());
        }
        let known = self.types().iter().map(ToString::to_string).collect();
        Err(NameProblem::Type { ty: ty.clone(), known })
    }
}

fn no_manager(host: &HostName, ty: &ManagerType, managers: &BTreeSet<ManagerType>) -> NameProblem {
    if ty.is_registry() {
        return NameProblem::Registry;
    }
    let known = managers.iter().map(ToString::to_string).collect();
    NameProblem::Manager { host: host.clone(), ty: ty.clone(), known }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOPOLOGY: &str = r#"
framework = "test"
[[host]]
name = "root"
packages = ["registry:29120", "audit:7000", "inventory"]
[[host]]
name = "plain"
"#;

    fn check(text: &str) -> Result<(), String> {
        let names = Names::of(&echelon_topology::parse("t.toml", TOPOLOGY.as_bytes()).unwrap());
        let script = Script::parse("x.lab", text.as_bytes()).map_err(|e| e.to_string())?;
        script.check(&names).map_err(|e| e.to_string())
    }

    #[test]
    fn lines_are_counted_with_comments_and_empty_ones() {
        let script = Script::parse("x.lab", b"# one\n\ncall plain audit\nquit\n").unwrap();
        assert_eq!(script.lines.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(script.comments, [(1, Text::lossy("one"))]);
        let error = Script::parse("x.lab", b"quit\n\ncal plain audit\n").unwrap_err();
        assert!(error.to_string().starts_with("x.lab:3: there is no command \"cal\""), "{error}");
        let error = Script::parse("x.lab", b"quit\n\xff\n").unwrap_err();
        assert!(error.to_string().starts_with("x.lab:2: this is no UTF-8"), "{error}");
    }

    #[test]
    fn names_are_checked_before_anything_starts() {
        check("call plain audit\ndown root\nhang root audit\nexpect plain audit root\nroutes audit").unwrap();
        for (text, expected) in [
            ("call nobody audit", "x.lab:1: the topology has no host nobody: use plain, root"),
            ("expect plain audit plain", "plain has no manager of type audit: plain has none at all"),
            ("withdraw root other", "root has no manager of type other: it has audit"),
            ("down plain", "plain has no manager: name a host that has one"),
            ("routes inventory", "the topology has no manager of type inventory: use audit"),
            ("hang root registry", "write registry down, or registry up"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_never_panic(input in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Script::parse("x.lab", &input);
        }
    }
}
