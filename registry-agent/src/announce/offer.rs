//! Tells a registry manager what this host announces.

use crate::announce::announcer::{Announcer, Shown, fresh};
use crate::clock::unix_now;
use crate::registry::{AskError, ask, source_chain};
use echelon_core::announce::{Announcement, HostWord};
use echelon_core::id::RequestId;
use echelon_core::message::{Failure, FailureClass, Request, Response, Retry};
use echelon_core::name::ManagerType;
use echelon_transport::Connection;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

/// How long a manager may take to answer: it waits for its disk, behind other edits.
const DEADLINE: Duration = Duration::from_secs(15);

/// Shortest and longest time between two tries of one announcement.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Hosts that come back with something to announce are spread over this time.
const SPREAD: Duration = Duration::from_millis(500);

/// When an announcement is to be tried again, after so many tries.
#[derive(Clone, Copy)]
struct Wait {
    number: RequestId,
    tries: u32,
    until: Instant,
}

/// What is to be done next.
enum Next {
    Offer(ManagerType),
    Sleep(Instant),
    Nothing,
}

impl Announcer {
    /// Tells a registry manager what none has confirmed, for as long as it is polled. `share`, from 0 to 1 and
    /// different for each host, spreads the hosts.
    pub(crate) async fn offer(&self, connection: &Connection, share: f64) -> Infallible {
        let (mut shown, mut waits) = (self.shown(), BTreeMap::new());
        if shown.borrow().said.pending().next().is_some() {
            sleep(SPREAD.mul_f64(share.clamp(0.0, 1.0))).await;
        }
        loop {
            let next = next(&shown.borrow_and_update(), &mut waits);
            match next {
                Next::Offer(ty) => {
                    if let Some(number) = self.offer_one(connection, &ty).await {
                        let tries = waits.get(&ty).map_or(0, |wait| wait.tries);
                        waits.insert(ty, Wait { number, tries: tries + 1, until: again(tries, share) });
                    }
                }
                // The sender lives as long as `self`.
                Next::Nothing => drop(shown.changed().await),
                Next::Sleep(until) => {
                    tokio::select! {
                        _ = shown.changed() => {}
                        () = sleep_until(until) => {}
                    }
                }
            }
        }
    }

    /// Tells one. Gives its number where it has to be told again.
    async fn offer_one(&self, connection: &Connection, ty: &ManagerType) -> Option<RequestId> {
        let (of, now) = (ty.clone(), unix_now());
        // Before it leaves: from here on it may be committed.
        let offered = match self.update(move |said| said.offer(&of, fresh(), now)).await {
            Ok(offered) => offered?,
            Err(error) => {
                warn!("An announcement is not told before it can be noted so: {}", source_chain(&error));
                return self.shown().borrow().said.get(ty).map(|said| said.number);
            }
        };
        let number = offered.number;
        // Whether it was taken in is not known where no answer comes; repeating it is safe.
        let answer = ask(connection, &Request::Announce(offered.clone()), DEADLINE).await;
        let (of, again) = (ty.clone(), Some(number));
        match answer {
            Ok(Response::Edited(answer)) => {
                info!(package = %ty, revision = answer.position.revision, "The registry has the announcement");
                let noted = self.update(move |said| said.committed(&of, number, answer.position)).await;
                noted.err().and(again)
            }
            Ok(Response::Failed(why)) => self.failed(offered, why).await,
            Ok(_) => self.unanswered(&offered, &AskError::Other),
            Err(error) => self.unanswered(&offered, &error),
        }
    }

    /// A manager's refusal. Gives the number where it may yet be taken in.
    async fn failed(&self, offered: Announcement, why: Failure) -> Option<RequestId> {
        let Announcement { number, ty, word } = offered;
        let known = self.place().is_some_and(|place| place.package(&ty).is_some());
        self.note(&ty, number, why.clone());
        let of = ty.clone();
        let updated = match verdict(&why, &word, known) {
            Verdict::Again => return Some(number),
            Verdict::Renumber => {
                let new = fresh();
                let updated = self.update(move |said| said.renumber(&of, number, new)).await;
                return Some(if updated.is_ok() { new } else { number });
            }
            Verdict::Forget => {
                warn!(package = %ty, error = why.error, "An announcement is given up: {}", why.message);
                self.update(move |said| said.forget(&of, number)).await
            }
        };
        updated.err().and(Some(number))
    }

    fn unanswered(&self, offered: &Announcement, error: &AskError) -> Option<RequestId> {
        let message = source_chain(error);
        debug!(package = %offered.ty, "An announcement got no answer: {message}");
        let why = Failure {
            error: "no-answer".into(),
            class: FailureClass::Unknown,
            message,
            place: String::new(),
            remedy: String::new(),
            retry: Retry::Safe,
        };
        self.note(&offered.ty, offered.number, why);
        Some(offered.number)
    }
}

/// What a refusal means for an announcement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// It may be taken in later.
    Again,
    /// It may be taken in under another number.
    Renumber,
    /// It will never be, or need not.
    Forget,
}

/// `known` says whether the registry has a package of this type on this host.
fn verdict(why: &Failure, word: &HostWord, known: bool) -> Verdict {
    match why.error.as_str() {
        // Refused for its time alone, and so not carried out.
        "request-from-future" => Verdict::Renumber,
        // Perhaps committed long ago. Said anew it can do no harm to a package that is there, nor by withdrawing;
        // but one that is not there an operator may have removed since.
        "request-too-old" if known || *word == HostWord::Withdraws => Verdict::Renumber,
        "request-too-old" | "type-not-allowed" | "unknown-package" | "out-of-range" => Verdict::Forget,
        _ if why.class == FailureClass::Forbidden => Verdict::Forget,
        _ => Verdict::Again,
    }
}

fn next(shown: &Shown, waits: &mut BTreeMap<ManagerType, Wait>) -> Next {
    let pending: BTreeMap<_, _> = shown.said.pending().map(|(ty, said)| (ty, said.number)).collect();
    waits.retain(|ty, wait| pending.get(ty) == Some(&wait.number));
    let now = Instant::now();
    let due = |ty: &&ManagerType| waits.get(*ty).is_none_or(|wait| wait.until <= now);
    match pending.into_keys().find(due) {
        Some(ty) => Next::Offer(ty.clone()),
        None => waits.values().map(|wait| wait.until).min().map_or(Next::Nothing, Next::Sleep),
    }
}

fn again(tries: u32, share: f64) -> Instant {
    let full = RETRY.0.saturating_mul(1 << tries.min(16)).min(RETRY.1);
    Instant::now() + full.mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::announcer::Outcome;
    use crate::testing::{place, routes, snapshot, ty};
    use echelon_core::announce::AnnouncedSpec;
    use echelon_core::announcements::Saying;
    use echelon_core::view::Place;

    fn failure(error: &str, class: FailureClass) -> Failure {
        let (message, place, remedy) = Default::default();
        Failure { error: error.into(), class, message, place, remedy, retry: Retry::Pointless }
    }

    #[test]
    fn only_what_can_never_be_taken_in_is_given_up() {
        let runs = HostWord::Runs(AnnouncedSpec::default());
        let of = |error, class, known| verdict(&failure(error, class), &runs, known);
        use FailureClass::{Failed, Forbidden, NotAllowed, Unreachable};
        for (error, class) in [("too-often", Failed), ("not-stored", Failed), ("stopping", Unreachable)] {
            assert_eq!(of(error, class, false), Verdict::Again, "{error}");
        }
        for (error, class) in [("bad-request", Failed), ("unknown-identity", NotAllowed)] {
            assert_eq!(of(error, class, false), Verdict::Again, "another manager, or time, may mend {error}");
        }
        for (error, class) in [("type-not-allowed", NotAllowed), ("superseded", Forbidden), ("x", Forbidden)]
        {
            assert_eq!(of(error, class, true), Verdict::Forget, "{error}");
        }
        assert_eq!(of("request-from-future", Failed, false), Verdict::Renumber);
    }

    /// Whoever announced something waits for it under the number that it was made with.
    #[tokio::test]
    async fn one_that_takes_another_number_is_the_same_to_those_who_made_it() {
        let (directory, (routes, _tasks)) =
            (tempfile::tempdir().unwrap(), routes(snapshot(1, &[], Default::default())).await);
        let announcer = Announcer::open(directory.path(), routes).unwrap();
        let place = Place { allow_types: [ty()].into(), ..place(vec![]) };
        announcer.see(Some(&place), None).await;
        let Saying::New(made) = announcer.say(ty(), HostWord::Runs(AnnouncedSpec::default())).await.unwrap()
        else {
            panic!("it is the first");
        };
        let offered =
            async || announcer.update(|said| said.offer(&ty(), fresh(), unix_now())).await.unwrap().unwrap();
        let ahead = failure("request-from-future", FailureClass::Failed);
        let first = announcer.failed(offered().await, ahead.clone()).await.unwrap();
        let second = announcer.failed(offered().await, ahead.clone()).await.unwrap();
        assert!(made != first && first != second);
        let outcome = async || announcer.outcome(&ty(), made, Duration::ZERO).await;
        assert_eq!(outcome().await, Outcome::Pending);
        let shown = announcer.shown().borrow().clone();
        let (said, why) = shown.pending(&ty()).unwrap();
        assert_eq!((said.number, why), (second, Some(&ahead)));
        let given_up = failure("type-not-allowed", FailureClass::NotAllowed);
        assert_eq!(announcer.failed(offered().await, given_up.clone()).await, None);
        assert_eq!(outcome().await, Outcome::Refused(given_up));
    }

    #[test]
    fn one_too_old_is_said_anew_only_where_that_cannot_undo_a_removal() {
        let old = failure("request-too-old", FailureClass::Failed);
        let runs = HostWord::Runs(AnnouncedSpec::default());
        assert_eq!(verdict(&old, &runs, false), Verdict::Forget);
        assert_eq!(verdict(&old, &runs, true), Verdict::Renumber);
        assert_eq!(verdict(&old, &HostWord::Withdraws, false), Verdict::Renumber);
    }

    #[test]
    fn tries_back_off_to_a_minute_and_hosts_are_spread() {
        let wait = |tries, share| again(tries, share).duration_since(Instant::now()).as_secs_f64();
        for (tries, full) in [(0, 0.5), (3, 4.0), (7, 60.0), (u32::MAX, 60.0)] {
            assert!(
                wait(tries, 0.0) <= full / 2.0 && wait(tries, 1.0) <= full && wait(tries, 1.0) > full * 0.9
            );
        }
    }
}
