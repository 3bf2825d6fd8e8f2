//! What a host announces of a package, as its programs write it.

use crate::document::Node;
use crate::fault::{Fault, TopologyError};
use crate::json;
use crate::problems::alone;
use crate::read::{Reader, decode};
use echelon_core::announce::AnnouncedSpec;
use std::num::NonZeroU16;

/// The keys that a host may announce.
const KEYS: &[&str] = &["port", "version", "check"];

/// The keys of a package in a file that are the operator's alone.
const OPERATORS: &[&str] = &["endpoint", "priority", "weight", "role", "state"];

const ANNOUNCEMENT: &str = "a table: { \"port\": 7000 }";

/// Reads `{"port": 7000, "version": "1.4.2", "check": {"tcp": true}}`, in which every key may be left out, with the
/// check as in a topology file; nothing at all says the same as `{}`. `what` is what the caller calls it, for
/// errors.
///
/// # Errors
/// The first fault of the syntax; or else everything that is wrong. [`Fault::OperatorsKey`] is among it where the
/// host asks for what is the operator's.
pub fn parse_announced(what: &str, input: &[u8]) -> Result<AnnouncedSpec, TopologyError> {
    let text = decode(what, input)?;
    if text.trim().is_empty() {
        return Ok(AnnouncedSpec::default());
    }
    let document = json::read(text).map_err(|(at, fault)| alone(what, text.as_bytes(), at, fault))?;
    let mut reader = Reader::new(text);
    let spec = reader.announced(&document);
    reader.problems.finish(what)?;
    Ok(spec)
}

impl Reader<'_> {
    fn announced(&mut self, node: &Node<'_>) -> AnnouncedSpec {
        let mut spec = AnnouncedSpec::default();
        let entries = self.problems.table("the announcement", node, ANNOUNCEMENT).unwrap_or_default();
        for entry in entries {
            let (node, problems) = (&entry.node, &mut self.problems);
            match &*entry.key {
                "port" => {
                    let port = problems.number("port", node, (1, u16::MAX.into()));
                    spec.port = port.and_then(|p| u16::try_from(p).ok()).and_then(NonZeroU16::new);
                }
                "version" => spec.version = problems.name("version", node),
                "check" => spec.check = self.check(node),
                key => match OPERATORS.iter().find(|own| **own == key) {
                    Some(key) => {
                        let _: Option<()> = problems.note(entry.at, Fault::OperatorsKey { key });
                    }
                    None => problems.unknown_key(entry, "the announcement", KEYS),
                },
            }
        }
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::check::{Check, CheckKind};
    use std::time::Duration;

    fn read(text: &str) -> Result<AnnouncedSpec, TopologyError> {
        parse_announced("body", text.as_bytes())
    }

    #[test]
    fn a_host_says_port_version_and_check_or_less() {
        let spec = read(r#"{"port":7000,"version":"1.2","check":{"tcp":true,"interval":"5s"}}"#).unwrap();
        assert_eq!((spec.port, spec.version), (NonZeroU16::new(7000), Some("1.2".parse().unwrap())));
        let check = Check { interval: Duration::from_secs(5), ..Check::of(CheckKind::Connect) };
        assert_eq!(spec.check, Some(check));
        for nothing in ["", " \n", "{}"] {
            assert_eq!(read(nothing).unwrap(), AnnouncedSpec::default());
        }
    }

    #[test]
    fn what_is_the_operators_is_told_apart_from_what_nobody_knows() {
        for key in OPERATORS {
            let error = read(&format!("{{\"{key}\": 1}}")).unwrap_err();
            assert!(matches!(error.problems[0].fault, Fault::OperatorsKey { .. }), "{error}");
            assert!(error.to_string().contains(&format!("{key} is not for a host to announce")), "{error}");
        }
        let error = read("{\"prot\": 7000}").unwrap_err().to_string();
        assert!(error.starts_with("body:1:2: unknown key \"prot\"") && error.contains("port"), "{error}");
        for bad in ["{\"port\":0}", "{\"port\":70000}", "{\"port\":\"7000\"}", "[]", "{\"port\":7000", "7"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let commands = read(r#"{"check":{"exec":["rm","-rf","/"]}}"#).unwrap_err().to_string();
        assert!(commands.contains("exec"), "{commands}");
    }
}
