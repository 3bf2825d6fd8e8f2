//! What hosts announce of their own packages: two owners, one package.

use crate::rig::Rig;
use crate::support::*;
use echelon_core::access::{Access, Identity, Subject};
use echelon_core::announce::{AnnouncedSpec, Announcement, HostWord, overlay};
use echelon_core::announcements::{Announcements, SayError, Saying, Stage};
use echelon_core::change::{Change, PackageSpec};
use echelon_core::check::{Check, CheckKind, CheckText};
use echelon_core::edit::{Context, Edited};
use echelon_core::id::{Lineage, RequestId};
use echelon_core::limits::{MAX_PACKAGES_PER_HOST, REQUEST_TTL};
use echelon_core::message::Health;
use echelon_core::package::{Listens, Package, Role};
use echelon_core::position::Position;
use echelon_core::project::project;
use echelon_core::refusal::Refusal;
use echelon_core::registry::Registry;
use echelon_core::report::{CandidateState, Outcome};
use echelon_core::row::{Actor, Row};
use echelon_core::view::Place;
use std::sync::Arc;
use uuid::Uuid;

/// The worked example, in which these hosts may announce these types.
fn allowing(allowed: &[(&str, &[&str])]) -> World {
    let mut world = reference_case();
    let mut rows: Vec<Row> = world.registry.rows().collect();
    rows.extend(allowed.iter().map(|(host, types)| {
        Row::Identity(Identity {
            subject: Subject::Host(world.host_id(host)),
            enrolment: 1,
            access: Access::Agent,
            allow_types: types.iter().map(|t| ty(t)).collect(),
            key_hash: [0; 32],
            enrolled: START,
        })
    }));
    world.registry = Registry::from_rows(world.registry.position(), rows).unwrap();
    world
}

fn world() -> World {
    allowing(&[("agent2", &[CC, "audit"]), ("agent3", &[CC]), ("framework-manager", &[CC])])
}

fn on(port: u16) -> HostWord {
    HostWord::Runs(AnnouncedSpec { port: Some(port.try_into().unwrap()), ..AnnouncedSpec::default() })
}

fn says(world: &World, host: &str, of: &str, word: HostWord) -> Change {
    Change::Announce { host: world.host_id(host), ty: ty(of), word }
}

/// Announces, which must be taken in.
fn announce(world: &mut World, host: &str, of: &str, word: HostWord) -> RequestId {
    let change = says(world, host, of, word);
    world.edit([change]).request
}

fn package(world: &World, host: &str, of: &str) -> Option<Arc<Package>> {
    world.registry.package(world.host_id(host), &ty(of)).cloned()
}

#[test]
fn an_announced_package_is_added_with_the_operators_defaults_and_the_role_that_is_due() {
    let mut world = world();
    let number = announce(&mut world, "agent2", CC, on(7100));
    let cc = package(&world, "agent2", CC).unwrap();
    assert_eq!((cc.priority, cc.weight, cc.role), (100, 1, Some(Role::Backup)));
    assert_eq!(cc.listens, Listens::Port(7100.try_into().unwrap()));
    assert!(cc.is_announced() && !cc.is_withdrawn() && cc.host_side.unwrap().number == number);
    announce(&mut world, "agent2", "audit", on(7200));
    assert_eq!(
        package(&world, "agent2", "audit").unwrap().role,
        Some(Role::Primary),
        "the first of its type"
    );
}

#[test]
fn an_announcement_of_a_recorded_package_changes_port_version_and_check_alone() {
    let mut world = world();
    let recorded = PackageSpec {
        listens: Listens::At(parse("nat.example:7000")),
        priority: 7,
        weight: 9,
        version: Some(parse("1")),
        check: Check::of(CheckKind::Exchange { send: CheckText::default(), expect: CheckText::default() }),
    };
    let set = Change::SetPackage { host: name("agent3"), ty: ty(CC), spec: recorded.clone() };
    world.edit([set, withdraw("agent3", CC)]);
    announce(&mut world, "agent3", CC, on(7001));
    let now = package(&world, "agent3", CC).unwrap();
    assert_eq!(now.listens, Listens::At(parse("nat.example:7001")), "the address is the operator's");
    assert_eq!((now.priority, now.weight, now.role), (7, 9, Some(Role::Backup)));
    assert_eq!((&now.version, &now.check), (&recorded.version, &recorded.check), "left out, so left alone");
    assert!(now.withdrawn.is_some(), "an announcement lifts no operator's withdrawal");
    assert!(world.view().manager(&ty(CC), world.host_id("agent3")).unwrap().is_withdrawn());

    let all = AnnouncedSpec { port: None, version: Some(parse("2")), check: Some(Check::default()) };
    announce(&mut world, "agent3", CC, HostWord::Runs(all));
    let now = package(&world, "agent3", CC).unwrap();
    assert_eq!((now.version.as_ref(), &now.check), (Some(&parse("2")), &Check::default()));
    assert_eq!(now.listens, Listens::At(parse("nat.example:7001")));
}

#[test]
fn either_side_withdraws_and_only_it_restores() {
    let mut world = world();
    let served = |world: &World| !package(world, "agent3", CC).unwrap().is_withdrawn();
    announce(&mut world, "agent3", CC, HostWord::Withdraws);
    let package_now = package(&world, "agent3", CC).unwrap();
    assert!(
        package_now.is_withdrawn_by_host() && !package_now.is_announced(),
        "it only withdrew what was recorded"
    );
    world.edit([restore("agent3", CC)]);
    assert!(!served(&world), "the operator does not speak for the host");
    world.edit([withdraw("agent3", CC)]);
    announce(&mut world, "agent3", CC, on(7000));
    assert!(!served(&world), "nor the host for the operator");
    world.edit([restore("agent3", CC)]);
    assert!(served(&world));
}

#[test]
fn what_the_operator_records_keeps_the_hosts_side() {
    let mut world = world();
    announce(&mut world, "agent2", CC, HostWord::Runs(AnnouncedSpec::default()));
    let announced = package(&world, "agent2", CC).unwrap();
    assert_eq!(announced.role, None, "inventory");
    let refusal = world.refuse([add_manager("agent2", CC)]);
    assert!(matches!(refusal, Refusal::PackageExists { .. }), "{refusal}");
    world.edit([Change::SetPackage { host: name("agent2"), ty: ty(CC), spec: manager_spec() }]);
    let now = package(&world, "agent2", CC).unwrap();
    assert_eq!((now.host_side, now.role), (announced.host_side, Some(Role::Backup)));
}

#[test]
fn only_types_of_the_identity_are_taken_from_a_host_and_never_registry() {
    let mut world = world();
    for (host, of) in [("agent3", "audit"), ("agent1", CC), ("agent2", "registry")] {
        for word in [on(7000), HostWord::Withdraws] {
            let change = says(&world, host, of, word);
            let refusal = world.refuse([change]);
            assert!(matches!(refusal, Refusal::TypeNotAllowed { .. }), "{host} {of}: {refusal}");
        }
    }
    let stranger = Change::Announce { host: host_id(5), ty: ty(CC), word: on(1) };
    assert_eq!(world.refuse([stranger]).name(), "not-enrolled");
    let nothing = says(&world, "agent2", CC, HostWord::Withdraws);
    assert!(matches!(world.refuse([nothing]), Refusal::UnknownPackage { .. }));
}

#[test]
fn a_host_takes_no_more_room_than_an_operator_could_give_it() {
    let types: Vec<String> = (0..=MAX_PACKAGES_PER_HOST).map(|n| format!("t{n}")).collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let mut world = allowing(&[("agent2", &types)]);
    for of in &types[1..] {
        announce(&mut world, "agent2", of, on(7000));
    }
    let one_more = says(&world, "agent2", types[0], on(7000));
    assert!(matches!(world.refuse([one_more]), Refusal::TooManyPackages { .. }));
}

#[test]
fn an_announcement_that_comes_late_has_no_effect() {
    let mut world = world();
    let late = world.set([says(&world, "agent3", CC, on(7001))]);
    announce(&mut world, "agent3", CC, on(7002));
    let refusal = world.registry.edit(&late, &world.context()).unwrap_err();
    assert!(matches!(refusal, Refusal::Superseded { .. }), "{refusal}");
}

#[test]
fn an_announcement_repeated_after_a_removal_does_not_bring_the_package_back() {
    let mut world = world();
    let set = world.set([says(&world, "agent2", CC, on(7100))]);
    let context = Context { content: [9; 32], actor: Actor::Agent(name("agent2")), ..world.context() };
    let Edited::Done(next, _) = world.registry.edit(&set, &context).unwrap() else { panic!() };
    world.registry = *next;
    world.edit([remove_package("agent2", CC)]);
    let again = world.registry.edit(&set, &context).unwrap();
    assert!(matches!(again, Edited::Repeated(_)));
    world.now = world.now + REQUEST_TTL + secs(1);
    world.edit([add_domain("/later")]);
    let context = Context { now: world.now, ..context };
    assert_eq!(world.registry.edit(&set, &context).unwrap_err().name(), "request-too-old");
    announce(&mut world, "agent2", CC, on(7100));
    assert!(package(&world, "agent2", CC).is_some(), "a new one does");
}

#[test]
fn a_package_that_its_host_reports_withdrawn_is_withdrawn_everywhere_at_once() {
    let mut rig = Rig::new(reference_case(), "agent4");
    assert_eq!(rig.chosen(), "agent3");
    rig.report("agent3", Health::Withdrawn);
    assert_eq!((rig.chosen(), rig.outcome()), ("agent1", Outcome::Home), "home is who serves");
    assert_eq!(rig.state("agent3"), CandidateState::Withdrawn);
    assert!(!rig.targets().contains(&"agent3"), "not even as a last resort");
    let entry = rig.route().entries.iter().find(|e| e.state == CandidateState::Withdrawn).unwrap();
    assert_eq!(entry.reason, "withdrawn by its host");
    assert_eq!(rig.route().home().unwrap().candidate.manager.name, name("agent1"));
    rig.silence("agent3", Health::Withdrawn);
    assert_eq!(rig.state("agent3"), CandidateState::Withdrawn, "its agent's silence lifts nothing");
    rig.report("agent3", Health::Passing);
    rig.pass(secs(60));
    assert_eq!(rig.chosen(), "agent3");
}

/// A host's announcements beside a registry that takes them in.
struct Host {
    world: World,
    said: Announcements,
    fresh: u64,
}

impl Host {
    fn new() -> Self {
        Self { world: world(), said: Announcements::default(), fresh: 1000 }
    }

    fn fresh(&mut self) -> RequestId {
        self.fresh += 1;
        request(self.world.now, self.fresh)
    }

    fn say(&mut self, of: &str, word: HostWord) -> Result<Saying, SayError> {
        let (fresh, place, now) = (self.fresh(), self.world.place("agent2"), self.world.now);
        self.said.say((&ty(of), word), &place, fresh, now)
    }

    fn offer(&mut self) -> Option<Announcement> {
        let (fresh, now) = (self.fresh(), self.world.now);
        self.said.offer(&ty(CC), fresh, now)
    }

    /// Hands the announcement of [`CC`] to the registry; the answer gets lost unless it is `heard`.
    fn commit(&mut self, heard: bool) {
        let Announcement { number, ty, word } = self.offer().unwrap();
        let host = self.world.host_id("agent2");
        let mut set = self.world.set([Change::Announce { host, ty: ty.clone(), word }]);
        set.request = number;
        let context = Context { content: [1; 32], ..self.world.context() };
        let position = match self.world.registry.edit(&set, &context).unwrap() {
            Edited::Done(next, commit) => {
                self.world.registry = *next;
                commit.position
            }
            Edited::Repeated(revision) => Position { revision, ..self.world.registry.position() },
        };
        if heard {
            self.said.committed(&ty, number, position);
        }
    }

    fn stage(&self) -> Stage {
        self.said.get(&ty(CC)).unwrap().stage
    }

    /// Shows it its place, as of now.
    fn see(&mut self) -> usize {
        let (place, now) = (self.world.place("agent2"), self.world.registry.position());
        self.said.see(&place, Some(now)).len()
    }
}

#[test]
fn the_newest_announcement_counts_and_the_same_again_is_the_same_one() {
    let mut host = Host::new();
    let Ok(Saying::New(first)) = host.say(CC, on(7100)) else { panic!() };
    assert_eq!(host.say(CC, on(7100)), Ok(Saying::Same(first)));
    let Ok(Saying::New(second)) = host.say(CC, on(7101)) else { panic!() };
    assert!(second > first);
    host.commit(true);
    assert_eq!(host.say(CC, on(7101)), Ok(Saying::Same(second)), "committed, too");
    assert!(matches!(host.stage(), Stage::Committed(_)) && host.said.pending().next().is_none());
    host.world.now = host.world.now - secs(3600);
    let Ok(Saying::New(third)) = host.say(CC, HostWord::Withdraws) else { panic!() };
    assert!(third > second, "though the clock was set back");
}

#[test]
fn what_an_operator_has_written_over_is_announced_anew() {
    let mut host = Host::new();
    host.say(CC, on(7100)).unwrap();
    host.commit(true);
    host.see();
    assert!(matches!(host.say(CC, on(7100)), Ok(Saying::Same(_))), "it still counts");
    let spec = PackageSpec { listens: Listens::Port(7000.try_into().unwrap()), ..PackageSpec::default() };
    host.world.edit([Change::SetPackage { host: "agent2".parse().unwrap(), ty: ty(CC), spec }]);
    host.see();
    assert!(matches!(host.say(CC, on(7100)), Ok(Saying::New(_))));
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again_under_the_same_number() {
    let mut host = Host::new();
    host.say(CC, on(7100)).unwrap();
    host.commit(false);
    let revision = host.world.registry.position().revision;
    assert_eq!(host.stage(), Stage::Offered);
    host.commit(true);
    assert_eq!(host.world.registry.position().revision, revision, "one effect");
    assert!(matches!(host.stage(), Stage::Committed(p) if p.revision == revision));
}

#[test]
fn a_package_that_the_operator_removes_is_announced_no_more() {
    let mut host = Host::new();
    host.say(CC, on(7100)).unwrap();
    host.commit(true);
    let before = host.world.place("agent2");
    assert_eq!(host.see(), 0);
    assert!(matches!(host.stage(), Stage::Settled(_)));
    host.world.edit([remove_package("agent2", CC)]);
    assert_eq!(host.said.see(&before, None), Vec::new(), "an old place says nothing");
    assert_eq!(host.see(), 1);
    assert!(host.said.get(&ty(CC)).is_none());
    assert!(matches!(host.say(CC, on(7100)), Ok(Saying::New(_))), "a new one brings it back");
}

#[test]
fn a_removal_is_noticed_though_the_package_was_never_seen_and_a_place_from_before_is_no_removal() {
    let mut host = Host::new();
    let before = (host.world.place("agent2"), host.world.registry.position());
    host.say(CC, on(7100)).unwrap();
    host.commit(true);
    assert!(host.said.see(&before.0, Some(before.1)).is_empty() && host.said.get(&ty(CC)).is_some());
    assert_eq!(host.said.unsettled().len(), 1, "its own host goes by it until it sees it");
    host.world.edit([remove_package("agent2", CC)]);
    assert_eq!(host.see(), 1);
}

#[test]
fn a_chain_of_states_that_may_lack_it_is_told_again() {
    let mut host = Host::new();
    host.say(CC, on(7100)).unwrap();
    host.commit(true);
    let place = host.world.place("agent2");
    let other = Position { lineage: Lineage(Uuid::from_u128(99)), ..host.world.registry.position() };
    assert!(host.said.see(&place, Some(other)).is_empty());
    assert_eq!(host.stage(), Stage::Offered);
}

#[test]
fn what_was_kept_for_long_is_told_under_a_number_that_is_taken_and_what_was_told_keeps_its_own() {
    let mut host = Host::new();
    let Ok(Saying::New(first)) = host.say(CC, on(7100)) else { panic!() };
    host.world.now = host.world.now + REQUEST_TTL * 2;
    let offered = host.offer().unwrap().number;
    assert!(offered > first && offered.made_at() == Some(host.world.now));
    host.world.now = host.world.now + REQUEST_TTL * 2;
    assert_eq!(host.offer().unwrap().number, offered, "it may be committed under this one");
}

#[test]
fn what_was_never_told_is_withdrawn_by_forgetting_it() {
    let mut host = Host::new();
    assert_eq!(host.say(CC, HostWord::Withdraws), Err(SayError::Unknown(ty(CC))));
    assert_eq!(host.say("web", on(1)), Err(SayError::NotAllowed(ty("web"))));
    host.say(CC, on(7100)).unwrap();
    assert_eq!(host.say(CC, HostWord::Withdraws), Ok(Saying::Idle));
    assert!(host.said.get(&ty(CC)).is_none());
    host.say(CC, on(7100)).unwrap();
    host.offer();
    assert!(matches!(host.say(CC, HostWord::Withdraws), Ok(Saying::New(_))), "it may be committed");
}

#[test]
fn a_host_that_lost_its_memory_withdraws_nothing_twice() {
    let mut host = Host::new();
    host.say(CC, on(7100)).unwrap();
    host.commit(true);
    host.say(CC, HostWord::Withdraws).unwrap();
    host.commit(true);
    host.said = Announcements::default();
    assert_eq!(host.say(CC, HostWord::Withdraws), Ok(Saying::Idle));
    let Ok(Saying::New(number)) = host.say(CC, on(7100)) else { panic!() };
    let recorded = package(&host.world, "agent2", CC).unwrap().host_side.unwrap().number;
    assert!(number > recorded);
}

/// What the host itself sees before an edit is committed is what everybody sees after it.
#[test]
fn a_host_goes_by_its_announcement_as_if_it_were_committed() {
    let mut world = world();
    world.edit([move_host("agent2", "/sub1/sub1a"), add_domain("/quiet"), add_domain("/quiet/er")]);
    world.edit([move_host("agent2", "/quiet/er"), boundary("/quiet/er", CC, true)]);
    world.edit([withdraw("agent3", CC)]);
    let words = [("agent2", CC, on(7100)), ("agent2", "audit", on(7)), ("agent3", CC, on(7001))];
    for (host, of, word) in words.into_iter().chain([("agent3", CC, HostWord::Withdraws)]) {
        let (view, place) = (world.view(), world.place(host));
        let set = world.set([says(&world, host, of, word.clone())]);
        let said = Announcement { number: set.request, ty: ty(of), word };
        let (own_view, own_place) = overlay(&view, &place, [said.clone()]);
        let Edited::Done(next, _) = world.registry.edit(&set, &world.context()).unwrap() else { panic!() };
        world.registry = *next;
        assert_eq!(own_view.digest(), project(&world.registry).digest(), "{host} {of}");
        let mut committed = world.place(host);
        // A number is known only once the edit is committed.
        committed.packages.iter_mut().filter(|p| p.host_side.is_some()).for_each(|p| p.fencing = None);
        assert_eq!(own_place, committed, "{host} {of}");
        assert!(own_place.packages.iter().all(|p| p.settled_role() != Some(Role::Primary)));
        let ahead = overlay(&world.view(), &place, [said.clone()]).1;
        assert_eq!(ahead, own_place, "a view that came before its place shows no other primary");
        let stranger = Place { allow_types: Default::default(), ..place.clone() };
        assert_eq!(overlay(&view, &stranger, [said]).1, stranger, "not one of a type it may not announce");
    }
}
