//! The lab's commands, as they are written.

use echelon_core::duration::{self, DurationError};
use echelon_core::name::{HostName, ManagerType, NameError, quoted};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long `expect` waits where nothing else is said: three heartbeats of a silent agent, a failback
/// with the lab's hold and jitter, and some room, each fit.
pub const DEFAULT_WITHIN: Duration = Duration::from_secs(10);

/// Longest line that is read, in bytes: a command with three names of the greatest length fits.
pub const MAX_LINE: usize = 1024;

/// What the lab can be told to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Closes the managers of a host, or the one of a type, and cuts their connections.
    Down {
        /// The host.
        host: HostName,
        /// The type; all of the host's where there is none.
        ty: Option<ManagerType>,
    },
    /// Lets them serve again, whether they were down or hung.
    Up {
        /// The host.
        host: HostName,
        /// The type; all of the host's where there is none.
        ty: Option<ManagerType>,
    },
    /// Leaves the manager listening, but it neither accepts nor answers any more.
    Hang {
        /// The host.
        host: HostName,
        /// The type.
        ty: ManagerType,
    },
    /// Withdraws the manager in the registry.
    Withdraw {
        /// The host.
        host: HostName,
        /// The type.
        ty: ManagerType,
    },
    /// Lifts a withdrawal in the registry.
    Restore {
        /// The host.
        host: HostName,
        /// The type.
        ty: ManagerType,
    },
    /// Ends or starts the registry manager.
    Registry(Power),
    /// Ends or starts a host's agent.
    Agent(Power, HostName),
    /// Calls the manager of a type through a host's forwarder.
    Call {
        /// The calling host.
        host: HostName,
        /// The type.
        ty: ManagerType,
    },
    /// Waits until a host is served by a certain manager.
    Expect {
        /// The calling host.
        host: HostName,
        /// The type.
        ty: ManagerType,
        /// The manager's host.
        manager: HostName,
        /// How long to wait.
        within: Duration,
    },
    /// Shows who serves each host.
    Routes {
        /// The type.
        ty: ManagerType,
    },
    /// Says which commands there are.
    Help,
    /// Ends the lab.
    Quit,
}

/// Off or on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Power {
    /// Off.
    Down,
    /// On.
    Up,
}

/// Every command with its arguments, as they are written.
pub const USAGES: [(&str, &str); 12] = [
    ("down", "HOST [TYPE]"),
    ("up", "HOST [TYPE]"),
    ("hang", "HOST TYPE"),
    ("withdraw", "HOST TYPE"),
    ("restore", "HOST TYPE"),
    ("registry", "down|up"),
    ("agent", "down|up HOST"),
    ("call", "HOST TYPE"),
    ("expect", "HOST TYPE MANAGER [within 10s]"),
    ("routes", "TYPE"),
    ("help", ""),
    ("quit", ""),
];

/// Why a line is no command. Nothing was done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SyntaxError {
    /// More than [`MAX_LINE`].
    #[error("the line has {0} bytes: no command has more than {MAX_LINE}")]
    TooLong(usize),
    /// No command is called so.
    #[error("there is no command {}: use one of {}", quoted(.0), words())]
    Unknown(String),
    /// Other arguments than the command takes.
    #[error("{word} takes other arguments: write {word} {usage}")]
    Arguments {
        /// The command.
        word: &'static str,
        /// How it is written.
        usage: &'static str,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No duration.
    #[error("{} {source}", quoted(text))]
    Duration {
        /// What was written.
        text: String,
        /// What is wrong with it.
        source: DurationError,
    },
}

fn words() -> String {
    USAGES.map(|(word, _)| word).join(", ")
}

impl Command {
    /// The command on a line; none on one that is empty but for a comment, which begins with `#`.
    ///
    /// # Errors
    /// See [`SyntaxError`].
    pub fn on_line(line: &str) -> Result<Option<Self>, SyntaxError> {
        if line.len() > MAX_LINE {
            return Err(SyntaxError::TooLong(line.len()));
        }
        // No name has a `#` in it.
        let text = line.split('#').next().unwrap_or_default();
        if text.trim().is_empty() { Ok(None) } else { text.parse().map(Some) }
    }

    /// The hosts it names, and of which type each has to have a manager, if any.
    pub fn hosts(&self) -> Vec<(&HostName, Option<&ManagerType>)> {
        match self {
            Self::Down { host, ty } | Self::Up { host, ty } => vec![(host, ty.as_ref())],
            Self::Hang { host, ty } | Self::Withdraw { host, ty } | Self::Restore { host, ty } => {
                vec![(host, Some(ty))]
            }
            Self::Agent(_, host) | Self::Call { host, .. } => vec![(host, None)],
            Self::Expect { host, ty, manager, .. } => vec![(host, None), (manager, Some(ty))],
            Self::Registry(_) | Self::Routes { .. } | Self::Help | Self::Quit => Vec::new(),
        }
    }

    /// The type that somebody is to be routed to.
    pub fn routed_type(&self) -> Option<&ManagerType> {
        match self {
            Self::Call { ty, .. } | Self::Expect { ty, .. } | Self::Routes { ty } => Some(ty),
            _ => None,
        }
    }

    /// The word that it begins with.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Down { .. } => "down",
            Self::Up { .. } => "up",
            Self::Hang { .. } => "hang",
            Self::Withdraw { .. } => "withdraw",
            Self::Restore { .. } => "restore",
            Self::Registry(_) => "registry",
            Self::Agent(..) => "agent",
            Self::Call { .. } => "call",
            Self::Expect { .. } => "expect",
            Self::Routes { .. } => "routes",
            Self::Help => "help",
            Self::Quit => "quit",
        }
    }

    /// Whether it changes something that routes may follow.
    pub fn is_fault(&self) -> bool {
        !matches!(
            self,
            Self::Call { .. } | Self::Expect { .. } | Self::Routes { .. } | Self::Help | Self::Quit
        )
    }
}

impl FromStr for Command {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut parts = text.split_whitespace();
        let first = parts.next().unwrap_or_default();
        let rest: Vec<&str> = parts.collect();
        let known = USAGES.into_iter().find(|(word, _)| *word == first);
        let (word, usage) = known.ok_or_else(|| SyntaxError::Unknown(first.to_owned()))?;
        parse_arguments(word, &rest)?.ok_or(SyntaxError::Arguments { word, usage })
    }
}

/// The command, or none where its arguments are of another number or kind.
fn parse_arguments(word: &str, arguments: &[&str]) -> Result<Option<Command>, SyntaxError> {
    Ok(Some(match (word, arguments) {
        ("down", [host]) => Command::Down { host: host.parse()?, ty: None },
        ("down", [host, ty]) => Command::Down { host: host.parse()?, ty: Some(ty.parse()?) },
        ("up", [host]) => Command::Up { host: host.parse()?, ty: None },
        ("up", [host, ty]) => Command::Up { host: host.parse()?, ty: Some(ty.parse()?) },
        ("hang", [host, ty]) => Command::Hang { host: host.parse()?, ty: ty.parse()? },
        ("withdraw", [host, ty]) => Command::Withdraw { host: host.parse()?, ty: ty.parse()? },
        ("restore", [host, ty]) => Command::Restore { host: host.parse()?, ty: ty.parse()? },
        ("registry", ["down"]) => Command::Registry(Power::Down),
        ("registry", ["up"]) => Command::Registry(Power::Up),
        ("agent", ["down", host]) => Command::Agent(Power::Down, host.parse()?),
        ("agent", ["up", host]) => Command::Agent(Power::Up, host.parse()?),
        ("call", [host, ty]) => Command::Call { host: host.parse()?, ty: ty.parse()? },
        ("expect", [host, ty, manager]) => expect(host, ty, manager, DEFAULT_WITHIN)?,
        ("expect", [host, ty, manager, "within", time]) => expect(host, ty, manager, parse_time(time)?)?,
        ("routes", [ty]) => Command::Routes { ty: ty.parse()? },
        ("help", []) => Command::Help,
        ("quit", []) => Command::Quit,
        _ => return Ok(None),
    }))
}

fn expect(host: &str, ty: &str, manager: &str, within: Duration) -> Result<Command, SyntaxError> {
    Ok(Command::Expect { host: host.parse()?, ty: ty.parse()?, manager: manager.parse()?, within })
}

fn parse_time(text: &str) -> Result<Duration, SyntaxError> {
    duration::parse(text).map_err(|source| SyntaxError::Duration { text: text.to_owned(), source })
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word();
        match self {
            Self::Down { host, ty: None } | Self::Up { host, ty: None } => write!(f, "{word} {host}"),
            Self::Down { host, ty: Some(ty) } | Self::Up { host, ty: Some(ty) } => {
                write!(f, "{word} {host} {ty}")
            }
            Self::Hang { host, ty }
            | Self::Withdraw { host, ty }
            | Self::Restore { host, ty }
            | Self::Call { host, ty } => write!(f, "{word} {host} {ty}"),
            Self::Registry(power) => write!(f, "{word} {power}"),
            Self::Agent(power, host) => write!(f, "{word} {power} {host}"),
            Self::Expect { host, ty, manager, within } => {
                write!(f, "{word} {host} {ty} {manager}")?;
                if *within == DEFAULT_WITHIN {
                    return Ok(());
                }
                write!(f, " within {}", duration::print(*within))
            }
            Self::Routes { ty } => write!(f, "{word} {ty}"),
            Self::Help | Self::Quit => f.write_str(word),
        }
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Up => "up",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Command, SyntaxError> {
        Command::on_line(line).map(|command| command.expect("a command"))
    }

    #[test]
    fn every_command_prints_as_it_is_written() {
        for line in [
            "down agent3",
            "down agent3 command-control",
            "up agent3",
            "up agent3 command-control",
            "hang agent3 command-control",
            "withdraw agent3 command-control",
            "restore agent3 command-control",
            "registry down",
            "registry up",
            "agent down agent3",
            "agent up agent3",
            "call agent4 command-control",
            "expect agent4 command-control agent3",
            "expect agent4 command-control agent3 within 250ms",
            "routes command-control",
            "help",
            "quit",
        ] {
            assert_eq!(parse(line).unwrap().to_string(), line);
        }
    }

    #[test]
    fn space_and_comments_do_not_count() {
        assert_eq!(parse("\t up   a b # agent3's\r\n").unwrap().to_string(), "up a b");
        for line in ["", "  \t", "# a comment", "   # up a b"] {
            assert_eq!(Command::on_line(line), Ok(None), "{line:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (line, expected) in [
            ("dwon agent3", "there is no command \"dwon\": use one of down, up, hang"),
            ("hang agent3", "hang takes other arguments: write hang HOST TYPE"),
            ("registry off", "registry takes other arguments: write registry down|up"),
            ("expect a b c in 3s", "write expect HOST TYPE MANAGER [within 10s]"),
            ("expect a b c within 3", "\"3\" is no duration: write a whole number and one unit"),
            ("call Agent4 x", "host name \"Agent4\" has 'A' at position 1"),
            ("quit now", "quit takes other arguments: write quit"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let long = format!("call {} x", "a".repeat(2000));
        assert_eq!(Command::on_line(&long), Err(SyntaxError::TooLong(2007)));
    }

    proptest! {
        #[test]
        fn no_line_panics_and_what_is_taken_is_written_the_same_way_again(
            line in "((down|up|hang|call|expect|agent|registry|routes) )?[ a-z0-9#./é]{0,60}( within [0-9]{1,4}(ms|s|m))?"
        ) {
            if let Ok(Some(command)) = Command::on_line(&line) {
                prop_assert_eq!(Command::on_line(&command.to_string()), Ok(Some(command)));
            }
        }
    }
}
