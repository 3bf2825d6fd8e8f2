//! Who somebody is, as a SPIFFE URI.

use crate::lifetime;
use echelon_core::access::Subject;
use echelon_core::id::HostId;
use echelon_core::name::{ConsoleName, FrameworkName, NameError};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Most bytes of a SPIFFE URI: the standard's limit (SPIFFE-ID, section 2.3). Ours are far shorter.
pub const MAX_URI: usize = 2048;

const SCHEME: &str = "spiffe://";

/// Why a text is no identity of this system. A retry is pointless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Not of the form that is used here.
    #[error("this is no identity; expected spiffe://FRAMEWORK/ and then host/ID, manager/ID or console/NAME")]
    Form,
    /// The framework, the host id or the console name is none.
    #[error("part of this identity is not valid")]
    Part(#[source] NameError),
}

/// What kind of party somebody is, and which one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Spiffe {
    /// The agent of this host.
    Host(HostId),
    /// The registry manager on this host.
    Manager(HostId),
    /// This console.
    Console(ConsoleName),
}

impl Spiffe {
    /// How long a certificate for such a party lives.
    pub fn lifetime(&self) -> Duration {
        match self {
            Self::Host(_) => lifetime::HOST,
            Self::Manager(_) => lifetime::MANAGER,
            Self::Console(_) => lifetime::CONSOLE,
        }
    }
}

impl From<&Spiffe> for Subject {
    /// Under what the registry keeps this party: a manager shares its host's identity.
    fn from(party: &Spiffe) -> Self {
        match party {
            Spiffe::Host(id) | Spiffe::Manager(id) => Self::Host(*id),
            Spiffe::Console(name) => Self::Console(name.clone()),
        }
    }
}

impl fmt::Display for Spiffe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(id) => write!(f, "host/{id}"),
            Self::Manager(id) => write!(f, "manager/{id}"),
            Self::Console(name) => write!(f, "console/{name}"),
        }
    }
}

/// A party of one framework: `spiffe://FRAMEWORK/host/ID`, `…/manager/ID` or `…/console/NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpiffeId {
    /// The framework, which is the trust domain.
    pub framework: FrameworkName,
    /// The party.
    pub subject: Spiffe,
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;
    fn from_str(uri: &str) -> Result<Self, SpiffeError> {
        let (framework, path) = split(uri)?;
        let (kind, id) = path.split_once('/').ok_or(SpiffeError::Form)?;
        let framework = framework.parse().map_err(SpiffeError::Part)?;
        let subject = match kind {
            "host" => Spiffe::Host(host_id(id)?),
            "manager" => Spiffe::Manager(host_id(id)?),
            "console" => Spiffe::Console(id.parse().map_err(SpiffeError::Part)?),
            _ => return Err(SpiffeError::Form),
        };
        Ok(Self { framework, subject })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.framework, self.subject)
    }
}

/// The URI of a signing certificate: the framework alone (X509-SVID, section 3.2: no path).
pub(crate) fn authority_uri(framework: &FrameworkName) -> String {
    format!("{SCHEME}{framework}")
}

/// Reads [`authority_uri`].
pub(crate) fn parse_authority_uri(uri: &str) -> Result<FrameworkName, SpiffeError> {
    uri.strip_prefix(SCHEME).ok_or(SpiffeError::Form)?.parse().map_err(SpiffeError::Part)
}

fn split(uri: &str) -> Result<(&str, &str), SpiffeError> {
    if uri.len() > MAX_URI {
        return Err(SpiffeError::Form);
    }
    uri.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).ok_or(SpiffeError::Form)
}

/// A host id in its one written form; others that a UUID parser takes would be a second name for it.
fn host_id(text: &str) -> Result<HostId, SpiffeError> {
    let id: HostId = text.parse().map_err(SpiffeError::Part)?;
    if id.to_string() == text { Ok(id) } else { Err(SpiffeError::Form) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

    #[test]
    fn identities_print_as_they_are_written() {
        for path in [&format!("host/{ID}"), &format!("manager/{ID}"), "console/anna"] {
            let uri = format!("spiffe://acme/{path}");
            assert_eq!(uri.parse::<SpiffeId>().unwrap().to_string(), uri);
        }
    }

    #[test]
    fn what_only_looks_like_an_identity_is_refused() {
        let upper = format!("spiffe://acme/host/{}", ID.to_uppercase());
        let simple = format!("spiffe://acme/host/{}", ID.replace('-', ""));
        let deeper = format!("spiffe://acme/host/{ID}/x");
        let long = format!("spiffe://acme/console/{}", "a".repeat(MAX_URI));
        for bad in [
            "",
            "spiffe://",
            "spiffe://acme",
            "spiffe://acme/",
            "spiffe://acme/host",
            "spiffe://acme/host/",
            "spiffe:///host/x",
            "https://acme/console/anna",
            "SPIFFE://acme/console/anna",
            "spiffe://Acme/console/anna",
            "spiffe://acme/root/anna",
            "spiffe://acme/console/anna?x",
            &upper,
            &simple,
            &deeper,
            &long,
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_is_taken_prints_as_it_was(
            uri in "(spiffe://)?[a-z.%/]{0,12}/(host|manager|console|.{0,4})/[-0-9a-f]{0,40}.{0,3}",
        ) {
            if let Ok(id) = uri.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), uri);
            }
        }
    }
}
