//! Changed objects for people, a line each.

use crate::style;
use echelon_core::describe::Changed;
use serde_json::{Map, Value, json};

/// One line for people: `+` new, `~` changed, `-` gone.
pub(crate) fn line(changed: &Changed) -> String {
    let (sign, style, what) = match (&changed.before, &changed.after) {
        (None, Some(is)) => ("+", style::GOOD, listed(is)),
        (Some(was), Some(is)) => ("~", style::ODD, difference(was, is)),
        (Some(_), None) => ("-", style::BAD, String::new()),
        (None, None) => (" ", style::DIM, String::new()),
    };
    let gap = if what.is_empty() { "" } else { "  " };
    format!("{style}{sign}{style:#} {} {}{gap}{what}", changed.kind, changed.name)
}

/// Values that say no more than the object's name, or than what is usual.
fn is_plain(key: &str, value: &Value) -> bool {
    let named = matches!(key, "name" | "path" | "host" | "type" | "id" | "subject" | "check" | "fencing");
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
        // Of a drain.
        Value::Object(object) => listed(object),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "none".into(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(before: Value, after: Value) -> String {
        let object = |value: Value| value.as_object().cloned();
        let (before, after) = (object(before), object(after));
        let changed = Changed { kind: "domain".into(), name: "/b".into(), before, after };
        anstream::adapter::strip_str(&line(&changed)).to_string()
    }

    #[test]
    fn a_line_says_what_is_new_changed_or_gone() {
        assert_eq!(shown(json!({"path": "/a"}), json!({"path": "/b"})), "~ domain /b  path /a → /b");
        assert_eq!(shown(Value::Null, json!({"path": "/b", "address": "::1"})), "+ domain /b  address ::1");
        assert_eq!(shown(json!({"path": "/b"}), Value::Null), "- domain /b");
        let lists = shown(json!({"sync_members": ["a", "b"]}), json!({"sync_members": []}));
        assert_eq!(lists, "~ domain /b  sync_members a, b → none");
    }
}
