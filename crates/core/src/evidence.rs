//! What a host knows of one candidate, and what follows from it.
//!
//! Two facts are kept apart. *Reach*: can this host connect? Own connections decide; without any, what
//! the registry reports. *Health*: does it answer? The last check that demands an answer. A connect
//! proves reach only, because the kernel accepts connections for a process that hangs.

use crate::hedge::Hedge;
use crate::message::Health;
use crate::name::Text;
use crate::report::CandidateState;
use crate::settled::WITHDRAWN_BY_HOST;
use crate::time::Monotonic;
use std::borrow::Cow;
use std::time::Duration;

/// Everything known of one candidate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    own: Option<Own>,
    /// What came of this host's last probe that demands an answer.
    answer: Option<Answer>,
    overload: Option<Overload>,
    hedge: Hedge,
    report: Option<Report>,
}

/// What came of a probe that demands an answer, and when.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    at: Monotonic,
    /// Why it failed; none where it passed.
    failure: Option<Text>,
}

/// What this host saw itself, and when.
#[derive(Clone, Debug, PartialEq)]
struct Own {
    at: Monotonic,
    reach: Reach,
}

/// What came of the last attempt to connect.
#[derive(Clone, Debug, PartialEq)]
enum Reach {
    Connected,
    Overtaken,
    Failed(Text),
}

/// What this host can see by connecting.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// A connection was made.
    Connected,
    /// It was silent for so long that the next candidate was faster.
    Overtaken,
    /// It refused or was reset; so there is a network.
    Failed(Text),
    /// Nobody answered in time, or there is no way to it.
    Silent(Text),
    /// A probe that demands an answer passed.
    Answered,
    /// A probe that demands an answer failed.
    Unanswered {
        /// Why.
        why: Text,
        /// How far it came.
        met: Met,
    },
    /// It answered that it has too much to do and is not to be asked again for so long, of which
    /// [`LONGEST_OVERLOAD`] counts at most.
    Overloaded(Duration),
}

/// Whom a probe met that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Somebody who took the connection.
    Connected,
    /// Somebody who refused it; so there is a network.
    Refused,
    /// Nobody answered in time, or there is no way to it.
    Nobody,
}

/// That it has too much to do: when it said so, and until when that counts.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Overload {
    at: Monotonic,
    until: Monotonic,
    /// How often in a row that was not long enough.
    repeated: u32,
}

/// What a registry manager reported, and when this host heard it.
#[derive(Clone, Debug, PartialEq)]
struct Report {
    at: Monotonic,
    silent: bool,
    health: Health,
}

/// Under which circumstances evidence is judged.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The time.
    pub now: Monotonic,
    /// How long an own observation outranks hearsay.
    pub ttl: Duration,
    /// Since when no registry manager is connected; none while one is.
    pub alone_since: Option<Monotonic>,
    /// When this host will probe the candidate next, where it means to.
    pub next_probe: Option<Monotonic>,
}

/// What the evidence on one candidate comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Its state.
    pub state: CandidateState,
    /// Why; empty where there is nothing to say.
    pub reason: Cow<'static, str>,
    /// When that was seen or heard; none where time plays no part.
    pub at: Option<Monotonic>,
    /// Whether it is down because a check that demands an answer got none: then connections that are open get
    /// none either.
    pub unanswered: bool,
}

impl Verdict {
    /// A verdict in which time plays no part.
    pub fn new(state: CandidateState, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { state, reason: reason.into(), at: None, unanswered: false }
    }

    fn at(self, at: Monotonic) -> Self {
        Self { at: Some(at), ..self }
    }
}

impl From<(CandidateState, String)> for Verdict {
    fn from((state, reason): (CandidateState, String)) -> Self {
        Self::new(state, reason)
    }
}

/// Longest time for which a candidate is passed over because it said that it has too much to do: it may mean
/// hours, or be wrong, and nobody else can lift that.
pub const LONGEST_OVERLOAD: Duration = Duration::from_secs(60);

/// By how much of itself that time is longer at most, for each host by its own share, so that a thousand hosts do not
/// come back in the instant that one manager named to all of them.
const OVERLOAD_SPREAD: f64 = 0.5;

/// Doublings of that time that are counted: a second becomes the longest by six.
const MAX_DOUBLINGS: u32 = 6;

/// A probe this much late is overdue: its task did not get to run, and nothing newer is known.
const PROBE_SLACK: Duration = Duration::from_secs(2);

impl Evidence {
    /// Takes in what this host saw. Says whether the verdict may be another one now, which it is not for one
    /// more connection to a manager that nothing speaks against.
    pub fn saw(&mut self, now: Monotonic, seen: Seen, took: Duration) -> bool {
        match seen {
            Seen::Connected => return self.connected(now, took),
            Seen::Overtaken => return self.missed(now, Reach::Overtaken, took),
            Seen::Failed(why) | Seen::Silent(why) => return self.missed(now, Reach::Failed(why), took),
            Seen::Answered => {
                self.answer = Some(Answer { at: now, failure: None });
                self.own = Some(Own { at: now, reach: Reach::Connected });
            }
            Seen::Unanswered { why, .. } => self.answer = Some(Answer { at: now, failure: Some(why) }),
            Seen::Overloaded(time) => self.overloaded_for(now, time, 0.0),
        }
        true
    }

    /// Takes in that it has too much to do for this `time`, which is doubled each time that it says so again soon after,
    /// and lengthened by this host's `share`, in `[0, 1)`.
    pub fn overloaded_for(&mut self, now: Monotonic, time: Duration, share: f64) {
        let soon = |o: &Overload| now < o.until + o.until.since(o.at);
        let repeated = match self.overload.filter(soon) {
            // Others of the same callers' requests say the same.
            Some(last) if now < last.until => last.repeated,
            Some(last) => (last.repeated + 1).min(MAX_DOUBLINGS),
            None => 0,
        };
        let counts = time.min(LONGEST_OVERLOAD).saturating_mul(1 << repeated).min(LONGEST_OVERLOAD);
        let until = now + counts.mul_f64(1.0 + OVERLOAD_SPREAD * share);
        self.overload = Some(Overload { at: now, until, repeated });
    }

    fn connected(&mut self, now: Monotonic, took: Duration) -> bool {
        let another_hedge = self.hedge.learn(took);
        let again = self.reached().is_some();
        let against = |r: &Report| r.silent || matches!(r.health, Health::Failing { .. });
        let settled = again && !self.report.as_ref().is_some_and(against);
        self.own = Some(Own { at: now, reach: Reach::Connected });
        !settled || another_hedge
    }

    /// An attempt that did not lead to a connection, in time or at all. One that is older than a connection that
    /// was made tells how things were before.
    fn missed(&mut self, now: Monotonic, reach: Reach, took: Duration) -> bool {
        let old = self.reached().is_some_and(|at| at > now - took);
        if !old {
            self.own = Some(Own { at: now, reach });
        }
        !old
    }

    /// When this host connected, where that is what it saw last.
    fn reached(&self) -> Option<Monotonic> {
        self.own.as_ref().filter(|own| own.reach == Reach::Connected).map(|own| own.at)
    }

    /// How long it may be silent before the next candidate is tried beside it, as far as its connect times tell.
    pub fn hedge(&self) -> Duration {
        self.hedge.shown()
    }

    /// Takes in what a registry manager reports. Says whether it says anything new.
    pub fn heard(&mut self, now: Monotonic, silent: bool, health: Health) -> bool {
        let new = !self.report.as_ref().is_some_and(|r| r.silent == silent && r.health == health);
        if new {
            self.report = Some(Report { at: now, silent, health });
        }
        new
    }

    /// Forgets what came of probes that demand an answer, as when other ones are made from now on.
    pub fn forget_answer(&mut self) {
        self.answer = None;
    }

    /// Whether it is doubted for having been overtaken, and nothing more is known.
    pub fn is_overtaken(&self) -> bool {
        matches!(&self.own, Some(Own { reach: Reach::Overtaken, .. }))
    }

    /// Whether this host's own last attempt failed, or was overtaken and has come to nothing since; or its last
    /// probe got no answer.
    pub fn own_failure(&self) -> bool {
        matches!(&self.own, Some(Own { reach: Reach::Failed(_) | Reach::Overtaken, .. }))
            || self.unanswered().is_some()
    }

    /// Since when and why the last probe got no answer.
    fn unanswered(&self) -> Option<(Monotonic, &Text)> {
        let answer = self.answer.as_ref()?;
        Some((answer.at, answer.failure.as_ref()?))
    }

    /// The connection of one's own that alone keeps a candidate live whose host's agent is silent: when it was
    /// made; none where that is not so.
    pub fn lives_by_own_connection(&self) -> Option<Monotonic> {
        self.reached().filter(|_| self.report.as_ref().is_some_and(|r| r.silent))
    }

    /// What the evidence comes to: live, unknown, suspect or down; or withdrawn by its host, which nothing
    /// overrides.
    pub fn judge(&self, c: &Circumstances) -> Verdict {
        self.withdrawn()
            .or_else(|| self.failed_probe(c))
            .or_else(|| self.failed_check(c))
            .or_else(|| self.own_attempt(c))
            .or_else(|| self.overloaded(c))
            .or_else(|| self.silence(c))
            .unwrap_or_else(|| self.nothing_against())
    }

    /// When the judgement may change though nothing more is heard; none if never.
    pub fn next_change(&self, c: &Circumstances) -> Option<Monotonic> {
        let own = self.own.as_ref().and_then(|own| self.own_ages(own, c));
        let unanswered = self.unanswered().map(|(at, _)| doubted_from(at, c));
        let overload = self.overload.map(|overload| overload.until);
        [own, unanswered, overload].into_iter().flatten().filter(|at| *at > c.now).min()
    }

    /// When what this host saw itself counts for less.
    fn own_ages(&self, own: &Own, c: &Circumstances) -> Option<Monotonic> {
        match &own.reach {
            Reach::Failed(_) => Some(doubted_from(own.at, c)),
            Reach::Connected if self.report.as_ref().is_some_and(|r| r.silent) => Some(own.at + c.ttl),
            Reach::Connected | Reach::Overtaken => None,
        }
    }

    fn withdrawn(&self) -> Option<Verdict> {
        let report = self.report.as_ref().filter(|r| r.health == Health::Withdrawn)?;
        Some(Verdict::new(CandidateState::Withdrawn, WITHDRAWN_BY_HOST).at(report.at))
    }

    /// An own probe that demands an answer and got none outranks everything else; no connect clears it.
    fn failed_probe(&self, c: &Circumstances) -> Option<Verdict> {
        let (at, why) = self.unanswered()?;
        let verdict = Verdict::new(failed_state(at, c), format!("probe failed: {why}")).at(at);
        Some(Verdict { unanswered: verdict.state == CandidateState::Down, ..verdict })
    }

    /// A failed check outranks everything below. It is repeated at its interval, and only news of it is told: so as
    /// long as its host's agent is heard, through a session, it is the last one. Since that is not so, a later probe of
    /// one's own that was answered disproves it, and a later connection casts doubt on it where no registry manager is
    /// left to say more. A check that only connects is disproved by any later connection.
    fn failed_check(&self, c: &Circumstances) -> Option<Verdict> {
        let report = self.report.as_ref()?;
        let Health::Failing { demands_answer, reason } = &report.health else { return None };
        // Silence is heard as a report of its own.
        let last_said =
            if report.silent { Some(report.at) } else { c.alone_since.map(|lost| lost.max(report.at)) };
        let answered = self.answer.as_ref().filter(|a| a.failure.is_none());
        if answered.zip(last_said).is_some_and(|(answer, said)| answer.at > said) {
            return None;
        }
        match self.reached().filter(|at| *at > report.at) {
            Some(_) if !demands_answer => None,
            Some(at) if c.alone_since.is_some_and(|lost| at > lost) => {
                let reason = format!("check failed: {reason}; connected since");
                Some(Verdict::new(CandidateState::Suspect, reason).at(at))
            }
            _ => {
                let verdict = Verdict::new(CandidateState::Down, format!("check failed: {reason}"));
                Some(Verdict { unanswered: *demands_answer, ..verdict.at(report.at) })
            }
        }
    }

    fn own_attempt(&self, c: &Circumstances) -> Option<Verdict> {
        let own = self.own.as_ref()?;
        let verdict = match &own.reach {
            Reach::Connected => return None,
            Reach::Overtaken => Verdict::new(CandidateState::Suspect, "slow to connect"),
            Reach::Failed(reason) => Verdict::new(failed_state(own.at, c), reason.as_str().to_owned()),
        };
        Some(verdict.at(own.at))
    }

    /// That it has too much to do, for as long as it said.
    fn overloaded(&self, c: &Circumstances) -> Option<Verdict> {
        let overload = self.overload.filter(|overload| overload.until > c.now)?;
        Some(Verdict::new(CandidateState::Suspect, "overloaded").at(overload.at))
    }

    /// Silence of its host's agent, unless this host reached the candidate itself not long ago.
    fn silence(&self, c: &Circumstances) -> Option<Verdict> {
        let report = self.report.as_ref().filter(|r| r.silent)?;
        match self.reached().is_some_and(|at| c.now.since(at) < c.ttl) {
            true => None,
            false => {
                Some(Verdict::new(CandidateState::Suspect, "its host's agent fell silent").at(report.at))
            }
        }
    }

    fn nothing_against(&self) -> Verdict {
        let reached = self.reached().is_some();
        let passing = self.report.as_ref().is_some_and(|r| r.health == Health::Passing);
        match reached || passing {
            true => Verdict::new(CandidateState::Live, ""),
            false => Verdict::new(CandidateState::Unknown, "nothing heard of it yet"),
        }
    }
}

/// A failure that this host saw itself: down, and suspect once it is doubted.
fn failed_state(seen: Monotonic, c: &Circumstances) -> CandidateState {
    if c.now >= doubted_from(seen, c) { CandidateState::Suspect } else { CandidateState::Down }
}

/// From when on a failure is doubted that this host saw itself: it is old then, and the next probe overdue.
fn doubted_from(seen: Monotonic, c: &Circumstances) -> Monotonic {
    let old = seen + c.ttl;
    c.next_probe.map_or(old, |at| old.max(at + PROBE_SLACK))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000)
    }

    fn circumstances(now: u64) -> Circumstances {
        Circumstances { now: at(now), ttl: TTL, alone_since: None, next_probe: Some(at(now + 1)) }
    }

    fn failing(demands_answer: bool) -> Health {
        Health::Failing { demands_answer, reason: Text::lossy("no answer") }
    }

    fn state(e: &Evidence, c: &Circumstances) -> CandidateState {
        e.judge(c).state
    }

    #[test]
    fn a_connect_never_clears_a_failed_check_that_demands_an_answer() {
        let mut e = Evidence::default();
        e.heard(at(1), false, failing(true));
        e.saw(at(2), Seen::Connected, Duration::ZERO);
        assert_eq!(state(&e, &circumstances(3)), CandidateState::Down);
        assert!(e.judge(&circumstances(3)).unanswered);
        e.heard(at(3), false, failing(false));
        assert!(!e.judge(&circumstances(3)).unanswered, "that check asks for no answer");
        e.heard(at(4), false, Health::Passing);
        assert_eq!(state(&e, &circumstances(5)), CandidateState::Live);
    }

    #[test]
    fn a_probe_without_an_answer_is_cleared_by_one_with_an_answer_alone() {
        let mut e = Evidence::default();
        e.heard(at(0), false, Health::Passing);
        let why = Text::lossy("no answer within 1s");
        e.saw(at(1), Seen::Unanswered { why, met: Met::Connected }, Duration::ZERO);
        assert!(e.own_failure());
        e.saw(at(2), Seen::Connected, Duration::ZERO);
        assert_eq!(state(&e, &circumstances(3)), CandidateState::Down);
        let overdue = Circumstances { next_probe: Some(at(1)), ..circumstances(20) };
        assert_eq!(state(&e, &overdue), CandidateState::Suspect);
        e.saw(at(21), Seen::Answered, Duration::ZERO);
        assert_eq!(state(&e, &circumstances(22)), CandidateState::Live);
        assert!(!e.own_failure());
    }

    #[test]
    fn a_failed_check_stands_while_its_hosts_agent_is_heard_and_else_the_last_answer_counts() {
        let mut e = Evidence::default();
        let alone = |since| Circumstances { alone_since: Some(at(since)), ..circumstances(9) };
        e.saw(at(1), Seen::Answered, Duration::ZERO);
        e.heard(at(2), false, failing(true));
        e.saw(at(4), Seen::Answered, Duration::ZERO);
        assert_eq!(state(&e, &circumstances(9)), CandidateState::Down, "it has failed again since");
        assert_eq!(state(&e, &alone(5)), CandidateState::Down, "the registry's loss changes nothing");
        assert_eq!(state(&e, &alone(3)), CandidateState::Live);
        e.forget_answer();
        assert_eq!(state(&e, &alone(5)), CandidateState::Down, "a connect never cleared the check");
        e.heard(at(5), true, failing(true));
        assert_eq!(state(&e, &circumstances(9)), CandidateState::Down, "silence changes nothing either");
        e.saw(at(6), Seen::Answered, Duration::ZERO);
        assert_eq!(state(&e, &circumstances(9)), CandidateState::Live);
        e.heard(at(7), false, failing(true));
        assert_eq!(state(&e, &circumstances(9)), CandidateState::Down, "it is heard again");
    }

    #[test]
    fn without_a_registry_manager_a_later_connect_casts_doubt_on_a_failed_check_and_the_loss_alone_does_not()
    {
        let mut e = Evidence::default();
        e.heard(at(1), false, failing(true));
        e.saw(at(2), Seen::Connected, Duration::ZERO);
        let alone = Circumstances { alone_since: Some(at(3)), ..circumstances(5) };
        assert_eq!(state(&e, &alone), CandidateState::Down);
        e.saw(at(4), Seen::Connected, Duration::ZERO);
        assert_eq!(state(&e, &alone), CandidateState::Suspect);
        assert_eq!(state(&e, &circumstances(5)), CandidateState::Down);
    }

    #[test]
    fn a_later_connect_disproves_a_failed_connect_check_and_an_earlier_one_does_not() {
        let mut e = Evidence::default();
        e.saw(at(1), Seen::Connected, Duration::ZERO);
        e.heard(at(2), false, failing(false));
        assert_eq!(state(&e, &circumstances(3)), CandidateState::Down);
        e.saw(at(3), Seen::Connected, Duration::ZERO);
        assert_eq!(state(&e, &circumstances(4)), CandidateState::Live);
    }

    #[test]
    fn an_own_success_outranks_reported_silence_for_the_ttl_and_no_longer() {
        let mut e = Evidence::default();
        e.heard(at(0), true, Health::Passing);
        e.saw(at(1), Seen::Connected, Duration::ZERO);
        assert_eq!(state(&e, &circumstances(15)), CandidateState::Live);
        assert_eq!(e.next_change(&circumstances(2)), Some(at(16)));
        assert_eq!(state(&e, &circumstances(16)), CandidateState::Suspect);
        assert_eq!(e.next_change(&circumstances(16)), None);
    }

    #[test]
    fn an_own_failure_never_becomes_live_by_waiting_and_is_only_doubted_when_its_probe_is_overdue() {
        let mut e = Evidence::default();
        e.heard(at(0), false, Health::Passing);
        e.saw(at(1), Seen::Failed(Text::lossy("connection refused")), Duration::ZERO);
        for later in [2, 15, 16, 10_000] {
            assert_eq!(state(&e, &circumstances(later)), CandidateState::Down);
            let overdue = Circumstances { next_probe: Some(at(1)), ..circumstances(later) };
            let expected = if later >= 16 { CandidateState::Suspect } else { CandidateState::Down };
            assert_eq!(state(&e, &overdue), expected);
        }
    }

    #[test]
    fn only_one_more_connection_with_nothing_against_the_candidate_leaves_the_verdict() {
        let mut e = Evidence::default();
        assert!(e.saw(at(1), Seen::Connected, Duration::ZERO), "the first");
        assert!(!e.saw(at(2), Seen::Connected, Duration::ZERO));
        for (silent, health) in [(true, Health::Passing), (false, failing(false))] {
            e.heard(at(3), silent, health);
            assert!(e.saw(at(4), Seen::Connected, Duration::ZERO), "after bad news");
        }
        e.heard(at(5), false, Health::Passing);
        assert!(!e.saw(at(6), Seen::Connected, Duration::ZERO));
        assert!(
            e.saw(at(7), Seen::Overtaken, Duration::ZERO) && e.saw(at(8), Seen::Overtaken, Duration::ZERO)
        );
        assert!(e.saw(at(9), Seen::Connected, Duration::ZERO), "after a failure");
    }

    #[test]
    fn one_that_is_overloaded_is_suspect_for_as_long_as_it_said_and_at_most_a_minute() {
        for (said, counts) in [(5, 5), (60, 60), (86_400, 60)] {
            let mut e = Evidence::default();
            e.heard(at(0), false, Health::Passing);
            assert!(e.saw(at(1), Seen::Overloaded(Duration::from_secs(said)), Duration::ZERO));
            assert!(e.saw(at(1), Seen::Connected, Duration::ZERO));
            assert_eq!(e.next_change(&circumstances(2)), Some(at(1 + counts)));
            assert_eq!(
                state(&e, &circumstances(counts)),
                CandidateState::Suspect,
                "a connect clears nothing"
            );
            assert_eq!(state(&e, &circumstances(1 + counts)), CandidateState::Live);
            assert_eq!(e.next_change(&circumstances(1 + counts)), None);
        }
    }

    #[test]
    fn an_overload_lasts_longer_by_the_hosts_share_and_twice_as_long_each_time_it_is_repeated_soon() {
        let (mut e, mut now) = (Evidence::default(), at(1));
        let lasts = |e: &Evidence, now| e.overload.unwrap().until.since(now).as_secs_f64();
        e.overloaded_for(now, Duration::from_secs(4), 0.5);
        assert_eq!(lasts(&e, now), 5.0);
        e.overloaded_for(now, Duration::from_secs(4), 0.5);
        assert_eq!(lasts(&e, now), 5.0, "others are told the same");
        for expected in [10.0, 20.0, 40.0, 75.0, 75.0, 75.0] {
            now = e.overload.unwrap().until;
            e.overloaded_for(now, Duration::from_secs(4), 0.5);
            assert_eq!(lasts(&e, now), expected);
        }
        now = now + Duration::from_secs(150);
        e.overloaded_for(now, Duration::from_secs(4), 0.5);
        assert_eq!(lasts(&e, now), 5.0, "not soon");
    }

    #[test]
    fn hearsay_stays_as_it_was_when_the_registry_is_gone() {
        let mut e = Evidence::default();
        e.heard(at(0), false, Health::Passing);
        let alone = Circumstances { alone_since: Some(at(1)), ..circumstances(100_000) };
        assert_eq!(state(&e, &alone), CandidateState::Live);
        e.heard(at(0), false, failing(false));
        assert_eq!(state(&e, &alone), CandidateState::Down);
        assert_eq!(state(&Evidence::default(), &alone), CandidateState::Unknown);
    }

    #[test]
    fn an_attempt_begun_before_a_connection_was_made_says_nothing_against_it() {
        let mut e = Evidence::default();
        e.saw(at(10), Seen::Connected, Duration::ZERO);
        let timed_out = Seen::Failed(Text::lossy("no answer within 1s"));
        assert!(!e.saw(at(11), timed_out.clone(), Duration::from_secs(2)));
        assert!(!e.saw(at(11), Seen::Overtaken, Duration::from_secs(2)));
        assert_eq!(state(&e, &circumstances(11)), CandidateState::Live);
        assert!(e.saw(at(12), timed_out, Duration::from_secs(1)));
        assert_eq!(state(&e, &circumstances(12)), CandidateState::Down);
    }
}
