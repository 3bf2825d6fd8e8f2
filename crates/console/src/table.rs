//! Tables: columns and space, no lines.

use crate::style;
use comfy_table::{Attribute, Cell, ContentArrangement, presets};
use echelon_core::report::CandidateState;
use std::fmt::Display;

/// What stands where there is nothing to say.
pub(crate) const NOTHING: &str = "-";

/// A table that fits the terminal, or is as wide as it likes where there is none.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// An empty table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        // Colours are always made and taken away again on the way out, where nobody would see them.
        table.load_style(presets::NOTHING).enforce_styling();
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(headings.map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        Self(table)
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.0.add_row(cells);
    }

    /// Its lines, without space at their ends.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.lines().map(|line| line.trim_end().to_owned())
    }
}

/// A cell.
pub(crate) fn cell(content: impl Display) -> Cell {
    Cell::new(content)
}

/// A cell of what may be missing.
pub(crate) fn maybe(content: Option<impl Display>) -> Cell {
    content.map_or_else(|| Cell::new(NOTHING), Cell::new)
}

/// A cell with the state of a manager; of inventory, which has none, nothing.
pub(crate) fn state(state: Option<CandidateState>) -> Cell {
    state.map_or_else(|| Cell::new(NOTHING), |state| Cell::new(state).fg(style::color_of_state(state)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let mut table = Table::new(["HOST", "STATE"]);
        table.row([cell("framework-manager"), state(Some(CandidateState::Live))]);
        table.row([cell("a"), state(None)]);
        let lines: Vec<_> = table
            .lines()
            .map(|l| anstream::adapter::strip_str(&l).to_string().trim_end().to_owned())
            .collect();
        assert_eq!(lines, ["HOST               STATE", "framework-manager  live", "a                  -"]);
    }
}
