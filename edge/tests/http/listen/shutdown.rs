//! The end of a listener.

use super::*;

#[tokio::test]
async fn what_is_in_flight_ends_well_and_nothing_new_begins() {
    let server = start(patient()).await;
    let mut silent = connect(&server).await;
    let mut idle = connect(&server).await;
    ask(&mut idle, "/").await;
    answer(&mut idle, "hello").await;
    let (mut idle2, idle2_task) = http2(connect(&server).await).await;
    assert_eq!(text(get2(&mut idle2, "/").await.unwrap()).await, "hello");
    let mut busy = connect(&server).await;
    ask(&mut busy, "/held").await;
    let (mut busy2, busy2_task) = http2(connect(&server).await).await;
    let mut late = busy2.clone();
    let call = tokio::spawn(async move { text(get2(&mut busy2, "/held").await.unwrap()).await });
    let (mut watching, _task) = http2(connect(&server).await).await;
    let watch = get2(&mut watching, "/slowly").await.unwrap();
    until(|| server.gate.entered.load(Ordering::SeqCst) == 2).await;

    server.stop.cancel();
    for stream in [&mut silent, &mut idle] {
        assert_eq!(rest(stream).await, "");
    }
    within(idle2_task).await.unwrap();
    within(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    assert!(get2(&mut late, "/").await.is_err());
    assert!(!server.task.is_finished());

    server.gate.release.add_permits(2);
    assert!(rest(&mut busy).await.ends_with("held"));
    assert_eq!(within(call).await.unwrap(), "held");
    assert_eq!(text(watch).await, EVENTS);
    within(busy2_task).await.unwrap();
    within(server.task).await.unwrap();
    assert_eq!(server.connections.open(), 0);
}

#[tokio::test]
async fn a_client_that_does_not_close_is_not_waited_for() {
    let server = start(ListenConfig { header_timeout: 5 * SHORT, ..patient() }).await;
    let mut mute = connect(&server).await;
    mute.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut half = connect(&server).await;
    ask(&mut half, "/").await;
    answer(&mut half, "hello").await;
    half.write_all(b"GET / HT").await.unwrap();
    // Until the server has greeted, and so has read the greeting.
    within(mute.read_u8()).await.unwrap();
    server.stop.cancel();
    within(server.task).await.unwrap();
}

#[tokio::test]
async fn dropped_it_drops_its_connections() {
    let server = start(patient()).await;
    let mut client = connect(&server).await;
    ask(&mut client, "/endless").await;
    let mut byte = [0];
    within(client.read_exact(&mut byte)).await.unwrap();
    server.task.abort();
    until(|| server.gate.dropped.load(Ordering::SeqCst) == 1).await;
    assert_eq!(server.connections.open(), 0);
}
