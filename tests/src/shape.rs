//! The shapes of JSON that scripts rely on, kept in files.
//!
//! A file in `tests/golden/` has the form of what it describes, with words in place of values: `string`, `time`
//! (RFC 3339), `number`, `bool`, `null`, several with `|` between them. A list holds the shape of its elements;
//! `["any number", shape]` one that may be empty, `["or null", shape]` an object that may be missing, and the
//! key `*` stands for any keys. Every other key must be there, and no other may be: fields are added to the
//! file on purpose, and never taken away.

use crate::binaries::workspace;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Where the files are.
pub fn directory() -> PathBuf {
    workspace().join("tests/golden")
}

/// One shape, and which of its parts were met.
#[derive(Debug)]
pub struct Shape {
    name: String,
    shape: Value,
    met: RefCell<BTreeSet<String>>,
}

impl Shape {
    /// The shape in the file of this name.
    pub fn load(name: &str) -> Self {
        let path = directory().join(format!("{name}.json"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let shape = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { name: name.to_owned(), shape, met: RefCell::default() }
    }

    /// The value must have this shape.
    #[track_caller]
    pub fn check(&self, value: &Value) {
        let mut wrong = Vec::new();
        self.compare(&self.shape, value, "", &mut wrong);
        assert!(wrong.is_empty(), "{} is not of its shape:\n{}\n{value:#}", self.name, wrong.join("\n"));
    }

    /// Each of these values must have this shape, and there must be one.
    #[track_caller]
    pub fn check_all<'a>(&self, values: impl IntoIterator<Item = &'a Value>) {
        values.into_iter().for_each(|value| self.check(value));
    }

    /// Every part of the shape must have been met: a list that was always empty says nothing of its elements.
    #[track_caller]
    pub fn finish(self) {
        let mut all = BTreeSet::new();
        parts(&self.shape, "", &mut all);
        let met = self.met.into_inner();
        let missing: Vec<_> = all.difference(&met).collect();
        assert!(missing.is_empty(), "{}: never met: {missing:?}", self.name);
    }

    fn compare(&self, shape: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        self.met.borrow_mut().insert(at.to_owned());
        match (shape, value) {
            (Value::Object(shape), Value::Object(value)) => self.compare_objects(shape, value, at, wrong),
            (Value::Array(shape), value) => match (shape.as_slice(), value) {
                ([Value::String(word), _], Value::Null) if word == "or null" => {}
                ([Value::String(word), inner], value) if word == "or null" => {
                    self.compare(inner, value, &format!("{at}?"), wrong);
                }
                ([inner] | [Value::String(_), inner], Value::Array(values)) => {
                    let at = &format!("{at}[]");
                    values.iter().for_each(|value| self.compare(inner, value, at, wrong));
                }
                _ => wrong.push(format!("{at} is {value}, not a list")),
            },
            (Value::String(words), value) if words.split('|').any(|word| is(word, value)) => {}
            (shape, value) => wrong.push(format!("{at} is {value}, not {shape}")),
        }
    }

    fn compare_objects(
        &self,
        shape: &Map<String, Value>,
        value: &Map<String, Value>,
        at: &str,
        wrong: &mut Vec<String>,
    ) {
        if let Some(any) = shape.get("*") {
            let at = &format!("{at}.*");
            return value.values().for_each(|value| self.compare(any, value, at, wrong));
        }
        for (key, inner) in shape {
            match value.get(key) {
                Some(value) => self.compare(inner, value, &format!("{at}.{key}"), wrong),
                None => wrong.push(format!("{at}.{key} is missing")),
            }
        }
        let added = value.keys().filter(|key| !shape.contains_key(*key));
        wrong.extend(added.map(|key| format!("{at}.{key} is not in the file")));
    }
}

fn is(word: &str, value: &Value) -> bool {
    match word {
        "string" => value.is_string(),
        "time" => value.as_str().is_some_and(|text| text.len() >= 20 && text.ends_with('Z')),
        "number" => value.is_number(),
        "bool" => value.is_boolean(),
        "null" => value.is_null(),
        "object" => value.is_object(),
        "list" => value.is_array(),
        _ => panic!("{word:?} is no word of shapes"),
    }
}

/// The parts that have to be met.
fn parts(shape: &Value, at: &str, all: &mut BTreeSet<String>) {
    all.insert(at.to_owned());
    match shape {
        // A map may be empty.
        Value::Object(shape) => {
            let fixed = shape.iter().filter(|(key, _)| *key != "*");
            fixed.for_each(|(key, inner)| parts(inner, &format!("{at}.{key}"), all));
        }
        Value::Array(shape) => match shape.as_slice() {
            [Value::String(word), inner] if word == "or null" => parts(inner, &format!("{at}?"), all),
            [inner] => parts(inner, &format!("{at}[]"), all),
            // May be empty.
            _ => {}
        },
        _ => {}
    }
}
