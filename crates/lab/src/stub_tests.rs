use super::*;
use std::time::Instant;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(10);

fn place(addr: &str, movable: bool) -> StubPlace {
    let listen = Place { addr: addr.parse().unwrap(), movable };
    StubPlace { host: "agent3".parse().unwrap(), ty: "audit".parse().unwrap(), listen }
}

fn stub() -> Stub {
    Stub::start(&place("127.64.9.1:0", false)).unwrap()
}

async fn connect(stub: &Stub) -> io::Result<BufReader<TcpStream>> {
    timeout(LONG, TcpStream::connect(stub.addr())).await.unwrap().map(BufReader::new)
}

async fn ask(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    stream.write_all(b"who?\n").await?;
    let mut line = String::new();
    timeout(LONG, stream.read_line(&mut line)).await.unwrap()?;
    Ok(line)
}

#[tokio::test]
async fn each_line_is_answered_with_the_hosts_name() {
    let stub = stub();
    let mut stream = connect(&stub).await.unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&mut stream).await.unwrap(), "agent3\n");
    }
    stream.write_all(b"half a line").await.unwrap();
    stream.get_mut().shutdown().await.unwrap();
    let mut rest = String::new();
    assert_eq!(timeout(LONG, stream.read_to_string(&mut rest)).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn down_cuts_and_refuses_and_up_serves_again_at_the_same_address() {
    let stub = stub();
    let mut open = connect(&stub).await.unwrap();
    ask(&mut open).await.unwrap();
    stub.down().await;
    assert_eq!(stub.state().await, StubState::Down);
    assert!(ask(&mut open).await.is_ok_and(|line| line.is_empty()) || ask(&mut open).await.is_err());
    assert_eq!(connect(&stub).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    stub.up().await.unwrap();
    assert_eq!(ask(&mut connect(&stub).await.unwrap()).await.unwrap(), "agent3\n");
}

#[tokio::test]
async fn one_that_hangs_is_connected_to_and_says_nothing_until_it_is_up() {
    let stub = stub();
    let mut before = connect(&stub).await.unwrap();
    ask(&mut before).await.unwrap();
    stub.hang().await.unwrap();
    assert_eq!(stub.state().await, StubState::Hung);
    let mut after = connect(&stub).await.unwrap();
    for stream in [&mut before, &mut after] {
        stream.write_all(b"who?\n").await.unwrap();
        let silent = timeout(Duration::from_millis(100), stream.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
    }
    stub.up().await.unwrap();
    for stream in [&mut before, &mut after] {
        let mut line = String::new();
        timeout(LONG, stream.read_line(&mut line)).await.unwrap().unwrap();
        assert_eq!(line, "agent3\n");
    }
}

#[tokio::test]
async fn an_endless_line_is_cut_off() {
    let stub = stub();
    let mut stream = connect(&stub).await.unwrap();
    let began = Instant::now();
    let chunk = [b'x'; 4096];
    // The stub closes after 64 KiB; what the kernel still takes in after that is bounded by its buffers.
    while began.elapsed() < LONG && stream.write_all(&chunk).await.is_ok() {}
    assert!(began.elapsed() < LONG);
}

#[tokio::test]
async fn a_place_that_the_lab_chose_moves_to_another_port_and_one_of_the_file_does_not() {
    let taken = std::net::TcpListener::bind("127.64.9.2:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let moved = Stub::start(&place(&addr, true)).unwrap();
    assert_eq!(moved.addr().ip(), taken.local_addr().unwrap().ip());
    assert_ne!(moved.addr().port(), taken.local_addr().unwrap().port());
    let error = Stub::start(&place(&addr, false)).unwrap_err().to_string();
    assert!(error.contains(&addr) && error.contains("something else listens there"), "{error}");
}
