//! Bytes that make no sense, from everywhere they can come from: processes stay up, take no lasting memory,
//! and answer everybody else. That no log tells of a panic is checked at the end of every test.

use crate::bad_input::noise;
use bytes::Bytes;
use echelon_client::new_request_id;
use echelon_core::change::{Change, ChangeSet};
use echelon_core::message::{AgentHeartbeat, FromAgent, Hello, Request};
use echelon_core::name::Text;
use echelon_identity::{Credentials, IdentityDirectory, TrustBundle};
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Manager, Process, Sandbox, Stub, TYPE, Topology, wait_until};
use echelon_transport::{Channel, Connection, Endpoint, Settings, Target};
use echelon_wire::Wire;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::time::timeout;

/// What a process may grow by under noise: allocators keep some of what they once had.
const GROWTH_KIB: u64 = 48 * 1024;

/// How long one garbage sender listens for an answer, which need not come.
const PATIENCE: Duration = Duration::from_millis(200);

/// Chunks of noise of varying lengths.
fn chunks(count: usize, longest: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut noise = noise();
    (0..count).map(move |_| {
        let length = noise.by_ref().take(3).fold(0, |n, byte| n << 8 | usize::from(byte)) % longest;
        noise.by_ref().take(length + 1).collect()
    })
}

fn grown(process: &Process, before: u64) -> u64 {
    process.resident_kib().saturating_sub(before)
}

/// Whoever can send datagrams to the manager can send anything.
#[test]
fn noise_at_the_managers_port_disturbs_nobody() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let before = manager.process().resident_kib();
    let socket = UdpSocket::bind((manager.listen().ip(), 0)).unwrap();
    for (number, mut datagram) in chunks(20_000, 1472).enumerate() {
        // Some begin as an Initial packet of QUIC version 1 does (RFC 9000, section 17.2.2), and are long enough.
        if number % 2 == 0 {
            datagram.resize(1200, 0x5a);
            datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
            datagram[14] = 8;
        }
        // The socket's buffer may be full.
        let _ = socket.send_to(&datagram, manager.listen());
    }
    manager.console().ok("domain add /a");
    let grown = grown(manager.process(), before);
    assert!(grown < GROWTH_KIB, "the manager grew by {grown} KiB");
}

/// Everything that a peer may say, whole.
fn sensible() -> Vec<Bytes> {
    let changes = vec![Change::AddDomain { path: "/a/b".parse().unwrap() }];
    let set = ChangeSet { request: new_request_id(), if_revision: Some(7), allow_shrink: false, changes };
    let hello = Hello {
        protocol: (1, 1),
        build: Text::lossy("0.1.0"),
        incarnation: 7,
        holds: None,
        grants: vec![],
        signed: None,
        keeps_signed: true,
    };
    let (packages, using, alarms) = Default::default();
    let beat = AgentHeartbeat { holds: None, sequence: 1, packages, using, alarms, isolated: false };
    vec![
        Request::Session.encode(),
        Request::Read.encode(),
        Request::Edit { set, dry_run: false }.encode(),
        Request::Renew { csr: vec![0x30; 400] }.encode(),
        FromAgent::Hello(hello).encode(),
        FromAgent::Heartbeat(beat).encode(),
        FromAgent::Repair.encode(),
    ]
}

/// Frames that are nearly right: cut, with a bit turned, with noise at the end; and noise alone.
fn nearly_sensible() -> Vec<Bytes> {
    let mut frames: Vec<Bytes> = chunks(40, 3000).map(Bytes::from).collect();
    for (frame, number) in sensible().iter().zip(0_usize..) {
        for bit in 0..frame.len() * 8 {
            // Every bit of a short frame, and a spread of those of a long one.
            if frame.len() > 40 && (bit + number) % 37 != 0 {
                continue;
            }
            let mut turned = frame.to_vec();
            turned[bit / 8] ^= 1 << (bit % 8);
            frames.push(turned.into());
        }
        frames.push(frame.slice(..frame.len() / 2));
        frames.push([frame, [0xff; 9].as_slice()].concat().into());
    }
    frames
}

/// Sends frames on one channel and takes in whatever comes back for a while.
async fn say(connection: &Connection, frames: &[Bytes]) -> Option<Channel> {
    let mut channel = timeout(PATIENCE, connection.open()).await.ok()?.ok()?;
    for frame in frames {
        timeout(PATIENCE, channel.send(frame)).await.ok()?.ok()?;
    }
    let _ = timeout(PATIENCE, channel.recv(1 << 20)).await;
    Some(channel)
}

async fn connect(manager: SocketAddr, credentials: Option<&Credentials>, trust: &TrustBundle) -> Connection {
    let endpoint = Endpoint::bind_client(credentials, Some(trust), Settings::client()).unwrap();
    endpoint.connect(manager, &Target::AnyManager).await.unwrap()
}

/// Peers with and without a certificate that break every rule of the protocol harm only themselves.
#[test]
fn garbage_over_real_connections_harms_only_its_sender() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let agent = Agent::enrolled(&manager, "h");
    let identity = IdentityDirectory::open(&agent.identity()).unwrap();
    let (credentials, trust) = (identity.load_credentials().unwrap(), identity.load_trust().unwrap());
    let before = manager.process().resident_kib();
    let at = manager.listen();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for credentials in [None, Some(&credentials)] {
            for frames in nearly_sensible().chunks(7) {
                let connection = connect(at, credentials, &trust).await;
                for frame in frames {
                    say(&connection, std::slice::from_ref(frame)).await;
                }
            }
            // More than it takes, and a frame that never ends.
            let connection = connect(at, credentials, &trust).await;
            say(&connection, &[vec![0; 8 << 20].into()]).await;
            let connection = connect(at, credentials, &trust).await;
            if let Some(mut channel) = say(&connection, &[]).await {
                channel.sender.reset(7);
            }
        }
        // A session that begins well and goes on badly.
        let begin = [Request::Session.encode(), sensible()[4].clone()];
        for bad in nearly_sensible().iter().step_by(3) {
            let connection = connect(at, Some(&credentials), &trust).await;
            say(&connection, &[&begin[..], std::slice::from_ref(bad)].concat()).await;
        }
    });
    manager.console().ok("domain add /z");
    assert_eq!(manager.console().objects("host list").len(), 2);
    let grown = grown(manager.process(), before);
    assert!(grown < GROWTH_KIB, "the manager grew by {grown} KiB");
}

/// Programs on a host can say anything to its agent.
#[test]
fn garbage_at_an_agents_sockets_disturbs_nobody() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let mut agent = Agent::new(&sandbox, "h").forwarding(TYPE);
    manager.apply(&Topology::new().manager("h", "/", agent.address()));
    agent.enroll_with(&manager);
    agent.start_ready();
    let _stub = Stub::start("h", SocketAddr::new(agent.address(), PORT));
    agent.wait_served_by(TYPE, "h");
    wait_until("a first call", || agent.call(TYPE).is_ok());
    let before = agent.process().resident_kib();

    let mut kept = Vec::new();
    for chunk in chunks(300, 20_000) {
        let mut api = UnixStream::connect(agent.api()).unwrap();
        api.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may close in the middle.
        let _ = api.write_all(&chunk);
        let mut forwarder = TcpStream::connect(agent.forwarder(TYPE)).unwrap();
        let _ = forwarder.write_all(&chunk);
        kept.push(forwarder);
        kept.truncate(50);
    }
    for path in
        ["/v1/routes/", "/v1/routes/%00", "/v1/routes/A", "/v1/routes/..%2f..%2fetc", "/v1/nothing", "/%ff"]
    {
        let status = agent.get(path).unwrap().status;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    let long = format!("/v1/routes/{}", "x".repeat(300));
    assert!((400..500).contains(&agent.get(&long).unwrap().status));
    endless_head(&agent);
    assert_eq!(agent.call(TYPE).unwrap(), "h");
    assert_eq!(agent.get("/healthz").unwrap().status, 200);
    let grown = grown(agent.process(), before);
    assert!(grown < GROWTH_KIB, "the agent grew by {grown} KiB");
}

/// A request whose head does not end is cut off long before it fills the memory.
fn endless_head(agent: &Agent<'_>) {
    let mut api = UnixStream::connect(agent.api()).unwrap();
    api.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    api.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let line = [b'x'; 1024];
    let sent = (0..1 << 16).take_while(|_| api.write_all(&line).is_ok()).count();
    assert!(sent < 1 << 16, "64 MiB of a head were taken");
    let _ = api.read(&mut [0; 64]);
}
