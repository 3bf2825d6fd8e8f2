//! Collects what is wrong with a file while it is read to the end.

use crate::fault::{Fault, Problem, TopologyError};

/// Most problems that are reported: more than fit on a screen help nobody, and a file of garbage must
/// not become a list longer than itself.
const MAX_PROBLEMS: usize = 20;

/// The problems found so far, by byte offset in `text`.
pub(crate) struct Problems<'i> {
    text: &'i str,
    found: Vec<(usize, Fault)>,
    more: usize,
}

impl<'i> Problems<'i> {
    pub(crate) fn new(text: &'i str) -> Self {
        Self { text, found: Vec::new(), more: 0 }
    }

    /// Notes a fault at byte `at`. None, so that a reader can end with it.
    pub(crate) fn note<T>(&mut self, at: usize, fault: impl Into<Fault>) -> Option<T> {
        self.note_with(at, || fault.into())
    }

    /// Notes that something is there twice; `earlier` is the byte where it was first.
    pub(crate) fn duplicate<T>(&mut self, at: usize, what: String, earlier: usize) -> Option<T> {
        let line = self.line(earlier);
        self.note(at, Fault::Duplicate { what, line })
    }

    /// The line of byte `at`, as long as further problems are reported; it takes a look at all before it.
    pub(crate) fn line(&self, at: usize) -> usize {
        if self.found.len() < MAX_PROBLEMS { position(self.text.as_bytes(), at).0 } else { 0 }
    }

    /// Notes a fault that is costly to describe: it is made only if it will be reported.
    pub(crate) fn note_with<T>(&mut self, at: usize, fault: impl FnOnce() -> Fault) -> Option<T> {
        match self.found.len() < MAX_PROBLEMS {
            true => self.found.push((at, fault())),
            false => self.more += 1,
        }
        None
    }

    /// How many were found so far.
    pub(crate) fn count(&self) -> usize {
        self.found.len() + self.more
    }

    /// Nothing, if nothing was found.
    ///
    /// # Errors
    /// All that was found, in the order of the file.
    pub(crate) fn finish(mut self, file: &str) -> Result<(), TopologyError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|(at, _)| *at);
        let problem = |(at, fault)| {
            let (line, column) = position(self.text.as_bytes(), at);
            Problem { line, column, fault }
        };
        let problems = self.found.into_iter().map(problem).collect();
        Err(TopologyError { file: printable(file), problems, more: self.more })
    }
}

/// The line and column, from 1, of byte `at`; columns count characters. Bytes that are no UTF-8 are
/// counted as if they were.
pub(crate) fn position(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let is_start_of_char = |b: &&u8| **b & 0xc0 != 0x80;
    (line, before[start..].iter().filter(is_start_of_char).count() + 1)
}

/// One problem, as the whole error.
pub(crate) fn alone(file: &str, text: &[u8], at: usize, fault: Fault) -> TopologyError {
    let (line, column) = position(text, at);
    TopologyError { file: printable(file), problems: vec![Problem { line, column, fault }], more: 0 }
}

fn printable(file: &str) -> String {
    file.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_end_after_their_newline() {
        let text = "é = 1\nb\n".as_bytes();
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 3), (1, 3));
        assert_eq!(position(text, 6), (1, 6));
        assert_eq!(position(text, 7), (2, 1));
        assert_eq!(position(text, 99), (3, 1));
    }

    #[test]
    fn problems_come_in_the_order_of_the_file_and_are_counted_beyond_the_limit() {
        let text = "x\n".repeat(100);
        let mut problems = Problems::new(&text);
        for at in (0..100).rev() {
            let _: Option<()> = problems.note(at * 2, Fault::EmptyPolicy);
        }
        let error = problems.finish("a\nb.toml").unwrap_err();
        let lines: Vec<_> = error.problems.iter().map(|p| p.line).collect();
        assert_eq!(lines, (81..=100).collect::<Vec<_>>());
        let shown = error.to_string();
        assert!(shown.starts_with("a?b.toml:81:1: ") && shown.ends_with("and 80 more"), "{shown}");
    }
}
