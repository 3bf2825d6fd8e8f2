//! Managers and forwarders that are left.

use super::*;

/// What is idle goes at once; what is under way has the policy's time, and is then not taken for whole.
#[tokio::test]
async fn a_withdrawn_manager_is_left_at_once_and_cut_in_the_end() {
    let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let near = Peer::start(move |n| if n == 1 { Does::Says(endless.into()) } else { ok("near") }).await;
    let far = Peer::saying("far").await;
    let drain =
        PolicySettings { drain_timeout: Some(Duration::from_millis(700)), ..PolicySettings::default() };
    let mut managers = managers(&[near.addr, far.addr]);
    let setup = setup_with(&managers, drain.clone()).await;
    let mut long = setup.connect().await;
    long.say(GET).await;
    let head = read_head(&mut long.0).await.unwrap();
    assert!(head.contains("chunked"), "{head}");
    let mut idle = setup.connect().await;
    idle.say(GET).await;
    assert_eq!(idle.hear().await.body, "near");
    let counts = || setup.forwarder.status().open_by_manager.get("host1").copied();
    assert_eq!(counts(), Some(2));

    managers[0].withdrawn = true;
    setup.routes.send(RouterInput::Replica(snapshot(2, &managers, drain))).await;
    eventually("the idle one to be closed", || (counts() == Some(1)).then_some(())).await;
    idle.say(POST).await;
    assert_eq!(idle.hear().await.body, "far");
    let body = timeout(DEADLINE, read_body(&mut long.0, &head)).await.expect("it is not cut");
    assert_eq!(body, None, "cut short, and it looks so");
    eventually("no connection", || counts().is_none().then_some(())).await;
    assert_eq!(host(1), managers[0].host);
}

/// A request whose manager is cut away before it answered goes to another one.
#[tokio::test]
async fn a_request_that_waits_for_a_withdrawn_manager_goes_on() {
    let (near, far) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Peer::saying("far").await);
    let drain = PolicySettings { drain_timeout: Some(Duration::ZERO), ..PolicySettings::default() };
    let mut managers = managers(&[near.local_addr().unwrap(), far.addr]);
    let setup = setup_with(&managers, drain.clone()).await;
    let mut caller = setup.connect().await;
    caller.say(GET).await;
    let mut silent = BufReader::new(near.accept().await.unwrap().0);
    let _ = read_head(&mut silent).await.unwrap();
    managers[0].withdrawn = true;
    setup.routes.send(RouterInput::Replica(snapshot(2, &managers, drain))).await;
    assert_eq!(caller.hear().await.body, "far");
}

#[tokio::test]
async fn a_forwarder_that_is_closed_answers_what_it_has() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = setup(&[listener.local_addr().unwrap()]).await;
    let mut caller = setup.connect().await;
    caller.say(GET).await;
    let mut manager = BufReader::new(listener.accept().await.unwrap().0);
    let _ = read_head(&mut manager).await.unwrap();
    timeout(DEADLINE, setup.forwarder.close()).await.unwrap();
    manager.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await.unwrap();
    assert_eq!(caller.hear().await.body, "last");
    assert_eq!(caller.0.read(&mut [0; 1]).await.unwrap(), 0, "no further request");
    assert_eq!(manager.read(&mut [0; 1]).await.unwrap(), 0, "no connection is kept");
}
