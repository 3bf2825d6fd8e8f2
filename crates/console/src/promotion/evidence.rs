//! The evidence, for people.

use crate::console::Console;
use crate::problem::Problem;
use crate::rough::rough_ms;
use crate::sides::Side;
use crate::style;
use crate::table::{NOTHING, Table, cell, maybe};
use echelon_core::promotion::{EvidenceReport, GrantReport, StandingReport, Way, ways_out};
use echelon_core::report::At;
use std::io::Write;

/// Shows it: on standard output, or, where that is for what comes of it, on standard error.
pub(crate) fn show(
    console: &mut Console,
    evidence: &EvidenceReport,
    given_up: &[Side],
    aside: bool,
) -> Result<(), Problem> {
    let lines = lines(evidence, given_up);
    if !aside {
        return lines.into_iter().try_for_each(|line| console.out.line(line));
    }
    console.out.finish()?;
    let mut to = anstream::stderr().lock();
    lines.into_iter().try_for_each(|line| writeln!(to, "{line}")).map_err(Problem::from)
}

/// `from epoch 1, revision 17 to epoch 2, revision 18 of 017f…`; both lineages, where there are two.
pub(crate) fn span(from: &At, to: &At) -> String {
    match from.lineage == to.lineage {
        true => format!("from epoch {}, revision {} to {}", from.epoch, from.revision, position(to)),
        false => format!("from {} to {}", position(from), position(to)),
    }
}

/// `epoch 2, revision 17 of 017f…`.
pub(crate) fn position(at: &At) -> String {
    format!("epoch {}, revision {} of {}", at.epoch, at.revision, at.lineage)
}

fn lines(e: &EvidenceReport, given_up: &[Side]) -> Vec<String> {
    let what = match e.way {
        Way::Choice => format!("the choice of the lineage of {}", e.to),
        Way::Planned | Way::Forced => format!("a {} promotion of {}", e.way, e.to),
    };
    let mut lines = vec![format!("as {} sees it, for {what}:", e.manager), primary(e)];
    lines.extend(agents(e));
    // A choice asks no standby, and what it gives up is named below.
    lines.extend((e.way != Way::Choice).then(|| standbys(e)));
    lines.extend(managers(&e.managers).lines());
    lines.extend((e.way != Way::Choice).then(|| loss(e)).into_iter().flatten());
    lines.extend(e.grant.as_ref().map(|grant| format!("grant      {}", self::grant(grant))));
    lines.extend(refusing(e));
    for rival in &e.rivals {
        lines.push(format!("given up   {}", self::grant(rival)));
        let side = given_up.iter().find(|side| (side.lineage, side.epoch) == (rival.lineage, rival.epoch));
        lines.extend(side.iter().flat_map(|side| side.loss()).map(|line| format!("           {line}")));
    }
    if !e.rivals.is_empty() {
        lines.push(
            "           the managers that hold these edits keep them: echelon edits lost, and --apply makes them once more"
                .to_owned(),
        );
    }
    lines
}

fn primary(e: &EvidenceReport) -> String {
    let (good, bad) = (style::GOOD, style::BAD);
    let never = || format!("not heard since {} started", e.manager);
    let heard = e.primary.heard_ms.map_or_else(never, |ms| format!("heard {} ago", rough_ms(ms)));
    match e.primary.answers {
        true => format!("primary    {} {good}answers{good:#}", e.primary.host),
        false => format!("primary    {} {bad}does not answer{bad:#}, {heard}", e.primary.host),
    }
}

fn agents(e: &EvidenceReport) -> Vec<String> {
    let a = &e.agents;
    let mut lines = vec![format!(
        "agents     {} connected here, {} of them away from their home; to them the primary is {}: {}",
        a.connected, a.not_home, a.primary, a.primary_reason
    )];
    lines.extend(
        a.newest.as_ref().map(|at| format!("           the newest any of them holds: {}", position(at))),
    );
    lines
}

fn standbys(e: &EvidenceReport) -> String {
    let (s, bad) = (&e.sync, style::BAD);
    let enough = match s.enough {
        true => "enough to know of every committed edit".to_owned(),
        false => format!("{bad}too few{bad:#}: it takes {} to know of every committed edit", s.needed),
    };
    format!(
        "standbys   {} of {} that count are heard (min_sync {}), {enough}",
        s.heard,
        s.members.len(),
        s.min_sync
    )
}

fn managers(managers: &[StandingReport]) -> Table {
    let mut table =
        Table::new(["MANAGER", "COUNTS", "HEARD", "EPOCH", "REVISION", "COMMITTED", "LACKS", "PROMISED"]);
    let yes = |is: bool| if is { "yes" } else { NOTHING };
    for m in managers {
        table.row([
            cell(&m.host),
            cell(yes(m.counts)),
            cell(yes(m.heard)),
            maybe(m.position.map(|at| at.epoch)),
            maybe(m.position.map(|at| at.revision)),
            maybe(m.committed),
            maybe(m.lag_edits),
            cell(yes(m.sealed)),
        ]);
    }
    table
}

fn loss(e: &EvidenceReport) -> Vec<String> {
    let (l, good, bad) = (&e.loss, style::GOOD, style::BAD);
    match (l.possible, &e.refused) {
        (false, None) => return vec![format!("lost       {good}nothing{good:#}")],
        // What is not done loses nothing; that says nothing of what is asked for.
        (false, Some(_)) => return Vec::new(),
        (true, _) => {}
    }
    let mut lines = Vec::new();
    if l.count > 0 {
        let listed = l.revisions.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let more = if l.count > l.revisions.len() as u64 { " and more" } else { "" };
        lines.push(format!(
            "lost       {bad}{} edits that somebody has seen{bad:#}: revisions {listed}{more}",
            l.count
        ));
    }
    if !l.unheard.is_empty() {
        let (what, knows) = (
            if l.count > 0 { "perhaps more" } else { "perhaps edits" },
            if l.unheard.len() == 1 { "knows" } else { "know" },
        );
        lines.push(format!("lost       {bad}{what}{bad:#}, which only {} {knows} of", l.unheard.join(", ")));
    }
    if lines.is_empty() {
        lines.push(format!("lost       {bad}perhaps edits{bad:#} that were on the primary alone"));
    }
    lines
}

/// That the new primary takes no edit at first, where the standbys that count under its grant are not there.
fn refusing(e: &EvidenceReport) -> Option<String> {
    let grant = e.grant.as_ref().filter(|_| e.refused.is_none())?;
    let heard = |host: &&String| e.managers.iter().any(|m| m.host == **host && m.heard);
    let (there, silent): (Vec<_>, Vec<_>) = grant.members.iter().partition(heard);
    let needed = usize::try_from(grant.min_sync).unwrap_or(usize::MAX).min(grant.members.len());
    let silent: Vec<_> = silent.into_iter().cloned().collect();
    let bad = style::BAD;
    (there.len() < needed).then(|| {
        format!(
            "then       {bad}edits are refused{bad:#} for want of {}: {}",
            silent.join(", "),
            ways_out(needed, there.len(), &silent, grant.min_sync)
        )
    })
}

/// `epoch 2 of 017f…, held by registry2, forced by console admin: the disk is gone`.
pub(super) fn grant(g: &GrantReport) -> String {
    let built = g.parent.map(|at| format!(", on revision {}", at.revision)).unwrap_or_default();
    let reason = g.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!(
        "epoch {} of {}{built}, held by {}, by {} {}{reason}",
        g.epoch, g.lineage, g.holder, g.grantor.kind, g.grantor.name
    )
}
