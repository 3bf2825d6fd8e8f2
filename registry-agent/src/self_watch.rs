//! Looks at this agent itself, and raises alarms of what will become a fault if nobody acts.

use crate::alarms::Alarms;
use crate::status::Subject;
use echelon_core::alarm::Notice;
use echelon_core::isolation::Standing;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often it looks. The shortest certificate there may be lives for 10 s; the usual one for a day.
const LOOK: Duration = Duration::from_secs(2);

/// The part of a certificate's life that is left when it gives alarm. It is renewed at half its life, so that
/// half of the time for trying is over by then.
const LEFT_PART: u32 = 4;

/// How old the last word of a registry manager may be: thirty heartbeats, several times what a manager's
/// restart takes.
const STALE: Duration = Duration::from_secs(60);

/// Looks until `stop`.
pub(crate) async fn run(agent: Arc<Subject>, stop: CancellationToken) {
    let Subject { alarms, identity, link, doors, routes, .. } = &*agent;
    let mut standing = routes.standing();
    if let Some(small) = identity.endpoint().small_buffers() {
        alarms.raise(Notice::info(
            "socket-buffers-small",
            &format!("the UDP socket has a receive buffer of {} bytes, not {}", small.receive, small.wanted),
            &format!("sysctl -w net.core.rmem_max={0} net.core.wmem_max={0}", small.wanted),
        ));
    }
    let began = Instant::now();
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            // Fails only once the agent has ended.
            _ = standing.changed() => {}
            () = stop.cancelled() => return,
        }
        set(alarms, ISOLATED, isolated(*standing.borrow_and_update()));
        set(alarms, CERTIFICATE, certificate(identity.left(), identity.life()));
        set(alarms, REPLICA, replica(link.age(), began.elapsed()));
        let forwarders = doors.forwarders();
        set(alarms, DESCRIPTORS, descriptors(doors.slots().most()).filter(|_| !forwarders.is_empty()));
        let full = forwarders.iter().filter(|forwarder| forwarder.is_full());
        set(alarms, FULL, full_ones(full.map(|forwarder| forwarder.ty().to_string()).collect()));
    }
}

fn set(alarms: &Alarms, name: &str, notice: Option<Notice>) {
    match notice {
        Some(notice) => alarms.raise(notice),
        None => alarms.clear(name),
    }
}

const ISOLATED: &str = "isolated";

fn isolated(standing: Standing) -> Option<Notice> {
    let message = "connections to every manager time out and no registry manager answers: this host seems to be cut off";
    (standing == Standing::Isolated)
        .then(|| Notice::critical(ISOLATED, message, "look at the network of this host"))
}

const CERTIFICATE: &str = "certificate-expiring";

fn certificate(left: Duration, life: Duration) -> Option<Notice> {
    let remedy = "see why it is not renewed in the agent's log; once expired: echelon token create --host NAME --replace, then enroll";
    match left {
        Duration::ZERO => Some(Notice::critical(
            CERTIFICATE,
            "this agent's certificate has expired: no registry manager talks to it, routing goes on with the replica",
            remedy,
        )),
        left if left < life / LEFT_PART => Some(Notice::warning(
            CERTIFICATE,
            "less than a quarter of this agent's certificate's life is left, and it is not renewed",
            remedy,
        )),
        _ => None,
    }
}

const REPLICA: &str = "replica-stale";

/// `age` is that of a registry manager's last word, `up` how long the agent has been running.
fn replica(age: Option<Duration>, up: Duration) -> Option<Notice> {
    let message = match age {
        // It takes a moment to reach one.
        _ if up < STALE => return None,
        None => "this agent has no replica yet: no registry manager was ever heard",
        Some(age) if age > STALE => {
            "no registry manager was heard for more than a minute; routing goes on with the replica"
        }
        Some(_) => return None,
    };
    let remedy = "see whether a registry manager runs and can be reached from here, UDP 29120";
    Some(Notice::warning(REPLICA, message, remedy))
}

const DESCRIPTORS: &str = "descriptors-few";

/// Connections that a host with a few programs may want at the same time. The usual limit of 1024 descriptors allows
/// a quarter of it.
const ENOUGH: usize = 1024;

/// `connections` are what this process has descriptors for.
fn descriptors(connections: usize) -> Option<Notice> {
    let message = format!("the limit of open files allows {connections} connections through forwarders");
    let remedy = "LimitNOFILE=65536 in the unit of systemd, or ulimit -n 65536 before the start";
    (connections < ENOUGH).then(|| Notice::info(DESCRIPTORS, &message, remedy))
}

const FULL: &str = "forwarder-full";

/// `types` are those whose forwarders have no place for one more caller.
fn full_ones(types: Vec<String>) -> Option<Notice> {
    let message = format!(
        "as many connections are open as may be, and callers wait until one ends: {}",
        types.join(", ")
    );
    let remedy =
        "see who leaves connections open; a larger LimitNOFILE allows more, up to 8192 for each forwarder";
    (!types.is_empty()).then(|| Notice::warning(FULL, &message, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::alarm::Severity;

    #[test]
    fn a_certificate_gives_alarm_once_three_quarters_of_its_life_are_over() {
        let day = Duration::from_secs(86_400);
        let severity = |left| certificate(left, day).map(|notice| notice.severity);
        assert_eq!(severity(day / 2), None);
        assert_eq!(severity(day / 4), None);
        assert_eq!(severity(day / 5), Some(Severity::Warning));
        assert_eq!(severity(Duration::ZERO), Some(Severity::Critical));
    }

    #[test]
    fn few_descriptors_and_full_forwarders_are_told() {
        assert!(descriptors(ENOUGH).is_none() && full_ones(vec![]).is_none());
        assert!(descriptors(256).unwrap().message.as_str().contains("allows 256 connections"));
        assert!(full_ones(vec!["a".into(), "b".into()]).unwrap().message.as_str().ends_with(": a, b"));
    }

    #[test]
    fn a_replica_is_stale_after_a_minute_without_a_word() {
        let minute = Duration::from_secs(60);
        assert!(replica(Some(minute), minute * 5).is_none());
        assert!(replica(Some(minute * 2), minute * 5).is_some() && replica(None, minute).is_some());
        assert!(replica(Some(minute * 2), minute / 2).is_none() && replica(None, minute / 2).is_none());
    }
}
