//! What an edit changed, in the words of an operator: names in place of ids.

use crate::names::{Names, Side};
use crate::style;
use echelon_core::access::Subject;
use echelon_core::duration::print;
use echelon_core::package::{Check, CheckKind, Package};
use echelon_core::policy::Policy;
use echelon_core::registry::Registry;
use echelon_core::row::{Row, RowChange};
use echelon_core::time::UnixMillis;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// One changed object; its JSON is the shape that scripts rely on.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Changed {
    /// `domain`, `host`, `package`, `policy`, `token`, `identity`, `denial`, `registry`.
    pub(crate) kind: &'static str,
    /// Its path, name, `host:type`, `path:type` or id, as it is now, or was where it is gone.
    pub(crate) name: String,
    /// What it was; none for a new one.
    pub(crate) before: Option<Map<String, Value>>,
    /// What it is; none for one that is gone.
    pub(crate) after: Option<Map<String, Value>>,
}

/// What these row changes mean, given a registry from right before or after them, if it is at hand.
pub(crate) fn describe(changes: &[RowChange], registry: Option<&Registry>) -> Vec<Changed> {
    let before = Names::new(changes, Side::Before, registry);
    let after = Names::new(changes, Side::After, registry);
    let described = changes.iter().filter(|change| is_news(change)).map(|change| {
        let was = change.before.as_ref().map(|row| object(row, &before));
        let is = change.after.as_ref().map(|row| object(row, &after));
        let (kind, name) = match (&change.before, &change.after) {
            (_, Some(row)) => (kind(row), name(row, &after)),
            (Some(row), None) => (kind(row), name(row, &before)),
            (None, None) => ("registry", String::new()),
        };
        Changed { kind, name, before: was, after: is }
    });
    described.collect()
}

/// Counting up the ids given out is no news to an operator.
fn is_news(change: &RowChange) -> bool {
    match (&change.before, &change.after) {
        (Some(Row::Meta(was)), Some(Row::Meta(is))) => {
            (&was.framework, &was.trust) != (&is.framework, &is.trust)
        }
        (None, None) => false,
        _ => true,
    }
}

fn kind(row: &Row) -> &'static str {
    match row {
        Row::Meta(_) => "registry",
        Row::Domain(_) => "domain",
        Row::Host(_) => "host",
        Row::Package(_) => "package",
        Row::Policy(_) => "policy",
        Row::Identity(_) => "identity",
        Row::Denial(_) => "denial",
        Row::Token(_) => "token",
    }
}

fn name(row: &Row, names: &Names<'_>) -> String {
    match row {
        Row::Meta(meta) => meta.framework.to_string(),
        Row::Domain(d) => names.path(d.id),
        Row::Host(h) => h.name.to_string(),
        Row::Package(p) => format!("{}:{}", names.host_name(p.host), p.ty),
        Row::Policy(p) => format!("{}:{}", names.path(p.domain), p.ty),
        Row::Identity(i) => subject(&i.subject, names),
        Row::Denial(d) => subject(&d.subject, names),
        Row::Token(t) => t.id.to_string(),
    }
}

fn subject(subject: &Subject, names: &Names<'_>) -> String {
    match subject {
        Subject::Host(id) => names.host_name(*id),
        Subject::Console(name) => format!("console {name}"),
    }
}

fn object(row: &Row, names: &Names<'_>) -> Map<String, Value> {
    let value = match row {
        Row::Meta(m) => json!({"framework": m.framework, "roots": m.trust.len()}),
        Row::Domain(d) => json!({"path": names.path(d.id)}),
        Row::Host(h) => json!({"name": h.name, "domain": names.path(h.domain), "address": h.address}),
        Row::Package(p) => package(p, names),
        Row::Policy(p) => policy(p, names),
        Row::Identity(i) => json!({
            "subject": subject(&i.subject, names), "access": i.access, "enrolment": i.enrolment,
            "allow_types": i.allow_types, "enrolled": rfc3339(i.enrolled),
        }),
        Row::Denial(d) => json!({
            "subject": subject(&d.subject, names), "up_to_enrolment": d.up_to, "until": rfc3339(d.until),
        }),
        Row::Token(t) => json!({
            "id": t.id, "access": t.access, "host": t.host, "domain": names.path(t.domain),
            "allow_types": t.allow_types, "replace": t.replace, "expires": rfc3339(t.expires),
            "uses_left": t.uses_left,
        }),
    };
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn package(p: &Package, names: &Names<'_>) -> Value {
    let endpoint = names.host(p.host).and_then(|host| p.endpoint(&host.reached_at()));
    json!({
        "host": names.host_name(p.host), "type": p.ty, "endpoint": endpoint, "role": p.role,
        "priority": p.priority, "weight": p.weight,
        "state": if p.withdrawn.is_some() { "withdrawn" } else { "active" },
        "reason": p.withdrawn.as_ref().and_then(|w| w.reason.as_ref()),
        "version": p.version, "check": check(&p.check),
    })
}

fn check(check: &Check) -> Value {
    let mut object = match &check.kind {
        CheckKind::Connect => json!({"tcp": true}),
        CheckKind::Exchange { send, expect } => json!({"send": send, "expect": expect}),
    };
    object["interval"] = print(check.interval).into();
    object["timeout"] = print(check.timeout).into();
    object["misses"] = check.misses.into();
    object
}

fn policy(p: &Policy, names: &Names<'_>) -> Value {
    let s = &p.settings;
    let mut object = Map::new();
    object.insert("domain".into(), names.path(p.domain).into());
    object.insert("type".into(), p.ty.to_string().into());
    let words = [
        ("walk", s.walk.map(|v| json!(v))),
        ("boundary", s.boundary.map(|v| json!(v))),
        ("failback", s.failback.map(|v| json!(v))),
        ("failback_hold", s.failback_hold.map(|v| print(v).into())),
        ("failback_jitter", s.failback_jitter.map(|v| print(v).into())),
        ("connect_hedge", s.connect_hedge.map(|v| print(v).into())),
        ("connect_timeout", s.connect_timeout.map(|v| print(v).into())),
        ("drain_timeout", s.drain_timeout.map(|v| print(v).into())),
        ("evidence_ttl", s.evidence_ttl.map(|v| print(v).into())),
    ];
    object.extend(words.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    Value::Object(object)
}

/// A time as RFC 3339; the number itself where no calendar reaches it.
pub(crate) fn rfc3339(time: UnixMillis) -> String {
    let millis = i64::try_from(time.0).ok();
    let time_stamp = millis.and_then(|m| jiff::Timestamp::from_millisecond(m).ok());
    time_stamp.map_or_else(|| time.0.to_string(), |t| t.to_string())
}

impl Changed {
    /// One line for people: `+` new, `~` changed, `-` gone.
    pub(crate) fn line(&self) -> String {
        let (sign, style, what) = match (&self.before, &self.after) {
            (None, Some(is)) => ("+", style::GOOD, listed(is)),
            (Some(was), Some(is)) => ("~", style::ODD, difference(was, is)),
            (Some(_), None) => ("-", style::BAD, String::new()),
            (None, None) => (" ", style::DIM, String::new()),
        };
        let gap = if what.is_empty() { "" } else { "  " };
        format!("{style}{sign}{style:#} {} {}{gap}{what}", self.kind, self.name)
    }
}

/// Values that say no more than the object's name, or than what is usual.
fn is_plain(key: &str, value: &Value) -> bool {
    let named = matches!(key, "name" | "path" | "host" | "type" | "id" | "subject" | "check");
    let usual = match key {
        "priority" => *value == echelon_core::package::DEFAULT_PRIORITY,
        "weight" => *value == echelon_core::package::DEFAULT_WEIGHT,
        "state" => value == "active",
        _ => false,
    };
    named || usual || value.is_null() || *value == json!([]) || *value == json!(false)
}

fn listed(object: &Map<String, Value>) -> String {
    let shown = object.iter().filter(|(key, value)| !is_plain(key, value));
    shown.map(|(key, value)| format!("{key} {}", plain(value))).collect::<Vec<_>>().join(", ")
}

fn difference(was: &Map<String, Value>, is: &Map<String, Value>) -> String {
    let none = &Value::Null;
    let keys = is.keys().chain(was.keys().filter(|key| !is.contains_key(*key)));
    let pairs = keys.map(|key| (key, was.get(key).unwrap_or(none), is.get(key).unwrap_or(none)));
    let shown = pairs.filter(|(_, was, is)| was != is);
    shown.map(|(key, was, is)| format!("{key} {} → {}", plain(was), plain(is))).collect::<Vec<_>>().join(", ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::are_complete;
    use echelon_core::id::{DomainId, HostId};
    use echelon_core::row::{Domain, Host};

    fn host(name: &str, domain: u64) -> Row {
        let id = HostId(uuid::Uuid::from_u128(7));
        Row::Host(Host { id, name: name.parse().unwrap(), domain: DomainId(domain), address: None })
    }

    fn domain(id: u64, parent: u64, name: &str) -> Row {
        Row::Domain(Domain { id: DomainId(id), place: Some((DomainId(parent), name.parse().unwrap())) })
    }

    fn change(before: Option<Row>, after: Option<Row>) -> RowChange {
        let key = after.as_ref().or(before.as_ref()).unwrap().key();
        RowChange { key, before, after }
    }

    #[test]
    fn an_edit_has_the_shape_that_scripts_rely_on() {
        let changes = [
            change(None, Some(domain(1, 0, "sub1"))),
            change(None, Some(domain(2, 1, "sub1a"))),
            change(None, Some(host("agent3", 2))),
        ];
        assert!(are_complete(&changes));
        assert_eq!(
            serde_json::to_value(describe(&changes, None)).unwrap(),
            json!([
                {"kind": "domain", "name": "/sub1", "before": null, "after": {"path": "/sub1"}},
                {"kind": "domain", "name": "/sub1/sub1a", "before": null, "after": {"path": "/sub1/sub1a"}},
                {"kind": "host", "name": "agent3", "before": null,
                 "after": {"name": "agent3", "domain": "/sub1/sub1a", "address": null}},
            ])
        );
    }

    #[test]
    fn a_moved_domain_has_both_its_paths() {
        let changes = [
            change(Some(domain(1, 0, "a")), Some(domain(1, 0, "b"))),
            change(Some(domain(2, 1, "x")), Some(domain(2, 0, "x"))),
        ];
        let described = describe(&changes, None);
        let lines: Vec<_> =
            described.iter().map(|c| anstream::adapter::strip_str(&c.line()).to_string()).collect();
        assert_eq!(lines, ["~ domain /b  path /a → /b", "~ domain /x  path /a/x → /x"]);
    }

    #[test]
    fn what_is_gone_is_called_as_it_was_and_unknown_ids_are_no_panic() {
        let described = describe(&[change(Some(host("agent3", 9)), None)], None);
        assert_eq!((described[0].name.as_str(), &described[0].after), ("agent3", &None));
        assert_eq!(described[0].before.as_ref().unwrap()["domain"], "domain number 9");
        assert!(!are_complete(&[change(Some(host("agent3", 9)), None)]));
        let cycle = [change(None, Some(domain(1, 2, "a"))), change(None, Some(domain(2, 1, "b")))];
        assert!(describe(&cycle, None)[0].name.starts_with("domain number"));
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(UnixMillis(1_800_000_000_000)), "2027-01-15T08:00:00Z");
        assert_eq!(rfc3339(UnixMillis(u64::MAX)), u64::MAX.to_string());
    }
}
