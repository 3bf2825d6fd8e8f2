//! `echelon route --all`: a line for each host.

use crate::out::Out;
use crate::parallel::in_order;
use crate::problem::Problem;
use crate::style;
use crate::table::NOTHING;
use echelon_core::id::DomainId;
use echelon_core::name::HostName;
use echelon_core::report::{CandidateState, Outcome, RouteReport};
use echelon_core::row::Host;
use echelon_core::settled::{DomainRoutes, Room, TypeRoutes};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::OnceLock;

/// Hosts that one thread works out at a time: a few hundred KiB of text even where each line is long.
const CHUNK: usize = 256;

/// Room for the longest word for an outcome.
const OUTCOME: usize = "last resort".len();

/// Works out the route of every host and shows it, with at most so many candidates each.
pub(super) fn work_out(
    hosts: &[&Host],
    routes: &TypeRoutes<'_>,
    most: usize,
    explain: bool,
    out: &mut Out,
) -> Result<(), Problem> {
    let domains: BTreeMap<DomainId, OnceLock<DomainRoutes<'_>>> =
        hosts.iter().map(|host| (host.domain, OnceLock::new())).collect();
    let of_domain = |id| domains.get(&id).map(|d| d.get_or_init(|| routes.of_domain(id, most)));
    let names = hosts.iter().map(|host| &host.name);
    let table = (!out.is_json()).then(|| Lines::new(names, routes.names(), explain, out.is_styled()));
    let work = |hosts: &&[&Host]| {
        let (mut text, mut room) = (String::new(), Room::default());
        for host in *hosts {
            let Some(routes) = of_domain(host.domain) else { continue };
            let route = routes.route(host, &mut room);
            match &table {
                Some(table) => table.line(
                    &mut text,
                    &host.name,
                    route.chosen().map(|m| &m.name),
                    route.outcome(),
                    route.candidates().map(|(m, state)| (&m.name, state)),
                    &route.cause(),
                ),
                None => json(&mut text, &route.report())?,
            }
        }
        Ok::<_, Problem>(text)
    };
    table.iter().try_for_each(|table| out.plain(&table.headings()))?;
    let chunks: Vec<_> = hosts.chunks(CHUNK).collect();
    in_order(&chunks, work, |text| out.plain(&text?))
}

fn json(text: &mut String, report: &RouteReport) -> Result<(), Problem> {
    text.push_str(&serde_json::to_string(report).map_err(std::io::Error::from)?);
    text.push('\n');
    Ok(())
}

/// Shows routes that a manager has worked out.
pub(super) fn show(reports: &[RouteReport], explain: bool, out: &mut Out) -> Result<(), Problem> {
    let served = reports.iter().filter_map(|report| Some(&report.chosen.as_ref()?.host));
    let table = Lines::new(reports.iter().map(|report| &report.host), served, explain, out.is_styled());
    out.plain(&table.headings())?;
    reports.iter().try_for_each(|report| out.plain(&table.of_report(report)))
}

/// A table whose lines can be written before the last of them is known.
struct Lines {
    host: usize,
    served: usize,
    explain: bool,
    styled: bool,
}

impl Lines {
    /// The table of hosts and managers with such names.
    fn new<'a>(
        hosts: impl Iterator<Item = &'a HostName>,
        managers: impl Iterator<Item = &'a HostName>,
        explain: bool,
        styled: bool,
    ) -> Self {
        // Names are of ASCII alone, so that bytes are columns.
        let width = |name: &HostName| name.as_str().len();
        let host = hosts.map(width).chain(["HOST".len()]).max().unwrap_or_default();
        let served = managers.map(width).chain(["SERVED BY".len()]).max().unwrap_or_default();
        Self { host, served, explain, styled }
    }

    fn headings(&self) -> String {
        let mut text = String::new();
        self.cell(&mut text, "HOST", self.host, style::BOLD);
        self.cell(&mut text, "SERVED BY", self.served, style::BOLD);
        self.cell(&mut text, "OUTCOME", OUTCOME, style::BOLD);
        self.last(&mut text, "CANDIDATES");
        if self.explain {
            text.push_str("  ");
            self.last(&mut text, "CAUSE");
        }
        text.push('\n');
        text
    }

    fn of_report(&self, report: &RouteReport) -> String {
        let mut text = String::new();
        let served = report.chosen.as_ref().map(|chosen| &chosen.host);
        let candidates = report.candidates.iter().map(|c| (&c.host, c.state));
        self.line(&mut text, &report.host, served, report.outcome, candidates, &report.cause);
        text
    }

    /// Appends the line of one host.
    fn line<'a>(
        &self,
        text: &mut String,
        host: &HostName,
        served: Option<&HostName>,
        outcome: Outcome,
        candidates: impl Iterator<Item = (&'a HostName, CandidateState)>,
        cause: &impl Display,
    ) {
        let plain = anstyle::Style::new();
        self.cell(text, host.as_str(), self.host, plain);
        self.cell(text, served.map_or(NOTHING, HostName::as_str), self.served, plain);
        self.cell(text, super::route::word(outcome), OUTCOME, super::route::style_of(outcome));
        let before = text.len();
        for (name, state) in candidates {
            if text.len() > before {
                text.push(' ');
            }
            text.push_str(name.as_str());
            if state != CandidateState::Live {
                // Writing to a text cannot fail.
                let _ = write!(text, "({state})");
            }
        }
        if text.len() == before {
            text.push_str(NOTHING);
        }
        if self.explain {
            let _ = write!(text, "  {cause}");
            text.truncate(text.trim_end().len());
        }
        text.push('\n');
    }

    /// Appends a word, and space up to the next column.
    fn cell(&self, text: &mut String, word: &str, width: usize, style: anstyle::Style) {
        self.styled(text, word, style);
        text.extend(std::iter::repeat_n(' ', width.saturating_sub(word.len()) + 2));
    }

    fn last(&self, text: &mut String, word: &str) {
        self.styled(text, word, style::BOLD);
    }

    fn styled(&self, text: &mut String, word: &str, style: anstyle::Style) {
        match self.styled && !style.is_plain() {
            true => drop(write!(text, "{style}{word}{style:#}")),
            false => text.push_str(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::route::tests::report;

    #[test]
    fn all_hosts_are_a_line_each() {
        let report = report();
        let table = |styled| Lines::new([&report.host].into_iter(), std::iter::empty(), true, styled);
        let text = table(false).headings() + &table(false).of_report(&report);
        assert_eq!(
            text,
            "HOST    SERVED BY  OUTCOME      CANDIDATES  CAUSE\n\
             agent4  agent1     failover     agent3(down) agent9(excluded)  agent3: taken as down\n"
        );
        let styled = table(true).headings() + &table(true).of_report(&report);
        assert!(styled.len() > text.len());
        assert_eq!(anstream::adapter::strip_str(&styled).to_string(), text);
    }
}
