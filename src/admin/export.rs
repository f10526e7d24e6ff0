//! The audit log as a file.

use sqlx::PgPool;

use crate::admin::audit::{self, Entry, Filter};
use crate::error::Result;
use crate::export::Export;
use crate::proto::AuditEntry;

/// Entries read and sent at once.
const BATCH: i64 = 1000;

/// Every entry that passes a filter, newest first.
#[derive(Debug)]
pub struct AuditLog {
    db: PgPool,
    filter: Filter,
    below: Option<i64>,
}

impl AuditLog {
    /// From the newest on.
    pub fn new(db: PgPool, filter: Filter) -> Self {
        Self { db, filter, below: None }
    }
}

impl Export for AuditLog {
    type Row = Entry;
    type Message = AuditEntry;
    const MESSAGE: &'static str = "euhub.v1.AuditEntry";
    const COLUMNS: &'static [&'static str] =
        &["name", "create_time", "actor", "action", "resource", "client", "outcome", "request_id"];

    async fn next(&mut self) -> Result<Option<Vec<Entry>>> {
        let entries = audit::list(&self.db, &self.filter, self.below, BATCH).await?;
        let Some(last) = entries.last() else { return Ok(None) };
        self.below = Some(last.id);
        Ok(Some(entries))
    }

    fn record(entry: Entry) -> Vec<String> {
        vec![
            format!("auditEntries/{}", entry.id),
            entry.time.to_rfc3339(),
            entry.actor,
            entry.action,
            entry.resource,
            entry.client,
            entry.outcome,
            entry.request_id,
        ]
    }
}
