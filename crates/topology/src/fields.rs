//! Takes values of the kinds that keys want, and notes what is wrong with the others.

use crate::document::{Entry, Node, Value};
use crate::fault::Fault;
use crate::nearest::nearest;
use crate::problems::Problems;
use echelon_core::duration;
use echelon_core::name::NameError;
use echelon_core::package::NumberError;
use std::str::FromStr;
use std::time::Duration;

const TEXT: &str = "a text in quotes";
const NUMBER: &str = "a whole number, without quotes";
const FLAG: &str = "true or false, without quotes";
const DURATION: &str = "a duration in quotes, as in \"30s\"";

impl Problems<'_> {
    pub(crate) fn wrong_type<T>(
        &mut self,
        key: &'static str,
        node: &Node<'_>,
        wanted: &'static str,
    ) -> Option<T> {
        self.note(node.at, Fault::WrongType { key, found: node.value.kind(), wanted })
    }

    pub(crate) fn text<'n>(&mut self, key: &'static str, node: &'n Node<'_>) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            _ => self.wrong_type(key, node, TEXT),
        }
    }

    /// A text that `T` makes sense of.
    pub(crate) fn name<T: FromStr<Err = NameError>>(
        &mut self,
        key: &'static str,
        node: &Node<'_>,
    ) -> Option<T> {
        let text = self.text(key, node)?;
        self.taken(node.at, text.parse())
    }

    /// What was made of a value, where it could be made.
    pub(crate) fn taken<T>(&mut self, at: usize, made: Result<T, NameError>) -> Option<T> {
        made.map_or_else(|e| self.note(at, e), Some)
    }

    pub(crate) fn flag(&mut self, key: &'static str, node: &Node<'_>) -> Option<bool> {
        match node.value {
            Value::Flag(flag) => Some(flag),
            _ => self.wrong_type(key, node, FLAG),
        }
    }

    /// A whole number within `least..=most`.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        node: &Node<'_>,
        (least, most): (u32, u32),
    ) -> Option<u32> {
        let Value::Integer(number) = node.value else { return self.wrong_type(key, node, NUMBER) };
        let fits = number.and_then(|n| u32::try_from(n).ok()).filter(|n| (least..=most).contains(n));
        fits.or_else(|| {
            let found = number.map_or("a number of too many digits".into(), |n| n.to_string());
            self.note(
                node.at,
                Fault::OutOfRange { key, found, least: least.to_string(), most: most.to_string() },
            )
        })
    }

    /// A duration that `check` has nothing against.
    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        node: &Node<'_>,
        check: impl FnOnce(Duration) -> Result<(), NumberError>,
    ) -> Option<Duration> {
        let Value::Text(text) = &node.value else { return self.wrong_type(key, node, DURATION) };
        let Ok(value) = duration::parse(text) else {
            let found = text.chars().take(echelon_core::limits::MAX_QUOTED + 1).collect();
            return self.note(node.at, Fault::Duration { key, found });
        };
        match check(value) {
            Ok(()) => Some(value),
            Err(NumberError { least, most, .. }) => {
                let print = |ms| duration::print(Duration::from_millis(ms));
                let (least, most) = (print(least), print(most));
                self.note(node.at, Fault::OutOfRange { key, found: duration::print(value), least, most })
            }
        }
    }

    /// One of `words`, and what it stands for.
    pub(crate) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        node: &Node<'_>,
        (words, meanings): (&'static [&'static str], &[T]),
    ) -> Option<T> {
        let text = self.text(key, node)?;
        let known = words.iter().zip(meanings).find(|(word, _)| **word == text);
        known.map(|(_, meaning)| *meaning).or_else(|| {
            let found = text.chars().take(echelon_core::limits::MAX_QUOTED + 1).collect();
            self.note(node.at, Fault::Word { key, found, allowed: words })
        })
    }

    /// The items of a list; none of a value that is no list.
    pub(crate) fn list<'n, 'i>(
        &mut self,
        key: &'static str,
        node: &'n Node<'i>,
        wanted: &'static str,
    ) -> &'n [Node<'i>] {
        match &node.value {
            Value::List(items) => items,
            _ => self.wrong_type(key, node, wanted).unwrap_or(&[]),
        }
    }

    /// The entries of a table; none for a value that is no table.
    pub(crate) fn table<'n, 'i>(
        &mut self,
        key: &'static str,
        node: &'n Node<'i>,
        wanted: &'static str,
    ) -> Option<&'n [Entry<'i>]> {
        match &node.value {
            Value::Table(entries) => Some(entries),
            _ => self.wrong_type(key, node, wanted),
        }
    }

    pub(crate) fn unknown_key(
        &mut self,
        entry: &Entry<'_>,
        table: &'static str,
        allowed: &'static [&'static str],
    ) {
        let _: Option<()> = self.note_with(entry.at, || {
            let key = entry.key.chars().take(echelon_core::limits::MAX_QUOTED + 1).collect();
            Fault::UnknownKey { key, table, near: nearest(&entry.key, allowed), allowed }
        });
    }

    /// Notes that a key is missing that must be there.
    pub(crate) fn require(
        &mut self,
        at: usize,
        entries: &[Entry<'_>],
        (table, key, example): (&'static str, &'static str, &'static str),
    ) {
        if !entries.iter().any(|e| e.key == key) {
            let _: Option<()> = self.note(at, Fault::Missing { table, key, example });
        }
    }
}
