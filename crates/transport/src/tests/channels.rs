//! Frames, whole and broken.

use super::support::{Framework, channel, join, join_at, within};
use crate::frame::{State, header};
use crate::limits::{ANONYMOUS_WINDOW, CHANNELS_FROM_CLIENT, MAX_BATCH, MAX_FRAME, MAX_UPFRONT};
use crate::{Channel, CloseReason, Connection, Endpoint, FrameSender, RecvError, SendError};
use bytes::Bytes;
use std::time::Duration;

/// Shortest useful wait for something that must not happen.
const A_MOMENT: Duration = Duration::from_millis(200);

/// Both ends of a channel, and what keeps them open.
async fn pair() -> (Channel, Channel, (Connection, Connection), (Endpoint, Endpoint)) {
    let acme = Framework::new("acme");
    let (server, client) = (acme.server(), acme.client());
    let (ours, theirs) = join(&client, &server).await;
    let (a, b) = channel(&ours, &theirs).await;
    (a, b, (ours, theirs), (server, client))
}

/// Bytes in which no two places look alike.
fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Writes bytes that need not be frames.
async fn write_raw(sender: &mut FrameSender, bytes: &[u8]) {
    sender.stream.write_all(bytes).await.unwrap();
}

#[tokio::test]
async fn frames_arrive_whole_in_order_both_ways() {
    let (mut a, mut b, ..) = pair().await;
    let frames: Vec<Bytes> = [0, 1, 3, 4, 5, 1200, 65_536, 70_000].map(pattern).to_vec();
    for (from, to) in [(&mut a, &mut b)] {
        let sending = from.sender.send_all(&frames);
        let receiving = async {
            for frame in &frames {
                assert_eq!(to.recv(70_000).await.unwrap().as_ref(), Some(frame));
            }
        };
        let (sent, ()) = within(async { tokio::join!(sending, receiving) }).await;
        sent.unwrap();
    }
    within(b.send(&pattern(10))).await.unwrap();
    assert_eq!(within(a.recv(10)).await.unwrap().unwrap(), pattern(10));
    a.sender.finish().await.unwrap();
    for _ in 0..2 {
        assert_eq!(within(b.recv(10)).await, Ok(None));
    }
    assert_eq!(a.sender.send(&Bytes::new()).await, Err(SendError::Finished));
}

/// Whoever works on a long answer learns at once that nobody waits for it any more.
#[tokio::test]
async fn the_end_of_the_other_side_is_noticed_without_sending() {
    let (a, b, (ours, theirs), _endpoints) = pair().await;
    let gone = a.sender.gone();
    tokio::pin!(gone);
    let early = tokio::time::timeout(A_MOMENT, &mut gone).await;
    assert!(early.is_err(), "the peer is there: {early:?}");
    drop(b);
    assert!(matches!(within(gone).await, SendError::Stopped { .. }));
    let (a, _b) = channel(&ours, &theirs).await;
    let gone = a.sender.gone();
    theirs.close(7, "enough");
    assert!(matches!(within(gone).await, SendError::Closed(_)));
}

#[tokio::test]
async fn a_frame_of_8_mib_passes() {
    let (mut a, mut b, ..) = pair().await;
    let body = pattern(8 * 1024 * 1024);
    let (sent, received) = within(async { tokio::join!(a.send(&body), b.recv(body.len())) }).await;
    sent.unwrap();
    assert!(received.unwrap().unwrap() == body);
}

#[tokio::test]
async fn a_frame_longer_than_the_receiver_takes_is_refused_by_its_length() {
    let (mut a, mut b, ..) = pair().await;
    within(a.send(&pattern(11))).await.unwrap();
    let error = RecvError::TooLong { length: 11, max: 10 };
    for _ in 0..2 {
        assert_eq!(within(b.recv(10)).await, Err(error.clone()));
    }
    let stopped = within(async {
        loop {
            if let Err(error) = a.send(&pattern(1)).await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(matches!(stopped.await, SendError::Stopped { .. }));
}

#[tokio::test]
async fn what_is_too_much_is_not_sent_at_all() {
    let (mut a, mut b, ..) = pair().await;
    let long = Bytes::from(vec![0; MAX_FRAME + 1]);
    let error = a.sender.send_all(&[Bytes::new(), long]).await;
    assert_eq!(error, Err(SendError::TooLong { length: MAX_FRAME + 1 }));
    let many = vec![Bytes::new(); MAX_BATCH + 1];
    assert_eq!(a.sender.send_all(&many).await, Err(SendError::TooMany { count: MAX_BATCH + 1 }));
    within(a.send(&pattern(3))).await.unwrap();
    assert_eq!(within(b.recv(3)).await.unwrap().unwrap(), pattern(3));
}

#[tokio::test]
async fn an_announced_length_takes_no_memory() {
    let (mut a, mut b, ..) = pair().await;
    write_raw(&mut a.sender, &(MAX_FRAME as u32).to_be_bytes()).await;
    write_raw(&mut a.sender, b"x").await;
    let body_begun = within(async {
        loop {
            // Each of these is dropped before the frame is there.
            let _ = tokio::time::timeout(Duration::from_millis(5), b.recv(MAX_FRAME)).await;
            if let State::Body { buffer, left } = &b.receiver.state
                && *left == MAX_FRAME - 1
            {
                return buffer.capacity();
            }
        }
    });
    assert!(body_begun.await <= MAX_UPFRONT);
}

#[tokio::test]
async fn garbage_and_halves_are_typed_errors() {
    let garbage: [(&[u8], RecvError); 4] = [
        (b"GET / HTTP/1.1\r\n\r\n", RecvError::TooLong { length: 0x4745_5420, max: 100 }),
        (b"\0", RecvError::Truncated),
        (b"\0\0\0", RecvError::Truncated),
        (b"\0\0\0\x02x", RecvError::Truncated),
    ];
    for (bytes, expected) in garbage {
        let (mut a, mut b, ..) = pair().await;
        write_raw(&mut a.sender, bytes).await;
        a.sender.finish().await.unwrap();
        assert_eq!(within(b.recv(100)).await, Err(expected));
    }
}

#[tokio::test]
async fn garbage_after_a_frame_does_not_harm_the_frame() {
    let (mut a, mut b, ..) = pair().await;
    within(a.send(&pattern(3))).await.unwrap();
    write_raw(&mut a.sender, b"\xff\xff\xff\xff").await;
    assert_eq!(within(b.recv(3)).await.unwrap().unwrap(), pattern(3));
    let error = RecvError::TooLong { length: 0xffff_ffff, max: 3 };
    assert_eq!(within(b.recv(3)).await, Err(error));
}

#[tokio::test]
async fn giving_up_is_told_apart_from_finishing() {
    let (mut a, mut b, ..) = pair().await;
    a.sender.reset(7);
    assert_eq!(within(b.recv(1)).await, Err(RecvError::Reset { code: 7 }));
    b.receiver.stop(8);
    assert_eq!(within(b.recv(1)).await, Err(RecvError::Stopped));
    let (mut a, mut b, ..) = pair().await;
    b.receiver.stop(8);
    let stopped = within(async {
        loop {
            if let Err(error) = a.send(&pattern(1)).await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(stopped.await, SendError::Stopped { code: 8 });
}

#[tokio::test]
async fn receiving_can_be_interrupted_anywhere() {
    let (mut a, mut b, ..) = pair().await;
    let frames: Vec<Bytes> = (0..20).map(pattern).collect();
    let expected = frames.clone();
    let sending = tokio::spawn(async move {
        for frame in &frames {
            // One byte at a time, so that every cut inside a frame comes about.
            for byte in header(frame).unwrap().iter().chain(frame) {
                write_raw(&mut a.sender, &[*byte]).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        a
    });
    let mut interrupted = 0;
    for frame in &expected {
        let received = within(async {
            loop {
                tokio::select! {
                    biased;
                    frame = b.recv(100) => return frame.unwrap().unwrap(),
                    () = tokio::task::yield_now() => interrupted += 1,
                }
            }
        });
        assert_eq!(received.await, frame);
    }
    assert!(interrupted > 100, "only {interrupted} interruptions");
    sending.await.unwrap();
}

#[tokio::test]
async fn sending_can_be_interrupted_anywhere() {
    let (mut a, mut b, ..) = pair().await;
    // More than the window, so that sending it waits for the receiver.
    let (long, short) = (pattern(3 * 1024 * 1024), pattern(3));
    let interrupted = tokio::time::timeout(A_MOMENT, a.send(&long)).await;
    assert!(interrupted.is_err(), "the window took it all");
    let receiving =
        async { [b.recv(long.len()).await, b.recv(long.len()).await].map(|f| f.unwrap().unwrap()) };
    let (sent, received) = within(async { tokio::join!(a.send(&short), receiving) }).await;
    sent.unwrap();
    assert!(received == [long.clone(), short]);
    // Interrupted and then dropped, the rest never comes.
    assert!(tokio::time::timeout(A_MOMENT, a.send(&long)).await.is_err());
    drop(a);
    assert_eq!(within(b.recv(long.len())).await, Err(RecvError::Truncated));
}

#[tokio::test]
async fn an_anonymous_peer_gets_one_channel_and_a_small_window() {
    let acme = Framework::new("acme");
    let (server, client) = (acme.server(), acme.client_as(None));
    let (ours, _theirs) = join_at(&client, &server, server.local_addr(), &acme.pin()).await;
    let mut first = within(ours.open()).await.unwrap();
    assert!(tokio::time::timeout(A_MOMENT, ours.open()).await.is_err(), "a second channel was opened");
    let mut taken = 0;
    while let Ok(written) = tokio::time::timeout(A_MOMENT, first.sender.stream.write(&[0; 4096])).await {
        taken += written.unwrap();
    }
    assert_eq!(taken, ANONYMOUS_WINDOW as usize);
}

#[tokio::test]
async fn a_known_peer_gets_its_channels_and_no_more() {
    let acme = Framework::new("acme");
    let (server, client) = (acme.server(), acme.client());
    let (ours, _theirs) = join(&client, &server).await;
    let mut open = Vec::new();
    for _ in 0..CHANNELS_FROM_CLIENT {
        open.push(within(ours.open()).await.unwrap());
    }
    assert!(tokio::time::timeout(A_MOMENT, ours.open()).await.is_err(), "one channel too many");
}

#[tokio::test]
async fn a_server_opens_channels_too() {
    let acme = Framework::new("acme");
    let (server, client) = (acme.server(), acme.client());
    let (ours, theirs) = join(&client, &server).await;
    let (mut a, mut b) = channel(&theirs, &ours).await;
    within(a.send(&pattern(100))).await.unwrap();
    assert_eq!(within(b.recv(100)).await.unwrap().unwrap(), pattern(100));
}

#[tokio::test]
async fn channels_tell_why_the_connection_went() {
    let (mut a, mut b, (ours, _theirs), _endpoints) = pair().await;
    ours.close(3, "bye");
    let reason = CloseReason::Peer { code: 3, reason: "bye".to_owned() };
    assert_eq!(within(b.recv(1)).await, Err(RecvError::Closed(reason.clone())));
    assert_eq!(within(b.send(&pattern(1))).await, Err(SendError::Closed(reason)));
    assert_eq!(within(a.recv(1)).await, Err(RecvError::Closed(CloseReason::Local)));
}

#[tokio::test]
async fn a_channel_keeps_its_connection() {
    let (mut a, mut b, (ours, theirs), _endpoints) = pair().await;
    drop(ours);
    within(a.send(&pattern(1))).await.unwrap();
    assert!(within(b.recv(1)).await.unwrap().is_some());
    assert_eq!(theirs.close_reason(), None);
    drop(a);
    let gone = within(theirs.closed()).await;
    assert_eq!(gone, CloseReason::Peer { code: crate::close_code::DROPPED, reason: String::new() });
}
