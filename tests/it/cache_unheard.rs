//! A core that does not hear of changes any more: its cache is passed by until it hears again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::cache_answers::{count, name_of, rename};
use crate::hub::Hub;
use crate::program::wait_for;

/// What becomes of connections that listen for changes of cached answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ears {
    Open,
    /// They break, and so does each that begins to listen.
    Cut,
    /// Nothing comes through any more.
    Silent,
}

/// A socket in front of Postgres. All other connections pass it as if it were not there.
struct Wire {
    folder: TempDir,
    ears: watch::Sender<Ears>,
}

impl Wire {
    fn before(database_url: &str) -> (Self, String) {
        let options: PgConnectOptions = database_url.parse().unwrap();
        let socket = format!(".s.PGSQL.{}", options.get_port());
        let server = options.get_socket().unwrap().clone();
        let wire = Self { folder: tempfile::tempdir().unwrap(), ears: watch::Sender::new(Ears::Open) };
        let listener = UnixListener::bind(wire.folder.path().join(&socket)).unwrap();
        let (ears, behind) = (wire.ears.subscribe(), server.join(socket));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, UnixStream::connect(&behind).await.unwrap(), ears.clone()));
            }
        });
        let (database, user) = (options.get_database().unwrap(), options.get_username());
        let url = url(wire.folder.path(), options.get_port(), database, user);
        (wire, url)
    }
}

fn url(folder: &Path, port: u16, database: &str, user: &str) -> String {
    format!("postgres:///{database}?host={}&port={port}&user={user}", folder.display())
}

async fn carry(client: UnixStream, server: UnixStream, ears: watch::Receiver<Ears>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let listens = AtomicBool::new(false);
    let mut cut = ears.clone();
    let broken = async {
        while cut.wait_for(|ears| *ears == Ears::Cut).await.is_ok() && !listens.load(Ordering::Relaxed) {
            if cut.changed().await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = pass(from_client, to_server, &listens, ears.clone()) => {}
        () = pass(from_server, to_client, &listens, ears) => {}
        () = broken => {}
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    listens: &AtomicBool,
    mut ears: watch::Receiver<Ears>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        let listen: &[u8] = br#"LISTEN "euhub_cache""#;
        if buffer[..read].windows(listen.len()).any(|bytes| bytes == listen) {
            listens.store(true, Ordering::Relaxed);
        }
        if listens.load(Ordering::Relaxed) {
            let heard = ears.wait_for(|ears| *ears != Ears::Silent).await;
            if heard.is_ok_and(|ears| *ears == Ears::Cut) {
                return;
            }
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_cache_that_hears_of_no_changes_is_passed_by_until_it_hears_again() {
    let ground = Hub::seeded().await;
    let (wire, url) = Wire::before(&ground.database_url);
    let (reader, writer) = (Hub::core_at(url, None).await, ground.core(None).await);
    for ears in [Ears::Cut, Ears::Silent] {
        let before = format!("Before {ears:?}");
        rename(&writer, &before).await;
        let hits = count(&reader, "keywords", "hits").await;
        wait_for("a kept answer of the writer's", async || {
            name_of(&reader).await == before && count(&reader, "keywords", "hits").await > hits
        })
        .await;

        let bypassed = count(&reader, "keywords", "bypassed").await;
        wire.ears.send_replace(ears);
        wait_for("a cache that knows that it is deaf", async || !reader.cache.listening()).await;
        for round in 0..5 {
            let unheard = format!("Unheard {ears:?} {round}");
            rename(&writer, &unheard).await;
            assert_eq!(name_of(&reader).await, unheard, "kept answers are not asked");
        }
        assert_eq!(count(&reader, "keywords", "bypassed").await, bypassed + 5);
        assert!(!reader.cache.listening() && writer.cache.listening());

        wire.ears.send_replace(Ears::Open);
        wait_for("a cache that hears again", async || reader.cache.listening()).await;
        let unheard = format!("Unheard {ears:?} 4");
        assert_eq!(name_of(&reader).await, unheard, "what was kept before is over");
        let hits = count(&reader, "keywords", "hits").await;
        assert_eq!(name_of(&reader).await, unheard);
        assert_eq!(count(&reader, "keywords", "hits").await, hits + 1);
        assert_eq!(count(&reader, "keywords", "bypassed").await, bypassed + 5);
    }
}
