use super::*;
use crate::testing::DEADLINE;
use futures::poll;
use socket2::SockRef;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What a stream is made of. Its length is prime, so that no buffer fits it and bytes out of place differ.
const PATTERN: usize = 1_000_003;

/// What a pipe may hold: sixteen segments, which Linux makes up to 64 KiB large each.
const PIPE: usize = 1 << 20;

/// A connection through a relay: its caller's and its manager's ends.
struct Ends {
    caller: TcpStream,
    manager: TcpStream,
}

/// The sockets that a relay stands between.
async fn sockets() -> (Ends, Caller, TcpStream) {
    let (caller, from) = pair().await;
    let (to, manager) = pair().await;
    (Ends { caller, manager }, Caller::Tcp(from), to)
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    let (connected, accepted) =
        tokio::join!(socket.connect(listener.local_addr().unwrap()), listener.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

/// A relay at work; what it comes to, and how many pipes it opened.
async fn running() -> (Ends, JoinHandle<io::Result<()>>, Arc<Pipes>) {
    let (ends, caller, manager) = sockets().await;
    let pipes = Arc::new(Pipes::default());
    let theirs = Arc::clone(&pipes);
    let relay = tokio::spawn(async move { Relay::new(caller, manager, &theirs).await });
    (ends, relay, pipes)
}

fn pattern() -> Arc<[u8]> {
    (0..PATTERN).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}

async fn write_pattern(to: &mut (impl AsyncWriteExt + Unpin), pattern: &[u8], range: Range<usize>) {
    let mut at = range.start;
    while at < range.end {
        let next = &pattern[at % pattern.len()..];
        let now = next.len().min(range.end - at);
        to.write_all(&next[..now]).await.unwrap();
        at += now;
    }
}

/// Reads so much, and compares every byte.
async fn read_pattern(from: &mut (impl AsyncReadExt + Unpin), pattern: &[u8], range: Range<usize>) {
    let (mut buffer, mut at) = (vec![0; 1 << 18], range.start);
    while at < range.end {
        let most = buffer.len().min(range.end - at);
        let read = from.read(&mut buffer[..most]).await.unwrap();
        assert!(read > 0, "it ended after {at}");
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let expected = &pattern[at % pattern.len()..];
            let now = expected.len().min(rest.len());
            assert!(rest[..now] == expected[..now], "wrong bytes after {at}");
            (rest, at) = (&rest[now..], at + now);
        }
    }
}

async fn has_ended(from: &mut (impl AsyncReadExt + Unpin)) {
    assert_eq!(timeout(DEADLINE, from.read(&mut [0])).await.unwrap().unwrap(), 0);
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

async fn read_all(stream: &mut TcpStream) -> (Vec<u8>, io::Result<usize>) {
    let mut read = Vec::new();
    let end = timeout(DEADLINE, stream.read_to_end(&mut read)).await.expect("no end");
    (read, end)
}

async fn is_reset(stream: &mut TcpStream) {
    let (read, end) = read_all(stream).await;
    assert_eq!(end.map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset), "after {} bytes", read.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_streams_arrive_byte_for_byte_both_ways_at_once_through_the_kernel() {
    const SIZE: usize = 128 << 20;
    let pattern = pattern();
    let one = async || {
        let (mut ends, relay, pipes) = running().await;
        let (mut from_manager, mut to_manager) = ends.caller.split();
        let (mut from_caller, mut to_caller) = ends.manager.split();
        for phase in [0..SIZE / 2, SIZE / 2..SIZE] {
            tokio::join!(
                write_pattern(&mut to_manager, &pattern, phase.clone()),
                write_pattern(&mut to_caller, &pattern, phase.clone()),
                read_pattern(&mut from_manager, &pattern, phase.clone()),
                read_pattern(&mut from_caller, &pattern, phase.clone()),
            );
            assert_eq!(pipes.open_now(), 2, "one for each direction");
        }
        to_manager.shutdown().await.unwrap();
        has_ended(&mut from_caller).await;
        to_caller.shutdown().await.unwrap();
        has_ended(&mut from_manager).await;
        relay.await.unwrap().unwrap();
        assert_eq!(pipes.open_now(), 0);
    };
    tokio::join!(one(), one());
}

#[tokio::test]
async fn a_caller_that_has_said_all_still_reads_a_long_answer() {
    let (mut ends, relay, _) = running().await;
    let (pattern, size) = (pattern(), 20 << 20);
    ends.caller.write_all(b"question").await.unwrap();
    ends.caller.shutdown().await.unwrap();
    let Ends { mut caller, mut manager } = ends;
    let ours = Arc::clone(&pattern);
    let answering = tokio::spawn(async move {
        let (question, end) = read_all(&mut manager).await;
        assert_eq!((question.as_slice(), end.unwrap()), (b"question".as_slice(), 8));
        write_pattern(&mut manager, &ours, 0..size).await;
    });
    timeout(DEADLINE, read_pattern(&mut caller, &pattern, 0..size)).await.unwrap();
    has_ended(&mut caller).await;
    answering.await.unwrap();
    relay.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_manager_that_ends_first_still_reads_all_that_its_caller_says() {
    let (mut ends, relay, _) = running().await;
    let (pattern, size) = (pattern(), 20 << 20);
    ends.manager.write_all(b"greeting").await.unwrap();
    ends.manager.shutdown().await.unwrap();
    let Ends { mut caller, mut manager } = ends;
    let (greeting, end) = read_all(&mut caller).await;
    assert_eq!((greeting.as_slice(), end.unwrap()), (b"greeting".as_slice(), 8));
    let ours = Arc::clone(&pattern);
    let saying = tokio::spawn(async move { write_pattern(&mut caller, &ours, 0..size).await });
    timeout(DEADLINE, read_pattern(&mut manager, &pattern, 0..size)).await.unwrap();
    has_ended(&mut manager).await;
    saying.await.unwrap();
    relay.await.unwrap().unwrap();
}

/// Protects: an end that its sender did not mean must not look like one that he did.
#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset_also_to_who_has_said_all() {
    for half_closed in [false, true] {
        for of_manager in [false, true] {
            let (ends, relay, _) = running().await;
            let Ends { caller, manager } = ends;
            let (leaves, mut stays) = if of_manager { (manager, caller) } else { (caller, manager) };
            if half_closed {
                stays.shutdown().await.unwrap();
            } else {
                stays.write_all(b"unread").await.unwrap();
            }
            reset(leaves);
            is_reset(&mut stays).await;
            assert!(relay.await.unwrap().is_err());
        }
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_stream_is_passed_on() {
    let (ends, relay, pipes) = running().await;
    let Ends { mut caller, mut manager } = ends;
    let pattern = pattern();
    tokio::join!(
        write_pattern(&mut manager, &pattern, 0..4 * PATTERN),
        read_pattern(&mut caller, &pattern, 0..4 * PATTERN)
    );
    assert_eq!(pipes.open_now(), 1);
    reset(manager);
    is_reset(&mut caller).await;
    assert!(relay.await.unwrap().is_err());
}

#[tokio::test]
async fn one_that_is_given_up_resets_both_sides() {
    let (mut ends, relay, _) = running().await;
    ends.manager.write_all(b"part of an answ").await.unwrap();
    let mut part = [0; 15];
    ends.caller.read_exact(&mut part).await.unwrap();
    relay.abort();
    is_reset(&mut ends.caller).await;
    is_reset(&mut ends.manager).await;
}

/// Protects: a server that answers before it has read everything, and closes, as one does that refuses an upload:
/// its system answers the rest with a reset. The answer counts.
#[tokio::test]
async fn an_answer_is_delivered_although_its_sender_closed_with_unread_data() {
    let (ends, caller, manager) = sockets().await;
    let pipes = Pipes::default();
    let mut relay = Relay::new(caller, manager, &pipes);
    let Ends { caller: mut client, manager: mut server } = ends;
    client.write_all(b"begin of an upload").await.unwrap();
    work(&mut relay).await;
    server.write_all(b"too large").await.unwrap();
    drop(server);
    // The rest meets the reset before the answer was even looked at.
    client.write_all(b"rest of the upload").await.unwrap();
    assert!(timeout(DEADLINE, &mut relay).await.unwrap().is_err());
    drop(relay);
    let (answer, end) = read_all(&mut client).await;
    assert_eq!(answer, b"too large");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// The same from the other side: a caller that leaves without reading has said what it has said.
#[tokio::test]
async fn what_a_caller_said_before_it_left_is_delivered_although_it_takes_no_answer() {
    let (ends, caller, manager) = sockets().await;
    let pipes = Pipes::default();
    let mut relay = Relay::new(caller, manager, &pipes);
    let Ends { caller: mut client, manager: mut server } = ends;
    work(&mut relay).await;
    server.write_all(b"greeting").await.unwrap();
    work(&mut relay).await;
    client.write_all(b"do it").await.unwrap();
    // Unread, the greeting makes a reset of this end.
    drop(client);
    server.write_all(b"more").await.unwrap();
    assert!(timeout(DEADLINE, &mut relay).await.unwrap().is_err());
    drop(relay);
    let (said, _) = read_all(&mut server).await;
    assert_eq!(said, b"do it");
}

/// Protects: memory is bounded by the buffers, however much there is to say to somebody who does not listen.
#[tokio::test]
async fn to_a_slow_reader_no_more_is_buffered_than_the_buffers_hold() {
    let (ends, caller, manager) = sockets().await;
    let pipes = Pipes::default();
    let mut relay = Relay::new(caller, manager, &pipes);
    let Ends { caller: mut client, manager: server } = ends;
    let (pattern, mut said) = (pattern(), 0);
    // More than the kernel gives four sockets together, of which each way has three buffers.
    const MOST: usize = 256 << 20;
    let mut idle = 0;
    while idle < 100 {
        assert!(poll!(&mut relay).is_pending());
        match server.try_write(&pattern[said % PATTERN..]) {
            Ok(wrote) => (said, idle) = (said + wrote, 0),
            Err(_) => {
                idle += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(said < MOST, "nothing holds it back");
        let held = relay.down.rest.0.len() + relay.down.piped();
        assert!(held <= BUFFER + PIPE, "{held} bytes are held");
    }
    assert!(relay.down.waits(), "it has not come to its limit");
    let relay = async { (&mut relay).await.unwrap() };
    let reading = async {
        drop(server);
        read_pattern(&mut client, &pattern, 0..said).await;
        drop(client);
    };
    timeout(DEADLINE, async { tokio::join!(relay, reading) }).await.unwrap();
}

/// Protects: a side that nothing is read from at the moment does not tell that it was reset, and its connection would
/// stay for as long as the other side is silent.
#[tokio::test]
async fn a_caller_that_is_gone_is_noticed_while_its_manager_is_silent() {
    for half_closed in [false, true] {
        let (mut ends, caller, manager) = sockets().await;
        let pipes = Pipes::default();
        let mut relay = Relay::new(caller, manager, &pipes);
        if half_closed {
            ends.caller.shutdown().await.unwrap();
        }
        let pattern = pattern();
        while !relay.up.is_unwatched() {
            // What does not fit is not said.
            let _ = ends.caller.try_write(&pattern);
            assert!(poll!(&mut relay).is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        reset(ends.caller);
        assert!(timeout(DEADLINE, &mut relay).await.expect("it stays").is_err());
        drop(relay);
        match half_closed {
            // What its caller said was said in full.
            true => has_ended(&mut ends.manager).await,
            false => is_reset(&mut ends.manager).await,
        }
    }
}

/// Has a relay do what there is to do.
async fn work(relay: &mut Relay<'_>) {
    for _ in 0..10 {
        assert!(poll!(&mut *relay).is_pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl Half {
    fn piped(&self) -> usize {
        match &self.way {
            Way::Splice(pipe) => pipe.held(),
            Way::New | Way::Copy | Way::Over => 0,
        }
    }
}
