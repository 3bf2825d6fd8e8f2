//! Every number that bounds something in the model, each with its reason.
//!
//! Limits of sockets, frames and queues live with the code that owns them; these bound what may exist
//! in a registry at all, and are checked where data is made and again where it is taken.

use std::time::Duration;

/// Longest host name, in bytes: the longest name DNS can carry (RFC 1035, section 2.3.4), so that any
/// resolvable name can be a host's name.
pub const MAX_HOST_NAME: usize = 253;

/// Longest name of one domain, manager type, framework or console, in bytes: one DNS label (RFC 1035).
pub const MAX_LABEL: usize = 63;

/// Deepest domain below the root. Networks drawn by people stay under ten levels; 32 leaves room and
/// keeps every walk along the tree short.
pub const MAX_DEPTH: usize = 32;

/// Longest free text (a reason, a version), in bytes: enough for a sentence and a ticket number.
pub const MAX_TEXT: usize = 256;

/// Most bytes of a check's `send` or `expect`.
pub const MAX_CHECK_BYTES: usize = 1024;

/// Most packages on one host: a host with more types than this is a generated mistake.
pub const MAX_PACKAGES_PER_HOST: usize = 64;

/// Most changes in one change set: a first `apply` of 100,000 hosts with two packages each fits twice.
pub const MAX_CHANGES: usize = 1_000_000;

/// Highest `priority` and `weight`: those of DNS SRV records (RFC 2782), which operators know.
pub const MAX_PRIORITY: u32 = 65_535;

/// Highest `weight`; see [`MAX_PRIORITY`].
pub const MAX_WEIGHT: u32 = 65_535;

/// Most bytes of a bad value that an error repeats: enough to recognise it, too few to flood a terminal.
pub const MAX_QUOTED: usize = 64;

/// How long a request id is remembered, and how old one may be when it first arrives.
pub const REQUEST_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// How far in the future a request id's own time may lie: clocks of consoles and managers differ.
pub const REQUEST_CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// Most join tokens that may exist at once: each is a row that every manager holds.
pub const MAX_TOKENS: usize = 10_000;

/// Most uses of one join token: one golden image for a large site.
pub const MAX_TOKEN_USES: u32 = 100_000;

/// Longest life of a join token: a week covers a roll-out; longer ones are forgotten and leak.
pub const MAX_TOKEN_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// Most registry managers: a replica set of seven and as many standbys fit. Each holds a connection to each other.
pub const MAX_REGISTRY_MANAGERS: usize = 16;

/// How long a host's certificate can still be renewed after it has expired, and one whose issuer has left: a machine
/// that stood in a store for a month comes back by itself.
pub const RENEW_GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Shortest draining of a host: an operator's wish takes a moment to reach every agent.
pub const MIN_DRAIN: Duration = Duration::from_secs(1);

/// Longest draining of a host that ends by itself: what lasts longer is no maintenance.
pub const MAX_DRAIN: Duration = Duration::from_secs(30 * 24 * 3600);

/// Most drains that end in one edit; more end in the next. Keeps the edit, which names every host, small.
pub const MAX_DRAINS_ENDED: usize = 10_000;

/// How far back the state lies with which the number of managers is compared before an edit may shrink it.
pub const SHRINK_WINDOW: Duration = Duration::from_secs(10 * 60);

/// Interval of heartbeats, both ways.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// Heartbeats an agent may miss before its host's packages become suspect.
pub const SILENT_AFTER: u32 = 3;

/// Most alarms that one process has up at once. There are fewer kinds than that; a process of another build
/// may have more.
pub const MAX_ALARMS: usize = 32;

/// Most manager types that one agent keeps routes for: far more than a host's callers ask for, and a
/// bound on what a caller who invents types can make it hold.
pub const MAX_WANTED_TYPES: usize = 256;

/// Most managers that a route names to be tried: an agent tries 64 for one connection, and a request that is
/// repeated passes over a few more.
pub const MAX_TARGETS: usize = 128;
