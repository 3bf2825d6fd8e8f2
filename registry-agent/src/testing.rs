//! What several tests of this crate need: a view with managers, the routes of a host in it, and real
//! listeners that behave badly.

use crate::clock::Clock;
use crate::prober::Prober;
use crate::router_task::RouterTask;
use crate::routes::{RouterInput, Routes, Snapshot};
use echelon_core::digest::Digest;
use echelon_core::endpoint::Address;
use echelon_core::id::{DomainId, HostId, Lineage};
use echelon_core::message::ViewMark;
use echelon_core::name::ManagerType;
use echelon_core::package::{Package, Role};
use echelon_core::policy::{Policy, PolicySettings, TypeSelector};
use echelon_core::position::Position;
use echelon_core::row::Domain;
use echelon_core::view::{Manager, Place, View, ViewRow};
use echelon_daemon::Tasks;
use socket2::{Domain as Family, SockAddr, Socket, Type};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use uuid::Uuid;

/// Longest wait for a condition.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The type in tests.
pub(crate) fn ty() -> ManagerType {
    "command-control".parse().unwrap()
}

/// Host number `n`.
pub(crate) fn host(n: u8) -> HostId {
    HostId(Uuid::from_u128(n.into()))
}

/// A manager on host number `n`, `levels` above the asking host, which is three below the root.
pub(crate) fn manager(n: u8, levels: u64, addr: SocketAddr) -> Manager {
    Manager {
        host: host(n),
        ty: ty(),
        name: format!("host{n}").parse().unwrap(),
        domain: DomainId(3 - levels),
        endpoint: addr.into(),
        priority: 100,
        weight: 1,
        role: Role::Backup,
        withdrawn: false,
        withdrawn_by_host: false,
        drained: None,
    }
}

/// The rows of a view with these managers: `/a`, `/a/b` and `/a/b/c` are the domains.
pub(crate) fn rows(managers: &[Manager], settings: PolicySettings) -> Vec<ViewRow> {
    let names = ["a", "b", "c"].map(|name| name.parse().unwrap());
    let domain = |(id, name): (u64, _)| {
        ViewRow::Domain(Domain { id: DomainId(id), place: Some((DomainId(id - 1), name)) })
    };
    let policy = Policy { domain: DomainId::ROOT, ty: TypeSelector::All, settings };
    let managers = managers.iter().cloned().map(ViewRow::Manager);
    (1..).zip(names).map(domain).chain([ViewRow::Policy(policy)]).chain(managers).collect()
}

/// The place of the asking host, number 200, in `/a/b/c`.
pub(crate) fn place(packages: Vec<Package>) -> Place {
    Place {
        host: host(200),
        name: "asker".parse().unwrap(),
        path: "/a/b/c".parse().unwrap(),
        domains: (0..=3).map(DomainId).collect(),
        packages,
        address: Address::Ip([127, 0, 0, 1].into()),
        denial: None,
        allow_types: Default::default(),
        drained: None,
    }
}

/// Which state a view is.
pub(crate) fn mark(revision: u64, digest: Digest) -> ViewMark {
    let position = Position { lineage: Lineage(Uuid::from_u128(9)), epoch: 1, revision };
    ViewMark { position, view_revision: revision, digest }
}

/// A replica with these managers.
pub(crate) fn snapshot(revision: u64, managers: &[Manager], settings: PolicySettings) -> Arc<Snapshot> {
    let view = View::from_rows(rows(managers, settings)).unwrap();
    let mark = mark(revision, view.digest());
    Arc::new(Snapshot { view, place: place(vec![]), mark })
}

/// A router with this replica.
pub(crate) async fn routes(replica: Arc<Snapshot>) -> (Routes, Tasks) {
    let (clock, tasks) = (Clock::start(), Tasks::new());
    let (routes, inputs) = Routes::new(clock);
    let prober = Prober::new(routes.clone(), tasks.clone(), Arc::default(), None);
    let task = RouterTask::new(clock, routes.clone(), prober);
    tasks.spawn("router", task.run(inputs, tasks.shutdown()));
    routes.send(RouterInput::Replica(replica)).await;
    routes.want(&ty()).await.unwrap();
    (routes, tasks)
}

/// Waits until `condition` gives something, or fails the test.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(DEADLINE, waiting).await {
        Ok(value) => value,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

/// An address at which nobody listens, for as long as the socket lives.
pub(crate) struct Refusing {
    pub(crate) addr: SocketAddr,
    _bound: Socket,
}

/// Bound, so that nobody else gets the port, but not listening.
pub(crate) fn refusing() -> Refusing {
    let socket = Socket::new(Family::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    Refusing { addr, _bound: socket }
}

/// A listener whose queue is full: connects to it are neither accepted nor refused.
pub(crate) struct Silent {
    pub(crate) addr: SocketAddr,
    listener: Socket,
    waiting: Vec<Socket>,
}

impl Silent {
    /// Lets connects through again: takes those that wait, and listens with a longer queue.
    pub(crate) fn speak(&mut self) {
        self.waiting.clear();
        self.listener.listen(64).unwrap();
        self.listener.set_nonblocking(true).unwrap();
        while self.listener.accept().is_ok() {}
    }
}

/// Listens with a queue of one and fills it.
pub(crate) fn silent_listener() -> Silent {
    let listener = Socket::new(Family::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    // The kernel takes one or two more than the queue is long; then a connect hangs.
    for _ in 0..8 {
        let socket = Socket::new(Family::IPV4, Type::STREAM, None).unwrap();
        let connected = socket.connect_timeout(&SockAddr::from(addr), Duration::from_millis(100));
        waiting.push(socket);
        if connected.is_err() {
            return Silent { addr, listener, waiting };
        }
    }
    panic!("the queue of {addr} never filled");
}

/// A service that answers each line with its own name and the line, and at the end of the input says bye.
pub(crate) async fn service(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if write.write_all(format!("{name} {line}\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
                let _ = write.write_all(b"bye\n").await;
            });
        }
    });
    addr
}
