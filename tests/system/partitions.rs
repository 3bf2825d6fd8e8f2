//! Registry managers that cannot reach each other: with the old primary alive on the other side, one way only, and
//! with a primary on each side.

use crate::managers::{EDITS, assert_nothing_lost, force_when_silent, primary, wait_for_primary};
use echelon_tests::namespace::in_namespace;
use echelon_tests::{Cluster, Follower, Partition, Sandbox, Writers, wait_for};

/// Cuts this manager off from all others, or only what it sends to them.
fn cut_off(partition: &mut Partition, cluster: &Cluster<'_>, manager: usize, both_ways: bool) {
    for other in (0..cluster.len()).filter(|other| *other != manager) {
        partition.cut_one_way(cluster.address(manager), cluster.address(other));
        if both_ways {
            partition.cut_one_way(cluster.address(other), cluster.address(manager));
        }
    }
}

/// A primary that is alive behind a partition, with clients of its own, is replaced; so is the next one, which hears
/// the others and is not heard. Neither acknowledges anything that is lost, and each follows once it is heard again.
#[test]
fn a_primary_behind_a_partition_acknowledges_nothing_that_is_lost() {
    let name = "partitions::a_primary_behind_a_partition_acknowledges_nothing_that_is_lost";
    in_namespace(name, |_| {
        let sandbox = Sandbox::new();
        let cluster = Cluster::running(&sandbox, 2);
        let mut partition = Partition::new();
        let inside = Writers::start(&cluster, &[0], 2);
        let outside = Writers::start(&cluster, &[1, 2], 2);
        inside.wait_for_more(EDITS);
        cut_off(&mut partition, &cluster, 0, true);
        force_when_silent(&cluster, 1, 1, "");
        outside.wait_for_more(EDITS);
        assert_eq!(primary(&cluster, 0).as_deref(), Ok("hub"), "it knows of nothing");
        partition.heal();
        inside.wait_for_more(EDITS);
        cluster.wait_counts(1, "hub");

        cut_off(&mut partition, &cluster, 1, false);
        force_when_silent(&cluster, 2, 2, "");
        wait_for("the third primary to accept edits", || cluster[2].accepts_edits());
        partition.heal();
        outside.wait_for_more(EDITS);
        let (mut told, others) = (inside.stop(), outside.stop());
        told.add(others);
        assert_nothing_lost(&cluster, told);
        wait_for_primary(&cluster, "spare2");
    });
}

/// Two sides that cannot reach each other are each given a primary by force, and each accepts edits. Once they meet,
/// both say that there is a conflict and neither gives way, until one lineage is chosen: then all are one again, and
/// what the other side had is listed as lost.
#[test]
fn two_primaries_by_force_are_in_conflict_until_one_is_chosen() {
    in_namespace("partitions::two_primaries_by_force_are_in_conflict_until_one_is_chosen", |_| {
        let sandbox = Sandbox::new();
        let mut cluster = Cluster::running(&sandbox, 2);
        cluster.edit(0, "before");
        let mut partition = Partition::new();
        partition.cut(cluster.address(1), cluster.address(2));
        cluster[0].kill9();
        for (side, host) in [(1, "left"), (2, "right")] {
            force_when_silent(&cluster, side, side, "--accept-loss");
            cluster.console_at(side).ok("manager set min_sync=0 --accept-loss");
            cluster.edit(side, host);
        }
        partition.heal();
        for side in [1, 2] {
            wait_for("the conflict to be noticed", || {
                let alarms = cluster.console_at(side).objects("alarm list");
                alarms.iter().any(|alarm| alarm["name"] == "conflict").then_some(()).ok_or(alarms)
            });
        }
        assert_eq!(primary(&cluster, 1).as_deref(), Ok("spare1"));
        assert_eq!(primary(&cluster, 2).as_deref(), Ok("spare2"));

        let console = cluster.console_at(2);
        let [history, watch] =
            ["history --follow --limit 1", "watch"].map(|line| Follower::start(&console, line));
        let mut written = 0;
        wait_for("both to be told of an edit", || {
            written += 1;
            cluster.edit(2, &format!("shown{written}"));
            let told = [&history, &watch].map(|follower| follower.printed().len());
            if told.iter().all(|told| *told > 0) { Ok(()) } else { Err(told) }
        });

        let grants = cluster.console_at(1).objects("lineage show");
        let newest = grants.iter().find(|grant| grant["state"] == "newest").unwrap();
        let lineage = newest["lineage"].as_str().unwrap();
        cluster.console_at(1).ok(&format!("lineage choose {lineage} --reason test --yes acme"));
        wait_for_primary(&cluster, "spare1");
        let given_up = history.wait_for("what is given up", |told| told["given_up_after"].is_u64());
        assert_eq!(given_up["lineage"], lineage);
        let (after, left) = (given_up["given_up_after"].as_u64(), "an edit of the other side");
        let edit = history.wait_for(left, |told| told["changed"][0]["name"] == "left");
        assert!(edit["revision"].as_u64() > after, "{edit} {given_up}");
        let event = watch.wait_for("what is given up", |told| told["event"] == "given-up");
        assert_eq!(event["revision"].as_u64(), after, "{event}");
        watch.wait_for(left, |told| {
            told["event"] == "edit" && told["detail"].to_string().contains("host left")
        });

        cluster[0].start();
        wait_for_primary(&cluster, "spare1");
        let testimony = cluster.testimony(Default::default());
        let history = &testimony.histories["spare2"];
        let has = |host: &str| history.iter().any(|entry| entry.names.contains(host));
        assert_eq!((has("before"), has("left"), has("right")), (true, true, false));
        let lost = cluster.lost(1);
        assert!(lost.iter().any(|entry| entry.names.contains("right")), "{lost:?}");
        assert!(
            !lost.iter().any(|entry| entry.names.contains("left") || entry.names.contains("before")),
            "{lost:?}"
        );
        wait_for("no conflict", || {
            let alarms = cluster.console_at(2).objects("alarm list");
            (!alarms.iter().any(|alarm| alarm["name"] == "conflict")).then_some(()).ok_or(alarms)
        });
    });
}
