//! Stored bytes that are not those that were stored: every change is noticed, and none is restored.

use std::fs;
use std::path::Path;

use euhub::backup::{Backups, Depth, Id, Manifest, Progress, Target};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Lab, create, problems, random};
use crate::program::{run_err, run_ok};

/// Bits that are flipped, one at a time.
const FLIPS: usize = 200;

/// Flips a bit of a file; flips it back when called again.
fn flip(file: &Path, bit: u64) {
    let mut bytes = fs::read(file).unwrap();
    bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
    fs::write(file, bytes).unwrap();
}

/// A bit of a file: the first ones, the last ones, or any.
fn bit(n: usize, file: &Path) -> u64 {
    let bits = 8 * fs::metadata(file).unwrap().len();
    match n {
        0..8 => n as u64,
        8..16 => bits - 1 - (n as u64 - 8),
        _ => random(0..bits),
    }
}

async fn restore(backups: &Backups, id: &Id, database: String) -> Result<(), String> {
    let backup = backups.get(id).await.map_err(|error| error.to_string())?;
    let restored = backups.restore(&backup, &Target::New(database), &Progress::default()).await;
    restored.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_flipped_bit_of_a_dump_is_always_noticed() {
    let lab = Lab::new().await;
    let backups = lab.backups();
    let older = create(&backups).await;
    let id = create(&backups).await;
    let dump = lab.store().join(id.dump());
    let corrupt = format!("backup {id} is corrupt: its dump has another checksum");
    for n in 0..FLIPS {
        let bit = bit(n, &dump);
        flip(&dump, bit);
        assert_eq!(problems(&backups, &id, Depth::Checksum).await, [corrupt.as_str()], "bit {bit}");
        flip(&dump, bit);
    }

    let bit = random(0..8 * fs::metadata(&dump).unwrap().len());
    flip(&dump, bit);
    for depth in ["checksum", "listing", "full"] {
        let told = run_err(lab.backup(&["verify", id.as_str(), "--depth", depth])).await;
        assert!(told.contains(&format!("backup {id} is NOT good: {corrupt}")), "{depth}: {told}");
    }
    let listed = run_ok(lab.backup(&["list"])).await;
    assert!(listed.lines().next().unwrap().contains(&format!("BROKEN: {corrupt}")), "{listed}");
    let name = format!("flipped_{}", lab.database());
    let told = run_err(lab.backup(&["restore", id.as_str(), "--into", &name])).await;
    assert!(told.contains(&corrupt), "{told}");
    assert_eq!(lab.databases(&name).await, Vec::<String>::new());
    let said = run_ok(lab.backup(&["restore", "latest", "--into", &name])).await;
    assert!(said.contains(older.as_str()), "`latest` is the newest good one: {said}");

    flip(&dump, bit);
    run_ok(lab.backup(&["verify", id.as_str()])).await;
    let listed = run_ok(lab.backup(&["list"])).await;
    assert!(listed.lines().next().unwrap().ends_with("  verified"), "{listed}");
}

#[tokio::test]
async fn a_dump_that_is_cut_off_longer_or_gone_is_noticed() {
    let lab = Lab::empty().await;
    let backups = lab.backups();
    let id = create(&backups).await;
    let dump = lab.store().join(id.dump());
    let whole = fs::read(&dump).unwrap();
    let name = format!("cut_{}", lab.database());
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&dump, &whole[..length]).unwrap();
        let found = problems(&backups, &id, Depth::Checksum).await;
        let wanted =
            format!("backup {id} is corrupt: its dump has {length} bytes instead of {}", whole.len());
        assert_eq!(found, [wanted]);
        let told = restore(&backups, &id, name.clone()).await.unwrap_err();
        assert!(told.contains(&format!("its dump has {length} bytes")), "{told}");
    }
    fs::write(&dump, [whole.as_slice(), b"\0"].concat()).unwrap();
    assert!(problems(&backups, &id, Depth::Checksum).await[0].contains("bytes instead of"));
    fs::remove_file(&dump).unwrap();
    let found = problems(&backups, &id, Depth::Checksum).await;
    assert_eq!(found, [format!("backup {id} is corrupt: its dump is missing")]);
    let listed = run_ok(lab.backup(&["list"])).await;
    assert!(listed.contains("BROKEN: its dump is missing"), "{listed}");
    let told = run_err(lab.backup(&["restore", "latest"])).await;
    assert!(told.contains("holds no good backup"), "{told}");
    assert_eq!(lab.databases(&name).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_manifest_that_was_changed_in_any_way_is_refused() {
    let lab = Lab::empty().await;
    let backups = lab.backups();
    let id = create(&backups).await;
    let other = create(&backups).await;
    let file = lab.store().join(id.manifest());
    let sealed = fs::read(&file).unwrap();
    for n in 0..FLIPS {
        let bit = bit(n, &file);
        flip(&file, bit);
        let found = problems(&backups, &id, Depth::Checksum).await;
        assert!(found[0].starts_with(&format!("the manifest of backup {id} ")), "bit {bit}: {found:?}");
        let backup = backups.get(&id).await.unwrap();
        assert!(backup.manifest.is_err() && !backup.is_good(), "bit {bit}");
        let told = restore(&backups, &id, "never".into()).await.unwrap_err();
        assert!(told.contains(&format!("the manifest of backup {id} ")), "bit {bit}: {told}");
        flip(&file, bit);
    }
    for length in [0, 1, sealed.len() / 2, sealed.len() - 1] {
        fs::write(&file, &sealed[..length]).unwrap();
        let found = problems(&backups, &id, Depth::Checksum).await;
        assert!(found[0].contains("cannot be read: EOF"), "{length}: {found:?}");
    }

    let text = String::from_utf8(sealed.clone()).unwrap();
    let form: Value = serde_json::from_str(&text).unwrap();
    // With a checksum that fits again.
    let resealed = |edit: &dyn Fn(&mut Value)| {
        let mut manifest = form["manifest"].clone();
        edit(&mut manifest);
        let manifest = manifest.to_string();
        let sha256 = format!("{:x}", Sha256::digest(&manifest));
        format!(r#"{{"format":1,"sha256":"{sha256}","manifest":{manifest}}}"#)
    };
    let others = String::from_utf8(fs::read(lab.store().join(other.manifest())).unwrap()).unwrap();
    for (edited, why) in [
        (text.replacen("\"actor\":\"test\"", "\"actor\":\"tess\"", 1), "its checksum does not fit"),
        (
            text.replacen("\"format\":1", "\"format\":2", 1),
            "has form 2, and this program knows form 1: use a newer `euhub`",
        ),
        (r#"{"format":7,"sealed":"in another way"}"#.into(), "has form 7"),
        ("not JSON".into(), "cannot be read"),
        ("{}".into(), "cannot be read: missing field `format`"),
        (others, &format!("is that of backup {other}")),
        (resealed(&|manifest| manifest["retention"] = json!(9)), "cannot be read: unknown field `retention`"),
        (resealed(&|manifest| manifest["size"] = json!("big")), "cannot be read: invalid type"),
        (
            resealed(&|manifest| manifest["id"] = json!("../../etc/passwd")),
            "cannot be read: `../../etc/passwd` is no backup's id",
        ),
        (resealed(&|manifest| manifest["size"] = json!(7)), "bytes instead of 7"),
        (resealed(&|manifest| manifest["sha256"] = json!("0".repeat(64))), "its dump has another checksum"),
    ] {
        fs::write(&file, &edited).unwrap();
        let found = problems(&backups, &id, Depth::Checksum).await;
        assert!(found.len() == 1 && found[0].contains(why), "{why}: {found:?}");
    }
    for (edited, why) in [
        (resealed(&|manifest| manifest["dump_size"] = json!(7)), "instead of 7"),
        (resealed(&|manifest| manifest["schema_version"] = json!(3)), "instead of 3"),
        (resealed(&|manifest| manifest["tables"] = json!([])), "should not be there"),
        (resealed(&|manifest| manifest["tables"][0]["rows"] = json!(77)), "rows instead of 77"),
        (resealed(&|manifest| manifest["tables"][0]["content"] = json!("0:1")), "has other content"),
        (resealed(&|manifest| manifest["sequences"][0]["last"] = json!(i64::MAX)), "is behind"),
    ] {
        fs::write(&file, &edited).unwrap();
        assert_eq!(problems(&backups, &id, Depth::Checksum).await, [""; 0], "{why}");
        let found = problems(&backups, &id, Depth::Full).await;
        assert!(!found.is_empty() && found[0].contains(why), "{why}: {found:?}");
        let told = restore(&backups, &id, "never".into()).await.unwrap_err();
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(lab.databases("never").await, Vec::<String>::new());
    assert_eq!(lab.scratches().await, Vec::<String>::new());

    // One that is far too long must not be read, nor keep the others from being seen.
    let long = fs::File::create(&file).unwrap();
    long.set_len(1 << 30).unwrap();
    let listed = run_ok(lab.backup(&["list"])).await;
    let (good, broken) = listed.trim_end().split_once('\n').unwrap();
    assert!(good.starts_with(other.as_str()) && good.ends_with("not verified"), "{listed}");
    assert!(
        broken.starts_with(id.as_str()) && broken.contains("BROKEN") && broken.contains("1073741824 bytes"),
        "{listed}"
    );
    run_err(lab.backup(&["verify", id.as_str()])).await;
    run_ok(lab.backup(&["verify", "latest"])).await;

    fs::write(&file, &sealed).unwrap();
    assert_eq!(problems(&backups, &id, Depth::Full).await, [""; 0]);
}

#[tokio::test]
async fn the_content_of_another_database_is_noticed_and_not_restored() {
    let lab = Lab::new().await;
    let backups = lab.backups();
    let one = create(&backups).await;
    lab.run(
        "UPDATE articles SET title = title || '!' WHERE id = (SELECT min(id) FROM articles);
         DELETE FROM feeds WHERE id = (SELECT min(id) FROM feeds)",
    )
    .await;
    let two = create(&backups).await;

    // The dump of the one under the name and the promises of the other; every checksum fits.
    let read = |id: &Id| Manifest::open(id, &fs::read(lab.store().join(id.manifest())).unwrap()).unwrap();
    let (first, second) = (read(&one), read(&two));
    let forged = Manifest { size: first.size, sha256: first.sha256, dump_size: first.dump_size, ..second };
    fs::copy(lab.store().join(one.dump()), lab.store().join(two.dump())).unwrap();
    fs::write(lab.store().join(two.manifest()), forged.seal().unwrap()).unwrap();

    for depth in [Depth::Checksum, Depth::Listing] {
        assert_eq!(problems(&backups, &two, depth).await, [""; 0], "{depth:?} cannot know");
    }
    let told = run_err(lab.backup(&["verify", two.as_str()])).await;
    assert!(told.contains("table public.articles has other content in its "), "{told}");
    assert!(told.contains("table public.feeds has ") && told.contains(" rows instead of "), "{told}");
    assert!(!told.contains("public.sources "), "what is equal is not told: {told}");
    let name = format!("forged_{}", lab.database());
    let told = run_err(lab.backup(&["restore", two.as_str(), "--into", &name])).await;
    assert!(told.contains("restores to something else: table public.articles"), "{told}");
    assert_eq!(lab.databases(&name).await, Vec::<String>::new());
    assert_eq!(lab.scratches().await, Vec::<String>::new());
    let said = run_ok(lab.backup(&["restore", "latest", "--into", &name])).await;
    assert!(said.contains(one.as_str()), "`latest` is the newest good one: {said}");
}

#[tokio::test]
async fn a_dump_that_is_no_archive_is_noticed() {
    let lab = Lab::empty().await;
    let backups = lab.backups();
    let id = create(&backups).await;
    let manifest = Manifest::open(&id, &fs::read(lab.store().join(id.manifest())).unwrap()).unwrap();
    let text = b"no archive at all".as_slice();
    let stored = zstd::encode_all(text, 1).unwrap();
    for (stored, dump_size, why) in [
        (stored.as_slice(), text.len(), "not appear to be a valid archive"),
        (text, text.len(), "cannot be decompressed"),
    ] {
        let forged = Manifest {
            size: stored.len() as u64,
            sha256: format!("{:x}", Sha256::digest(stored)),
            dump_size: dump_size as u64,
            ..manifest.clone()
        };
        fs::write(lab.store().join(id.dump()), stored).unwrap();
        fs::write(lab.store().join(id.manifest()), forged.seal().unwrap()).unwrap();
        assert_eq!(problems(&backups, &id, Depth::Checksum).await, [""; 0]);
        let found = problems(&backups, &id, Depth::Listing).await;
        assert!(found.len() == 1 && found[0].contains(why), "{found:?}");
        let told = restore(&backups, &id, "never".into()).await.unwrap_err();
        assert!(told.contains("pg_restore") || told.contains(why), "{told}");
    }
    assert_eq!(lab.databases("never").await, Vec::<String>::new());
    assert_eq!(lab.scratches().await, Vec::<String>::new());
}
