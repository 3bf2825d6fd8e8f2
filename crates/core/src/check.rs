//! How packages are checked.

mod form;

use crate::limits::MAX_CHECK_BYTES;
use crate::name::{HttpHost, NameError, NameProblem, ServiceName, UrlPath};
use crate::package::NumberError;
pub use form::{CheckFault, CheckForm, GrpcForm};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a manager's own host finds out whether it works.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// What is done.
    pub kind: CheckKind,
    /// Time between two checks; 50 ms to 1 h.
    pub interval: Duration,
    /// How long one may take; 10 ms to 60 s.
    pub timeout: Duration,
    /// How many must fail in a row before the package counts as failed; 1 to 10.
    pub misses: u32,
}

/// What a check does.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// Connects. Proves reach only: the kernel accepts for a process that hangs.
    #[default]
    Connect,
    /// Connects, sends, and waits until the answer contains what is expected.
    Exchange {
        /// Sent after connecting; may be empty, for protocols in which the server speaks first.
        send: CheckText,
        /// Must appear in the answer.
        expect: CheckText,
    },
    /// Asks over plain HTTP/1.1. Redirects are not followed.
    Http {
        /// What is asked for.
        path: UrlPath,
        /// The status that passes; where there is none, all from 200 to 299.
        status: Option<HttpStatus>,
        /// The `Host` asked for; where there is none, the package's endpoint.
        host: Option<HttpHost>,
    },
    /// Asks by the gRPC health protocol (`grpc.health.v1.Health/Check`) over plain HTTP/2.
    Grpc {
        /// The service asked about; where there is none, the server as a whole.
        service: Option<ServiceName>,
    },
}

/// Text that a check sends or expects, at most [`MAX_CHECK_BYTES`] bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckText(String);

impl CheckText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CheckText {
    type Error = NameError;
    fn try_from(value: String) -> Result<Self, NameError> {
        match value.len() {
            0..=MAX_CHECK_BYTES => Ok(Self(value)),
            length => {
                let problem = NameProblem::TooLong { length, most: MAX_CHECK_BYTES };
                Err(NameError::new("check text", &value, problem))
            }
        }
    }
}

impl From<CheckText> for String {
    fn from(value: CheckText) -> String {
        value.0
    }
}

/// The status of an HTTP answer, 200 to 599.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct HttpStatus(u16);

impl HttpStatus {
    /// The least and the greatest that end an exchange (RFC 9110, section 15); those below 200 only precede
    /// another.
    pub const RANGE: (u32, u32) = (200, 599);

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u32> for HttpStatus {
    type Error = NumberError;
    fn try_from(value: u32) -> Result<Self, NumberError> {
        let (least, most) = Self::RANGE;
        NumberError::check("status", value.into(), least.into(), most.into())?;
        Ok(Self(u16::try_from(value).unwrap_or(u16::MAX)))
    }
}

impl From<HttpStatus> for u32 {
    fn from(status: HttpStatus) -> u32 {
        status.0.into()
    }
}

impl CheckKind {
    /// Whether a pass proves more than reach.
    pub fn demands_answer(&self) -> bool {
        !matches!(self, Self::Connect)
    }
}

impl Default for Check {
    /// A connect every 2 s, within 1 s, two misses: a plain check only adds to what callers see themselves.
    fn default() -> Self {
        Self::of(CheckKind::Connect)
    }
}

impl Check {
    /// The check of this kind with its default interval, timeout and misses.
    ///
    /// A check that demands an answer is asked for by someone who wants a hang noticed soon: 500 ms,
    /// 500 ms, 2 misses.
    pub fn of(kind: CheckKind) -> Self {
        let interval = match kind.demands_answer() {
            true => Duration::from_millis(500),
            false => Duration::from_secs(2),
        };
        Self::every(interval, kind)
    }

    /// The check of this kind at this interval, with its default timeout and misses. Whoever wants an answer more
    /// often than every 500 ms wants it as soon, too.
    pub fn every(interval: Duration, kind: CheckKind) -> Self {
        let timeout = match kind.demands_answer() {
            true => interval.min(Duration::from_millis(500)),
            false => Duration::from_secs(1),
        };
        Self { kind, interval, timeout, misses: 2 }
    }

    /// Time from a miss to the next check, both counted from their beginnings, as long as no verdict has been reached:
    /// as soon as the answer was due, so that misses cost their timeouts and not as many intervals.
    pub fn after_miss(interval: Duration, timeout: Duration) -> Duration {
        interval.min(timeout)
    }

    /// Refuses times and counts outside their ranges.
    ///
    /// # Errors
    /// Names the first number that is out of range, durations in milliseconds.
    pub fn validate(&self) -> Result<(), NumberError> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        NumberError::check("check interval in ms", millis(self.interval), 50, 3_600_000)?;
        NumberError::check("check timeout in ms", millis(self.timeout), 10, 60_000)?;
        NumberError::check("check misses", self.misses.into(), 1, 10)
    }
}
