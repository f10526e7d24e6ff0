//! Where the server's programs are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::EmbeddedError;

/// Oldest major version that the SQL of this project holds on.
const OLDEST: u32 = 15;

/// A folder of server programs and what is known of them.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
    /// Major version.
    pub(super) version: u32,
    /// Whether the library `pg_stat_statements` can be preloaded.
    pub(super) has_statement_statistics: bool,
}

impl Binaries {
    /// The first that fits: `named`; the bundle in the data folder; the newest of the system's that has pgvector.
    pub(super) fn find(named: Option<&Path>, data_dir: &Path) -> Result<Self, EmbeddedError> {
        if let Some(dir) = named {
            return Self::inspect(dir);
        }
        let bundle = data_dir.join("postgres/bin");
        if bundle.is_dir() {
            return Self::inspect(&bundle);
        }
        system_dirs()
            .into_iter()
            .filter(|dir| has_pgvector(dir))
            .filter_map(|dir| Self::inspect(&dir).ok())
            .max_by_key(|found| found.version)
            .ok_or(EmbeddedError::NotFound)
    }

    fn inspect(dir: &Path) -> Result<Self, EmbeddedError> {
        let unusable = |reason: String| EmbeddedError::Unusable { dir: dir.to_owned(), reason };
        let dir = fs::canonicalize(dir).map_err(|error| unusable(error.to_string()))?;
        if !dir.join("initdb").is_file() {
            return Err(unusable("it has no initdb".to_owned()));
        }
        let output = Command::new(dir.join("postgres"))
            .arg("--version")
            .output()
            .map_err(|error| unusable(format!("postgres does not run: {error}")))?;
        if !output.status.success() {
            return Err(unusable(format!(
                "postgres does not run: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let version = major_version(&text)
            .ok_or_else(|| unusable(format!("its version is not understood: {}", text.trim())))?;
        if version < OLDEST {
            return Err(unusable(format!(
                "it is version {version}, and {OLDEST} is the oldest that will do"
            )));
        }
        let has_statement_statistics = pg_config(&dir.join("pg_config"), "--pkglibdir")
            .is_some_and(|folder| folder.join("pg_stat_statements.so").is_file());
        Ok(Self { dir, version, has_statement_statistics })
    }
}

/// The folders of the system's installations: the one that `pg_config` tells of, and those of Debian's and Red Hat's packages.
pub(crate) fn system_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<_> = pg_config(Path::new("pg_config"), "--bindir").into_iter().collect();
    for (root, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")] {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        dirs.extend(
            entries
                .filter(|entry| {
                    let name = entry.file_name();
                    name.to_str()
                        .and_then(|name| name.strip_prefix(prefix))
                        .is_some_and(|rest| rest.parse::<u32>().is_ok())
                })
                .map(|entry| entry.path().join("bin")),
        );
    }
    dirs
}

fn has_pgvector(bin: &Path) -> bool {
    pg_config(&bin.join("pg_config"), "--sharedir")
        .is_some_and(|share| share.join("extension/vector.control").is_file())
}

/// The path that `pg_config` prints for `option`, if it runs.
fn pg_config(program: &Path, option: &str) -> Option<PathBuf> {
    let output = Command::new(program).arg(option).output().ok().filter(|output| output.status.success())?;
    let path = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(path.trim_end()))
}

/// The number in `postgres (PostgreSQL) 18.4 (Debian ...)` or `... 19beta1`.
pub(crate) fn major_version(text: &str) -> Option<u32> {
    let number = text.split_whitespace().nth(2)?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn major_versions() {
        assert_eq!(major_version("postgres (PostgreSQL) 18.4\n"), Some(18));
        assert_eq!(major_version("postgres (PostgreSQL) 15.19 (Debian 15.19-0+deb12u1)"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major_version("postgres"), None);
        assert_eq!(major_version("postgres (PostgreSQL) devel"), None);
    }
}
