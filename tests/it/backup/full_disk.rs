//! A disk that is full: a clear error, nothing torn, and the space given back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Blocking;

use euhub::backup::{BackupError, Depth};
use euhub::clock::Clock;
use euhub::config::Config;
use tempfile::TempDir;
use tokio::process::Command;

use super::{Lab, create, open, problems};
use crate::embedded::scratch;
use crate::program::run_err;

/// What a disk gives away at once.
const PAGE: u64 = 4096;
/// Size of the small disk.
const DISK: u64 = 8 << 20;
/// Text that hardly shrinks, some 2 MB when it is compressed.
const NOISE: &str = "CREATE TABLE noise AS SELECT encode(sha256(n::text::bytea), 'hex') AS word FROM generate_series(1, 60000) n";
/// Three times as much.
const MORE: &str =
    "INSERT INTO noise SELECT encode(sha256(n::text::bytea), 'hex') FROM generate_series(60001, 400000) n";

/// A disk of [`DISK`] bytes, if this account may mount one.
struct Disk(TempDir);

impl Disk {
    fn mount() -> Option<Self> {
        let folder = scratch();
        let options = format!("size={DISK},mode=0755");
        let done =
            Blocking::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        done.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Bytes that are free.
    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Leaves so many bytes free.
    fn leave(&self, bytes: u64) {
        let filler = self.path().join("filler");
        let _ = fs::remove_file(&filler);
        fs::write(&filler, vec![1; usize::try_from(self.free() - bytes).unwrap()]).unwrap();
        assert_eq!(self.free(), bytes);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Blocking::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

/// A command whose files may not be larger than `kib` KiB; writing on fails, as on a full disk.
fn limited(command: &Command, kib: u64) -> Command {
    let command = command.as_std();
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2)]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.current_dir(command.get_current_dir().unwrap()).kill_on_drop(true);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_disk_that_fills_up_during_a_backup_is_told_and_given_back() {
    let lab = Lab::empty().await;
    lab.run(NOISE).await;
    let disk = Disk::mount();
    let store = disk.as_ref().map_or_else(|| lab.store(), |disk| disk.path().join("backups"));
    let config = Config { backup_url: Some(store.to_str().unwrap().into()), ..lab.config() };
    let backups = open(&config, &lab.hub.database_url, Clock::system());
    let earlier = create(&backups).await;
    let (before, free) = (names(&store), disk.as_ref().map(Disk::free));

    lab.run(MORE).await;
    let mut command = lab.backup(&["create"]);
    command.env("EUHUB_BACKUP_URL", &store);
    let (command, wanted) = match &disk {
        Some(_) => (command, "No space left on device"),
        None => (limited(&command, 4 << 10), "File too large"),
    };
    let told = run_err(command).await;
    assert!(told.contains("storage, writing ") && told.contains(wanted), "{told}");
    assert_eq!(names(&store), before, "nothing of it stays");
    assert_eq!(disk.as_ref().map(Disk::free), free, "every byte is given back");
    assert_eq!(problems(&backups, &earlier, Depth::Full).await, [""; 0]);

    lab.run("DELETE FROM noise").await;
    create(&backups).await;
}

#[tokio::test]
async fn a_disk_may_be_full_at_any_page_of_a_backup() {
    let lab = Lab::empty().await;
    // Where there is no disk of the test's own, the largest file is as long as the disk is wide.
    let Some(disk) = Disk::mount() else {
        for kib in [0, 1, 8, 16, 24] {
            let told = run_err(limited(&lab.backup(&["create", "--no-verify"]), kib)).await;
            assert!(told.contains("File too large"), "{kib} KiB: {told}");
            assert_eq!(names(&lab.store()), Vec::<PathBuf>::new(), "{kib} KiB");
        }
        return;
    };
    let store = disk.path().join("backups");
    let config = Config { backup_url: Some(store.to_str().unwrap().into()), ..lab.config() };
    let backups = open(&config, &lab.hub.database_url, Clock::system());
    let whole = disk.free();
    let earlier = create(&backups).await;
    let pages = (whole - disk.free()) / PAGE;
    let before = names(&store);
    let (mut made, mut refused) = (0, 0);
    for room in 0..=pages + 2 {
        disk.leave(room * PAGE);
        let id = backups.next_id().await.unwrap();
        match backups.create(&id, "test", &Default::default()).await {
            Ok(_) => {
                made += 1;
                assert_eq!(problems(&backups, &id, Depth::Checksum).await, [""; 0], "{room} pages");
                for name in [id.manifest(), id.dump()] {
                    fs::remove_file(store.join(name)).unwrap();
                }
            }
            Err(error @ BackupError::Storage { .. }) => {
                refused += 1;
                assert!(error.to_string().contains("No space left on device"), "{room} pages: {error}");
            }
            Err(error) => panic!("{room} pages: {error}"),
        }
        assert_eq!(names(&store), before, "{room} pages");
        assert_eq!(disk.free(), room * PAGE, "{room} pages");
    }
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused");
    assert_eq!(problems(&backups, &earlier, Depth::Full).await, [""; 0]);
}
