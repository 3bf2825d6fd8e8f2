//! What came of commands, in words.

use anstyle::{AnsiColor, Style};
use echelon_core::name::HostName;
use echelon_core::report::Outcome;
use echelon_lab::Started;
use echelon_lab::answer::{AgentPower, Answer, Call, Edit, Expect, RegistryPower, RouteLine, Stubs};
use echelon_lab::stub::StubState;

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

/// The text in this style.
pub(crate) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A time in as many digits as anybody reads.
pub(crate) fn time(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

/// An answer in one line; none where there is nothing to say.
pub(crate) fn line(answer: &Answer) -> Option<String> {
    Some(match answer {
        Answer::Stubs(stubs) => of_stubs(stubs),
        Answer::Edit(edit) => of_edit(edit),
        Answer::Registry(power) => of_registry(power),
        Answer::Agent(power) => of_agent(power),
        Answer::Call(call) => of_call(call),
        Answer::Expect(expect) => of_expect(expect),
        Answer::Routes(routes) => of_routes(routes),
        Answer::Nothing => return None,
    })
}

fn of_stubs(stubs: &Stubs) -> String {
    let types: Vec<_> = stubs.types.iter().map(ToString::to_string).collect();
    let state = match stubs.state {
        StubState::Up => paint(GOOD, "up: answers"),
        StubState::Hung => paint(ODD, "hangs: listens, and answers nothing"),
        StubState::Down => paint(BAD, "down: refuses connections"),
    };
    format!("{} {state}", types.join(", "))
}

fn of_edit(edit: &Edit) -> String {
    let changed = if edit.changed { "committed" } else { "nothing to change" };
    format!("{changed}, revision {}, in {}", edit.revision, time(edit.took_ms))
}

fn of_registry(power: &RegistryPower) -> String {
    let (state, at) = match power.running {
        true => (paint(GOOD, "serves"), format!(" at {}", power.listen)),
        false => (paint(BAD, "down"), "; agents route by their replicas".to_owned()),
    };
    format!("registry manager on {} {state}{at}, after {}", power.manager, time(power.took_ms))
}

fn of_agent(power: &AgentPower) -> String {
    let state = if power.running { paint(GOOD, "runs") } else { paint(BAD, "down") };
    format!("agent {state}, after {}", time(power.took_ms))
}

fn of_call(call: &Call) -> String {
    match &call.answered {
        Some(host) => format!("{} answered in {}", paint(GOOD, host), time(call.took_ms)),
        None => format!("{} after {}: {}", paint(BAD, "nobody answered"), time(call.took_ms), call.cause),
    }
}

fn of_expect(expect: &Expect) -> String {
    let took = time(expect.took_ms);
    if expect.met {
        let since = expect.since_fault_ms.zip(expect.fault.as_ref());
        let since = since.map(|(ms, fault)| format!("{} after {fault}", time(ms)));
        let since = since.map(|since| paint(DIM, format!(" ({since})"))).unwrap_or_default();
        return format!("{} answers, after {took}{since}", paint(GOOD, &expect.manager));
    }
    let instead = match &expect.answered {
        Some(host) => format!("{host} answers"),
        None => "nobody answers".to_owned(),
    };
    let instead = format!("{instead}, not {}", expect.manager);
    format!("{} after {took}: {}", paint(BAD, instead), expect.cause)
}

fn of_routes(routes: &[RouteLine]) -> String {
    let count = |wanted: Option<Outcome>| routes.iter().filter(|r| r.outcome == wanted).count();
    let counts = [
        (count(Some(Outcome::Home)), "at home"),
        (count(Some(Outcome::Failover)), "failed over"),
        (count(Some(Outcome::LastResort)), "at a last resort"),
        (count(Some(Outcome::Unserved)), "unserved"),
        (count(None), "without an answer"),
    ];
    let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// Routes as a table: who is served by whom, and why not by its home.
pub(crate) fn table(routes: &[RouteLine]) -> Vec<String> {
    let widest = |names: &mut dyn Iterator<Item = usize>| names.max().unwrap_or_default();
    let hosts = widest(&mut routes.iter().map(|r| r.host.as_str().len()));
    let managers = widest(&mut routes.iter().map(|r| name(r.chosen.as_ref()).len()));
    let line = |r: &RouteLine| {
        let (outcome, style) = outcome(r.outcome);
        let manager = paint(style, format!("{:managers$}", name(r.chosen.as_ref())));
        let head = format!("{:hosts$} → {manager}  ", r.host);
        match r.cause.as_str() {
            "" => format!("{head}{outcome}"),
            cause => format!("{head}{outcome:11}  {}", paint(DIM, cause)),
        }
    };
    routes.iter().map(line).collect()
}

/// The manager's name, or what stands for none.
pub(crate) fn name(host: Option<&HostName>) -> &str {
    host.map_or("nobody", HostName::as_str)
}

/// An outcome in words, and its style.
pub(crate) fn outcome(outcome: Option<Outcome>) -> (&'static str, Style) {
    match outcome {
        Some(Outcome::Home) => ("home", GOOD),
        Some(Outcome::Failover) => ("failover", ODD),
        Some(Outcome::LastResort) => ("last resort", BAD),
        Some(Outcome::Unserved) => ("unserved", BAD),
        None => ("-", DIM),
    }
}

/// What was started.
pub(crate) fn started(s: &Started) -> Vec<String> {
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (hosts, managers) = (plural(s.hosts, "host"), plural(s.managers, "manager"));
    let mut lines = vec![
        format!("{}: {hosts}, {managers}", paint(BOLD, &s.framework)),
        format!("registry manager on {}, {}, at {}", paint(BOLD, &s.manager), s.why, s.listen),
        format!(
            "{} enrolled, up and in sync after {} (registry {}, enrolment {}, agents {}, replicas {})",
            plural(s.hosts, "agent"),
            paint(BOLD, time(s.total_ms)),
            time(s.registry_ms),
            time(s.enrol_ms),
            time(s.agents_ms),
            time(s.sync_ms)
        ),
    ];
    lines.extend(s.notes.iter().map(|note| paint(ODD, format!("note: {note}"))));
    let (console, sockets) = (s.directory.join("manager/console"), s.directory.join("sockets"));
    lines.push(paint(DIM, format!("console: echelon --identity {} tree", console.display())));
    lines.push(paint(DIM, format!("forwarders: {}/HOST:TYPE", sockets.display())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn route(host: &str, chosen: Option<&str>, outcome: Option<Outcome>, cause: &str) -> RouteLine {
        let (host, ty, cause) = (host.parse().unwrap(), "audit".parse().unwrap(), cause.to_owned());
        RouteLine { host, ty, chosen: chosen.map(|c| c.parse().unwrap()), home: None, outcome, cause }
    }

    #[test]
    fn routes_line_up_and_are_counted() {
        let routes = [
            route("agent1", Some("agent1"), Some(Outcome::Home), ""),
            route("framework-manager", Some("agent1"), Some(Outcome::Failover), "agent3: refused"),
            route("x", None, None, "the agent is down"),
        ];
        let lines: Vec<_> = table(&routes).iter().map(|l| plain(l)).collect();
        assert_eq!(lines[0], "agent1            → agent1  home");
        assert_eq!(lines[1], "framework-manager → agent1  failover     agent3: refused");
        assert_eq!(lines[2], "x                 → nobody  -            the agent is down");
        assert_eq!(of_routes(&routes), "1 at home, 1 failed over, 1 without an answer");
    }

    #[test]
    fn an_expectation_says_what_came_instead() {
        let mut expect = Expect {
            host: "agent4".parse().unwrap(),
            ty: "audit".parse().unwrap(),
            manager: "agent1".parse().unwrap(),
            met: true,
            answered: Some("agent1".parse().unwrap()),
            chosen: Some("agent1".parse().unwrap()),
            cause: String::new(),
            took_ms: 3.21,
            fault: Some("down agent3".to_owned()),
            since_fault_ms: Some(4711.0),
        };
        assert_eq!(plain(&of_expect(&expect)), "agent1 answers, after 3.2 ms (4711 ms after down agent3)");
        expect.met = false;
        expect.answered = Some("agent3".parse().unwrap());
        expect.cause = "agent1 is down (refused)".to_owned();
        assert_eq!(
            plain(&of_expect(&expect)),
            "agent3 answers, not agent1 after 3.2 ms: agent1 is down (refused)"
        );
    }
}
