//! A check as it is written: in topology files, in settings, in announcements, in JSON.

use crate::check::{Check, CheckKind, CheckText, HttpStatus};
use crate::duration;
use crate::name::{HttpHost, ServiceName, UrlPath};
use crate::package::NumberError;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// The keys of a check; those that are left out take their defaults. `tcp` is the kind where none is named.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckForm {
    /// Connects, and exchanges texts where there is an `expect`. Only `true` makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<bool>,
    /// See [`CheckKind::Exchange`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<CheckText>,
    /// See [`CheckKind::Exchange`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<CheckText>,
    /// The path of [`CheckKind::Http`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<UrlPath>,
    /// See [`CheckKind::Http`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<HttpStatus>,
    /// See [`CheckKind::Http`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HttpHost>,
    /// The service of [`CheckKind::Grpc`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcForm>,
    /// Time between two checks, as in `2s`.
    #[serde(skip_serializing_if = "Option::is_none", with = "as_text")]
    pub interval: Option<Duration>,
    /// How long one may take, as in `500ms`.
    #[serde(skip_serializing_if = "Option::is_none", with = "as_text")]
    pub timeout: Option<Duration>,
    /// How many must fail in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misses: Option<u32>,
}

/// What `grpc` is set to: `true` for the server as a whole, or the name of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GrpcForm {
    /// `true`, or a `false` that makes no sense.
    Server(bool),
    /// A service.
    Service(ServiceName),
}

/// Keys that make no check. Nothing was changed; a retry is pointless.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckFault {
    /// `tcp` or `grpc` is `false`.
    #[error("{0} is false: a check cannot be switched off; write {0} = true, or leave check out")]
    Off(&'static str),
    /// Two kinds in one check.
    #[error("check has both {first} and {second}: keep one of them, a check is of one kind")]
    TwoKinds {
        /// The one.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A key that another kind of check has.
    #[error("check has {key}, which belongs to {kind}: remove it, or make it a check by {kind}")]
    Misplaced {
        /// The key.
        key: &'static str,
        /// The kind that has it.
        kind: &'static str,
    },
    /// `send` without `expect`.
    #[error("check has send but no expect: add expect, the text that the answer must contain")]
    SendAlone,
    /// A time or a count out of its range.
    #[error(transparent)]
    Number(#[from] NumberError),
}

impl CheckFault {
    /// The key at fault; none where it is the check as a whole.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::Off(key) | Self::Misplaced { key, .. } | Self::TwoKinds { second: key, .. } => Some(key),
            Self::SendAlone | Self::Number(_) => None,
        }
    }
}

impl CheckForm {
    /// All keys of a check, those too that are the default of its kind.
    pub fn of(check: &Check) -> Self {
        let times = Self {
            interval: Some(check.interval),
            timeout: Some(check.timeout),
            misses: Some(check.misses),
            ..Self::default()
        };
        match check.kind.clone() {
            CheckKind::Connect => Self { tcp: Some(true), ..times },
            CheckKind::Exchange { send, expect } => {
                let send = Some(send).filter(|s| !s.as_str().is_empty());
                Self { tcp: Some(true), send, expect: Some(expect), ..times }
            }
            CheckKind::Http { path, status, host } => Self { http: Some(path), status, host, ..times },
            CheckKind::Grpc { service } => {
                let grpc = service.map_or(GrpcForm::Server(true), GrpcForm::Service);
                Self { grpc: Some(grpc), ..times }
            }
        }
    }

    /// The keys of a check without those that are the default of its kind.
    pub fn shortest(check: &Check) -> Self {
        let (all, usual) = (Self::of(check), Check::of(check.kind.clone()).interval);
        let default = Check::every(check.interval, check.kind.clone());
        Self {
            interval: all.interval.filter(|i| *i != usual),
            timeout: all.timeout.filter(|t| *t != default.timeout),
            misses: all.misses.filter(|m| *m != default.misses),
            ..all
        }
    }

    /// The check that these keys make.
    ///
    /// # Errors
    /// [`CheckFault`].
    pub fn check(self) -> Result<Check, CheckFault> {
        let (interval, timeout, misses) = (self.interval, self.timeout, self.misses);
        let default = match (interval, self.kind()?) {
            (Some(interval), kind) => Check::every(interval, kind),
            (None, kind) => Check::of(kind),
        };
        let check = Check {
            timeout: timeout.unwrap_or(default.timeout),
            misses: misses.unwrap_or(default.misses),
            ..default
        };
        check.validate()?;
        Ok(check)
    }

    fn kind(self) -> Result<CheckKind, CheckFault> {
        self.one_kind()?;
        match (self.http, self.grpc) {
            (Some(path), _) => Ok(CheckKind::Http { path, status: self.status, host: self.host }),
            (_, Some(GrpcForm::Server(true))) => Ok(CheckKind::Grpc { service: None }),
            (_, Some(GrpcForm::Server(false))) => Err(CheckFault::Off("grpc")),
            (_, Some(GrpcForm::Service(service))) => Ok(CheckKind::Grpc { service: Some(service) }),
            (None, None) => match (self.send, self.expect) {
                _ if self.tcp == Some(false) => Err(CheckFault::Off("tcp")),
                (None, None) => Ok(CheckKind::Connect),
                (Some(_), None) => Err(CheckFault::SendAlone),
                (send, Some(expect)) => Ok(CheckKind::Exchange { send: send.unwrap_or_default(), expect }),
            },
        }
    }

    /// Refuses more than one kind, and keys of another one.
    fn one_kind(&self) -> Result<(), CheckFault> {
        let named =
            [("tcp", self.tcp.is_some()), ("http", self.http.is_some()), ("grpc", self.grpc.is_some())];
        let mut named = named.into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind);
        let kind = named.next().unwrap_or("tcp");
        if let Some(second) = named.next() {
            return Err(CheckFault::TwoKinds { first: kind, second });
        }
        let keys = [
            ("send", self.send.is_some(), "tcp"),
            ("expect", self.expect.is_some(), "tcp"),
            ("status", self.status.is_some(), "http"),
            ("host", self.host.is_some(), "http"),
        ];
        match keys.into_iter().find(|(_, is, of)| *is && *of != kind) {
            Some((key, _, kind)) => Err(CheckFault::Misplaced { key, kind }),
            None => Ok(()),
        }
    }
}

impl Serialize for GrpcForm {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Server(flag) => to.serialize_bool(*flag),
            Self::Service(name) => to.serialize_str(name.as_str()),
        }
    }
}

impl<'de> Deserialize<'de> for GrpcForm {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct FlagOrName;
        impl Visitor<'_> for FlagOrName {
            type Value = GrpcForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, or the name of a service in quotes")
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<GrpcForm, E> {
                Ok(GrpcForm::Server(flag))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<GrpcForm, E> {
                name.parse().map(GrpcForm::Service).map_err(E::custom)
            }
        }
        from.deserialize_any(FlagOrName)
    }
}

/// Durations as people write them.
mod as_text {
    use super::{Deserialize, Deserializer, Duration, Serializer, de, duration};

    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_str(&duration::print(*time)),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let parse = |text: String| {
            let found = crate::name::quoted(&text);
            duration::parse(&text).map_err(|e| de::Error::custom(format!("{found} {e}")))
        };
        text.map(parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Check, String> {
        let form: CheckForm = serde_json::from_str(json).map_err(|e| e.to_string())?;
        form.check().map_err(|e| e.to_string())
    }

    #[test]
    fn each_kind_is_named_by_its_key_and_has_its_own_defaults() {
        let millis = |check: &Check| (check.interval.as_millis(), check.timeout.as_millis(), check.misses);
        for (json, kind, times) in [
            ("{}", "connect", (2000, 1000, 2)),
            (r#"{"tcp":true,"interval":"5s"}"#, "connect", (5000, 1000, 2)),
            (r#"{"expect":"+OK"}"#, "exchange", (500, 500, 2)),
            (r#"{"http":"/healthz","timeout":"1s"}"#, "http", (500, 1000, 2)),
            (r#"{"http":"/","interval":"50ms"}"#, "http", (50, 50, 2)),
            (r#"{"http":"/","interval":"50ms","timeout":"500ms"}"#, "http", (50, 500, 2)),
            (r#"{"http":"/","interval":"5s"}"#, "http", (5000, 500, 2)),
            (r#"{"http":"/","status":204,"host":"a.b:1"}"#, "http", (500, 500, 2)),
            (r#"{"grpc":true,"misses":1}"#, "grpc", (500, 500, 1)),
            (r#"{"grpc":"acme.Control"}"#, "grpc", (500, 500, 2)),
        ] {
            let check = read(json).unwrap();
            let text = serde_json::to_string(&check.kind).unwrap();
            assert!(text.contains(kind), "{json}: {text}");
            assert_eq!(millis(&check), times, "{json}");
            assert_eq!(check.kind.demands_answer(), kind != "connect");
            for form in [CheckForm::of(&check), CheckForm::shortest(&check)] {
                let again = serde_json::to_string(&form).unwrap();
                assert_eq!(read(&again), Ok(check.clone()), "{again}");
            }
        }
    }

    #[test]
    fn keys_that_make_no_check_are_refused_with_a_way_out() {
        for (json, words) in [
            (r#"{"tcp":false}"#, "tcp is false: a check cannot be switched off"),
            (r#"{"grpc":false}"#, "grpc is false: a check cannot be switched off"),
            (r#"{"tcp":true,"http":"/"}"#, "check has both tcp and http: keep one"),
            (r#"{"grpc":true,"http":"/"}"#, "check has both http and grpc: keep one"),
            (r#"{"http":"/","expect":"a"}"#, "check has expect, which belongs to tcp"),
            (r#"{"grpc":true,"status":200}"#, "check has status, which belongs to http"),
            (r#"{"host":"a"}"#, "check has host, which belongs to http"),
            (r#"{"send":"a"}"#, "check has send but no expect"),
            (r#"{"http":"healthz"}"#, "is not the path of a URL"),
            (r#"{"http":"/","status":99}"#, "status 99 is out of range: use 200 to 599"),
            (r#"{"grpc":1}"#, "expected true, or the name of a service in quotes"),
            (r#"{"interval":"soon"}"#, "\"soon\" is no duration: write"),
            (r#"{"interval":"1ms"}"#, "check interval in ms 1 is out of range: use 50 to 3600000"),
            (r#"{"exec":["/bin/true"]}"#, "unknown field `exec`"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
