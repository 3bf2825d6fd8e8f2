//! Hosts as arguments: names, or `-` for names on standard input.

use crate::problem::{Problem, failed};
use echelon_core::limits::MAX_HOST_NAME;
use echelon_core::name::{HostName, NameError};
use std::collections::BTreeSet;
use std::io::BufRead;
use std::str::FromStr;

/// Most names on standard input: what is planned for in one framework; further ones go into another edit.
const MAX_NAMES: usize = 100_000;

/// Most bytes of standard input: as many names of the greatest length, each with the end of its line.
const MAX_BYTES: u64 = (MAX_NAMES * (MAX_HOST_NAME + 2)) as u64;

/// A host, or the hosts on standard input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum HostArg {
    /// The host of this name.
    Name(HostName),
    /// Those on standard input, one a line.
    StandardInput,
}

impl FromStr for HostArg {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "-" { Ok(Self::StandardInput) } else { text.parse().map(Self::Name) }
    }
}

/// The hosts that these arguments name, each once, in their order.
pub(crate) fn names(arguments: Vec<HostArg>) -> Result<Vec<HostName>, Problem> {
    let read = match arguments.contains(&HostArg::StandardInput) {
        true => read_names(std::io::stdin().lock())?,
        false => Vec::new(),
    };
    let mut seen = BTreeSet::new();
    let named = arguments.into_iter().flat_map(|argument| match argument {
        HostArg::Name(name) => vec![name],
        HostArg::StandardInput => read.clone(),
    });
    Ok(named.filter(|name| seen.insert(name.clone())).collect())
}

/// One name a line; blank lines and what follows a `#` are passed over.
fn read_names(from: impl BufRead) -> Result<Vec<HostName>, Problem> {
    let mut names = Vec::new();
    for (index, line) in from.take(MAX_BYTES).lines().enumerate() {
        let at = format!("standard input, line {}", index + 1);
        let line = line.map_err(|error| failed("unreadable-input", error).at(&at).pointless())?;
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        if names.len() == MAX_NAMES {
            let problem = format!("there are more than {MAX_NAMES} names: split them over several edits");
            return Err(failed("too-many-names", problem).at(&at).pointless());
        }
        names.push(text.parse().map_err(|error: NameError| failed("bad-name", error).at(&at).pointless())?);
    }
    match names.is_empty() {
        true => Err(failed("no-names", "there is no host name on standard input").pointless()),
        false => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let names = read_names(text.as_bytes()).map_err(|problem| problem.name().to_owned())?;
        Ok(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_are_read_one_a_line_without_blanks_and_comments() {
        let text = "# web\nweb1\n\n  web2\t\r\nweb3 # the old one\nweb4";
        assert_eq!(read(text), Ok(["web1", "web2", "web3", "web4"].map(String::from).to_vec()));
    }

    #[test]
    fn what_is_no_name_is_told_with_its_line() {
        assert_eq!(read("web1\nweb 2\n"), Err("bad-name".into()));
        let problem = read_names("web1\n\nWEB\n".as_bytes()).unwrap_err();
        let Problem::Failed(failure) = problem else { panic!("another problem") };
        assert_eq!(failure.place, "standard input, line 3");
        for empty in ["", "\n\n", "# nothing\n"] {
            assert_eq!(read(empty), Err("no-names".into()));
        }
        assert_eq!(read("\u{fffd}"), Err("bad-name".into()));
        assert!(read_names(&b"a\n\xff\n"[..]).is_err());
    }

    #[test]
    fn a_flood_is_refused() {
        assert_eq!(read(&"h\n".repeat(MAX_NAMES + 1)), Err("too-many-names".into()));
        assert_eq!(read(&"h\n".repeat(MAX_NAMES)).map(|names| names.len()), Ok(MAX_NAMES));
    }

    #[test]
    fn each_host_counts_once_in_the_order_of_the_arguments() {
        let typed = ["b", "a", "b"].map(|name| name.parse().unwrap());
        let hosts = names(typed.to_vec()).unwrap();
        assert_eq!(hosts.iter().map(HostName::as_str).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!("-".parse(), Ok(HostArg::StandardInput));
    }
}
