//! What an edit changed, in the words of an operator: names in place of ids.

use crate::access::Subject;
use crate::check::{Check, CheckForm};
use crate::name::Text;
use crate::names::{Known, Names, Side};
use crate::package::Package;
use crate::policy::{Policy, PolicySettings};
use crate::registry::Registry;
use crate::row::{Drain, Row, RowChange};
use crate::setting::Setting;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One changed object; its JSON is the shape that scripts rely on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// `domain`, `host`, `package`, `policy`, `token`, `identity`, `denial`, `issuer`, `registry`.
    pub kind: String,
    /// Its path, name, `host:type`, `path:type` or id, as it is now, or was where it is gone.
    pub name: String,
    /// What it was; none for a new one.
    pub before: Option<Map<String, Value>>,
    /// What it is; none for one that is gone.
    pub after: Option<Map<String, Value>>,
}

/// What these row changes mean, given what else was known right before or after them, if it is at hand.
/// Secrets, and hashes of them, are left out.
pub fn describe(changes: &[RowChange], known: Option<&dyn Known>) -> Vec<Changed> {
    let before = Names::new(changes, Side::Before, known);
    let after = Names::new(changes, Side::After, known);
    let described = changes.iter().filter(|change| is_news(change)).map(|change| {
        let was = change.before.as_ref().map(|row| object(row, &before));
        let is = change.after.as_ref().map(|row| object(row, &after));
        let (kind, name) = match (&change.before, &change.after) {
            (_, Some(row)) => (kind(row), name(row, &after)),
            (Some(row), None) => (kind(row), name(row, &before)),
            (None, None) => ("registry", String::new()),
        };
        Changed { kind: kind.to_owned(), name, before: was, after: is }
    });
    described.collect()
}

/// Counting up the ids given out is no news to an operator.
fn is_news(change: &RowChange) -> bool {
    match (&change.before, &change.after) {
        (Some(Row::Meta(was)), Some(Row::Meta(is))) => {
            (&was.framework, &was.trust, &was.sync) != (&is.framework, &is.trust, &is.sync)
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
        Row::Issuer(_) => "issuer",
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
        Row::Issuer(i) => format!("manager {}", names.host_name(i.host)),
    }
}

/// Whose identity it is, for people.
pub(crate) fn subject(subject: &Subject, names: &Names<'_>) -> String {
    match subject {
        Subject::Host(id) => names.host_name(*id),
        Subject::Console(name) => format!("console {name}"),
        Subject::Manager(id) => format!("manager {}", names.host_name(*id)),
    }
}

fn object(row: &Row, names: &Names<'_>) -> Map<String, Value> {
    let value = match row {
        Row::Meta(m) => json!({
            "framework": m.framework, "roots": m.trust.len(), "min_sync": m.sync.min_sync,
            "sync_members": m.sync.members.iter().map(|id| names.host_name(*id)).collect::<Vec<_>>(),
        }),
        Row::Domain(d) => json!({"path": names.path(d.id)}),
        Row::Host(h) => json!({
            "name": h.name, "domain": names.path(h.domain), "address": h.address,
            "drained": h.drained.as_ref().map(DrainReport::from),
        }),
        Row::Package(p) => package(p, names),
        Row::Policy(p) => policy(p, names),
        Row::Identity(i) => json!({
            "subject": subject(&i.subject, names), "access": i.access, "enrolment": i.enrolment,
            "allow_types": i.allow_types, "enrolled": i.enrolled.to_string(),
        }),
        Row::Denial(d) => json!({
            "subject": subject(&d.subject, names), "up_to_enrolment": d.up_to, "until": d.until.to_string(),
        }),
        Row::Token(t) => json!({
            "id": t.id, "access": t.access, "host": t.host, "domain": names.path(t.domain),
            "allow_types": t.allow_types, "replace": t.replace, "expires": t.expires.to_string(),
            "uses_left": t.uses_left,
        }),
        Row::Issuer(i) => json!({
            "host": names.host_name(i.host), "not_after": i.not_after.to_string(),
            "renew_only": i.renew_only.map(|until| until.to_string()), "dropped": i.dropped,
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
        "host": names.host_name(p.host), "type": p.ty, "endpoint": endpoint, "role": p.role, "fencing": p.fencing,
        "priority": p.priority, "weight": p.weight,
        "state": if p.is_withdrawn() { "withdrawn" } else { "active" },
        "reason": p.withdrawn.as_ref().and_then(|w| w.reason.as_ref()),
        "version": p.version, "check": check(&p.check),
        "announced": p.is_announced(), "withdrawn_by_host": p.is_withdrawn_by_host(),
    })
}

fn check(check: &Check) -> Value {
    json!(CheckForm::of(check))
}

/// A policy of this registry.
pub fn describe_policy(p: &Policy, registry: &Registry) -> Map<String, Value> {
    object(&Row::Policy(p.clone()), &Names::new(&[], Side::After, Some(registry)))
}

fn policy(p: &Policy, names: &Names<'_>) -> Value {
    let mut object = settings(&p.settings);
    object.insert("domain".into(), names.path(p.domain).into());
    object.insert("type".into(), p.ty.to_string().into());
    Value::Object(object)
}

/// The settings of a policy as JSON, by their names.
pub fn settings(settings: &PolicySettings) -> Map<String, Value> {
    let values = settings.texts().map(|(setting, text)| match setting {
        Setting::Boundary => (setting.to_string(), Value::Bool(text == "true")),
        Setting::Probe => (setting.to_string(), serde_json::from_str(&text).unwrap_or(Value::String(text))),
        _ => (setting.to_string(), Value::String(text)),
    });
    values.collect()
}

/// How a host is drained; its JSON is what scripts rely on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DrainReport {
    /// When it ends by itself, RFC 3339; none where it does not.
    pub until: Option<String>,
    /// Why.
    pub reason: Option<Text>,
}

impl From<&Drain> for DrainReport {
    fn from(drain: &Drain) -> Self {
        Self { until: drain.until.map(|until| until.to_string()), reason: drain.reason.clone() }
    }
}

impl std::fmt::Display for DrainReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.until {
            Some(until) => write!(f, "until {until}")?,
            None => f.write_str("until resumed")?,
        }
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DomainId, HostId};
    use crate::names::are_complete;
    use crate::row::{Domain, Host};

    fn host(name: &str, domain: u64) -> Row {
        let id = HostId(uuid::Uuid::from_u128(7));
        Row::Host(Host {
            id,
            name: name.parse().unwrap(),
            domain: DomainId(domain),
            address: None,
            drained: None,
        })
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
                 "after": {"name": "agent3", "domain": "/sub1/sub1a", "address": null, "drained": null}},
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
        let paths = |c: &Changed| {
            (c.before.as_ref().unwrap()["path"].clone(), c.after.as_ref().unwrap()["path"].clone())
        };
        assert_eq!(paths(&described[0]), ("/a".into(), "/b".into()));
        assert_eq!((described[1].name.as_str(), paths(&described[1])), ("/x", ("/a/x".into(), "/x".into())));
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
}
