//! Tables: columns and space, no lines.

use crate::style;
use comfy_table::{Attribute, Cell, ColumnConstraint, ContentArrangement, presets};
use echelon_core::report::CandidateState;
use std::fmt::Display;

/// What stands where there is nothing to say.
pub(crate) const NOTHING: &str = "-";

/// What the last column needs at least to be wrapped: less than a few words a line cannot be read, and the
/// terminal's own wrapping is better then.
const LEAST_WIDTH: u16 = 24;

/// Space between columns.
const GAP: u16 = 2;

/// A table that wraps its last column to fit the terminal; names are never broken.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// An empty table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        // Colours are always made and taken away again on the way out, where nobody would see them.
        table.load_style(presets::NOTHING).enforce_styling().style_text_only();
        table.set_header(headings.map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
        Self(table)
    }

    /// An empty table without headings: of one thing, what it is in the first column.
    pub(crate) fn of_one_thing() -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).enforce_styling().style_text_only();
        Self(table)
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.0.add_row(cells);
    }

    /// Its lines, without space at their ends.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let mut table = self.0.clone();
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, GAP));
        });
        let mut fixed = table.column_max_content_widths();
        fixed.pop();
        let taken = fixed.iter().fold(0_u16, |sum, width| sum.saturating_add(width + GAP));
        // A pipe has no width, and takes lines as long as they are.
        let wraps = table.width().is_some_and(|width| width.saturating_sub(taken) >= LEAST_WIDTH);
        if wraps {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            for column in table.column_iter_mut().take(fixed.len()) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.into_iter()
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
    fn only_the_last_column_is_wrapped_and_only_where_that_helps() {
        let words = "its host's agent was not heard yet, since the manager started a moment ago";
        let mut table = Table::new(["HOST", "REASON"]);
        table.row([cell("a-host-with-a-long-name.example"), cell(words)]);
        let lines = |width| {
            let mut table = Table(table.0.clone());
            table.0.set_width(width);
            table.lines().collect::<Vec<_>>()
        };
        assert!(lines(80).len() > 2 && lines(80).iter().all(|line| line.len() <= 90), "{:?}", lines(80));
        assert!(lines(80)[1].starts_with("a-host-with-a-long-name.example  its host's"));
        for width in [0, 1, 40] {
            assert_eq!(lines(width).len(), 2, "{width}");
        }
    }

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

    #[test]
    fn a_table_of_one_thing_begins_with_what_it_says() {
        let mut table = Table::of_one_thing();
        table.row([cell("host"), cell("registry2")]);
        table.row([cell("role"), cell("standby")]);
        assert_eq!(table.lines().collect::<Vec<_>>(), ["host  registry2", "role  standby"]);
    }
}
