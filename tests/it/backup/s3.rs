//! Backups in a bucket, and what becomes of them when it is troubled.

mod server;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use euhub::backup::Id;
use euhub::clock::system_rng;
use tokio::process::Command;
use tokio::time::timeout;

use self::server::{BUCKET, KEY, S3, SECRET, Trouble};
use super::{Lab, assert_same, json};
use crate::program::{run_err, run_ok, wait_for};

/// Some 14 MB when it is compressed: two parts of an upload.
const NOISE: &str = "CREATE TABLE noise AS SELECT encode(sha256(n::text::bytea), 'hex') AS word FROM generate_series(1, 400000) n";
/// How long a command may take that meets a bucket which hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// `euhub backup` with its backups in the bucket of the server at `address`.
fn at(address: SocketAddr, lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = lab.backup(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
        .env("EUHUB_BACKUP_URL", format!("s3://{BUCKET}/nightly/euhub"))
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET);
    command
}

/// Runs a command that may wait for a bucket; whether it succeeded, and what it said.
async fn patiently(mut command: Command) -> (bool, String) {
    let output = timeout(PATIENCE, command.output()).await.expect("the command ends").unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.success(), said)
}

#[tokio::test]
async fn a_bucket_holds_backups_as_a_folder_does() {
    let (lab, s3) = (Lab::new().await, S3::start().await);
    lab.run(NOISE).await;
    let backup = |arguments: &[&str]| at(s3.address, &lab, arguments);
    let nothing = run_ok(backup(&["list"])).await;
    assert!(nothing.contains(&format!("s3://{BUCKET}/nightly/euhub holds no backup")), "{nothing}");

    let made = json(backup(&["create", "--json"])).await;
    assert_eq!(made["verified"], true, "{made}");
    let id = made["backup"].as_str().unwrap();
    assert!(s3.count("PUT", "partNumber=2") > 0, "in parts");
    let stored = |end: &str| s3.bucket().join(format!("nightly/euhub/{id}{end}"));
    assert_eq!(made["manifest"]["size"], fs::metadata(stored(".dump")).unwrap().len());
    assert!(stored(".manifest.json").exists() && stored(".check.json").exists());

    let newer = json(backup(&["create", "--no-verify", "--json"])).await;
    let newer = newer["backup"].as_str().unwrap();
    let listed = run_ok(backup(&["list"])).await;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with(newer) && lines[0].ends_with("not verified"),
        "{listed}"
    );
    assert!(lines[1].starts_with(id) && lines[1].ends_with("  verified"), "{listed}");
    for depth in ["checksum", "listing", "full"] {
        run_ok(backup(&["verify", newer, "--depth", depth])).await;
    }
    let name = format!("from_s3_{}", lab.database());
    run_ok(backup(&["restore", id, "--into", &name])).await;
    assert_same(&lab.url_of(&name), &lab.hub.database_url).await;

    let mut dump = fs::read(stored(".dump")).unwrap();
    dump[1000] ^= 4;
    fs::write(stored(".dump"), dump).unwrap();
    let told = run_err(backup(&["verify", id, "--depth", "checksum"])).await;
    assert!(told.contains("its dump has another checksum"), "{told}");

    let orphan = Id::new("2026-01-01T00:00:00Z".parse().unwrap(), &mut system_rng()).dump();
    let path = s3.bucket().join("nightly/euhub").join(&orphan);
    fs::write(&path, "torn").unwrap();
    let mut touch = Command::new("touch");
    touch.args(["-d", "2 days ago"]).arg(&path);
    run_ok(touch).await;
    let pruned = json(backup(&["prune", "--json"])).await;
    assert_eq!(pruned["orphans"], serde_json::json!([orphan]));
    assert!(!path.exists());
    let mut short = backup(&["create", "--no-verify"]);
    short.env("EUHUB_BACKUP_KEEP_DAYS", "0");
    run_ok(short).await;
    let newest = json(backup(&["create", "--json"])).await;
    wait_for("an end of the one that is kept for no day", async || {
        json(backup(&["prune", "--json"])).await["removed"].as_array().unwrap().len() == 1
    })
    .await;
    let listed = run_ok(backup(&["list"])).await;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.starts_with(newest["backup"].as_str().unwrap()), "{listed}");

    let mut whole = backup(&["list"]);
    whole.env("EUHUB_BACKUP_URL", format!("s3://{BUCKET}"));
    assert!(run_ok(whole).await.contains("holds no backup"), "another prefix is another storage");
}

#[tokio::test]
async fn a_bucket_that_does_not_let_in_is_told_without_the_secret() {
    let (lab, s3) = (Lab::empty().await, S3::start().await);
    for (name, value, why) in [
        ("AWS_SECRET_ACCESS_KEY", "another-secret-than-that", "SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "another-key", "NotSignedUp"),
        ("EUHUB_BACKUP_URL", "s3://no-such-bucket/x", "NoSuchBucket"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "storage, listing"),
    ] {
        for arguments in
            [&["list"][..], &["create"], &["verify", "latest"], &["restore", "latest"], &["prune"]]
        {
            let mut command = at(s3.address, &lab, arguments);
            command.env(name, value);
            // The same word for a bucket that cannot be reached takes its tries each time.
            if name == "AWS_ENDPOINT_URL" && arguments != ["create"] {
                continue;
            }
            let (done, said) = patiently(command).await;
            assert!(!done && said.contains(why), "{name} {arguments:?}: {said}");
            assert!(!said.contains(SECRET) && !said.contains("another-secret"), "{said}");
        }
    }
    assert_eq!(s3.files(), [""; 0]);
}

#[tokio::test]
async fn a_bucket_that_refuses_for_a_while_is_asked_again() {
    let (lab, s3) = (Lab::empty().await, S3::start().await);
    lab.run(NOISE).await;
    for (method, with) in [
        ("GET", "list-type=2"),
        ("POST", "uploads"),
        ("PUT", "partNumber=1"),
        ("PUT", "partNumber=2"),
        ("POST", "uploadId="),
        ("GET", ".dump"),
        ("PUT", ".manifest.json"),
    ] {
        s3.trouble(Trouble::Refuses, method, with, 3);
        let (done, said) = patiently(at(s3.address, &lab, &["create", "--no-verify"])).await;
        assert!(done, "{method} {with}: {said}");
        assert_eq!(s3.heal(), 0, "{method} {with}");
        run_ok(at(s3.address, &lab, &["verify", "latest", "--depth", "checksum"])).await;
    }
    let listed = run_ok(at(s3.address, &lab, &["list"])).await;
    assert_eq!(listed.lines().count(), 7, "{listed}");
}

#[tokio::test]
async fn a_bucket_that_refuses_for_ever_fails_the_backup_and_holds_nothing_of_it() {
    let (lab, s3) = (Lab::empty().await, S3::start().await);
    lab.run(NOISE).await;
    run_ok(at(s3.address, &lab, &["create"])).await;
    let before = s3.files();
    for (method, with) in [
        ("POST", "uploads"),
        ("PUT", "partNumber=1"),
        ("PUT", "partNumber=2"),
        ("POST", "uploadId="),
        ("GET", ".dump"),
        ("PUT", ".manifest.json"),
    ] {
        s3.trouble(Trouble::Refuses, method, with, usize::MAX);
        let (done, said) = patiently(at(s3.address, &lab, &["create", "--no-verify"])).await;
        assert!(!done && said.contains("storage, ") && said.contains("503"), "{method} {with}: {said}");
        s3.heal();
        assert_eq!(s3.files(), before, "{method} {with}");
    }
    run_ok(at(s3.address, &lab, &["verify", "latest", "--depth", "checksum"])).await;
    run_ok(at(s3.address, &lab, &["create", "--no-verify"])).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let (lab, s3) = (Lab::empty().await, S3::start().await);
    lab.run(NOISE).await;
    let broken = s3.behind_cuts(3, 3 << 20).await;
    let (done, said) = patiently(at(broken, &lab, &["create"])).await;
    assert!(done, "{said}");
    assert!(s3.count("PUT", "partNumber=") > 2, "parts were sent again");
}

#[tokio::test]
async fn a_bucket_that_hangs_is_asked_again() {
    let (lab, s3) = (Lab::empty().await, S3::start().await);
    s3.trouble(Trouble::Hangs, "PUT", "partNumber=1", 1);
    let (done, said) = patiently(at(s3.address, &lab, &["create", "--no-verify"])).await;
    assert!(done, "{said}");
    assert_eq!(s3.heal(), 0);
}

#[tokio::test]
async fn a_download_that_stalls_goes_on_where_it_was() {
    let (lab, s3) = (Lab::empty().await, S3::start().await);
    lab.run(NOISE).await;
    s3.trouble(Trouble::Stalls, "GET", ".dump", 1);
    let (done, said) = patiently(at(s3.address, &lab, &["create", "--no-verify"])).await;
    assert!(done, "{said}");
    assert_eq!(s3.heal(), 0);
    assert_eq!(s3.count("GET", ".dump"), 2);
}
