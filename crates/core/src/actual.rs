//! What a host really uses, as far as a registry manager has heard.

use crate::board::Agent;
use crate::report::{Basis, Chosen, Outcome, RouteReport, UsingReport, millis};
use crate::time::Monotonic;

/// What a host uses at the moment, as its agent said last: what it did not speak of is at home. `settled` is how
/// it ought to find its manager, and gives the candidates. None where it uses a manager that is not among them:
/// it was removed or renamed a moment ago.
pub fn actual(settled: RouteReport, agent: &Agent, now: Monotonic) -> Option<RouteReport> {
    let ago = now.since(agent.heard());
    let using = agent.report().using.iter().find(|using| using.ty == settled.ty);
    let using = using.map(|using| UsingReport::said(using, ago));
    let in_use = using.as_ref().map_or(settled.home.clone(), |using| using.manager.clone());
    let chosen = match in_use {
        None => None,
        Some(name) => {
            let c = settled.candidates.iter().find(|c| c.host == name)?;
            Some(Chosen { host: c.host.clone(), endpoint: c.endpoint.clone() })
        }
    };
    let outcome = match (&using, &chosen) {
        (Some(using), _) => using.outcome,
        (None, Some(_)) => Outcome::Home,
        (None, None) => Outcome::Unserved,
    };
    Some(RouteReport {
        basis: Basis::Live,
        age_ms: Some(millis(ago)),
        outcome,
        isolated: agent.report().isolated,
        since_ms: using.as_ref().map(|using| using.since_ms),
        cause: using.map(|using| using.cause).unwrap_or_default(),
        chosen,
        ..settled
    })
}
