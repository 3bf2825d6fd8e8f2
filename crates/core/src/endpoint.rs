//! Where something listens.

use crate::name::{HostName, NameError, NameProblem};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

/// An IP address, or a name that the connecting host resolves when it connects.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A name, resolved at each connect.
    Name(HostName),
}

impl FromStr for Address {
    type Err = NameError;
    fn from_str(value: &str) -> Result<Self, NameError> {
        if let Ok(ip) = value.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        value.parse().map(Self::Name).map_err(|e: NameError| NameError { what: "address", ..e })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = NameError;
    fn try_from(value: String) -> Result<Self, NameError> {
        value.parse()
    }
}

impl From<Address> for String {
    fn from(value: Address) -> String {
        value.to_string()
    }
}

/// An address and a port that is not 0, written `10.0.0.1:7000`, `[::1]:7000` or `db.example:7000`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port.
    pub port: NonZeroU16,
}

impl Endpoint {
    /// The socket address, where no name has to be resolved first.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.address {
            Address::Ip(ip) => Some(SocketAddr::new(ip, self.port.get())),
            Address::Name(_) => None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    /// A port of 0 becomes 1, which nothing listens on: callers pass addresses of bound sockets.
    fn from(addr: SocketAddr) -> Self {
        let port = NonZeroU16::new(addr.port()).unwrap_or(NonZeroU16::MIN);
        Self { address: Address::Ip(addr.ip()), port }
    }
}

impl FromStr for Endpoint {
    type Err = NameError;
    fn from_str(value: &str) -> Result<Self, NameError> {
        let fail = |problem| NameError::new("endpoint", value, problem);
        let (address, port) = value.rsplit_once(':').ok_or_else(|| fail(NameProblem::Endpoint))?;
        let address = match address.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(Some(v6)) => {
                Address::Ip(IpAddr::V6(v6.parse::<Ipv6Addr>().map_err(|_| fail(NameProblem::Endpoint))?))
            }
            Some(None) => return Err(fail(NameProblem::Endpoint)),
            None if address.contains(':') => return Err(fail(NameProblem::Endpoint)),
            None => address.parse().map_err(|_| fail(NameProblem::Endpoint))?,
        };
        // u16's own parser takes a leading '+', which no endpoint has.
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or_else(|| fail(NameProblem::Port))?;
        Ok(Self { address, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Ip(IpAddr::V6(ip)) => f.pad(&format!("[{ip}]:{}", self.port)),
            address => f.pad(&format!("{address}:{}", self.port)),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TryFrom<String> for Endpoint {
    type Error = NameError;
    fn try_from(value: String) -> Result<Self, NameError> {
        value.parse()
    }
}

impl From<Endpoint> for String {
    fn from(value: Endpoint) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_print_as_they_are_written() {
        for text in ["10.0.0.1:7000", "[::1]:7000", "db.example:1"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "7000",
            "10.0.0.1",
            "10.0.0.1:0",
            "10.0.0.1:+7",
            "10.0.0.1:65536",
            "::1:7000",
            "[::1:7",
            "a b:7",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?} was taken");
        }
    }
}
