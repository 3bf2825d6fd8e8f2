//! What consoles are answered.

use crate::site::{Site, add_host, add_manager, set};
use echelon_core::change::Change;
use echelon_core::message::Query;
use echelon_core::report::{RouteReport, StatusReport};
use futures::future::join_all;

/// Protects: many edits at once all take effect, each once, and a repeated one is answered as the first time.
#[tokio::test]
async fn edits_at_once_take_effect_once_each_and_repeated_ones_not_again() {
    let site = Site::start().await;
    let sets: Vec<_> = (0..64).map(|i| set(vec![add_host(&format!("h{i}"), "/")])).collect();
    let all = join_all(sets.iter().map(|s| site.console.edit(s.clone(), false))).await;
    let first: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    let site = site.restart().await;
    for (set, first) in sets.iter().zip(&first) {
        let again = site.console.edit(set.clone(), false).await.unwrap();
        assert!(again.repeated && again.position == first.position && again.rows == first.rows);
    }
    let mut other = sets[0].clone();
    other.changes = vec![add_host("other", "/")];
    let refused = site.console.edit(other, false).await.unwrap_err();
    assert!(refused.to_string().contains("belongs to another edit"), "{refused}");
    assert_eq!(site.manager.registry().host_count(), 65);
    let dry = site.console.edit(set(vec![add_host("dry", "/")]), true).await.unwrap();
    assert!(!dry.rows.is_empty() && dry.position == site.manager.registry().position());
    let status: Vec<StatusReport> = site.console.query(Query::Status).await.unwrap();
    assert_eq!((status[0].hosts, status[0].at.revision), (65, 64));
}

/// Protects: a manager whose own host is renamed answers with the new name, without a restart.
#[tokio::test]
async fn a_manager_goes_by_the_name_its_host_has_now() {
    let site = Site::start().await;
    let (host, name) = ("registry".parse().unwrap(), "hq".parse().unwrap());
    site.edit(vec![Change::RenameHost { host, name }]).await;
    let status: Vec<StatusReport> = site.console.query(Query::Status).await.unwrap();
    assert_eq!(status[0].manager.as_str(), "hq");
}

/// Protects: a report that fits into no message is refused with what to do, not cut off; with that it is given.
#[tokio::test]
async fn a_report_too_large_for_a_message_is_refused_with_what_to_do() {
    let site = Site::start().await;
    let names: Vec<String> = (0..2500).map(|i| format!("{}-{i}", "long".repeat(60))).collect();
    site.edit(names.iter().flat_map(|n| [add_host(n, "/"), add_manager(n, "audit")]).collect()).await;
    let ask = |candidates, down: Vec<&str>| {
        let down = down.into_iter().map(|d| d.parse().unwrap()).collect();
        let (host, ty) = (Some("registry".parse().unwrap()), "audit".parse().unwrap());
        site.console.query::<RouteReport>(Query::Route { host, ty, down, candidates })
    };
    let refused = ask(None, Vec::new()).await.unwrap_err().to_string();
    assert!(refused.contains("more than a message may carry"), "{refused}");
    assert_eq!(ask(Some(5), Vec::new()).await.unwrap()[0].candidates.len(), 5);
    let refused = ask(Some(5), vec![names[0].as_str(); 1025]).await.unwrap_err().to_string();
    assert!(refused.contains("1025"), "{refused}");
}
