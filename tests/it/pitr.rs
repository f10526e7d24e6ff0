//! Point-in-time recovery with the shipped `deploy/pgbackrest`, on clusters of its own: the drill, and what cannot be restored.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::embedded::scratch;

/// How long the drill may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// In place of root, when nothing has an owner yet.
const NOBODY: u32 = 65534;
/// Between two rows of the drill: it pauses for longer before the next.
const AFTER_A_ROW: TimeDelta = TimeDelta::milliseconds(10);

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

async fn run(mut command: Command) -> Output {
    timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs")
}

fn words(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn iso(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// `restore-to` in a folder that holds it and the settings, run as that folder's owner.
struct Lab {
    folder: PathBuf,
}

impl Lab {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.folder.join("restore-to"));
        command.args(arguments).current_dir(&self.folder).kill_on_drop(true);
        command.env("PGBACKREST_CONFIG", self.folder.join("pgbackrest.conf"));
        if rustix::process::geteuid().is_root() {
            let owner = fs::metadata(&self.folder).expect("own folder");
            command.uid(owner.uid()).gid(owner.gid());
        }
        command
    }

    async fn refused(&self, to: &str, folder: &str) -> String {
        let output = run(self.command(&[to, folder])).await;
        let told = words(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{to} into {folder}: {}{told}", words(&output.stdout));
        assert!(!self.folder.join(folder).join("postmaster.pid").exists(), "nothing is left running");
        told
    }

    /// The archived segments of a timeline, in order.
    fn segments(&self, timeline: &str) -> Vec<PathBuf> {
        let archive = self.folder.join("repository/archive/euhub");
        let folders = |path: &Path| {
            let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
            entries.filter(|path| path.is_dir()).collect::<Vec<_>>()
        };
        let logs = folders(&archive).into_iter().flat_map(|version| folders(&version));
        let files = logs.flat_map(|log| fs::read_dir(log).expect("a folder"));
        let name = |path: &PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
        let mut segments: Vec<_> = files
            .map(|file| file.expect("an entry").path())
            .filter(|path| name(path).starts_with(timeline) && !name(path).ends_with(".backup"))
            .collect();
        segments.sort();
        segments
    }
}

/// Stops a recovered cluster, whatever becomes of the test.
struct Recovered(PathBuf);

impl Recovered {
    /// Asked as the cluster's owner, whom alone it lets in.
    async fn ids(&self) -> Vec<i64> {
        let owner = fs::metadata(&self.0).expect("the cluster's folder");
        let mut command = Command::new("psql");
        command.args([
            "-XAtq",
            "-p",
            "5432",
            "-d",
            "postgres",
            "-c",
            "SELECT id FROM drill ORDER BY id",
            "-h",
        ]);
        command.arg(self.0.with_extension("run")).current_dir("/");
        if rustix::process::geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let output = run(command).await;
        assert!(output.status.success(), "{}", words(&output.stderr));
        words(&output.stdout).lines().map(|id| id.parse().expect("a number")).collect()
    }
}

impl Drop for Recovered {
    fn drop(&mut self) {
        let file = fs::read_to_string(self.0.join("postmaster.pid")).unwrap_or_default();
        let pid = file.lines().next().and_then(|line| line.parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::QUIT);
        }
    }
}

fn at(notes: &Value) -> BTreeMap<i64, DateTime<Utc>> {
    let rows = notes["rows"].as_object().expect("rows").iter();
    rows.map(|(id, seconds)| {
        let micros = (seconds.as_f64().expect("seconds") * 1e6) as i64;
        (id.parse().expect("a number"), DateTime::from_timestamp_micros(micros).expect("a time"))
    })
    .collect()
}

#[tokio::test]
async fn a_lost_database_comes_back_to_any_time_and_what_cannot_is_said() {
    let home = scratch();
    let lab = Lab { folder: home.path().join("lab") };
    fs::create_dir(&lab.folder).expect("own folder");
    let mut drill = Command::new(repository("scripts/drill-pitr"));
    drill.args(["--archive-timeout", "2", "--megabytes", "10", "--keep"]).arg(&lab.folder);
    let output = run(drill).await;
    assert!(output.status.success(), "{}", words(&output.stderr));
    println!("{}", words(&output.stdout));
    for measured in
        ["RPO: lost with the disk", "RTO: restored to a time", "RTO: restored to the newest state"]
    {
        assert!(words(&output.stdout).contains(measured), "{measured}");
    }

    // A time of our own choice, again: before the new primary's, so from the backups and the archive of the lost one.
    let notes = fs::read_to_string(lab.folder.join("notes.json")).expect("the drill's notes");
    let notes: Value = serde_json::from_str(&notes).expect("JSON");
    let rows = at(&notes);
    let newest = notes["newest"].as_i64().expect("a number");
    let late = iso(rows[&(newest - 1)] + AFTER_A_ROW);
    let output = run(lab.command(&[&late, "mine"])).await;
    let recovered = Recovered(lab.folder.join("mine"));
    assert!(output.status.success(), "{}", words(&output.stderr));
    let told = words(&output.stdout);
    assert!(
        told.contains("3 of 3: recovered to ") && told.contains("the newest transaction in it is of "),
        "{told}"
    );
    let expected: Vec<_> = rows.keys().copied().filter(|id| *id < newest).collect();
    assert_eq!(recovered.ids().await, expected);

    // Over a cluster that runs: refused, and it goes on.
    let told = lab_refuses_a_full_folder(&lab, "mine", &late).await;
    assert!(told.contains("nothing was changed"), "{told}");
    assert_eq!(recovered.ids().await, expected);
    drop(recovered);

    let first = *rows.values().next().expect("a row");
    let told = lab.refused(&iso(first - TimeDelta::hours(1)), "early").await;
    assert!(
        told.contains("before the end of the oldest backup: the earliest time to restore is 2"),
        "{told}"
    );
    assert!(!lab.folder.join("early").exists());

    let after_all =
        fs::metadata(lab.folder.join("notes.json")).and_then(|file| file.modified()).expect("a time");
    let told = lab.refused(&iso(after_all.into()), "after").await;
    assert!(
        told.contains("was not reached: the newest transaction that could be replayed is of 2"),
        "{told}"
    );
    assert!(told.contains("nothing newer has been archived"), "{told}");

    // The last segment but one of the lost primary, then of the new one.
    let segments = lab.segments("00000001");
    let missing = &segments[segments.len() - 2];
    fs::remove_file(missing).expect("own file");
    let name = &missing.file_name().expect("a file").to_string_lossy()[..24];
    let told = lab.refused(&late, "hole").await;
    assert!(
        told.contains("was not reached") && told.contains(&format!("lacks WAL segment {name}")),
        "{told}"
    );
    let segments = lab.segments("00000002");
    let missing = &segments[segments.len() - 2];
    fs::remove_file(missing).expect("own file");
    let name = &missing.file_name().expect("a file").to_string_lossy()[..24];
    let told = lab.refused("latest", "end").await;
    assert!(told.contains(&format!("the archive lacks WAL segment {name}")), "{told}");
}

/// Nothing in the folder changes, not even a time.
async fn lab_refuses_a_full_folder(lab: &Lab, folder: &str, to: &str) -> String {
    let kept = lab.folder.join(folder).join("PG_VERSION");
    let before = fs::metadata(&kept).and_then(|file| file.modified()).expect("a cluster");
    let output = run(lab.command(&[to, folder])).await;
    assert_eq!(output.status.code(), Some(1), "{}", words(&output.stdout));
    assert_eq!(fs::metadata(&kept).and_then(|file| file.modified()).expect("still there"), before);
    words(&output.stderr)
}

#[tokio::test]
async fn restore_to_checks_what_it_is_told_before_it_does_anything() {
    let home = scratch();
    let lab = Lab { folder: home.path().join("lab") };
    fs::create_dir_all(lab.folder.join("full")).expect("own folder");
    fs::copy(repository("deploy/pgbackrest/restore-to"), lab.folder.join("restore-to")).expect("a copy");
    fs::set_permissions(lab.folder.join("restore-to"), fs::Permissions::from_mode(0o755)).expect("own file");
    let settings = format!(
        "[global]\nrepo1-path={0}/repository\nlog-path={0}\nlock-path={0}/lock\n[euhub]\npg1-path={0}/full\n",
        lab.folder.display()
    );
    fs::write(lab.folder.join("pgbackrest.conf"), settings).expect("own folder");
    fs::write(lab.folder.join("full/precious"), "data").expect("own folder");
    let root = rustix::process::geteuid().is_root();
    if root {
        for path in ["", "full", "full/precious"] {
            chown(lab.folder.join(path), Some(NOBODY), Some(NOBODY)).expect("own file");
        }
    }
    let long = "n".repeat(100);
    for (to, folder, because) in [
        ("yesterday", "new", "not a time: yesterday"),
        ("2026-02-30T10:00:00Z", "new", "not a time"),
        ("2026-01-02T10:00:00", "new", "has no time zone: write 2026-01-02T10:00:00Z for UTC"),
        ("2999-01-01T00:00:00Z", "new", "is in the future: say latest"),
        ("latest", "full", "is not empty: nothing was changed"),
        ("latest", "full/precious", "is not a folder"),
        ("latest", "absent/new", "absent does not exist"),
        ("latest", "/proc/new", "cannot be written to"),
        ("latest", &long, "too long for the server's socket"),
        ("latest", "new", "the repository has no backup of euhub"),
    ] {
        let told = lab.refused(to, folder).await;
        assert!(told.contains(because), "{to} into {folder}: {told}");
        assert!(!lab.folder.join("new").exists(), "{because}");
    }
    assert_eq!(fs::read_to_string(lab.folder.join("full/precious")).expect("still there"), "data");

    let help = run(lab.command(&["--help"])).await;
    assert!(
        help.status.success() && words(&help.stdout).contains("absent or empty"),
        "{}",
        words(&help.stdout)
    );
    assert_eq!(run(lab.command(&["latest"])).await.status.code(), Some(2), "no folder is named");
    if root {
        let mut command = Command::new(lab.folder.join("restore-to"));
        command.args(["latest", "new"]).current_dir(&lab.folder);
        let output = run(command).await;
        assert!(words(&output.stderr).contains("does not run as root"), "{}", words(&output.stderr));
    }
}
