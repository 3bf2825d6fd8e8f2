//! Every number that bounds a connection, each with its reason.
//!
//! QUIC's own defaults let one peer make the other hold about 250 MB; these do not.

use std::time::Duration;

/// Longest body of one frame, in bytes: snapshots of large registries travel in one frame, and nothing
/// else comes near. Receivers name their own, smaller limit for each frame.
pub const MAX_FRAME: usize = 64 * 1024 * 1024;

/// Most bytes set aside for a frame before any of them has arrived. The announced length is the peer's
/// word; the rest is allocated as it comes.
pub const MAX_UPFRONT: usize = 64 * 1024;

/// Most frames handed to one `send_all`: a batch is built in memory by its caller anyway.
pub const MAX_BATCH: usize = 1024;

/// Bytes a peer may have under way on one channel: 10 MB/s at a round trip of 100 ms.
pub const STREAM_WINDOW: u32 = 1024 * 1024;

/// Bytes a known peer may have under way on all its channels together.
pub const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// The same for a peer that has not said who it is. With the handshake's buffers below, less than 64 KiB
/// are held for it.
pub const ANONYMOUS_WINDOW: u32 = 32 * 1024;

/// Bytes of our own that may be unacknowledged on one connection. Frames are shared between the
/// connections they are sent on, so that this does not multiply.
pub const SEND_WINDOW: u64 = 1024 * 1024;

/// Bytes of TLS handshake kept while out of order: a flight with the longest chain we issue takes 4 KiB.
pub const CRYPTO_BUFFER: usize = 8 * 1024;

/// Bytes kept of a client whose handshake has not begun, beyond its first datagram.
pub const INCOMING_BUFFER: u64 = 8 * 1024;

/// Bytes kept of all clients whose handshakes have not begun.
pub const INCOMING_BUFFER_TOTAL: u64 = 4 * 1024 * 1024;

/// Clients that may wait for their handshake to begin; more are ignored, and send again by themselves.
pub const MAX_WAITING: usize = 2048;

/// Handshakes under way at a time: each takes about 0.7 ms of CPU, so that 64 keep two cores busy for
/// 25 ms; the others wait.
pub const MAX_HANDSHAKES: usize = 64;

/// Handshakes under way from which on clients must first prove that their address is theirs (RFC 9000,
/// section 8.1.2). Below it that round trip is spared.
pub const VALIDATE_ABOVE: usize = 16;

/// Connections whose handshake is done and that nobody has accepted yet.
pub const MAX_UNACCEPTED: usize = 64;

/// Channels that a known peer may have open towards a server: more than any asks for at once. The library sets
/// aside room for each on every connection, in tables of 8, 16, 32 places that it fills up to seven eighths.
pub const CHANNELS_FROM_CLIENT: u32 = 12;

/// Channels that a peer without identity may have open: its one request.
pub const CHANNELS_FROM_ANONYMOUS: u32 = 1;

/// Channels that a server may have open towards a client.
pub const CHANNELS_FROM_SERVER: u32 = 8;

/// Most bytes of the text in a close: a sentence.
pub const MAX_REASON: usize = 256;

/// How long a handshake may take in all, on either side.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a peer without identity is served: enrolment takes two round trips and one commit.
pub const ANONYMOUS_LIFE: Duration = Duration::from_secs(10);

/// Silence after which a connection is given up.
pub const IDLE: Duration = Duration::from_secs(15);

/// Interval at which a client keeps a quiet connection alive: two may be lost before [`IDLE`], and NATs
/// keep UDP mappings for 30 s at least (RFC 4787, section 4.3, in practice).
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How long a name may take to be looked up: what resolvers take that try a second server.
pub const RESOLVE: Duration = Duration::from_secs(5);

/// How long another host's system may take to say that nobody listens at a port: a round trip, and no longer than
/// whoever asks would rather listen.
pub const KNOCK: Duration = Duration::from_millis(100);

/// After which it is asked again: a service that is restarted by a supervisor is back by then, more often than not.
pub const KNOCK_AGAIN: Duration = Duration::from_millis(500);

/// Round trip assumed before one is measured. A lost first datagram is repeated after three of these;
/// the standard's 333 ms would make a lossy start take seconds.
pub const INITIAL_RTT: Duration = Duration::from_millis(100);

/// How long `close` waits for its goodbye to leave.
pub const GOODBYE: Duration = Duration::from_secs(1);

/// Socket buffers asked for by a server: pushing to thousands of agents brings as many acknowledgements
/// at once, and what does not fit is lost.
pub const SERVER_SOCKET_BUFFER: usize = 8 * 1024 * 1024;

/// Socket buffers asked for by a client, which has one peer: what Linux gives without being configured.
pub const CLIENT_SOCKET_BUFFER: usize = 208 * 1024;
