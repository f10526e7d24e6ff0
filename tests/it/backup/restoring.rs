//! A backup is what its manifest says, and comes back whole, beside the live database or in its place.

use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};

use super::{Lab, connect, contents, json, run};
use crate::program::{run_err, run_ok};

async fn scalar(connection: &mut PgConnection, sql: &str) -> String {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_backup_is_what_its_manifest_says() {
    let lab = Lab::new().await;
    let nothing = run_ok(lab.backup(&["list"])).await;
    assert!(nothing.contains("holds no backup"), "{nothing}");

    let made = json(lab.backup(&["create", "--json"])).await;
    let id = made["backup"].as_str().unwrap();
    assert_eq!(made["verified"], true);
    assert_eq!(made["problem"], Value::Null);
    assert_eq!(
        lab.files(),
        [".check.json", ".dump", ".manifest.json"].map(|end| format!("{id}{end}")).into()
    );

    let manifest = &made["manifest"];
    let dump = fs::read(lab.store().join(format!("{id}.dump"))).unwrap();
    assert_eq!(manifest["id"], id);
    assert_eq!(manifest["size"], dump.len());
    assert_eq!(manifest["sha256"], format!("{:x}", Sha256::digest(&dump)));
    let plain = zstd::decode_all(dump.as_slice()).unwrap();
    assert_eq!(manifest["dump_size"], plain.len());
    assert!(plain.starts_with(b"PGDMP"), "an archive of pg_dump");
    assert!(dump.len() * 2 < plain.len(), "compressed");
    assert_eq!(manifest["key_id"], Value::Null);
    assert_eq!(manifest["actor"], "command-line");
    assert_eq!(manifest["program_version"], env!("CARGO_PKG_VERSION"));
    let time = |field: &str| manifest[field].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert!(time("create_time") <= time("end_time"));
    assert_eq!(time("expire_time") - time("create_time"), TimeDelta::days(7));
    assert_eq!(time("create_time").format("%Y%m%dT%H%M%SZ").to_string(), id[..16]);

    let mut connection = connect(&lab.hub.database_url).await;
    let version = scalar(&mut connection, "SELECT max(version)::text FROM _sqlx_migrations").await;
    assert_eq!(manifest["schema_version"].to_string(), version);
    let version = scalar(&mut connection, "SHOW server_version_num").await;
    assert_eq!(manifest["server_version"].to_string(), version);
    assert!(manifest["tool_version"].as_u64().unwrap() >= version.parse::<u64>().unwrap() / 10_000);
    let position = manifest["wal_position"].as_str().unwrap();
    let written =
        format!("SELECT ('{position}'::pg_lsn > '0/0' AND '{position}' <= pg_current_wal_lsn())::text");
    assert_eq!(scalar(&mut connection, &written).await, "true", "{position}");
    let tables = manifest["tables"].as_array().unwrap();
    for name in ["public.articles", "public.feeds", "public.sources", "public._sqlx_migrations"] {
        let table = tables.iter().find(|table| table["name"] == name).expect(name);
        let rows = scalar(&mut connection, &format!("SELECT count(*)::text FROM {name}")).await;
        assert_eq!(table["rows"].to_string(), rows, "{name}");
        assert_ne!(rows, "0", "{name}");
    }

    let listed = json(lab.backup(&["list", "--json"])).await;
    assert_eq!(listed, made);
    let listed = run_ok(lab.backup(&["list"])).await;
    assert!(listed.starts_with(id) && listed.trim_end().ends_with("  verified"), "{listed}");
    for (depth, said) in [("checksum", "every byte"), ("listing", "names every table"), ("full", "restored")]
    {
        let verified = run_ok(lab.backup(&["verify", id, "--depth", depth])).await;
        assert!(verified.contains(said), "{depth}: {verified}");
    }
    assert_eq!(lab.scratches().await, Vec::<String>::new(), "what was restored is dropped again");
}

#[tokio::test]
async fn a_backup_comes_back_whole() {
    let lab = Lab::new().await;
    let id = lab.create().await;
    let live = contents(&lab.hub.database_url).await;
    lab.run("DELETE FROM articles").await;

    let restored = json(lab.backup(&["restore", id.as_str(), "--json"])).await;
    let database = restored["database"].as_str().unwrap();
    assert_eq!(database, format!("euhub_{}", id.as_str().to_lowercase().replace('-', "_")));
    assert_eq!(restored["previous"], Value::Null);
    assert_eq!(contents(&lab.url_of(database)).await, live);
    let articles = connect(&lab.hub.database_url).await;
    let mut articles = articles;
    assert_eq!(scalar(&mut articles, "SELECT count(*)::text FROM articles").await, "0", "untouched");
    assert_eq!(lab.scratches().await, Vec::<String>::new());

    let taken = run_err(lab.backup(&["restore", "latest"])).await;
    assert!(taken.contains(&format!("database {database} exists already")), "{taken}");
    let taken = run_err(lab.backup(&["restore", "latest", "--into", lab.database()])).await;
    assert!(taken.contains(&format!("database {} exists already", lab.database())), "{taken}");
    for name in ["", "a\nb", &"x".repeat(64)] {
        let refused = run_err(lab.backup(&["restore", "latest", "--into", name])).await;
        assert!(refused.contains("1 to 63 bytes and no control characters"), "{refused}");
    }
    let odd = format!("it's \"odd\" {}", lab.database());
    let said = run_ok(lab.backup(&["restore", "latest", "--into", &odd])).await;
    assert!(said.contains(&format!("is in database {odd}")) && said.contains("every one compared"), "{said}");
    assert_eq!(lab.databases(&odd).await, [odd]);
}

#[tokio::test]
async fn the_newest_backup_comes_back_on_a_machine_that_never_saw_the_database() {
    let lab = Lab::new().await;
    lab.create().await;
    let live = contents(&lab.hub.database_url).await;

    let other = crate::embedded::scratch();
    let name = format!("new_{}", lab.database());
    let there = |arguments: &[&str]| {
        let mut command = lab.backup_of(&lab.url_of(&name), arguments);
        command.current_dir(other.path()).env("EUHUB_BACKUP_URL", lab.store());
        command
    };
    let beside = format!("beside_{name}");
    run_ok(there(&["restore", "latest", "--into", &beside])).await;
    assert_eq!(contents(&lab.url_of(&beside)).await, live);
    assert_eq!(lab.databases(&name).await, Vec::<String>::new());

    run_ok(there(&["verify", "latest"])).await;
    let restored = json(there(&["restore", "latest", "--into-live", "--yes", "--json"])).await;
    assert_eq!(restored["database"], name);
    assert_eq!(restored["previous"], Value::Null);
    assert_eq!(contents(&lab.url_of(&name)).await, live);
}

#[tokio::test]
async fn a_backup_takes_the_live_databases_place_only_when_nobody_uses_it() {
    let lab = Lab::new().await;
    let id = lab.create().await;
    let backed_up = contents(&lab.hub.database_url).await;
    lab.run("DELETE FROM articles").await;
    let now = contents(&lab.hub.database_url).await;

    let asks = run_err(lab.backup(&["restore", "latest", "--into-live"])).await;
    assert!(asks.contains("add --yes") && asks.contains("stop everything that uses it"), "{asks}");
    let visitor = connect(&format!("{}&application_name=visitor", lab.hub.database_url)).await;
    let in_use = run_err(lab.backup(&["restore", "latest", "--into-live", "--yes"])).await;
    assert!(in_use.contains("is in use by euhub ("), "{in_use}");
    assert!(in_use.contains("visitor (1)") && in_use.contains("stop every `euhub serve`"), "{in_use}");
    assert_eq!(contents(&lab.hub.database_url).await, now);

    lab.hub.stopping.cancel();
    lab.hub.db.close().await;
    let in_use = run_err(lab.backup(&["restore", "latest", "--into-live", "--yes"])).await;
    assert!(in_use.contains("visitor (1)"), "{in_use}");
    visitor.close().await.unwrap();
    lab.leave().await;

    let restored = json(lab.backup(&["restore", id.as_str(), "--into-live", "--yes", "--json"])).await;
    assert_eq!(restored["database"], lab.database());
    assert_eq!(contents(&lab.hub.database_url).await, backed_up);
    let previous = restored["previous"].as_str().unwrap();
    assert!(previous.contains(&format!("_before_{id}_")), "{previous}");
    assert_eq!(contents(&lab.url_of(previous)).await, now, "what was there is kept");
    assert_eq!(lab.scratches().await, Vec::<String>::new());
    run(&lab.url_of("postgres"), &format!("DROP DATABASE \"{previous}\"")).await;
}
