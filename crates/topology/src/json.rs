//! JSON as a document.
//!
//! serde_json says whether the text is JSON at all, and decodes the scalars; what it does not tell is
//! where a value stands, and that is found here by walking over text which is known to be JSON.

use crate::document::{Entry, Failed, MAX_NESTING, Node, Value};
use crate::fault::Fault;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Reads JSON.
///
/// # Errors
/// The first fault of its syntax, a key twice in one table, or nesting beyond [`MAX_NESTING`].
pub(crate) fn read(text: &str) -> Result<Node<'_>, Failed> {
    // Without recursion, so that no nesting can exhaust the stack.
    serde_json::from_str::<IgnoredAny>(text).map_err(|e| (offset(text, &e), syntax(&e)))?;
    Walk { text, at: 0 }.node(0)
}

fn syntax(error: &serde_json::Error) -> Fault {
    let told = error.to_string();
    // The place is told in our own way.
    let problem = told.split(" at line ").next().unwrap_or_default().to_owned();
    Fault::Syntax { language: "JSON", problem }
}

/// The byte that serde_json means by line and column; its columns count bytes.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let before = error.line().saturating_sub(1);
    let lines = text.split_inclusive('\n').take(before).map(str::len).sum::<usize>();
    lines + error.column().saturating_sub(1)
}

struct Walk<'i> {
    text: &'i str,
    at: usize,
}

impl<'i> Walk<'i> {
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn node(&mut self, depth: usize) -> Result<Node<'i>, Failed> {
        let first = self.peek();
        let at = self.at;
        if depth > MAX_NESTING {
            return Err((at, Fault::TooDeep { most: MAX_NESTING }));
        }
        let value = match first {
            Some(b'{') => self.table(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            _ => self.literal(),
        };
        Ok(Node { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value<'i>, Failed> {
        let mut items = Vec::new();
        self.at += 1;
        while !self.take(b']') {
            items.push(self.node(depth + 1)?);
            self.end_item(b']')?;
        }
        Ok(Value::List(items))
    }

    fn table(&mut self, depth: usize) -> Result<Value<'i>, Failed> {
        let (mut entries, mut keys) = (Vec::new(), BTreeSet::new());
        self.at += 1;
        while !self.take(b'}') {
            self.peek();
            let at = self.at;
            let key = self.string()?;
            if !keys.insert(key.clone()) {
                return Err((at, Fault::RepeatedKey(key.into_owned())));
            }
            if !self.take(b':') {
                return Err(self.lost());
            }
            entries.push(Entry { key, at, node: self.node(depth + 1)? });
            self.end_item(b'}')?;
        }
        Ok(Value::Table(entries))
    }

    fn end_item(&mut self, close: u8) -> Result<(), Failed> {
        if self.take(b',') || self.peek() == Some(close) { Ok(()) } else { Err(self.lost()) }
    }

    /// Reads a string from its opening to its closing quote.
    fn string(&mut self) -> Result<Cow<'i, str>, Failed> {
        let start = self.at;
        let rest = self.text.as_bytes().get(start + 1..).unwrap_or_default();
        let mut escaped = false;
        let inside = rest.iter().take_while(|b| {
            let more = escaped || **b != b'"';
            escaped = !escaped && **b == b'\\';
            more
        });
        let length = inside.count() + 2;
        let Some(raw) = self.text.get(start..start + length) else { return Err(self.lost()) };
        self.at += length;
        match raw.contains('\\') {
            false => Ok(Cow::Borrowed(raw.get(1..length - 1).unwrap_or_default())),
            true => serde_json::from_str(raw).map(Cow::Owned).map_err(|e| (start, syntax(&e))),
        }
    }

    fn literal(&mut self) -> Value<'i> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.find(|c: char| matches!(c, ',' | ']' | '}') || c.is_ascii_whitespace());
        let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        self.at += word.len();
        match word {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            "null" => Value::Other("null"),
            _ if word.contains(['.', 'e', 'E']) => Value::Other("a number with a fraction"),
            _ => Value::Integer(word.parse().ok()),
        }
    }

    /// For text that is not JSON after all, which cannot be: it has been looked at before.
    fn lost(&self) -> Failed {
        (self.at, Fault::Syntax { language: "JSON", problem: "unexpected end or character".into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_know_where_they_stand() {
        let node = read("{ \"a\": [1, \"x\\n\"],\n \"b\": {\"c\": true} }").unwrap();
        assert_eq!(node.at, 0);
        let Value::Table(entries) = node.value else { panic!() };
        assert_eq!(entries.iter().map(|e| (e.at, e.node.at)).collect::<Vec<_>>(), [(2, 7), (20, 25)]);
        let Value::List(items) = &entries[0].node.value else { panic!() };
        assert!(matches!(&items[0], Node { at: 8, value: Value::Integer(Some(1)) }));
        assert!(matches!(&items[1], Node { at: 11, value: Value::Text(t) } if t == "x\n"));
    }

    #[test]
    fn a_key_twice_a_lone_surrogate_and_deep_nesting_are_refused() {
        assert_eq!(read("{\"a\":1,\"a\":2}").unwrap_err(), (7, Fault::RepeatedKey("a".into())));
        assert!(matches!(read(r#"{"a":"\ud800"}"#), Err((5, Fault::Syntax { .. }))));
        let bomb = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert!(matches!(read(&bomb), Err((17, Fault::TooDeep { .. }))));
        assert!(matches!(read("{\n \"a\" 1}"), Err((7, Fault::Syntax { .. }))));
    }

    fn as_json(value: &Value<'_>) -> serde_json::Value {
        match value {
            Value::Text(t) => t.as_ref().into(),
            Value::Integer(i) => (*i).into(),
            Value::Flag(b) => (*b).into(),
            Value::List(items) => items.iter().map(|i| as_json(&i.value)).collect(),
            Value::Table(entries) => {
                entries.iter().map(|e| (e.key.to_string(), as_json(&e.node.value))).collect()
            }
            Value::Other(_) => serde_json::Value::Null,
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(serde_json::Value::from),
            any::<bool>().prop_map(serde_json::Value::from),
            ".{0,8}".prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..5)
                    .prop_map(|m| serde_json::Value::from(m.into_iter().collect::<serde_json::Map<_, _>>())),
            ]
        })
    }

    proptest! {
        /// The walk against serde_json's own reading.
        #[test]
        fn what_is_walked_is_what_was_written(value in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            prop_assert_eq!(as_json(&read(&text).unwrap().value), value);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}\":,\\\\a1 é]{0,60}") {
            let _ = read(&text);
        }
    }
}
