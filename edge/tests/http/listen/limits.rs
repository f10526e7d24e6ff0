//! More clients than there is room for.

use super::*;

fn at_most(max_connections: usize) -> ListenConfig {
    ListenConfig { max_connections, max_connections_per_address: 0, ..patient() }
}

async fn hold(server: &Server) -> TcpStream {
    let before = server.gate.entered.load(Ordering::SeqCst);
    let mut client = connect(server).await;
    ask(&mut client, "/held").await;
    until(|| server.gate.entered.load(Ordering::SeqCst) > before).await;
    client
}

#[tokio::test]
async fn one_connection_too_many_waits_until_another_ends() {
    let server = start(at_most(2)).await;
    let (first, mut second) = (hold(&server).await, hold(&server).await);
    let mut third = connect(&server).await;
    ask(&mut third, "/").await;
    let mut byte = [0];
    assert!(timeout(3 * SHORT, third.read(&mut byte)).await.is_err(), "it must wait");
    assert_eq!(server.connections.open(), 2);

    drop(first);
    answer(&mut third, "hello").await;
    server.gate.release.add_permits(1);
    answer(&mut second, "held").await;
}

#[tokio::test]
async fn the_connection_idle_for_longest_makes_room() {
    let server = start(at_most(3)).await;
    let mut busy = hold(&server).await;
    let mut longest = connect(&server).await;
    ask(&mut longest, "/").await;
    answer(&mut longest, "hello").await;
    let (mut later, task) = http2(connect(&server).await).await;
    assert_eq!(text(get2(&mut later, "/").await.unwrap()).await, "hello");

    let mut new = connect(&server).await;
    ask(&mut new, "/").await;
    answer(&mut new, "hello").await;
    assert_eq!(rest(&mut longest).await, "");
    assert_eq!(text(get2(&mut later, "/").await.unwrap()).await, "hello");
    let mut newest = connect(&server).await;
    let mut next = connect(&server).await;
    ask(&mut newest, "/").await;
    ask(&mut next, "/").await;
    answer(&mut newest, "hello").await;
    answer(&mut next, "hello").await;
    within(task).await.unwrap();

    server.gate.release.add_permits(1);
    answer(&mut busy, "held").await;
}

#[tokio::test]
async fn silent_connections_cannot_take_all_places() {
    let server = start(at_most(20)).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(connect(&server).await);
    }
    for _ in 0..10 {
        let mut client = connect(&server).await;
        ask(&mut client, "/").await;
        answer(&mut client, "hello").await;
    }
    assert!(server.connections.open() <= 20);
}

#[tokio::test]
async fn one_client_has_so_many_connections() {
    let server = start(ListenConfig { max_connections_per_address: 2, ..patient() }).await;
    let first = hold(&server).await;
    let mut second = hold(&server).await;
    assert_eq!(rest(&mut connect(&server).await).await, "");

    // Another address has its own.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(server.address).await.unwrap();
    ask(&mut other, "/").await;
    answer(&mut other, "hello").await;

    drop(first);
    until(|| server.connections.open() == 2).await;
    let mut third = connect(&server).await;
    ask(&mut third, "/").await;
    answer(&mut third, "hello").await;
    server.gate.release.add_permits(1);
    answer(&mut second, "held").await;
}
