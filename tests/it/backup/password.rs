//! The password of the database is seen by nobody: not on a command line, in an environment, a log, an error or a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use sqlx::Connection;
use tokio::process::Command;

use super::{Lab, assert_same, connect, json, waits_for_a_lock};
use crate::hub::encode;
use crate::program::{PATIENCE, run_err};

/// With everything in it that some syntax knows.
const PASSWORD: &str = r#"s3cr:t\ 'q"@/%41+é$&=#?"#;

/// The address of the Hub's database over TCP, where the server asks for the password of this role.
async fn over_tcp(lab: &Lab, role: &str, form: &str) -> String {
    let quoted = PASSWORD.replace('\'', "''");
    lab.run(&format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{quoted}'")).await;
    let url = url::Url::parse(&lab.hub.database_url).unwrap();
    let port = url.query_pairs().find(|(name, _)| name == "port").unwrap().1.into_owned();
    // `+` is a space only in a form.
    let password = encode(PASSWORD).replace('+', "%20");
    match form {
        "userinfo" => format!("postgres://{role}:{password}@127.0.0.1:{port}/{}", lab.database()),
        _ => format!("postgres://{role}@127.0.0.1:{port}/{}?password={password}", lab.database()),
    }
}

/// The words that give the password away, as it is written and as addresses and password files write it.
fn telling() -> [String; 4] {
    [
        PASSWORD.into(),
        encode(PASSWORD),
        encode(PASSWORD).replace('+', "%20"),
        PASSWORD.replace('\\', r"\\").replace(':', r"\:"),
    ]
}

fn tells(bytes: &[u8]) -> bool {
    telling().iter().any(|telling| bytes.windows(telling.len()).any(|window| window == telling.as_bytes()))
}

/// Names of programs of PostgreSQL that run, after a look at what everybody may read of every process, and at their environments.
fn look(seen: &mut BTreeSet<String>, own: u32) {
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else {
            continue;
        };
        // One that ends meanwhile has nothing to tell.
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        assert!(!tells(&line), "the command line of {pid}: {}", String::from_utf8_lossy(&line));
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default().trim().to_owned();
        // Others may run such programs too, in other tests.
        let of_ours = fs::read_to_string(path.join("stat")).is_ok_and(|stat| {
            let parent =
                stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)?.parse().ok());
            parent == Some(own)
        });
        if of_ours && name.starts_with("pg_") && name != "pg_config" {
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            assert!(!tells(&environment), "the environment of {name}");
            seen.insert(name);
        }
    }
}

/// No file under a folder holds it.
fn search(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            search(&entry.path());
        } else if kind.is_file() {
            assert!(!tells(&fs::read(entry.path()).unwrap()), "{}", entry.path().display());
        }
    }
}

/// Runs a command with every log there is, and looks at its children all the while; its output and the children's names.
async fn watched(mut command: Command, temporary: &Path) -> (bool, String, BTreeSet<String>) {
    command.env("RUST_LOG", "trace").env("EUHUB_LOG", "trace").env("TMPDIR", temporary);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let own = child.id().unwrap();
    let mut seen = BTreeSet::new();
    let mut output = std::pin::pin!(child.wait_with_output());
    let looking = async {
        loop {
            tokio::select! {
                output = &mut output => return output.unwrap(),
                () = tokio::time::sleep(std::time::Duration::from_millis(5)) => look(&mut seen, own),
            }
        }
    };
    let output = tokio::time::timeout(PATIENCE, looking).await.expect("the command ends");
    assert!(!tells(&output.stdout), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!tells(&output.stderr), "{}", String::from_utf8_lossy(&output.stderr));
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said, seen)
}

#[tokio::test]
async fn a_password_opens_the_database_and_is_never_seen() {
    for form in ["userinfo", "query"] {
        let lab = Lab::empty().await;
        lab.run(
            "CREATE TABLE load AS SELECT n, sha256(n::text::bytea) AS word FROM generate_series(1, 100000) n",
        )
        .await;
        let url = over_tcp(&lab, &format!("backup_{form}"), form).await;
        let temporary = lab.folder.path().join("tmp");
        fs::create_dir(&temporary).unwrap();

        // Without it, nothing opens: the server does ask.
        let without =
            lab.backup_of(&url.replace(&encode(PASSWORD).replace('+', "%20"), "wrong"), &["create"]);
        let told = run_err(without).await;
        assert!(told.contains("password authentication failed") && !told.contains("wrong"), "{told}");

        let (done, said, seen) = watched(lab.backup_of(&url, &["create"]), &temporary).await;
        assert!(done, "{said}");
        assert!(seen.contains("pg_dump") && seen.contains("pg_restore"), "{seen:?}");
        let (done, said, seen) = watched(lab.backup_of(&url, &["verify", "latest"]), &temporary).await;
        assert!(done && seen.contains("pg_restore"), "{seen:?} {said}");
        let name = format!("with_password_{}", lab.database());
        let (done, said, _) =
            watched(lab.backup_of(&url, &["restore", "latest", "--into", &name]), &temporary).await;
        assert!(done, "{said}");
        assert_same(&lab.url_of(&name), &lab.hub.database_url).await;
        let listed = json(lab.backup_of(&url, &["list", "--json"])).await.to_string();
        assert!(!tells(listed.as_bytes()), "{listed}");
        search(lab.folder.path());

        // A dump that fails tells it as little.
        let mut connection = connect(&lab.hub.database_url).await;
        let mut transaction = connection.begin().await.unwrap();
        sqlx::query("DROP TABLE load").execute(&mut *transaction).await.unwrap();
        let failing = watched(lab.backup_of(&url, &["create"]), &temporary);
        let dropping = async {
            waits_for_a_lock(&lab.hub.database_url, "euhub pg_dump").await;
            transaction.commit().await.unwrap();
        };
        let ((done, said, _), ()) = tokio::join!(failing, dropping);
        assert!(!done && said.contains("public.load"), "{said}");
        search(lab.folder.path());
        lab.run(&format!("DROP OWNED BY backup_{form}; REASSIGN OWNED BY backup_{form} TO CURRENT_USER"))
            .await;
    }
}
