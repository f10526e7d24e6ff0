//! Encrypted backups: nothing of the content is stored in the clear, and only the key opens them.

use std::fs;

use euhub::backup::{Depth, Progress};
use euhub::clock::Clock;
use euhub::config::Config;
use serde_json::Value;
use tokio::process::Command;

use super::{Lab, assert_same, create, json, open, problems, random};
use crate::program::{run_err, run_ok};

/// A word that must not be found.
const WORD: &str = "Rhabarberbarbara";

fn find(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// A file with a key of one digit.
fn key(lab: &Lab, digit: &str) -> std::path::PathBuf {
    let path = lab.folder.path().join(format!("key-{digit}"));
    fs::write(&path, format!("{}\n", digit.repeat(64))).unwrap();
    path
}

fn with_key(lab: &Lab, digit: &str, arguments: &[&str]) -> Command {
    let mut command = lab.backup(arguments);
    command.env("EUHUB_BACKUP_KEY_FILE", key(lab, digit));
    command
}

#[tokio::test]
async fn only_the_key_opens_an_encrypted_backup() {
    let lab = Lab::new().await;
    lab.run(&format!("CREATE TABLE words AS SELECT '{WORD}'::text AS word FROM generate_series(1, 2000)"))
        .await;
    let plain = create(&lab.backups()).await;
    let stored = fs::read(lab.store().join(plain.dump())).unwrap();
    assert!(find(&zstd::decode_all(stored.as_slice()).unwrap(), WORD), "this is how it would be found");

    let made = json(with_key(&lab, "a", &["create", "--json"])).await;
    assert_eq!(made["verified"], true);
    let id = made["backup"].as_str().unwrap();
    let key_id = made["manifest"]["key_id"].as_str().unwrap();
    assert!(key_id.len() == 16 && !"a".repeat(64).contains(key_id), "{key_id}");
    let listed = run_ok(lab.backup(&["list"])).await;
    assert!(listed.lines().next().unwrap().contains(", encrypted"), "listing wants no key: {listed}");
    assert_eq!(listed.matches("encrypted").count(), 1);

    let stored = fs::read(lab.store().join(format!("{id}.dump"))).unwrap();
    assert!(!find(&stored, WORD) && !find(&stored, "PGDMP"));
    // No frame of zstd begins anywhere.
    for start in 0..stored.len() - 4 {
        if stored[start..].starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let found = zstd::decode_all(&stored[start..]).unwrap_or_default();
            assert!(!find(&found, WORD), "{start}");
        }
    }
    for name in lab.files().iter().filter(|name| name.starts_with(id)) {
        assert!(!find(&fs::read(lab.store().join(name)).unwrap(), WORD), "{name}");
        assert!(!find(&fs::read(lab.store().join(name)).unwrap(), &"a".repeat(64)), "{name}");
    }
    let again = json(with_key(&lab, "a", &["create", "--no-verify", "--json"])).await;
    assert_eq!(again["manifest"]["key_id"], key_id);
    let other = fs::read(lab.store().join(format!("{}.dump", again["backup"].as_str().unwrap()))).unwrap();
    assert_ne!(stored[..64], other[..64], "each is sealed in another way");

    let name = format!("opened_{}", lab.database());
    run_ok(lab.backup(&["verify", id, "--depth", "checksum"])).await;
    for arguments in
        [vec!["verify", id], vec!["verify", id, "--depth", "listing"], vec!["restore", id, "--into", &name]]
    {
        let told = run_err(lab.backup(&arguments)).await;
        let wanted = format!("backup {id} is encrypted with key {key_id}: set EUHUB_BACKUP_KEY_FILE");
        assert!(told.contains(&wanted), "{told}");
        let told = run_err(with_key(&lab, "b", &arguments)).await;
        let wanted =
            format!("backup {id} is encrypted with key {key_id}, and EUHUB_BACKUP_KEY_FILE holds key ");
        assert!(told.contains(&wanted), "{told}");
        assert!(!told.contains(&"b".repeat(64)), "{told}");
    }
    let listed: Vec<Value> = run_ok(lab.backup(&["list", "--json"]))
        .await
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(listed.iter().all(|backup| backup["problem"].is_null()), "a missing key is no fault of a backup");
    assert_eq!(lab.databases(&name).await, Vec::<String>::new());
    assert_eq!(lab.scratches().await, Vec::<String>::new());
    run_ok(with_key(&lab, "a", &["verify", id, "--depth", "listing"])).await;
    run_ok(with_key(&lab, "a", &["restore", id, "--into", &name])).await;
    assert_same(&lab.url_of(&name), &lab.hub.database_url).await;
    run_ok(with_key(&lab, "a", &["verify", plain.as_str()])).await;
}

#[tokio::test]
async fn a_changed_bit_of_an_encrypted_backup_is_noticed_by_checksum_and_by_key() {
    let lab = Lab::empty().await;
    let config = Config { backup_key_file: Some(key(&lab, "c")), ..lab.config() };
    let backups = open(&config, &lab.hub.database_url, Clock::system());
    let id = create(&backups).await;
    let file = lab.store().join(id.dump());
    let stored = fs::read(&file).unwrap();
    let manifest = backups.get(&id).await.unwrap().manifest.unwrap();
    for n in 0..60 {
        let mut changed = stored.clone();
        // The header's every byte first.
        let bit = if n < 15 { n * 8 } else { random(0..8 * stored.len() as u64) };
        changed[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        fs::write(&file, &changed).unwrap();
        assert!(
            problems(&backups, &id, Depth::Checksum).await[0].contains("has another checksum"),
            "bit {bit}"
        );

        // Whoever can write the manifest anew still has not the key.
        use sha2::{Digest, Sha256};
        let forged =
            euhub::backup::Manifest { sha256: format!("{:x}", Sha256::digest(&changed)), ..manifest.clone() };
        fs::write(lab.store().join(id.manifest()), forged.seal().unwrap()).unwrap();
        let found = problems(&backups, &id, Depth::Listing).await;
        assert!(
            found[0].contains("cannot be decrypted") || found[0].contains("is not encrypted in a form"),
            "{found:?}"
        );
        fs::write(lab.store().join(id.manifest()), manifest.seal().unwrap()).unwrap();
    }
    fs::write(&file, &stored).unwrap();
    let check = backups.verify(&id, Depth::Full, &Progress::default()).await.unwrap();
    assert!(check.is_full_pass(), "{check:?}");
}

#[tokio::test]
async fn a_key_file_that_holds_no_key_is_refused() {
    let lab = Lab::empty().await;
    let file = lab.folder.path().join("key");
    let refused = async |why: &str| {
        let mut command = lab.backup(&["list"]);
        command.env("EUHUB_BACKUP_KEY_FILE", &file);
        let told = run_err(command).await;
        assert!(told.contains("EUHUB_BACKUP_KEY_FILE ") && told.contains(why), "{told}");
        assert!(told.contains("`openssl rand -hex 32` makes a key"), "{told}");
        told
    };
    refused("No such file").await;
    for text in ["", "secret words", &"d".repeat(63), &"d".repeat(65), &"é".repeat(32)] {
        fs::write(&file, text).unwrap();
        let told = refused("a key is 64 hexadecimal digits").await;
        assert!(text.is_empty() || !told.contains(text), "{told}");
    }
    fs::write(&file, [0xff; 64]).unwrap();
    refused("UTF-8").await;
}
