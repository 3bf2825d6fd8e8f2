//! Colours, which anstream takes away where nobody sees them.

use anstyle::{AnsiColor, Style};
use comfy_table::Color;
use echelon_core::alarm::Severity;
use echelon_core::report::CandidateState;

/// What is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What deserves a look.
pub(crate) const ODD: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// What matters less.
pub(crate) const DIM: Style = Style::new().dimmed();
/// What matters more.
pub(crate) const BOLD: Style = Style::new().bold();

/// The style of an alarm.
pub(crate) fn of_severity(severity: Severity) -> Style {
    match severity {
        Severity::Critical => BAD,
        Severity::Warning => ODD,
        Severity::Info => DIM,
    }
}

/// The style of a state.
pub(crate) fn of_state(state: CandidateState) -> Style {
    match state {
        CandidateState::Live => GOOD,
        CandidateState::Unknown | CandidateState::Excluded => DIM,
        CandidateState::Suspect | CandidateState::Withdrawn => ODD,
        CandidateState::Down => BAD,
    }
}

/// The colour of a state in a table.
pub(crate) fn color_of_state(state: CandidateState) -> Color {
    match state {
        CandidateState::Live => Color::DarkGreen,
        CandidateState::Unknown | CandidateState::Excluded => Color::DarkGrey,
        CandidateState::Suspect | CandidateState::Withdrawn => Color::DarkYellow,
        CandidateState::Down => Color::DarkRed,
    }
}
