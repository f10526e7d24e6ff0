//! What a database holds, in numbers that a restored copy must have too.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::error::{BackupError, Result};
use super::manifest::{Sequence, Table};
use super::{Progress, say};

/// How far a backup is, which a backup need not hold.
pub(super) const NOT_DUMPED: &str = "public.backup_runs";

/// How values are written, whatever the server's settings; long reads, no waiting for locks, and an end when nobody listens any more, so
/// that the lock of a backup that was killed does not outlive it for long.
const SETTINGS: &str = "SELECT set_config(name, value, true) FROM (VALUES
    ('datestyle', 'ISO, YMD'), ('intervalstyle', 'iso_8601'), ('timezone', 'UTC'), ('extra_float_digits', '1'),
    ('bytea_output', 'hex'), ('search_path', 'pg_catalog'), ('statement_timeout', '0'), ('lock_timeout', '10s'),
    ('idle_in_transaction_session_timeout', '0'), ('client_connection_check_interval', '1s')) AS setting (name, value)";

/// A query for each table's rows and hash. A row's hash is the first sixteen bytes of the SHA-256 of its text; the table's is their sum
/// in two halves, so that order does not matter and no pair of equal rows cancels out. What the server computes from other columns is
/// left out: another version may compute it otherwise.
const TABLES: &str = r#"
SELECT format('%I.%I', n.nspname, c.relname) AS name, format(
    $$SELECT count(*) AS rows, concat(coalesce(sum(('x' || left(h, 16))::bit(64)::bigint), 0), ':',
        coalesce(sum(('x' || substr(h, 17, 16))::bit(64)::bigint), 0)) AS content
    FROM (SELECT encode(sha256(convert_to(ROW(%s)::text, 'UTF8')), 'hex') AS h FROM ONLY %I.%I) AS r$$,
    (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname) FROM pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
    n.nspname, c.relname) AS query
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND format('%I.%I', n.nspname, c.relname) <> $1
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1"#;

const SEQUENCES: &str = "SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences
    WHERE format('%I.%I', schemaname, sequencename) !~ $1 ORDER BY 1";

/// Sets a transaction up for [`tables`] and [`sequences`].
pub(super) async fn prepare(transaction: &mut PgConnection) -> Result<()> {
    sqlx::query(SETTINGS).execute(transaction).await?;
    Ok(())
}

/// Every table as the transaction sees it.
pub(super) async fn tables(transaction: &mut PgConnection, progress: &Progress) -> Result<Vec<Table>> {
    let wanted: Vec<(String, String)> =
        sqlx::query_as(TABLES).bind(NOT_DUMPED).fetch_all(&mut *transaction).await?;
    let mut tables = Vec::with_capacity(wanted.len());
    for (name, query) in wanted {
        say(progress, format!("table {name}"));
        // The catalog wrote it, with every name quoted.
        let row = sqlx::query(AssertSqlSafe(query)).fetch_one(&mut *transaction).await;
        let row = row.map_err(|source| BackupError::Table { name: name.clone(), source })?;
        tables.push(Table { name, rows: row.try_get("rows")?, content: row.try_get("content")? });
    }
    Ok(tables)
}

/// Every sequence as it stands: sequences know no transactions.
pub(super) async fn sequences(transaction: &mut PgConnection) -> Result<Vec<Sequence>> {
    let not_dumped = format!("^{NOT_DUMPED}");
    let found: Vec<(String, Option<i64>)> =
        sqlx::query_as(SEQUENCES).bind(not_dumped).fetch_all(transaction).await?;
    Ok(found.into_iter().map(|(name, last)| Sequence { name, last }).collect())
}

/// What of `wanted` a restored database does not have, in words.
pub(super) fn differences(
    (wanted, wanted_sequences): (&[Table], &[Sequence]),
    (found, found_sequences): (&[Table], &[Sequence]),
) -> Vec<String> {
    let mut problems = Vec::new();
    for table in wanted {
        match found.iter().find(|other| other.name == table.name) {
            None => problems.push(format!("table {} is missing", table.name)),
            Some(other) if other.rows != table.rows => problems
                .push(format!("table {} has {} rows instead of {}", table.name, other.rows, table.rows)),
            Some(other) if other.content != table.content => {
                problems.push(format!("table {} has other content in its {} rows", table.name, table.rows));
            }
            Some(_) => {}
        }
    }
    for table in found {
        if !wanted.iter().any(|other| other.name == table.name) {
            problems.push(format!("table {} should not be there", table.name));
        }
    }
    for sequence in wanted_sequences {
        // It may have gone on while the dump was taken.
        match found_sequences.iter().find(|other| other.name == sequence.name) {
            Some(other) if other.last >= sequence.last => {}
            Some(_) => problems.push(format!("sequence {} is behind", sequence.name)),
            None => problems.push(format!("sequence {} is missing", sequence.name)),
        }
    }
    problems
}
