//! What is to be done when a route changes.

use echelon_core::name::ManagerType;
use echelon_core::policy::TypeSelector;
use echelon_daemon::HumanDuration;
use echelon_daemon::exec::{MAX_WORDS, are_arguments, names_program};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// Most rules of one host: more than the types that its programs use.
const MAX_RULES: usize = 64;

/// How long changes are gathered where nobody says otherwise: what fails over and back within it is no change.
const DEBOUNCE: Duration = Duration::from_secs(1);

/// Longest time for which changes are gathered.
const MAX_DEBOUNCE: Duration = Duration::from_secs(3600);

/// How long a command may take where nobody says otherwise: that of a reload of a proxy, amply.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Range of the time that a command may take.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(600));

/// What to do when the route for a type leads elsewhere. In settings a table of `[[on_change]]`; nothing that comes
/// over the network is ever run or written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(try_from = "Keys")]
pub struct OnChange {
    /// Of which type, or of all that there are managers of.
    pub ty: TypeSelector,
    /// The file that is rendered first; none where there is only a command.
    pub rendering: Option<Rendering>,
    /// A program by its absolute path, with its arguments: run when the file has become another one, or, without a
    /// file, when another manager is used than before.
    pub command: Option<Vec<String>>,
    /// How long changes are gathered; up to 1 h.
    pub debounce: Duration,
    /// How long the command may take; 10 ms to 10 min.
    pub timeout: Duration,
}

/// A file that is made from a template.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rendering {
    /// The template, which is read each time.
    pub template: PathBuf,
    /// The file.
    pub file: PathBuf,
    /// Its mode; where there is none, that of the file there is, else 0644.
    pub mode: Option<u32>,
}

/// The rules of a host; no two render one file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<OnChange>")]
pub struct OnChanges(Vec<OnChange>);

/// Keys in settings that make no rule. Nothing was changed; a retry is pointless.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OnChangeError {
    /// Nothing to do.
    #[error(
        "on_change has neither a command nor a template: add command = [\"/usr/bin/systemctl\", …], or template and file"
    )]
    Nothing,
    /// A template without a file, or a file without one.
    #[error("on_change has only one of template and file: add the other, the one is rendered into the other")]
    Half,
    /// A mode without a file.
    #[error("on_change has a mode but no file: remove it")]
    ModeAlone,
    /// A path from nowhere.
    #[error("{0} is no absolute path: write all of it, from / on")]
    Relative(PathBuf),
    /// One file for all types.
    #[error("on_change renders one file for all types: name one with type")]
    FileOfAll,
    /// No mode of a file.
    #[error("mode {0:?} is none of a file: write it as in mode = \"0640\"")]
    Mode(String),
    /// No program, or one that would be searched for.
    #[error(
        "command names no program by its absolute path: write it as in command = [\"/usr/bin/systemctl\", \"reload\", \"haproxy\"]"
    )]
    NoProgram,
    /// Too many words, or a NUL, which no argument can have.
    #[error("command has more than {MAX_WORDS} words, or a NUL in one: put it into a script")]
    Words,
    /// A time out of its range.
    #[error("{0} is out of range: use {1}")]
    Time(&'static str, &'static str),
    /// Two rules for one file.
    #[error("two rules of on_change render {0}: keep one of them")]
    SameFile(PathBuf),
    /// Too many rules.
    #[error("there are more than {MAX_RULES} rules of on_change")]
    TooMany,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    r#type: TypeSelector,
    template: Option<PathBuf>,
    file: Option<PathBuf>,
    mode: Option<String>,
    command: Option<Vec<String>>,
    debounce: Option<HumanDuration>,
    timeout: Option<HumanDuration>,
}

impl TryFrom<Keys> for OnChange {
    type Error = OnChangeError;
    fn try_from(keys: Keys) -> Result<Self, OnChangeError> {
        let rendering = rendering(keys.template, keys.file, keys.mode)?;
        if rendering.is_some() && keys.r#type == TypeSelector::All {
            return Err(OnChangeError::FileOfAll);
        }
        if let Some(command) = &keys.command {
            (names_program(command).then_some(())).ok_or(OnChangeError::NoProgram)?;
            (are_arguments(command).then_some(())).ok_or(OnChangeError::Words)?;
        } else if rendering.is_none() {
            return Err(OnChangeError::Nothing);
        }
        let debounce = keys.debounce.map_or(DEBOUNCE, HumanDuration::get);
        let timeout = keys.timeout.map_or(TIMEOUT, HumanDuration::get);
        if debounce > MAX_DEBOUNCE {
            return Err(OnChangeError::Time("debounce", "0s to 1h"));
        }
        if !(TIMEOUTS.0..=TIMEOUTS.1).contains(&timeout) {
            return Err(OnChangeError::Time("timeout", "10ms to 10m"));
        }
        Ok(Self { ty: keys.r#type, rendering, command: keys.command, debounce, timeout })
    }
}

fn rendering(
    template: Option<PathBuf>,
    file: Option<PathBuf>,
    mode: Option<String>,
) -> Result<Option<Rendering>, OnChangeError> {
    let (template, file) = match (template, file) {
        (Some(template), Some(file)) => (template, file),
        (None, None) if mode.is_none() => return Ok(None),
        (None, None) => return Err(OnChangeError::ModeAlone),
        _ => return Err(OnChangeError::Half),
    };
    if let Some(relative) = [&template, &file].into_iter().find(|path| !path.is_absolute()) {
        return Err(OnChangeError::Relative(relative.clone()));
    }
    let mode = mode.map(|text| octal(&text).ok_or(OnChangeError::Mode(text))).transpose()?;
    Ok(Some(Rendering { template, file, mode }))
}

/// The permissions that these octal digits are.
fn octal(text: &str) -> Option<u32> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777)
}

impl TryFrom<Vec<OnChange>> for OnChanges {
    type Error = OnChangeError;
    fn try_from(rules: Vec<OnChange>) -> Result<Self, OnChangeError> {
        if rules.len() > MAX_RULES {
            return Err(OnChangeError::TooMany);
        }
        let mut files = BTreeSet::new();
        for file in rules.iter().filter_map(|rule| Some(&rule.rendering.as_ref()?.file)) {
            if !files.insert(file) {
                return Err(OnChangeError::SameFile(file.clone()));
            }
        }
        Ok(Self(rules))
    }
}

impl OnChanges {
    /// The rules.
    pub fn iter(&self) -> impl Iterator<Item = &OnChange> {
        self.0.iter()
    }
}

impl OnChange {
    /// How people are told of it: by its file, else by its program.
    pub(crate) fn label(&self, ty: &ManagerType) -> String {
        let file = self.rendering.as_ref().map(|rendering| rendering.file.display().to_string());
        let program = || self.command.iter().flatten().next().cloned().unwrap_or_default();
        format!("{} ({ty})", file.unwrap_or_else(program))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_daemon::config::parse;
    use std::path::Path;

    fn read(text: &str) -> Result<OnChanges, String> {
        #[derive(Deserialize)]
        struct File {
            on_change: OnChanges,
        }
        let text = format!("[[on_change]]\n{text}\n");
        let file = parse::<File>(Path::new("f"), text.as_bytes());
        file.map(|f| f.on_change).map_err(|e| e.to_string())
    }

    #[test]
    fn a_rule_renders_a_file_runs_a_command_or_both() {
        let rules = read(
            "type = \"audit\"\ntemplate = \"/a\"\nfile = \"/b\"\nmode = \"0640\"\n[[on_change]]\ntype = \"*\"\ncommand = [\"/c\", \"-d\"]\ndebounce = \"0s\"",
        )
        .unwrap();
        let [file, command] = [&rules.0[0], &rules.0[1]];
        let (template, rendered) = ("/a".into(), "/b".into());
        assert_eq!(file.rendering, Some(Rendering { template, file: rendered, mode: Some(0o640) }));
        assert_eq!((file.debounce, file.timeout, file.command.as_ref()), (DEBOUNCE, TIMEOUT, None));
        assert_eq!((command.ty.clone(), command.debounce), (TypeSelector::All, Duration::ZERO));
        let audit = "audit".parse().unwrap();
        assert_eq!((file.label(&audit), command.label(&audit)), ("/b (audit)".into(), "/c (audit)".into()));
    }

    #[test]
    fn mistakes_are_named() {
        let one = |keys: &str| format!("type = \"audit\"\n{keys}");
        let twice = "template = \"/a\"\nfile = \"/b\"\n[[on_change]]\ntype = \"log\"\ntemplate = \"/c\"\nfile = \"/b\"";
        for (text, words) in [
            (one(""), "neither a command nor a template"),
            (one("template = \"/a\""), "only one of template and file"),
            (one("mode = \"0600\"\ncommand = [\"/a\"]"), "a mode but no file"),
            (one("template = \"a\"\nfile = \"/b\""), "a is no absolute path"),
            (one("template = \"/a\"\nfile = \"/b\"\nmode = \"9\""), "is none of a file"),
            (one("template = \"/a\"\nfile = \"/b\"\nmode = \"4755\""), "is none of a file"),
            (one("command = [\"systemctl\"]"), "no program by its absolute path"),
            (one("command = [\"/a\", \"b\\u0000\"]"), "a NUL in one"),
            (one("command = [\"/a\"]\ndebounce = \"2h\""), "debounce is out of range: use 0s to 1h"),
            (one("command = [\"/a\"]\ntimeout = \"0s\""), "timeout is out of range: use 10ms to 10m"),
            (one("comand = [\"/a\"]"), "unknown key `comand`"),
            ("type = \"*\"\ntemplate = \"/a\"\nfile = \"/b\"".into(), "one file for all types"),
            ("command = [\"/a\"]".into(), "type"),
            (one(twice), "two rules of on_change render /b"),
            (
                one("command = [\"/a\"]\n[[on_change]]\ntype = \"b\"\ncommand = [\"/b\"]\n").repeat(40),
                "more than 64",
            ),
        ] {
            let text = text.replace("command = [\"/b\"]\ntype", "command = [\"/b\"]\n[[on_change]]\ntype");
            let error = read(&text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
