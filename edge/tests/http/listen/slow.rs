//! Clients that take their time.

use super::*;

fn header_timeout(header_timeout: Duration) -> ListenConfig {
    ListenConfig { header_timeout, ..patient() }
}

fn idle_timeout(idle_timeout: Duration) -> ListenConfig {
    ListenConfig { idle_timeout, ..patient() }
}

/// Sends a byte of a request that never ends, again and again, until the server has had enough.
async fn drip(mut client: TcpStream, request: &'static str) {
    for byte in request.bytes().chain(std::iter::repeat(b'x')) {
        if client.write_all(&[byte]).await.is_err() {
            return;
        }
        let mut answer = [0; 100];
        // The wait between two bytes, which ends sooner with the connection.
        match timeout(SHORT / 10, client.read(&mut answer)).await {
            Err(_) => {}
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(read)) => panic!("answered: {}", String::from_utf8_lossy(&answer[..read])),
        }
    }
}

#[tokio::test]
async fn a_silent_client_is_cut_off() {
    let server = start(header_timeout(SHORT)).await;
    assert_eq!(rest(&mut connect(&server).await).await, "");
    // With half of HTTP/2's preface, too.
    let mut client = connect(&server).await;
    client.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    assert_eq!(rest(&mut client).await, "");
    until(|| server.connections.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_drips_its_headers_is_cut_off() {
    let server = start(header_timeout(SHORT)).await;
    within(drip(connect(&server).await, "GET / HTTP/1.1\r\nx-slow: ")).await;
}

#[tokio::test]
async fn a_client_that_drips_the_headers_of_a_later_request_is_cut_off() {
    let server = start(header_timeout(5 * SHORT)).await;
    let mut client = connect(&server).await;
    ask(&mut client, "/").await;
    answer(&mut client, "hello").await;
    within(drip(client, "GET / HTTP/1.1\r\nx-slow: ")).await;
}

#[tokio::test]
async fn the_header_timeout_leaves_waiting_connections_and_slow_handlers_alone() {
    let server = start(header_timeout(5 * SHORT)).await;
    let mut client = connect(&server).await;
    ask(&mut client, "/").await;
    answer(&mut client, "hello").await;
    sleep(8 * SHORT).await;
    ask(&mut client, "/slowly").await;
    assert!(answer(&mut client, "0\r\n\r\n").await.contains("event 2"));
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let server = start(idle_timeout(SHORT)).await;
    let mut one = connect(&server).await;
    ask(&mut one, "/").await;
    assert!(rest(&mut one).await.ends_with("hello"));

    // With and without a request.
    let (mut two, task) = http2(connect(&server).await).await;
    assert_eq!(text(get2(&mut two, "/").await.unwrap()).await, "hello");
    within(task).await.unwrap();
    let (_two, task) = http2(connect(&server).await).await;
    within(task).await.unwrap();
    until(|| server.connections.open() == 0).await;
}

#[tokio::test]
async fn pings_do_not_keep_an_idle_connection_open() {
    let config = ListenConfig { ping_interval: SHORT / 10, ..idle_timeout(SHORT) };
    let server = start(config).await;
    let (_client, task) = http2(connect(&server).await).await;
    within(task).await.unwrap();
}

#[tokio::test]
async fn streams_outlive_the_idle_timeout() {
    let server = start(idle_timeout(SHORT)).await;
    let mut one = connect(&server).await;
    ask(&mut one, "/slowly").await;
    let answer = rest(&mut one).await;
    assert!(answer.contains("event 2") && answer.ends_with("0\r\n\r\n"), "{answer}");
    let (mut two, _task) = http2(connect(&server).await).await;
    assert_eq!(text(get2(&mut two, "/slowly").await.unwrap()).await, EVENTS);
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off() {
    let server = start(ListenConfig { write_timeout: SHORT, ..patient() }).await;
    let mut client = connect(&server).await;
    ask(&mut client, "/endless").await;
    until(|| server.gate.dropped.load(Ordering::SeqCst) == 1).await;
    until(|| server.connections.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_but_steadily_is_not_cut_off() {
    let server = start(ListenConfig { write_timeout: 5 * SHORT, ..patient() }).await;
    let mut client = connect(&server).await;
    ask(&mut client, "/endless").await;
    let mut buffer = vec![0; 2_000_000];
    for _ in 0..20 {
        within(client.read_exact(&mut buffer)).await.unwrap();
        sleep(SHORT).await;
    }
    assert_eq!(server.gate.dropped.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_stream_whose_window_stays_closed_is_reset_alone() {
    let server = start(ListenConfig { write_timeout: SHORT, ..patient() }).await;
    let (mut client, _task) = http2(connect(&server).await).await;
    let unread = get2(&mut client, "/endless").await.unwrap();
    let quiet = get2(&mut client, "/slowly").await.unwrap();
    until(|| server.gate.dropped.load(Ordering::SeqCst) == 1).await;
    assert!(within(unread.into_body().collect()).await.is_err(), "it was not whole");
    assert_eq!(text(quiet).await, EVENTS);
    assert_eq!(text(get2(&mut client, "/").await.unwrap()).await, "hello");
}

#[tokio::test]
async fn a_client_that_is_gone_without_a_word_is_noticed() {
    let server = start(ListenConfig { ping_interval: SHORT / 2, ping_timeout: SHORT / 2, ..patient() }).await;
    // A greeting, empty settings, a request for `/held`; and then not even an answer to pings.
    let mut client = connect(&server).await;
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    client.write_all(b"\0\0\x0f\x01\x05\0\0\0\x01\x82\x86\x04\x05/held\x01\x04test").await.unwrap();
    until(|| server.gate.entered.load(Ordering::SeqCst) == 1).await;
    until(|| server.connections.open() == 0).await;
}

#[tokio::test]
async fn two_hundred_slow_clients_do_not_keep_others_from_their_answers() {
    let server = start(patient()).await;
    let slow: Vec<_> = (0..200).map(|_| connect(&server)).collect();
    for client in slow {
        tokio::spawn(drip(client.await, "GET / HTTP/1.1\r\nx-slow: "));
    }
    until(|| server.connections.open() == 200).await;
    for _ in 0..50 {
        let mut client = connect(&server).await;
        ask(&mut client, "/").await;
        answer(&mut client, "hello").await;
    }
    assert!(server.connections.open() >= 200);
}
