//! The operating-system account that the server's programs run as: the caller's own, or an unprivileged one when that is root.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::{EmbeddedError, at};

/// Accounts to use in place of root, best first.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// A user and its group.
#[derive(Debug, Clone)]
pub(super) struct Account {
    name: String,
    uid: u32,
    gid: u32,
    /// Whether programs must switch to it, the caller being root.
    switch: bool,
}

impl Account {
    /// The account for the cluster at `pgdata`, which may not exist yet. Root takes the cluster's owner, so that a cluster made
    /// by an ordinary user stays theirs.
    pub(super) fn choose(pgdata: &Path) -> Result<Self, EmbeddedError> {
        let euid = rustix::process::geteuid().as_raw();
        let owner = match fs::metadata(pgdata) {
            Ok(metadata) => Some((metadata.uid(), metadata.gid())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(at("look at", pgdata)(error)),
        };
        if euid != 0 {
            let gid = rustix::process::getegid().as_raw();
            return match owner {
                Some((owner, _)) if owner != euid => {
                    Err(EmbeddedError::Foreign { path: pgdata.to_owned(), owner })
                }
                _ => Ok(Self { name: euid.to_string(), uid: euid, gid, switch: false }),
            };
        }
        let users = fs::read_to_string("/etc/passwd").map_err(at("read", Path::new("/etc/passwd")))?;
        let chosen = match owner {
            Some((uid, gid)) if uid != 0 => Some(Self { name: uid.to_string(), uid, gid, switch: true }),
            _ => UNPRIVILEGED.iter().find_map(|name| Self::parse(&users, name)),
        };
        chosen.ok_or(EmbeddedError::NoAccount)
    }

    /// The entry of `name` in the text of `/etc/passwd`, unless it is root in disguise.
    fn parse(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next()? == name;
            let uid = fields.nth(1)?.parse().ok().filter(|&uid| uid != 0)?;
            let gid = fields.next()?.parse().ok()?;
            found.then(|| Self { name: name.to_owned(), uid, gid, switch: true })
        })
    }

    /// A command that runs `program` as this account, out of reach of the terminal's signals and with no environment but the
    /// search paths: the caller's may hold secrets, or `PG*` variables meant for another server.
    pub(super) fn command(&self, program: &Path, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(dir).env_clear().process_group(0);
        for name in ["PATH", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Why a command made by [`Account::command`] could not be spawned.
    pub(super) fn explain(&self, program: &Path, dir: &Path, error: io::Error) -> EmbeddedError {
        if self.switch && error.kind() == io::ErrorKind::PermissionDenied {
            for path in [dir, program] {
                if let Some(folder) = path.ancestors().skip(1).filter(|folder| !self.may_enter(folder)).last()
                {
                    return EmbeddedError::Blocked {
                        account: self.name.clone(),
                        folder: folder.to_owned(),
                        path: path.to_owned(),
                    };
                }
            }
        }
        at("run", program)(error)
    }

    fn may_enter(&self, folder: &Path) -> bool {
        fs::metadata(folder).is_ok_and(|metadata| {
            let bit = match (metadata.uid() == self.uid, metadata.gid() == self.gid) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            metadata.mode() & bit != 0
        })
    }

    /// Makes `dir` a folder that only this account (and root) can enter, and fails if it is anybody else's.
    pub(super) fn private_dir(&self, dir: &Path) -> Result<(), EmbeddedError> {
        match fs::create_dir(dir) {
            Ok(()) => self.give(dir)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(at("make", dir)(error)),
        }
        let metadata = fs::symlink_metadata(dir).map_err(at("look at", dir))?;
        if !metadata.is_dir() || metadata.uid() != self.uid {
            return Err(EmbeddedError::Foreign { path: dir.to_owned(), owner: metadata.uid() });
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(at("protect", dir))
    }

    /// Hands a new file or folder over to this account.
    pub(super) fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        if self.switch {
            std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid)).map_err(at("hand over", path))?;
        }
        Ok(())
    }

    /// A name for this account's socket folder where the data folder's path is too long for one.
    pub(super) fn short_socket_dir(&self, pgdata: &Path) -> PathBuf {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        pgdata.hash(&mut hasher);
        PathBuf::from(format!("/tmp/euhub-{}-{:016x}", self.uid, hasher.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_entries_are_found_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\npostgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n\
                      toor:x:0:0::/root:/bin/sh\n";
        let account = Account::parse(passwd, "postgres").expect("the entry is there");
        assert_eq!((account.uid, account.gid), (101, 104));
        for absent in ["nobody", "broken", "root", "toor", "post"] {
            assert!(Account::parse(passwd, absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn a_blocked_folder_is_named() {
        let dir = std::env::temp_dir().join(format!("euhub-account-{}", std::process::id()));
        let (closed, data) = (dir.join("closed"), dir.join("closed/inner/data"));
        fs::create_dir_all(&data).expect("a scratch folder");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("own folder");
        let account = Account { name: "somebody".to_owned(), uid: 4_000_000, gid: 4_000_000, switch: true };
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let error = account.explain(Path::new("/bin/sh"), &data, denied());
        assert!(matches!(&error, EmbeddedError::Blocked { folder, .. } if *folder == closed), "{error}");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).expect("own folder");
        let error = account.explain(Path::new("/bin/sh"), &data, denied());
        assert!(matches!(error, EmbeddedError::Io { .. }), "{error}");
        fs::remove_dir_all(&dir).expect("own folder");
    }
}
