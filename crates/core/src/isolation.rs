//! Whether this host seems to be cut off from everything.

use crate::evidence::{Met, Seen};
use crate::id::HostId;
use crate::time::Monotonic;
use std::collections::BTreeMap;
use std::time::Duration;

/// How recent the timeouts must be that count.
const WINDOW: Duration = Duration::from_secs(5);

/// To how many hosts at least connects must time out: fewer may well be down themselves.
const LEAST_HOSTS: usize = 3;

/// How long a session makes up for what was seen before it: a host that has long been back, and connects to nobody, is
/// not doubted for ever.
const DOUBTED: Duration = Duration::from_secs(60);

/// How far what this host sees of others can be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing speaks against it.
    #[default]
    Sound,
    /// It is cut off: it sees failures that are its own.
    Isolated,
    /// It was cut off and has a session again, for less than a minute; but what it knows of managers is still from
    /// before.
    Returned,
}

impl Standing {
    /// Whether what the host says of others is not to be believed.
    pub fn is_doubtful(self) -> bool {
        self != Self::Sound
    }
}

/// What tells whether a host is isolated: what comes of its connects to other hosts, and whether it has a session
/// with a registry manager.
///
/// It is, once within five seconds connects to at least three hosts have timed out and none has come to anything
/// else (a refusal proves that the network works), while there is no session. It is no longer, as soon as a connect
/// comes to anything else, or there is a session.
#[derive(Debug, Default)]
pub(crate) struct Isolation {
    /// When connects timed out last, by host; forgotten when one comes to anything else.
    silent: BTreeMap<HostId, Monotonic>,
    /// When a connect last came to anything else.
    answered: Option<Monotonic>,
    session: bool,
    standing: Standing,
    /// When the session began, or the last one.
    returned: Option<Monotonic>,
}

impl Isolation {
    /// How it stands.
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Takes in what came of a connect to another host.
    pub(crate) fn saw(&mut self, now: Monotonic, host: HostId, seen: &Seen, took: Duration) {
        match seen {
            Seen::Connected | Seen::Answered | Seen::Failed(_) | Seen::Overloaded(_) => self.answered(now),
            Seen::Unanswered { met: Met::Connected | Met::Refused, .. } => self.answered(now),
            Seen::Silent(_) | Seen::Unanswered { met: Met::Nobody, .. } => self.timed_out(now, host, took),
            Seen::Overtaken => {}
        }
    }

    /// Takes in that time has passed.
    pub(crate) fn pass(&mut self, now: Monotonic) {
        if self.next_change().is_some_and(|at| at <= now) {
            self.standing = Standing::Sound;
        }
    }

    /// When its standing changes though nothing more is seen.
    pub(crate) fn next_change(&self) -> Option<Monotonic> {
        let doubted = self.standing == Standing::Returned && self.session;
        self.returned.filter(|_| doubted).map(|at| at + DOUBTED)
    }

    /// A session with a registry manager began or ended.
    pub(crate) fn session(&mut self, now: Monotonic, session: bool) {
        self.session = session;
        if session {
            self.silent.clear();
            // An attempt that has begun before says nothing more.
            self.answered = Some(now);
            self.returned = Some(now);
        }
        self.standing = match self.standing {
            Standing::Isolated if session => Standing::Returned,
            standing => standing,
        };
    }

    fn answered(&mut self, now: Monotonic) {
        self.silent.clear();
        self.answered = Some(now);
        self.standing = Standing::Sound;
    }

    fn timed_out(&mut self, now: Monotonic, host: HostId, took: Duration) {
        // An attempt that is older than an answer tells how things were before.
        if self.answered.is_some_and(|at| at > now - took) {
            return;
        }
        if self.session {
            // There is a network, and this host is believed again: the manager is silent, not everybody.
            self.standing = Standing::Sound;
            return;
        }
        self.silent.insert(host, now);
        self.silent.retain(|_, at| now.since(*at) <= WINDOW);
        if self.silent.len() >= LEAST_HOSTS {
            self.standing = Standing::Isolated;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Text;
    use uuid::Uuid;

    const SECOND: Duration = Duration::from_secs(1);

    struct Rig {
        isolation: Isolation,
        now: Monotonic,
    }

    impl Rig {
        fn new() -> Self {
            Self { isolation: Isolation::default(), now: Monotonic(100_000_000) }
        }

        fn saw(&mut self, host: u128, seen: Seen) -> Standing {
            self.isolation.saw(self.now, HostId(Uuid::from_u128(host)), &seen, SECOND);
            self.isolation.standing()
        }

        fn silent(&mut self, host: u128) -> Standing {
            self.saw(host, Seen::Silent(Text::lossy("no answer within 1s")))
        }

        fn pass(&mut self, time: Duration) {
            self.now = self.now + time;
        }
    }

    fn isolated() -> Rig {
        let mut rig = Rig::new();
        assert_eq!([1, 2, 2, 3].map(|n| rig.silent(n))[2..], [Standing::Sound, Standing::Isolated]);
        rig
    }

    #[test]
    fn three_hosts_within_five_seconds_are_needed() {
        isolated();
        let mut rig = Rig::new();
        for host in [1, 2, 3, 4, 5, 1, 2, 3] {
            assert_eq!(rig.silent(host), Standing::Sound);
            rig.pass(SECOND * 3);
        }
    }

    #[test]
    fn anything_but_silence_proves_that_the_network_works() {
        let refused = Seen::Failed(Text::lossy("connection refused"));
        for seen in [Seen::Connected, Seen::Answered, Seen::Overloaded(SECOND), refused] {
            let mut rig = Rig::new();
            rig.silent(1);
            rig.silent(2);
            rig.saw(9, seen.clone());
            assert_eq!(rig.silent(3), Standing::Sound, "begun before {seen:?}");
            rig.pass(SECOND);
            assert_eq!([4, 5].map(|n| rig.silent(n)), [Standing::Sound; 2]);
            assert_eq!(rig.silent(6), Standing::Isolated);
            assert_eq!(rig.saw(9, seen), Standing::Sound);
        }
        let mut rig = isolated();
        assert_eq!(rig.saw(1, Seen::Overtaken), Standing::Isolated, "that says nothing");
        rig.pass(SECOND * 1000);
        assert_eq!(rig.silent(1), Standing::Isolated, "until something proves the contrary");
    }

    #[test]
    fn a_probe_without_an_answer_tells_of_the_network_by_how_far_it_came() {
        let unanswered = |met| Seen::Unanswered { why: Text::lossy("so it is"), met };
        let mut rig = Rig::new();
        assert_eq!([1, 2, 3].map(|n| rig.saw(n, unanswered(Met::Nobody)))[2], Standing::Isolated);
        for met in [Met::Connected, Met::Refused] {
            assert_eq!(isolated().saw(9, unanswered(met)), Standing::Sound, "{met:?}");
        }
    }

    #[test]
    fn a_minute_of_session_ends_every_doubt() {
        let mut rig = isolated();
        rig.isolation.session(rig.now, true);
        let over = rig.isolation.next_change().unwrap();
        assert_eq!(over.since(rig.now), DOUBTED);
        rig.isolation.pass(over - SECOND);
        assert_eq!(rig.isolation.standing(), Standing::Returned);
        rig.isolation.session(over - SECOND, false);
        assert_eq!(rig.isolation.next_change(), None, "without a session doubt stays");
        rig.isolation.session(over, true);
        rig.isolation.pass(over);
        assert_eq!(
            rig.isolation.standing(),
            Standing::Returned,
            "another session counts from its own beginning"
        );
        rig.isolation.pass(over + DOUBTED);
        assert_eq!((rig.isolation.standing(), rig.isolation.next_change()), (Standing::Sound, None));
    }

    #[test]
    fn with_a_session_nobody_is_isolated_and_what_is_known_from_before_is_doubted_until_more_is_known() {
        let mut rig = isolated();
        rig.isolation.session(rig.now, true);
        assert_eq!(rig.isolation.standing(), Standing::Returned);
        assert_eq!(rig.silent(1), Standing::Returned, "begun before the session");
        rig.pass(SECOND);
        assert_eq!(rig.silent(1), Standing::Sound, "begun since");
        assert_eq!([2, 3, 4].map(|n| rig.silent(n)), [Standing::Sound; 3]);
        rig.isolation.session(rig.now, false);
        assert_eq!(rig.isolation.standing(), Standing::Sound, "timeouts during a session do not count");
        rig.pass(SECOND);
        assert_eq!([5, 6, 7].map(|n| rig.silent(n))[2], Standing::Isolated);
    }
}
