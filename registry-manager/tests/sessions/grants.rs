//! What sessions carry of grants, and take from agents.

use crate::agent::{hello, next};
use crate::site::{DEADLINE, Identity, Site, add_host, unix_now};
use echelon_core::change::Change;
use echelon_core::digest::Digest;
use echelon_core::grant::{
    Basis, Chain, Grant, GrantId, Grantor, Incoming, Mark, Outgoing, Parent, Part, trail,
};
use echelon_core::id::{HostId, Lineage};
use echelon_core::message::{FromAgent, Query, Request, ToAgent};
use echelon_core::promotion::GrantReport;
use echelon_core::report::{AlarmReport, ManagerReport, ManagerRole};
use echelon_identity::proof::prove_grant;
use echelon_identity::{IdentityDirectory, Spiffe};
use echelon_transport::Channel;
use echelon_wire::{Wire, chain_parts};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A session of which the test reads every message, begun by an agent that names these grants.
async fn begin_with(site: &Site, identity: &Identity, grants: Vec<Digest>) -> Channel {
    let connection = site.connect(identity).await;
    let mut channel = connection.open().await.unwrap();
    channel.send(&Request::Session.encode()).await.unwrap();
    channel.send(&FromAgent::Hello(hello(grants)).encode()).await.unwrap();
    channel
}

/// The grants of a manager, of which the agent of this session has none.
async fn all_grants(channel: &mut Channel) -> Chain {
    assert!(matches!(next(channel).await, Some(ToAgent::Welcome(_))));
    let Some(ToAgent::Grants(part)) = next(channel).await else { panic!("no grants") };
    assert!(!part.more);
    Incoming::new(None).take(part).unwrap()
}

/// Objects with these grants to somebody who goes by others.
async fn object(channel: &mut Channel, theirs: &Chain, ours: &Chain) {
    let mut told = Outgoing::new(trail(Some(theirs)));
    for part in chain_parts(&mut told, ours) {
        channel.send(&FromAgent::Grants(part).encode()).await.unwrap();
    }
}

/// Protects: an agent knows by whose word a view was written before it is shown the view, and is told once.
#[tokio::test]
async fn grants_come_before_anything_of_the_view_where_they_are_not_the_agents() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut channel = begin_with(&site, &identity, trail(None)).await;
    let grants = all_grants(&mut channel).await;
    assert_eq!(grants.head().id.lineage, site.manager.registry().position().lineage);
    for same in [trail(Some(&grants)), vec![]] {
        let mut channel = begin_with(&site, &identity, same.clone()).await;
        assert!(matches!(next(&mut channel).await, Some(ToAgent::Welcome(_))));
        assert!(matches!(next(&mut channel).await, Some(ToAgent::Place(_))), "{same:?}");
    }
}

/// Protects: grants for which an agent refuses a manager end the session, whatever they are.
#[tokio::test]
async fn an_agent_that_shows_other_grants_has_no_session_any_more() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut channel = begin_with(&site, &identity, trail(None)).await;
    let grants = all_grants(&mut channel).await;
    let before = grants.head();
    let forged = Grant {
        id: GrantId { lineage: before.id.lineage, epoch: 2 },
        parent: Some(Parent { grant: before.id, mark: Mark { position: before.id.at(0), hash: [0; 32] } }),
        basis: Basis::Handover,
        ..before.clone()
    };
    let forged = grants.extended(forged).unwrap();
    object(&mut channel, &grants, &forged).await;
    while next(&mut channel).await.is_some() {}
}

/// So many grants more, each forced by the console, to the manager on this host.
fn forced(site: &Site, grants: &Chain, count: usize, holder: HostId) -> Chain {
    let directory = IdentityDirectory::open(&site.state.path().join("console")).unwrap();
    let credentials = directory.load_credentials().unwrap();
    let Spiffe::Console(console) = credentials.peer().unwrap().subject else { panic!("no console") };
    (0..count).fold(grants.clone(), |chain, _| {
        let before = chain.head();
        let revision = site.manager.registry().position().revision;
        let grant = Grant {
            id: GrantId { lineage: Lineage(Uuid::now_v7()), epoch: before.id.epoch + 1 },
            holder,
            parent: Some(Parent {
                grant: before.id,
                mark: Mark { position: before.id.at(revision), hash: [0; 32] },
            }),
            basis: Basis::Force,
            at: unix_now(),
            grantor: Grantor::Console(console.clone()),
            ..before.clone()
        };
        chain.extended(prove_grant(&credentials, &grant).unwrap()).unwrap()
    })
}

async fn lineage(site: &Site) -> usize {
    site.console.query::<GrantReport>(Query::Lineage).await.unwrap().len()
}

/// Protects: a manager that was away for a thousand promotions is told by any agent, though that is more than a frame;
/// and what is told is proved as it comes, so that nobody has a manager hold what proves nothing.
#[tokio::test]
async fn a_thousand_grants_that_an_agent_knows_are_taken_in_and_none_that_are_not_proved() {
    let site = Site::start().await;
    let (identity, other) = (site.enrol("a").await, site.join("other").await);
    let mut channel = begin_with(&site, &identity, trail(None)).await;
    let grants = all_grants(&mut channel).await;
    let long = forced(&site, &grants, 999, other.host);
    let parts = chain_parts(&mut Outgoing::new(trail(Some(&grants))), &long);
    let bytes: usize = parts.iter().map(|part| FromAgent::Grants(part.clone()).encode().len()).sum();
    assert!(bytes > 1_000_000 && parts.len() > 15, "{bytes} bytes in {} parts", parts.len());

    // One of the first part is not signed: the second part is not awaited.
    let mut unsigned = parts[0].clone();
    unsigned.grants[3].proof = None;
    channel.send(&FromAgent::Grants(unsigned).encode()).await.unwrap();
    while next(&mut channel).await.is_some() {}
    // And what goes on without end is not listened to.
    let mut channel = begin_with(&site, &identity, trail(None)).await;
    all_grants(&mut channel).await;
    let nothing = Part { after: Some(grants.digest()), grants: vec![], more: true };
    channel.send(&FromAgent::Grants(nothing).encode()).await.unwrap();
    while next(&mut channel).await.is_some() {}
    assert_eq!(lineage(&site).await, 1);

    let mut channel = begin_with(&site, &identity, trail(None)).await;
    all_grants(&mut channel).await;
    for part in parts {
        channel.send(&FromAgent::Grants(part).encode()).await.unwrap();
    }
    while next(&mut channel).await.is_some() {}
    let end = Instant::now() + DEADLINE;
    while lineage(&site).await != 1_000 {
        assert!(Instant::now() < end, "{} grants", lineage(&site).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It is fenced, and says so, though what was committed since is not here, and the new primary cannot be reached.
    let managers: Vec<ManagerReport> = site.console.query(Query::Managers).await.unwrap();
    let standing = |name: &str| {
        let report = managers.iter().find(|manager| manager.host.as_str() == name).unwrap();
        let standing = report.standing.clone().unwrap();
        (report.role, standing.role, standing.fenced_since, standing.follows_nobody_ms.is_some())
    };
    let since = long.grants().nth(1).unwrap().at.to_string();
    assert_eq!(standing("registry"), (ManagerRole::Standby, "standby".to_owned(), Some(since), true));
    assert_eq!(standing("other"), (ManagerRole::Primary, "primary".to_owned(), None, false));
    // It goes by them from now on, and tells an agent that has none all of them, and one that has them none.
    let site = site.restart().await;
    let mut channel = begin_with(&site, &identity, trail(None)).await;
    next(&mut channel).await;
    let mut told = Incoming::new(None);
    let mut complete = None;
    while complete.is_none() {
        let Some(ToAgent::Grants(part)) = next(&mut channel).await else { panic!("no grants") };
        let more = part.more;
        complete = Some(told.take(part).unwrap()).filter(|_| !more);
    }
    assert!(complete.unwrap() == long);
    let mut channel = begin_with(&site, &identity, trail(Some(&long))).await;
    assert!(matches!(next(&mut channel).await, Some(ToAgent::Welcome(_))));
    assert!(matches!(next(&mut channel).await, Some(ToAgent::Place(_))));
}

/// Protects: a manager that was removed, and then restores a backup, puts nobody out of its place by way of an agent that
/// had not heard of the removal; it is told as a conflict, which an admin can settle.
#[tokio::test]
async fn a_grant_of_a_manager_that_was_removed_fences_nobody() {
    let site = Site::start().await;
    let (identity, gone) = (site.enrol("a").await, site.join("gone").await);
    let host = "gone".parse().unwrap();
    site.edit(vec![Change::RemoveManager { host, accept_loss: false, compromised: false }]).await;
    let mut channel = begin_with(&site, &identity, trail(None)).await;
    let grants = all_grants(&mut channel).await;
    let before = grants.head();
    let mark = Mark { position: site.manager.registry().position(), hash: [0; 32] };
    let restored = Grant {
        id: GrantId { lineage: Lineage(Uuid::now_v7()), epoch: 2 },
        holder: gone.host,
        parent: Some(Parent { grant: before.id, mark }),
        basis: Basis::Restore,
        at: unix_now(),
        ..before.clone()
    };
    let offered = grants.extended(prove_grant(&gone.credentials, &restored).unwrap()).unwrap();
    object(&mut channel, &grants, &offered).await;
    while next(&mut channel).await.is_some() {}
    let end = Instant::now() + DEADLINE;
    loop {
        let alarms: Vec<AlarmReport> = site.console.query(Query::Alarms).await.unwrap();
        if alarms.iter().any(|alarm| alarm.name.as_str() == "conflict") {
            break;
        }
        assert!(Instant::now() < end, "{alarms:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.edit(vec![add_host("later", "/")]).await;
    assert_eq!(site.manager.registry().position().epoch, 1);
}
