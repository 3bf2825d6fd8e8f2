//! What bounds the manager, with reasons.

use std::time::Duration;

/// Edits waiting for the journal. More senders wait on their own connections: nothing is lost.
pub(crate) const EDIT_QUEUE: usize = 256;

/// Words of other managers, and of agents, that wait for the journal. More senders wait, and with them their links.
pub(crate) const WORD_QUEUE: usize = 256;

/// How long an edit may wait to be committed before whoever asked is told that its outcome is unknown: longer than
/// a standby that lives needs to say that it has it, and shorter than a person waits.
pub(crate) const COMMIT_DEADLINE: Duration = Duration::from_secs(10);

/// Messages to one other manager that wait to be sent. With more it is too slow: its link is closed, and made anew.
pub(crate) const LINK_QUEUE: usize = 1_024;

/// How often a manager looks to which others it has no link.
pub(crate) const LINK_LOOK: Duration = Duration::from_millis(250);

/// Pause after another manager could not be linked to; doubles with each failure in a row up to [`LINK_PAUSE_MOST`].
pub(crate) const LINK_PAUSE: Duration = Duration::from_millis(250);

/// See [`LINK_PAUSE`]: a manager that is back is linked to within so much.
pub(crate) const LINK_PAUSE_MOST: Duration = Duration::from_secs(5);

/// How often in a row the primary refuses a manager before that ends: about a second's worth, so that a primary which
/// is about to learn of another one is asked again.
pub(crate) const REFUSALS: u32 = 3;

/// How long a linked manager may say nothing before the link is given up: it says where it stands twice a second, and
/// a machine whose cores are all busy may take seconds for it. Edits wait for standbys that count as long as they seem
/// to be there.
pub(crate) const LINK_SILENCE: Duration = Duration::from_secs(4);

/// How long a linked manager may say nothing before its host is asked whether its process is there at all: a word of it
/// is overdue then.
pub(crate) const LINK_LATE: Duration = Duration::from_millis(750);

/// After how long without anything to carry a link is told that it is alive: before it counts as late.
pub(crate) const LINK_KEEPALIVE: Duration = Duration::from_millis(500);

/// How long another manager may take to answer a connection, and then to say who it is.
pub(crate) const LINK_DEADLINE: Duration = Duration::from_secs(5);

/// How long a primary that stops waits for its standbys to say that they hold its last edits: well within [`DRAIN`], for
/// which those who made them are waited for.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

/// How often it is looked meanwhile.
pub(crate) const SETTLE_LOOK: Duration = Duration::from_millis(5);

/// How long the primary may take to answer what was relayed to it, after which the outcome counts as unknown: longer
/// than [`COMMIT_DEADLINE`], so that the primary says first what it knows.
pub(crate) const RELAY_DEADLINE: Duration = Duration::from_secs(15);

/// How long a standby waits, before it gives an answer of the primary, to have come as far itself: it is a round trip
/// behind, as long as it is not catching up.
pub(crate) const RELAY_LEVEL: Duration = Duration::from_secs(5);

/// How long the steps of a promotion may take before its outcome counts as unknown: to bring a manager level is what
/// takes long. Less than a console waits, so that it is told.
pub(crate) const PROMOTION_DEADLINE: Duration = Duration::from_secs(25);

/// How long it may take until the first edit under a new grant is shown, and until the journal has taken a grant up:
/// a few writes to disk and round trips.
pub(crate) const PROMOTED_DEADLINE: Duration = Duration::from_secs(5);

/// How often it is looked whether the journal has published what it has told already: within one turn of it.
pub(crate) const PROMOTED_LOOK: Duration = Duration::from_millis(2);

/// How long an edit waits while the primary is handing over, and who comes next has not been heard of: a little longer
/// than a hand-over may take.
pub(crate) const HANDING_DEADLINE: Duration = Duration::from_secs(7);

/// How often an edit is tried meanwhile: nothing is written by a try that is refused.
pub(crate) const HANDING_LOOK: Duration = Duration::from_millis(5);

/// What was relayed is waited for so much longer than whoever carries it out waits, who then says what is known.
pub(crate) const PROMOTION_RELAY: Duration = Duration::from_secs(3);

/// Most edits that were given up and are shown: a promotion by force loses a handful, and more than this nobody reads.
pub(crate) const MAX_LOST: usize = 10_000;

/// Copies of the registry that are given out at once: each is a file as large as the registry's.
pub(crate) const COPIES: usize = 2;

/// Bytes of one part of a copy.
pub(crate) const COPY_PART: usize = 256 * 1024;

/// How long a manager may say nothing while a copy is fetched from it: it makes the whole copy first.
pub(crate) const COPY_SILENCE: Duration = Duration::from_secs(60);

/// Most edits made durable by one fsync. At 1 ms for an fsync this allows for 100,000 edits a second,
/// more than validation does.
pub(crate) const MAX_GROUP: usize = 128;

/// Pushes that a session may be behind before it is brought level by a catch-up instead: a few seconds
/// of edits. The ring is shared, so that a slow session costs nothing by itself.
pub(crate) const PUSH_RING: usize = 1024;

/// Sends in one slot of the paced fan-out, and the slot's length. Measured: 500 bytes to 2,000 agents take
/// seconds unpaced, when the kernel drops datagrams, and 0.2 s at this pace.
pub(crate) const PACE_SENDS: u32 = 64;

/// See [`PACE_SENDS`].
pub(crate) const PACE_SLOT: Duration = Duration::from_millis(5);

/// Most pushes that one turn of a session takes up: they go out in few datagrams, and the next session's turn
/// is not far off.
pub(crate) const PUSHES_AT_ONCE: usize = 64;

/// Least time between two repairs in one session, each of which sends the whole view. Agents ask once a
/// minute at most; half of that leaves room for their clocks.
pub(crate) const REPAIR_INTERVAL: Duration = Duration::from_secs(30);

/// How long one frame may take to be taken by the peer before its session is given up.
pub(crate) const SEND_DEADLINE: Duration = Duration::from_secs(15);

/// How long a peer may take to send its request once it has opened a channel.
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// Requests of one connection that are worked on at once.
pub(crate) const REQUESTS_PER_CONNECTION: usize = 8;

/// How long the connection of an identity that does not count any more goes on for what was begun over it: within the
/// two seconds in which a denial closes connections, and long enough for a commit on a slow disk.
pub(crate) const PARTING: Duration = Duration::from_secs(1);

/// Connections served at once: memory is about 40 KiB for each.
pub(crate) const MAX_CONNECTIONS: usize = 20_000;

/// Connections of one identity at once: an agent has two, and scripts run consoles side by side. One stolen
/// certificate must not take the places of a whole fleet.
pub(crate) const CONNECTIONS_PER_IDENTITY: usize = 256;

/// Connections of peers without a certificate at once, each of which lives for 10 s at most: strangers must
/// not take the places of agents. Memory is at most 64 KiB for each.
pub(crate) const STRANGERS: usize = 2_048;

/// Least time between two lines in the log about strangers with a wrong token, or about connections for which
/// there is no place, so that neither can fill it.
pub(crate) const STRANGERS_LOG: Duration = Duration::from_secs(1);

/// Least time between two signatures of what agents are shown. One takes some 20 µs, so that edits without end cost at
/// most a five-hundredth of a core; and whoever is shown something later than that has the newest.
pub(crate) const SIGN_INTERVAL: Duration = Duration::from_millis(10);

/// Least time between two lines in the log about what cannot be signed: every agent that is told something asks for it.
pub(crate) const UNSIGNED_LOG: Duration = Duration::from_secs(60);

/// How often in a row the agent of one host may show a mark that speaks against this manager, and has its signatures
/// checked: an honest one does so once, as its session begins. Each check takes about a third of a millisecond.
pub(crate) const CLAIMS: u32 = 4;

/// After which time it may once more.
pub(crate) const CLAIM_INTERVAL: Duration = Duration::from_secs(10);

/// Most hosts of which it is remembered that they have shown what they cannot prove: for the alarm, where one will do.
pub(crate) const MAX_UNPROVED: usize = 256;

/// Events that a watcher may be behind before it misses some, besides those on their way to it: as many as a
/// thousand agents make that all start at once. The ring is shared, so that a slow watcher costs nothing by itself.
pub(crate) const EVENT_RING: usize = 1_024;

/// Watchers at once, of events and of the history: a room of operators and their dashboards. Each has a task
/// that may wait for its peer for ever.
pub(crate) const MAX_WATCHERS: usize = 64;

/// How often a watcher is told that the manager is there when nothing happens: a third of what a client waits.
pub(crate) const WATCH_SIGN: Duration = Duration::from_secs(10);

/// Most events in one part of a watcher's answer.
pub(crate) const EVENTS_AT_ONCE: usize = 256;

/// How often alarms are worked out while somebody watches, or is told by a hook: each time all agents are looked at.
pub(crate) const ALARM_INTERVAL: Duration = Duration::from_secs(1);

/// Most alarms that metrics tell one by one: a fleet that falls silent must not make a series of each host.
pub(crate) const MAX_ALARM_SERIES: usize = 1_000;

/// How often it looks for edits that were given up, where no new grant has come: each time all of them are read, and
/// the requests since.
pub(crate) const LOST_INTERVAL: Duration = Duration::from_secs(60);

/// How often the manager looks at itself for alarms.
pub(crate) const SELF_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes of changed objects in one document of the history; the next goes on with the same edit. One object has
/// a few tens of kilobytes at most.
pub(crate) const HISTORY_DOCUMENT: usize = 256 * 1024;

/// Previews of every host at once: each takes a core for as long as it lasts.
pub(crate) const PREVIEWS: usize = 2;

/// Readings of the history at once: each takes a thread and a connection to the journal's file.
pub(crate) const HISTORIES: usize = 8;

/// Backups made at once: each takes a thread, and as much of the disk as the registry's file.
pub(crate) const BACKUPS: usize = 2;

/// Parts of a backup that wait to be sent: the disk reads ahead of the network, and holds no more than a megabyte.
pub(crate) const BACKUP_QUEUE: usize = 4;

/// Most managers that one question takes as down: a whole region, and few enough to compare each with all.
pub(crate) const MAX_DOWN: usize = 1_024;

/// Bytes of a report's answer besides its documents, generously.
pub(crate) const REPORT_OVERHEAD: usize = 1_024;

/// Enrolments worked on at once: each costs a signature and an fsync.
pub(crate) const ENROLMENTS: usize = 64;

/// How long an enrolment that is refused waits for its answer, so that guessing is slow.
pub(crate) const REFUSED_ENROLMENT: Duration = Duration::from_millis(250);

/// Announcements of one host at once: each of its packages twice, as after a restart of everything on it.
pub(crate) const ANNOUNCEMENTS: u32 = 2 * echelon_core::limits::MAX_PACKAGES_PER_HOST as u32;

/// Time in which a host may announce once more. A package that comes and goes faster than this is told as
/// liveness; the registry need not record every turn of it.
pub(crate) const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_secs(1);

/// Least time between two pushes of liveness while news keep coming.
pub(crate) const LIVENESS_INTERVAL: Duration = Duration::from_millis(20);

/// Time between two pushes of liveness once news have kept coming for a while, as when hundreds of agents
/// start at once: with 300 sessions a push every 24 ms keeps two cores busy with nothing else. An agent
/// that needs a manager meanwhile finds out by itself.
pub(crate) const LIVENESS_STORM: Duration = Duration::from_millis(200);

/// How often silence is judged.
pub(crate) const JUDGE_INTERVAL: Duration = Duration::from_millis(500);

/// How often the manager looks which drains are over. It would notice an end by a timer alone, but not an edit that
/// brings one nearer, nor a clock that is set.
pub(crate) const DRAIN_LOOK: Duration = Duration::from_secs(1);

/// Pause after drains could not be ended, as on a full disk.
pub(crate) const DRAIN_RETRY: Duration = Duration::from_secs(5);

/// How long the end of all sessions may take at a shutdown.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// How long, at a shutdown, an answer may take to arrive: a round trip, also to the other side of the world.
pub(crate) const LAST_ANSWER: Duration = Duration::from_millis(500);

/// How long the address may take to be free after a shutdown: connections whose peers do not answer linger for
/// three round trips.
pub(crate) const RELEASE: Duration = Duration::from_secs(1);

/// HTTP connections at once: a scraper, a few probes, and people. More wait in the kernel's queue, so that
/// local programs cannot use up the manager's descriptors.
pub(crate) const HTTP_CONNECTIONS: usize = 64;

/// How long the head of an HTTP request may take to arrive, and an idle connection is kept: longer than the
/// interval of a usual scraper is of no use, since a new connection costs nothing here.
pub(crate) const HTTP_HEAD_DEADLINE: Duration = Duration::from_secs(30);

/// Most bytes of the head of an HTTP request, several times what browsers send; 8 KiB is the library's least.
pub(crate) const HTTP_HEAD: usize = 16 * 1024;

/// Pause after the system refused to accept, as it does without descriptors.
pub(crate) const HTTP_ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two times that another manager is told what is news of agents: as prompt as agents are told, and what
/// changes more often in between is told once.
pub(crate) const BOARD_INTERVAL: Duration = Duration::from_millis(200);

/// Of how many agents another manager is told at a time: some 100 KiB where each uses one manager that is not its home,
/// and never more than a link takes, since a report has under 180 KiB in the worst case and is cut off by size.
pub(crate) const BOARD_PART: usize = 256;

/// Time between two tries to record the manager itself: it fails only while no edit can be made.
pub(crate) const RECORD_RETRY: Duration = Duration::from_secs(5);

/// Shortest and longest time between two tries to get a copy of another manager's registry, which double: a copy is the
/// whole registry each time, and where the disk is full somebody has to come.
pub(crate) const COPY_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How often it is looked meanwhile whether there is room, which is cheap.
pub(crate) const COPY_LOOK: Duration = Duration::from_secs(1);

/// So many bytes more, and a quarter, have to be free before a copy is tried that did not fit.
pub(crate) const COPY_ROOM: u64 = 1 << 20;

/// A copy that is not wished for anew for so long is not needed any more: the journal's own state machine asks for it
/// within a second.
pub(crate) const COPY_UNWISHED: Duration = Duration::from_secs(10);
