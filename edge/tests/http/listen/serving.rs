//! Clients that behave.

use super::*;

#[tokio::test]
async fn http_1_and_http_2_are_told_apart_by_their_first_bytes() {
    let server = start(patient()).await;
    let mut one = connect(&server).await;
    ask(&mut one, "/").await;
    assert!(answer(&mut one, "hello").await.starts_with("HTTP/1.1 200 OK\r\n"));

    let (mut two, _task) = http2(connect(&server).await).await;
    let response = get2(&mut two, "/").await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    assert_eq!(text(response).await, "hello");
    assert_eq!(server.connections.open(), 2);
}

#[tokio::test]
async fn handlers_see_the_address_of_the_client() {
    let server = start(patient()).await;
    let mut client = connect(&server).await;
    let address = client.local_addr().unwrap().to_string();
    ask(&mut client, "/peer").await;
    answer(&mut client, &address).await;
    let stream = connect(&server).await;
    let address = stream.local_addr().unwrap().to_string();
    let (mut client, _task) = http2(stream).await;
    assert_eq!(text(get2(&mut client, "/peer").await.unwrap()).await, address);
}

#[tokio::test]
async fn large_answers_arrive_whole() {
    let server = start(patient()).await;
    let mut one = connect(&server).await;
    one.write_all(b"GET /large HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
    let answer = rest(&mut one).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 5000000"), "{head}");
    assert_eq!(body.len(), 5_000_000);

    let (mut two, _task) = http2(connect(&server).await).await;
    let response = get2(&mut two, "/large").await.unwrap();
    assert_eq!(response.headers()["content-length"], "5000000");
    assert_eq!(text(response).await.len(), 5_000_000);
}

#[tokio::test]
async fn trailers_follow_the_body() {
    let server = start(ListenConfig { http2_only: true, ..patient() }).await;
    let (mut client, _task) = http2(connect(&server).await).await;
    let body = get2(&mut client, "/trailers").await.unwrap().into_body();
    let collected = within(body.collect()).await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes().len(), 200_000);
}

#[tokio::test]
async fn a_listener_for_http_2_alone_refuses_http_1() {
    let server = start(ListenConfig { http2_only: true, ..patient() }).await;
    let mut one = connect(&server).await;
    ask(&mut one, "/").await;
    assert!(!rest(&mut one).await.contains("HTTP/1.1"));
    let (mut two, _task) = http2(connect(&server).await).await;
    assert_eq!(text(get2(&mut two, "/").await.unwrap()).await, "hello");
}

#[tokio::test]
async fn garbage_ends_its_connection_alone() {
    for http2_only in [false, true] {
        let server = start(ListenConfig { http2_only, ..patient() }).await;
        let garbage: [&[u8]; 4] = [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS greeting of all things \r\n\r\n",
            &[0xff; 10_000],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n and then no frame but words, words, words",
            b"GET / HTTP/9.9\r\n\r\n",
        ];
        for bytes in garbage {
            let mut client = connect(&server).await;
            client.write_all(bytes).await.unwrap();
            rest(&mut client).await;
        }
        // One that leaves at once, and one that does so half-way.
        drop(connect(&server).await);
        let mut client = connect(&server).await;
        client.write_all(b"PRI * HT").await.unwrap();
        drop(client);

        let (mut client, _task) = http2(connect(&server).await).await;
        assert_eq!(text(get2(&mut client, "/").await.unwrap()).await, "hello");
        until(|| server.connections.open() == 1).await;
    }
}

#[tokio::test]
async fn headers_and_streams_of_http_2_are_bounded() {
    let config = ListenConfig { max_header_bytes: 1000, max_streams: 2, ..patient() };
    let server = start(config).await;
    let (mut client, _task) = http2(connect(&server).await).await;
    let request = Request::get("http://test/").header("x-large", "x".repeat(2000)).body(Empty::new());
    let refused = within(client.send_request(request.unwrap())).await;
    assert!(refused.is_err() || refused.unwrap().status() == 431);

    let (mut client, _task) = http2(connect(&server).await).await;
    // By its answer the client knows the bound, and keeps to it.
    assert_eq!(text(get2(&mut client, "/").await.unwrap()).await, "hello");
    let mut calls = Vec::new();
    for _ in 0..3 {
        let mut client = client.clone();
        calls.push(tokio::spawn(async move { text(get2(&mut client, "/held").await.unwrap()).await }));
    }
    until(|| server.gate.entered.load(Ordering::SeqCst) == 2).await;
    server.gate.release.add_permits(3);
    for call in calls {
        assert_eq!(within(call).await.unwrap(), "held");
    }
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_connection_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/panic", get(|| async { panic!("as asked") as &'static str }));
    tokio::spawn(serve(listener, router, patient(), CancellationToken::new()));
    let mut client = TcpStream::connect(address).await.unwrap();
    ask(&mut client, "/panic").await;
    assert_eq!(rest(&mut client).await, "");
    let mut client = TcpStream::connect(address).await.unwrap();
    ask(&mut client, "/").await;
    answer(&mut client, "hello").await;
}
