//! The primary changes: by hand while edits go on, by force once it was killed; and what it kept comes to light.

use crate::pair::{Node, Pair, failure, host, knows, wait_for};
use echelon_client::ManagerClient;
use echelon_core::alarm::Severity;
use echelon_core::change::ChangeSet;
use echelon_core::grant::{Basis, Grant};
use echelon_core::id::RequestId;
use echelon_core::message::{FailureClass, Query};
use echelon_core::package::Role;
use echelon_core::promotion::{
    EvidenceReport, GrantReport, GrantState, LostEditReport, Promoted, PromotedReport, Promotion,
};
use echelon_core::report::AlarmReport;
use echelon_core::row::Row;
use echelon_identity::proof::prove_grant;
use echelon_identity::{Credentials, IdentityDirectory};
use echelon_store::JournalReader;
use registry_manager::paths::Paths;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use uuid::Uuid;

fn id() -> RequestId {
    RequestId(Uuid::now_v7())
}

fn force(id: RequestId, trial: bool) -> Promotion {
    let (to, reason) = ("spare".parse().unwrap(), Some("the disk is gone".parse().unwrap()));
    Promotion::Force { id, to, accept_loss: false, reason, trial }
}

fn hand_over(to: &str, trial: bool) -> Promotion {
    Promotion::HandOver { id: id(), to: to.parse().unwrap(), reason: None, trial }
}

fn done(promoted: Promoted) -> PromotedReport {
    let Promoted::Done(document) = promoted else { panic!("not done: {promoted:?}") };
    serde_json::from_str(&document).unwrap()
}

fn evidence(promoted: Promoted) -> EvidenceReport {
    let Promoted::Evidence(document) = promoted else { panic!("no evidence: {promoted:?}") };
    serde_json::from_str(&document).unwrap()
}

/// What a manager proposes, once it does: the old primary may have to be silent for a while first.
async fn proposed(console: &ManagerClient, id: RequestId) -> Grant {
    let mut proposed = None;
    wait_for("a proposal", async || {
        proposed = console.promotion(force(id, false)).await.ok();
        proposed.is_some()
    })
    .await;
    let Some(Promoted::Proposed { grant, .. }) = proposed else { panic!("not proposed: {proposed:?}") };
    ManagerClient::read_proposed(&grant).unwrap()
}

async fn primary(console: &ManagerClient) -> String {
    let registry = console.read().await.unwrap().registry;
    let primary = registry.packages().find(|p| p.ty.is_registry() && p.role == Some(Role::Primary)).unwrap();
    registry.host(primary.host).unwrap().name.to_string()
}

async fn grants(console: &ManagerClient) -> Vec<GrantReport> {
    console.query(Query::Lineage).await.unwrap()
}

/// Edits until it is told to stop. Gives what was acknowledged.
async fn write(console: ManagerClient, name: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{name}-{number}");
        match console.edit(host(&name), false).await {
            Ok(_) => acknowledged.push(name),
            Err(e) => panic!("an edit failed during a hand-over: {e:?}"),
        }
    }
    acknowledged
}

/// Protects: a planned promotion, asked for at either manager, loses no edit and fails none, says how long none was
/// accepted, and can be taken back the same way.
#[tokio::test]
async fn a_planned_promotion_loses_no_edit() {
    let pair = Pair::running().await;
    let (at_hub, at_spare) = (pair.console(&pair.primary).await, pair.console(&pair.standby).await);
    let before = grants(&at_spare).await;
    let would = evidence(at_spare.promotion(hand_over("spare", true)).await.unwrap());
    assert_eq!((would.refused, would.primary.answers, would.loss.possible), (None, true, false));
    assert_eq!(grants(&at_spare).await, before, "a trial changes nothing");

    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for (name, node) in [("h", &pair.primary), ("s", &pair.standby)] {
        let console = pair.console(node).await;
        writers.push(tokio::spawn(write(console, name.into(), Arc::clone(&stop))));
    }
    wait_for("some edits", async || knows(&at_spare, "s-5").await && knows(&at_spare, "h-5").await).await;
    let promoted = done(at_spare.promotion(hand_over("spare", false)).await.unwrap());
    assert_eq!((promoted.from.as_str(), promoted.to.as_str(), promoted.repeated), ("hub", "spare", false));
    assert!(promoted.accepts && promoted.pause_ms.is_some(), "{promoted:?}");
    assert_eq!((promoted.before.epoch, promoted.after.epoch), (1, 2));
    let back = done(at_spare.promotion(hand_over("hub", false)).await.unwrap());
    assert_eq!((back.from.as_str(), back.to.as_str(), back.after.epoch), ("spare", "hub", 3));
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    for name in &acknowledged {
        assert!(knows(&at_hub, name).await, "{name} is lost");
    }
    let again = done(at_spare.promotion(hand_over("hub", false)).await.unwrap());
    assert!(again.repeated, "{again:?}");
    assert_eq!(primary(&at_hub).await, "hub");
    let bases: Vec<_> = grants(&at_hub).await.into_iter().map(|g| (g.basis, g.state)).collect();
    let (past, newest) = (GrantState::Past, GrantState::Newest);
    assert_eq!(bases, [(Basis::Init, past), (Basis::Handover, past), (Basis::Handover, newest)]);
    let failure = failure(at_hub.promotion(hand_over("nobody", false)).await);
    assert_eq!((failure.error.as_str(), failure.class), ("unknown-host", FailureClass::Failed));
    assert!(acknowledged.len() > 10);
    let told = pair.primary.told("primary planned true hub 3").await;
    assert_eq!(
        told,
        ["primary started true hub 1", "standby planned true spare 2", "primary planned true hub 3"]
    );
    let told = pair.standby.told("standby planned true hub 3").await;
    assert_eq!(
        told,
        ["standby started true hub 1", "primary planned true spare 2", "standby planned true hub 3"]
    );
}

/// Protects: while the primary answers nobody takes its place by force; once it was killed, a console that reaches the
/// standby alone promotes that one, with a grant that the console signs and nobody else; the old primary follows when
/// it is back, and keeps what only it had, which can be made once more.
#[tokio::test]
async fn a_standby_is_promoted_by_force_once_the_primary_was_killed() {
    let mut pair = Pair::running().await;
    let console = pair.console(&pair.standby).await;
    console.edit(host("acknowledged"), false).await.unwrap();
    let refused = failure(console.promotion(force(id(), false)).await);
    assert_eq!((refused.error.as_str(), refused.class), ("primary-answers", FailureClass::Forbidden));
    let would = evidence(console.promotion(force(id(), true)).await.unwrap());
    assert_eq!(would.refused.map(|why| why.error), Some("primary-answers".into()));

    // An edit that the standby never gets: it is stopped first, and killed then.
    let at_hub = pair.console(&pair.primary).await;
    pair.standby.stand_still().await;
    let lost = tokio::spawn(async move { at_hub.edit(host("unheard-of"), false).await });
    wait_for("the edit to be written", async || {
        pair.primary.get("/healthz").await == 200 && {
            let reader = JournalReader::open(&Paths::of(&pair.primary.state).registry()).unwrap();
            let last = reader.backwards(0, u64::from(u32::MAX)).unwrap();
            last.first().is_some_and(|commit| {
                let named =
                    |row: &Option<Row>| matches!(row, Some(Row::Host(h)) if h.name.as_str() == "unheard-of");
                commit.rows.iter().any(|change| named(&change.after))
            })
        }
    })
    .await;
    pair.standby.kill();
    pair.primary.kill();
    assert!(lost.await.unwrap().is_err(), "what only the primary had is not acknowledged");

    pair.standby.start();
    pair.standby.wait_until_ready().await;
    let console = pair.console(&pair.standby).await;
    wait_for("the alarm of a silent primary", async || {
        let alarms: Vec<AlarmReport> = console.query(Query::Alarms).await.unwrap();
        let remedy = "echelon promote spare --force";
        alarms.iter().any(|a| {
            a.name.as_str() == "no-primary" && a.severity == Severity::Critical && a.remedy.contains(remedy)
        })
    })
    .await;
    let refused = failure(console.promotion(hand_over("spare", false)).await);
    assert_eq!((refused.error.as_str(), refused.class), ("no-primary", FailureClass::Unreachable));
    assert!(refused.remedy.contains("--force"), "{refused:?}");
    let would = evidence(console.promotion(hand_over("spare", true)).await.unwrap()).refused.unwrap();
    assert!(would.error == refused.error && would.remedy.contains("promote spare --force"), "{would:?}");
    let before = grants(&console).await;
    let would = evidence(console.promotion(force(id(), true)).await.unwrap());
    assert_eq!((would.refused, would.primary.answers, would.sync.enough), (None, false, true));
    assert!(!would.loss.possible, "{:?}", would.loss);
    assert_eq!(grants(&console).await, before, "a trial changes nothing");

    let name = id();
    let grant = proposed(&console, name).await;
    let to = || "spare".parse().unwrap();
    let stranger = prove_grant(&credentials_of(&pair.standby), &grant).unwrap();
    let refused = failure(console.promotion(Promotion::Signed { id: name, to: to(), grant: stranger }).await);
    assert_eq!((refused.error.as_str(), refused.class), ("not-proved", FailureClass::NotAllowed));
    let signed = prove_grant(&pair.identity(), &grant).unwrap();
    let promoted = console.promotion(Promotion::Signed { id: name, to: to(), grant: signed }).await.unwrap();
    let promoted = done(promoted);
    assert_eq!((promoted.from.as_str(), promoted.to.as_str(), promoted.accepts), ("hub", "spare", true));
    let told = pair.standby.told("primary forced true spare 2").await;
    assert_eq!(
        told[..2],
        ["standby started true hub 1", "standby forced false hub 1"],
        "it was refused first"
    );
    console.edit(host("after"), false).await.unwrap();
    let again = done(console.promotion(force(name, false)).await.unwrap());
    assert!(again.repeated && again.after.lineage == promoted.after.lineage, "{again:?}");
    assert!(knows(&console, "acknowledged").await);

    pair.primary.start();
    pair.primary.wait_until_ready().await;
    let at_hub = pair.console(&pair.primary).await;
    wait_for("the old primary to follow", async || knows(&at_hub, "after").await).await;
    assert_eq!((pair.primary.get("/primary").await, primary(&at_hub).await.as_str()), (503, "spare"));
    let told = pair.primary.told("standby fenced true spare 2").await;
    assert_eq!(
        told,
        ["primary started true hub 1", "primary started true hub 1", "standby fenced true spare 2"]
    );
    let lost: Vec<LostEditReport> = at_hub.query(Query::Lost).await.unwrap();
    let names: Vec<_> = lost.iter().flat_map(|edit| &edit.changed).map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["unheard-of"]);
    wait_for("the alarm of what is kept", async || {
        let alarms: Vec<AlarmReport> = at_hub.query(Query::Alarms).await.unwrap();
        alarms
            .iter()
            .any(|a| a.name.as_str() == "surplus" && a.subject == "hub" && a.message.starts_with("1 "))
    })
    .await;
    let edit = &lost[0];
    assert_eq!((edit.applied, edit.lost_to.lineage), (None, promoted.after.lineage));
    assert!(!knows(&at_hub, "unheard-of").await);
    let set = ChangeSet {
        request: edit.again,
        if_revision: None,
        allow_shrink: false,
        changes: edit.changes.clone(),
    };
    let made = at_hub.edit(set, false).await.unwrap();
    let lost: Vec<LostEditReport> = at_hub.query(Query::Lost).await.unwrap();
    assert_eq!(lost[0].applied, Some(made.position.revision));
    assert!(knows(&console, "unheard-of").await);
}

/// Protects: an edit that a standby has handed on to a primary which then stands still is made at the next one, once: who
/// asked for it waits a little longer, and is not left with an unknown outcome.
#[tokio::test]
async fn an_edit_in_the_hands_of_a_dead_primary_is_made_at_the_new_one() {
    let pair = Pair::running().await;
    let console = Arc::new(pair.console(&pair.standby).await);
    pair.primary.stand_still().await;
    let (theirs, set) = (Arc::clone(&console), host("handed-on"));
    let again = set.clone();
    let edit = tokio::spawn(async move { theirs.edit(set, false).await });
    // It has been sent once another request over the same connection is answered.
    assert!(!knows(&console, "handed-on").await);
    let name = id();
    let grant = prove_grant(&pair.identity(), &proposed(&console, name).await).unwrap();
    let signed = Promotion::Signed { id: name, to: "spare".parse().unwrap(), grant };
    let promoted = done(console.promotion(signed).await.unwrap());
    let made = edit.await.unwrap().unwrap();
    assert_eq!((made.repeated, made.position.lineage), (false, promoted.after.lineage));
    let repeated = console.edit(again, false).await.unwrap();
    assert_eq!((repeated.repeated, repeated.position), (true, made.position));
    pair.primary.signal("-CONT");
    let at_hub = pair.console(&pair.primary).await;
    wait_for("the old primary to follow", async || knows(&at_hub, "handed-on").await).await;
}

fn credentials_of(node: &Node) -> Credentials {
    IdentityDirectory::open(&Paths::of(&node.state).identity()).unwrap().load_credentials().unwrap()
}
