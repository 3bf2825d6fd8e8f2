//! What sessions carry of grants, and take from agents.

use crate::agent::{hello, next};
use crate::site::{DEADLINE, Identity, Site, add_host, unix_now};
use echelon_core::change::Change;
use echelon_core::digest::Digest;
use echelon_core::grant::{Basis, Grant, GrantId, Mark, Parent};
use echelon_core::id::Lineage;
use echelon_core::message::{FromAgent, Query, Request, ToAgent};
use echelon_core::report::AlarmReport;
use echelon_identity::proof::prove_grant;
use echelon_transport::Channel;
use echelon_wire::Wire;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A session of which the test reads every message, begun by an agent that keeps grants with this digest.
async fn begin_with(site: &Site, identity: &Identity, grants: Option<Digest>) -> Channel {
    let connection = site.connect(identity).await;
    let mut channel = connection.open().await.unwrap();
    channel.send(&Request::Session.encode()).await.unwrap();
    channel.send(&FromAgent::Hello(hello(grants)).encode()).await.unwrap();
    channel
}

/// Protects: an agent knows by whose word a view was written before it is shown the view, and is told once.
#[tokio::test]
async fn grants_come_before_anything_of_the_view_where_they_are_not_the_agents() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut channel = begin_with(&site, &identity, Some(Digest::default())).await;
    assert!(matches!(next(&mut channel).await, Some(ToAgent::Welcome(_))));
    let Some(ToAgent::Grants(grants)) = next(&mut channel).await else { panic!("no grants") };
    assert_eq!(grants.head().id.lineage, site.manager.registry().position().lineage);
    for same in [Some(grants.digest()), None] {
        let mut channel = begin_with(&site, &identity, same).await;
        assert!(matches!(next(&mut channel).await, Some(ToAgent::Welcome(_))));
        assert!(matches!(next(&mut channel).await, Some(ToAgent::Place(_))), "{same:?}");
    }
}

/// Protects: grants for which an agent refuses a manager end the session, whatever they are.
#[tokio::test]
async fn an_agent_that_shows_other_grants_has_no_session_any_more() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut channel = begin_with(&site, &identity, Some(Digest::default())).await;
    next(&mut channel).await;
    let Some(ToAgent::Grants(grants)) = next(&mut channel).await else { panic!("no grants") };
    let before = grants.head();
    let forged = Grant {
        id: GrantId { lineage: before.id.lineage, epoch: 2 },
        parent: Some(Parent { grant: before.id, mark: Mark { position: before.id.at(0), hash: [0; 32] } }),
        basis: Basis::Handover,
        ..before.clone()
    };
    let forged = grants.extended(forged).unwrap();
    channel.send(&FromAgent::Grants(forged).encode()).await.unwrap();
    while next(&mut channel).await.is_some() {}
}

/// Protects: a manager that was removed, and then restores a backup, puts nobody out of its place by way of an agent that
/// had not heard of the removal; it is told as a conflict, which an admin can settle.
#[tokio::test]
async fn a_grant_of_a_manager_that_was_removed_fences_nobody() {
    let site = Site::start().await;
    let (identity, gone) = (site.enrol("a").await, site.join("gone").await);
    let host = "gone".parse().unwrap();
    site.edit(vec![Change::RemoveManager { host, accept_loss: false, compromised: false }]).await;
    let mut channel = begin_with(&site, &identity, Some(Digest::default())).await;
    next(&mut channel).await;
    let Some(ToAgent::Grants(grants)) = next(&mut channel).await else { panic!("no grants") };
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
    channel.send(&FromAgent::Grants(offered).encode()).await.unwrap();
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
