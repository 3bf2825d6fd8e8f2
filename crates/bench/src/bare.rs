//! The bare transport: one server that sends a frame to many connected clients, with nothing before or behind.

use bytes::Bytes;
use echelon_core::id::HostId;
use echelon_core::time::UnixMillis;
use echelon_identity::{Authority, Credentials, Issuer, KeyPair, Leaf, Spiffe};
use echelon_transport::{AdmitAll, Channel, Connection, Endpoint, Role, Settings, Target};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Sends in one slot, and the slot, as the manager paces them.
const SLOT: (usize, Duration) = (64, Duration::from_millis(5));

/// A server with its clients, each of which has its own certificate, socket and connection.
pub struct BareFanOut {
    channels: Vec<Channel>,
    arrived: mpsc::UnboundedReceiver<Instant>,
    _ends: Vec<(Endpoint, Connection)>,
    _server: Endpoint,
}

impl BareFanOut {
    /// Connects so many clients.
    pub async fn start(clients: usize) -> Self {
        let authority = Authority::create(&"bare".parse().unwrap(), now()).unwrap();
        let issuer = authority.issue_intermediate(host(0), now()).unwrap();
        let (trust, role) = (authority.trust(), Role::Server(Arc::new(AdmitAll)));
        let loopback = "127.0.0.1:0".parse().unwrap();
        let identity = issue(&issuer, Spiffe::Manager(host(0)));
        let server =
            Endpoint::bind(loopback, role, Some(&identity), Some(&trust), Settings::server()).unwrap();
        let (tell, arrived) = mpsc::unbounded_channel();
        let (mut channels, mut ends) = (Vec::new(), Vec::new());
        for number in 1..=clients {
            let identity = issue(&issuer, Spiffe::Host(host(number)));
            let client = Settings::client();
            let client =
                Endpoint::bind(loopback, Role::Client, Some(&identity), Some(&trust), client).unwrap();
            let (there, here) =
                tokio::join!(client.connect(server.local_addr(), &Target::AnyManager), server.accept());
            let (there, here) = (there.unwrap(), here.unwrap());
            let mut channel = there.open().await.unwrap();
            channel.send(&Bytes::from_static(b"hello")).await.unwrap();
            let mut answering = here.accept().await.unwrap();
            answering.recv(64).await.unwrap();
            channels.push(answering);
            ends.extend([(client, there), (server.clone(), here)]);
            let tell = tell.clone();
            tokio::spawn(async move {
                while let Ok(Some(_)) = channel.recv(1 << 20).await {
                    if tell.send(Instant::now()).is_err() {
                        return;
                    }
                }
            });
        }
        Self { channels, arrived, _ends: ends, _server: server }
    }

    /// Sends a frame of so many bytes to all, paced as the manager does; the time until all have it.
    pub async fn send(&mut self, size: usize) -> Duration {
        let (frame, begin) = (Bytes::from(vec![7; size]), Instant::now());
        for (number, channel) in self.channels.iter_mut().enumerate() {
            if number % SLOT.0 == 0 && number > 0 {
                let turn = begin + SLOT.1 * u32::try_from(number / SLOT.0).unwrap();
                tokio::time::sleep_until(turn.into()).await;
            }
            channel.send(&frame).await.unwrap();
        }
        let mut last = begin;
        for _ in 0..self.channels.len() {
            last = last.max(self.arrived.recv().await.unwrap());
        }
        last - begin
    }
}

fn issue(issuer: &Issuer, subject: Spiffe) -> Credentials {
    let key = KeyPair::generate().unwrap();
    let leaf = Leaf { subject: &subject, name: "bare", enrolment: 1, lifetime: Duration::from_secs(3600) };
    let chain = issuer.issue(&leaf, &key.public_key(), now()).unwrap();
    Credentials::new(key, chain).unwrap()
}

fn host(number: usize) -> HostId {
    format!("00000000-0000-4000-8000-{number:012x}").parse().unwrap()
}

fn now() -> UnixMillis {
    UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}
