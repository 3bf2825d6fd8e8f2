//! A whole agent as a witness: several registry managers under a test's control, some of which are out of date.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod support;

use echelon_core::grant::{Basis, Chain, Grant, GrantId, Grantor, Mark, Parent, Proof, SyncRule, trail};
use echelon_core::id::{DomainId, HostId, Lineage};
use echelon_core::message::{ManagerHeartbeat, ToAgent, ViewMark};
use echelon_core::policy::{Policy, PolicySettings, TypeSelector};
use echelon_core::signed_mark::SignedMark;
use echelon_core::view::ViewRow;
use echelon_identity::Spiffe;
use echelon_identity::proof::{prove_grant, prove_mark};
use registry_agent::{Agent, Handle};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use support::{Manager, Seat, World, config, eventually, now};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Short, so that nothing is waited for; a session that hears nothing for three of these ends.
const BEAT: Duration = Duration::from_secs(5);

/// Two managers, of which the first one is nearer, and an enrolled host that is not started yet.
struct Site {
    near: Manager,
    far: Manager,
    _dir: tempfile::TempDir,
    state: PathBuf,
    world: World,
}

impl Site {
    async fn new() -> Self {
        let near = Manager::start().await;
        let far = near.beside(78, "127.0.0.1:0".parse().unwrap()).await;
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let host = near.enrolled(&state, "agent1").await;
        let world =
            World::new(&near, host, vec![], vec![]).with(near.row(1)).with(far.row(2)).with(at_once());
        Self { near, far, _dir: dir, state, world }
    }

    async fn start(&self) -> Handle {
        Agent::start(config(&self.state), &CancellationToken::new()).await.unwrap()
    }

    /// The grant of the nearer manager since the registry was made.
    fn first(&self) -> Chain {
        let grant = Grant::first(self.world.grant.lineage, self.near.host, "fm1".parse().unwrap(), now());
        Chain::begin(grant).unwrap()
    }

    /// The chain with a forced grant more, for the manager on `holder`, signed by a console.
    fn forced(&self, chain: &Chain, lineage: u128, holder: HostId) -> Chain {
        let console: echelon_core::name::ConsoleName = "anna".parse().unwrap();
        let signer = self.near.credentials(&Spiffe::Console(console.clone()));
        let grant = forced(chain, lineage, holder, Grantor::Console(console));
        chain.extended(prove_grant(&signer, &grant).unwrap()).unwrap()
    }

    /// The world as it is written under the newest grant of a chain.
    fn under(&self, chain: &Chain) -> World {
        World { grant: chain.head().id, ..self.world.with(at_once()) }
    }
}

fn forced(chain: &Chain, lineage: u128, holder: HostId, grantor: Grantor) -> Grant {
    let before = chain.head().id;
    // What was written so far counts.
    let mark = Mark { position: before.at(4), hash: [1; 32] };
    Grant {
        id: GrantId { lineage: Lineage(Uuid::from_u128(lineage)), epoch: before.epoch + 1 },
        holder,
        parent: Some(Parent { grant: before, mark }),
        basis: Basis::Force,
        sync: SyncRule::alone(),
        at: now(),
        grantor,
        reason: None,
        rejects: vec![],
        proof: None,
    }
}

/// No hold for managers that are live again.
fn at_once() -> ViewRow {
    let zero = Some(Duration::ZERO);
    let settings = PolicySettings { failback_hold: zero, failback_jitter: zero, ..PolicySettings::default() };
    ViewRow::Policy(Policy { domain: DomainId::ROOT, ty: TypeSelector::All, settings })
}

/// Gives an agent everything, by these grants.
async fn give(seat: &mut Seat, chain: &Chain, world: &World) {
    seat.welcome(BEAT).await;
    seat.grants(chain, usize::MAX).await;
    seat.give_again(world).await;
    seat.send(&ToAgent::Place(world.place.clone())).await;
    seat.beat(world).await;
}

/// What the agent says last, where that are its grants.
async fn objection(seat: &mut Seat) -> Option<Chain> {
    seat.objection().await.map(|(chain, _)| chain)
}

async fn held(agent: &Handle, world: &World) {
    let position = world.mark().position;
    eventually("the view is shown", async || {
        agent.routes().replica().filter(|r| r.mark.position == position).map(|_| ())
    })
    .await;
}

fn alarms(agent: &Handle) -> Vec<String> {
    agent.status().alarms.iter().map(|a| format!("{}: {}", a.name, a.remedy)).collect()
}

/// Protects: an agent that has seen a promotion holds the old primary to it: refuses it, tells it why, uses another
/// manager, and remembers all this when it is started again.
#[tokio::test]
async fn an_old_primary_is_refused_and_told_what_it_has_missed() {
    let mut site = Site::new().await;
    let agent = site.start().await;
    let mut seat = site.near.session().await;
    assert_eq!(seat.hello.grants, trail(None), "it keeps none yet");
    let first = site.first();
    give(&mut seat, &first, &site.world).await;
    held(&agent, &site.world).await;
    seat.connection.close(2, "gone");

    let mut seat = site.far.session().await;
    assert_eq!(seat.hello.grants, trail(Some(&first)));
    let second = site.forced(&first, 10, site.far.host);
    let world = site.under(&second);
    give(&mut seat, &second, &world).await;
    held(&agent, &world).await;
    let grants = agent.status().grants.unwrap();
    assert_eq!((grants.lineage, grants.epoch, grants.count), (second.head().id.lineage, 2, 2));

    // The nearer one is live again, so that the agent comes back to it, and finds that it does not know.
    let mut old = site.near.session().await;
    assert_eq!(old.hello.grants, trail(Some(&second)));
    old.welcome(BEAT).await;
    old.grants(&first, usize::MAX).await;
    assert_eq!(objection(&mut old).await, Some(second.clone()));
    let mut seat = site.far.session().await;
    assert_eq!(agent.status().grants_refused, 1);
    give(&mut seat, &second, &world).await;
    assert_eq!(agent.routes().replica().unwrap().mark.position, world.mark().position);

    agent.stop().await.unwrap();
    let agent = site.start().await;
    assert_eq!(agent.status().grants.unwrap().epoch, 2, "before any manager is heard");
    let seat = tokio::select! {
        seat = site.near.session() => seat,
        seat = site.far.session() => seat,
    };
    assert_eq!(seat.hello.grants, trail(Some(&second)));
}

/// Protects: an agent that was away for a thousand promotions, about twenty years of weekly patches, follows them all,
/// also where the session ends on the way, and tells a manager that was away for as long.
#[tokio::test]
async fn a_thousand_grants_are_followed_by_an_agent_that_is_behind_and_told_to_a_manager_that_is() {
    let mut site = Site::new().await;
    let agent = site.start().await;
    let first = site.first();
    let mut seat = site.near.session().await;
    give(&mut seat, &first, &site.world).await;
    held(&agent, &site.world).await;
    seat.connection.close(2, "gone");

    let console: echelon_core::name::ConsoleName = "anna".parse().unwrap();
    let signer = site.near.credentials(&Spiffe::Console(console.clone()));
    let long = (1..1_000).fold(first.clone(), |chain, n| {
        let grant = forced(&chain, 100 + n, site.far.host, Grantor::Console(console.clone()));
        chain.extended(prove_grant(&signer, &grant).unwrap()).unwrap()
    });
    let count = || agent.status().grants.map(|grants| grants.count);
    let mut seat = site.far.session().await;
    seat.welcome(BEAT).await;
    let parts = seat.grants(&long, 5).await;
    assert!(parts > 15, "{parts}");
    eventually("some are kept", async || count().filter(|count| *count > 100)).await;
    seat.connection.close(2, "gone");
    let mut seat = tokio::select! {
        seat = site.near.session() => seat,
        seat = site.far.session() => seat,
    };
    assert_ne!(seat.hello.grants, trail(Some(&first)));
    seat.welcome(BEAT).await;
    let world = site.under(&long);
    assert!(seat.grants(&long, usize::MAX).await < parts, "it begins where the other session has ended");
    seat.give_again(&world).await;
    seat.send(&ToAgent::Place(world.place.clone())).await;
    seat.beat(&world).await;
    held(&agent, &world).await;
    assert_eq!(count(), Some(1_000));
    seat.connection.close(2, "gone");

    agent.stop().await.unwrap();
    let agent = site.start().await;
    let mut seat = tokio::select! {
        seat = site.near.session() => seat,
        seat = site.far.session() => seat,
    };
    assert_eq!(seat.hello.grants, trail(Some(&long)));
    seat.welcome(BEAT).await;
    seat.grants(&first, usize::MAX).await;
    let (told, parts) = seat.objection().await.unwrap();
    assert!(told == long && parts > 15, "{parts}");
    agent.stop().await.unwrap();
}

/// Protects: nobody is made primary by a grant that no admin has signed.
#[tokio::test]
async fn newer_grants_that_are_not_proved_are_not_gone_by() {
    let mut site = Site::new().await;
    let agent = site.start().await;
    let mut seat = site.near.session().await;
    let first = site.first();
    give(&mut seat, &first, &site.world).await;
    held(&agent, &site.world).await;
    let grantor = || Grantor::Console("anna".parse().unwrap());
    let unsigned = forced(&first, 10, site.far.host, grantor());
    let stranger = Manager::start().await;
    let console = Spiffe::Console("anna".parse().unwrap());
    let foreign = prove_grant(&stranger.credentials(&console), &unsigned).unwrap();
    let host = prove_grant(&site.near.credentials(&Spiffe::Host(site.world.place.host)), &unsigned).unwrap();
    for grant in [unsigned, foreign, host] {
        let forged = first.extended(grant).unwrap();
        seat.grants(&forged, usize::MAX).await;
        seat.give_again(&site.under(&forged)).await;
        assert_eq!(objection(&mut seat).await, None, "there is nothing that beats it");
        seat = tokio::select! {
            seat = site.near.session() => seat,
            seat = site.far.session() => seat,
        };
        assert_eq!(seat.hello.grants, trail(Some(&first)));
        seat.welcome(BEAT).await;
    }
    assert_eq!(agent.routes().replica().unwrap().mark, site.world.mark());
    assert_eq!(agent.status().grants_refused, 3);
}

/// Protects: of two lineages an agent keeps to the one it met first, says that somebody has to choose, and goes by
/// the choice.
#[tokio::test]
async fn two_lineages_are_an_alarm_until_somebody_has_chosen() {
    let mut site = Site::new().await;
    let agent = site.start().await;
    let mut seat = site.near.session().await;
    let first = site.first();
    let (left, right) = (site.forced(&first, 10, site.near.host), site.forced(&first, 11, site.far.host));
    let world = site.under(&left);
    give(&mut seat, &left, &world).await;
    held(&agent, &world).await;
    seat.grants(&right, usize::MAX).await;
    assert_eq!(objection(&mut seat).await, Some(left.clone()));
    let conflict = || alarms(&agent).iter().any(|alarm| alarm.starts_with("conflict: "));
    assert!(conflict(), "{:?}", alarms(&agent));

    let mut seat = tokio::select! {
        seat = site.near.session() => seat,
        seat = site.far.session() => seat,
    };
    let grant = forced(&right, 11, site.far.host, Grantor::Console("anna".parse().unwrap()));
    let choice = Grant { basis: Basis::Choice, rejects: vec![left.head().id], ..grant };
    let signer = site.far.credentials(&Spiffe::Console("anna".parse().unwrap()));
    let chosen = right.extended(prove_grant(&signer, &choice).unwrap()).unwrap();
    let world = World { revision: 4, ..site.under(&chosen) }.with(at_once());
    give(&mut seat, &chosen, &world).await;
    held(&agent, &world).await;
    assert!(!conflict(), "{:?}", alarms(&agent));
}

/// Protects: a session goes to the next manager when its own fails, and comes back to the nearer one once that lives.
#[tokio::test]
async fn a_session_goes_to_the_next_manager_and_comes_back_to_a_nearer_one() {
    let mut site = Site::new().await;
    let agent = site.start().await;
    let mut seat = site.near.session().await;
    let first = site.first();
    give(&mut seat, &first, &site.world).await;
    held(&agent, &site.world).await;
    let addr: SocketAddr = site.near.addr();
    let Site { near, mut far, world, .. } = site;
    near.die().await;
    drop(seat);
    let mut seat = far.session().await;
    give(&mut seat, &first, &world).await;
    eventually("the session is with the next", async || {
        agent.status().session.filter(|s| s.address == far.addr().to_string()).map(|_| ())
    })
    .await;
    eventually("the address is free", async || std::net::UdpSocket::bind(addr).ok().map(drop)).await;
    let mut near = far.beside(77, addr).await;
    let beats = async {
        loop {
            tokio::time::sleep(BEAT / 2).await;
            seat.beat(&world).await;
        }
    };
    tokio::select! {
        seat = near.session() => assert_eq!(seat.hello.grants, trail(Some(&first))),
        () = beats => {}
    }
}

/// Protects: a history that was rewritten is noticed by who was told another one.
#[tokio::test]
async fn two_histories_are_an_alarm() {
    let mut site = Site::new().await;
    let agent = site.start().await;
    let mut seat = site.near.session().await;
    give(&mut seat, &site.first(), &site.world).await;
    let (mark, place) = (site.world.mark(), site.world.place.digest());
    let beat = |hash: u8| ToAgent::Heartbeat(ManagerHeartbeat { mark, place, journal: Some([hash; 32]) });
    seat.send(&beat(1)).await;
    seat.send(&beat(1)).await;
    held(&agent, &site.world).await;
    assert_eq!(alarms(&agent), Vec::<String>::new());
    seat.send(&beat(2)).await;
    let told = seat.heartbeat(|beat| (!beat.alarms.is_empty()).then(|| beat.clone())).await;
    assert_eq!(told.alarms[0].notice.name.as_str(), "history-rewritten");
}

/// Protects: what an agent was shown it can prove to the next manager that it meets, also after it was started again.
#[tokio::test]
async fn what_was_shown_is_shown_to_the_next_manager_after_a_restart() {
    let mut site = Site::new().await;
    let agent = site.start().await;
    let mut seat = site.near.session().await;
    assert_eq!((&seat.hello.signed, seat.hello.keeps_signed), (&None, true));
    give(&mut seat, &site.first(), &site.world).await;
    let signer = site.near.credentials(&Spiffe::Manager(site.near.host));
    let next = site.world.with(site.far.row(3));
    let mark = Mark { position: next.mark().position, hash: [1; 32] };
    let signed = prove_mark(&signer, mark, now()).unwrap();
    seat.send(&ToAgent::Signed(signed.clone())).await;
    seat.delta(site.world.revision, &next, vec![site.far.row(3)]).await;
    held(&agent, &next).await;
    agent.stop().await.unwrap();
    let agent = site.start().await;
    let mut seat = site.near.session().await;
    assert_eq!(seat.hello.signed, Some(signed.clone()));
    // The certificates are told once in a session, and kept with each mark.
    give(&mut seat, &site.first(), &next).await;
    seat.send(&ToAgent::Signed(signed)).await;
    let mark = Mark { position: mark.position.next(), ..mark };
    let later = prove_mark(&signer, mark, now()).unwrap();
    let proof = Proof { certificates: vec![], ..later.proof.clone() };
    seat.send(&ToAgent::Signed(SignedMark { proof, ..later.clone() })).await;
    let (mark, place) = (ViewMark { position: mark.position, ..next.mark() }, next.place.digest());
    seat.send(&ToAgent::Heartbeat(ManagerHeartbeat { mark, place, journal: None })).await;
    eventually("the revision is shown", async || {
        agent.routes().replica().filter(|r| r.mark.position == mark.position).map(|_| ())
    })
    .await;
    seat.connection.close(9, "over");
    let seat = tokio::select! {
        seat = site.near.session() => seat,
        seat = site.far.session() => seat,
    };
    assert_eq!(seat.hello.signed, Some(later));
}
