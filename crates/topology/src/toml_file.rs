//! TOML as a document.

use crate::document::{Entry, Failed, MAX_NESTING, Node, Value};
use crate::fault::Fault;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Reads TOML.
///
/// # Errors
/// The first fault of its syntax, or nesting beyond [`MAX_NESTING`].
pub(crate) fn read(text: &str) -> Result<Node<'_>, Failed> {
    let parsed = DeTable::parse(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        (at, Fault::Syntax { language: "TOML", problem: e.message().to_owned() })
    })?;
    let at = parsed.span().start;
    Ok(Node { at, value: table(parsed.into_inner(), 0)? })
}

fn node(value: Spanned<DeValue<'_>>, depth: usize) -> Result<Node<'_>, Failed> {
    let at = value.span().start;
    if depth > MAX_NESTING {
        return Err((at, Fault::TooDeep { most: MAX_NESTING }));
    }
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text),
        DeValue::Integer(i) => Value::Integer(i64::from_str_radix(i.as_str(), i.radix()).ok()),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| node(item, depth + 1));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(entries) => table(entries, depth)?,
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date or time"),
    };
    Ok(Node { at, value })
}

fn table(entries: DeTable<'_>, depth: usize) -> Result<Value<'_>, Failed> {
    let mut entries: Vec<_> = entries.into_iter().map(|pair| entry(pair, depth)).collect::<Result<_, _>>()?;
    // The parser sorts by key.
    entries.sort_by_key(|e| e.at);
    Ok(Value::Table(entries))
}

fn entry<'i>(pair: (Spanned<DeString<'i>>, Spanned<DeValue<'i>>), depth: usize) -> Result<Entry<'i>, Failed> {
    let (key, value) = pair;
    let at = key.span().start;
    Ok(Entry { key: key.into_inner(), at, node: node(value, depth + 1)? })
}
