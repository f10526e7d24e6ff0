//! BackupService.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::service::{BackupService, Shown};
use super::store::Run;
use super::{Depth, Id};
use crate::articles::convert::timestamp;
use crate::error::{Error, Result};
use crate::page::{Cursor, Page};
use crate::proto::backup_service_server;
use crate::proto::{
    self, Backup, BackupDepth, BackupOperation, BackupOperationKind, BackupOperationState, BackupState,
    BackupTable, CreateBackupRequest, DeleteBackupRequest, GetBackupRequest, ListBackupsRequest,
    ListBackupsResponse, RestoreBackupRequest, VerifyBackupRequest, WatchBackupRequest, WatchBackupResponse,
};
use crate::server::caller;
use crate::validation::check;

/// Most watchers of one process.
const MAX_WATCHERS: usize = 100;
/// How often a watcher's backup is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The service.
#[derive(Debug)]
pub struct BackupRpc {
    backups: BackupService,
    stopping: CancellationToken,
    watchers: Arc<Semaphore>,
}

impl BackupRpc {
    /// Watches end with `stopping`.
    pub fn new(backups: BackupService, stopping: CancellationToken) -> Self {
        Self { backups, stopping, watchers: Arc::new(Semaphore::new(MAX_WATCHERS)) }
    }
}

#[tonic::async_trait]
impl backup_service_server::BackupService for BackupRpc {
    type WatchBackupStream = ReceiverStream<Result<WatchBackupResponse, Status>>;

    async fn create_backup(&self, request: Request<CreateBackupRequest>) -> Result<Response<Backup>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let shown = self.backups.create(&caller, &request.request_id).await?;
        Ok(Response::new(backup(shown, true)))
    }

    async fn list_backups(
        &self,
        request: Request<ListBackupsRequest>,
    ) -> Result<Response<ListBackupsResponse>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let page = Page::new(request.page_size, 50, &request.page_token, &ListBackupsRequest::default())?;
        let bad_token =
            || Error::invalid("page_token", "is not a token of this list; leave it out to start anew.");
        let before =
            page.after.as_ref().map(|at| at.text.parse::<Id>().map_err(|_| bad_token())).transpose()?;
        let limit = usize::try_from(page.limit()).unwrap_or(usize::MAX);
        let mut shown = self.backups.list(before.as_ref(), limit).await?;
        let next_page_token =
            page.finish(&mut shown, |shown| Cursor { text: shown.id.to_string(), ..Cursor::default() });
        let backups = shown.into_iter().map(|shown| backup(shown, false)).collect();
        Ok(Response::new(ListBackupsResponse { backups, next_page_token }))
    }

    async fn get_backup(&self, request: Request<GetBackupRequest>) -> Result<Response<Backup>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        Ok(Response::new(backup(self.backups.get(&id(&request.name)?).await?, true)))
    }

    async fn verify_backup(&self, request: Request<VerifyBackupRequest>) -> Result<Response<Backup>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let depth = match request.depth() {
            BackupDepth::Checksum => Depth::Checksum,
            BackupDepth::Listing => Depth::Listing,
            BackupDepth::Full | BackupDepth::Unspecified => Depth::Full,
        };
        let shown = self.backups.verify(&caller, &id(&request.name)?, depth).await?;
        Ok(Response::new(backup(shown, true)))
    }

    async fn restore_backup(
        &self,
        request: Request<RestoreBackupRequest>,
    ) -> Result<Response<Backup>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let shown = self.backups.restore(&caller, &id(&request.name)?, &request.database).await?;
        Ok(Response::new(backup(shown, true)))
    }

    async fn delete_backup(&self, request: Request<DeleteBackupRequest>) -> Result<Response<()>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        self.backups.delete(&caller, &id(&request.name)?).await?;
        Ok(Response::new(()))
    }

    async fn watch_backup(
        &self,
        request: Request<WatchBackupRequest>,
    ) -> Result<Response<Self::WatchBackupStream>, Status> {
        let request = request.into_inner();
        check(&request).map_err(Error::from)?;
        let id = id(&request.name)?;
        let first = self.backups.get(&id).await?;
        let slot = Arc::clone(&self.watchers)
            .try_acquire_owned()
            .map_err(|_| Error::ResourceExhausted("too many watchers; close one or try again later"))?;
        let (sender, receiver) = mpsc::channel(4);
        let (backups, stopping) = (self.backups.clone(), self.stopping.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let end = tokio::select! {
                () = stopping.cancelled() => Err(Error::Stopping),
                () = sender.closed() => Ok(()),
                end = follow(&backups, first, &sender) => end,
            };
            if let Err(error) = end {
                // The watcher may be gone by now; then there is nobody to tell.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Tells each change of a backup until nothing more is being done with it.
async fn follow(
    backups: &BackupService,
    first: Shown,
    sender: &mpsc::Sender<Result<WatchBackupResponse, Status>>,
) -> Result<()> {
    let id = first.id.clone();
    let mut run = first.run.clone();
    let mut shown = first;
    loop {
        let open = run.as_ref().is_some_and(Run::is_open);
        let message = WatchBackupResponse { backup: Some(backup(shown, !open)) };
        if sender.send(Ok(message)).await.is_err() || !open {
            return Ok(());
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let now = backups.last_run(&id).await?;
            if now != run {
                run = now;
                break;
            }
        }
        shown = backups.get(&id).await?;
        shown.run.clone_from(&run);
    }
}

/// The id in a name; what is none has no backup.
fn id(name: &str) -> Result<Id> {
    let id = name.strip_prefix("backups/").and_then(|id| id.parse().ok());
    id.ok_or_else(|| Error::NotFound(name.to_owned()))
}

fn backup(Shown { id, backup, run }: Shown, with_tables: bool) -> Backup {
    let state = match (&backup, &run) {
        (Some(backup), _) if backup.problem().is_some() => BackupState::Broken,
        (Some(backup), _) if backup.is_verified() => BackupState::Verified,
        (Some(_), _) => BackupState::Ready,
        (None, Some(run)) if run.is_open() => BackupState::Creating,
        (None, _) => BackupState::Failed,
    };
    let mut shown = Backup {
        name: format!("backups/{id}"),
        state: state.into(),
        create_time: Some(timestamp(id.time())),
        actor: run.as_ref().map(|run| run.actor.clone()).unwrap_or_default(),
        operation: run.map(operation),
        ..Backup::default()
    };
    let Some(stored) = backup else { return shown };
    shown.problem = stored.problem().unwrap_or_default();
    shown.verify_time = stored.check.map(|check| timestamp(check.time));
    if let Ok(manifest) = stored.manifest {
        shown.end_time = Some(timestamp(manifest.end_time));
        shown.expire_time = Some(timestamp(manifest.expire_time));
        shown.actor = manifest.actor;
        shown.size_bytes = i64::try_from(manifest.size).unwrap_or(i64::MAX);
        shown.sha256 = manifest.sha256;
        shown.encrypted = manifest.key_id.is_some();
        shown.schema_version = i32::try_from(manifest.schema_version).unwrap_or(i32::MAX);
        shown.server_version = i32::try_from(manifest.server_version).unwrap_or(i32::MAX);
        shown.wal_position = manifest.wal_position;
        if with_tables {
            let tables = manifest.tables.into_iter();
            shown.tables = tables
                .map(|table| BackupTable {
                    name: table.name,
                    row_count: table.rows,
                    content_hash: table.content,
                })
                .collect();
        }
    }
    shown
}

fn operation(run: Run) -> BackupOperation {
    let kind = match run.operation.as_str() {
        "create" => BackupOperationKind::Create,
        "verify" => BackupOperationKind::Verify,
        _ => BackupOperationKind::Restore,
    };
    let state = match run.state.as_str() {
        "queued" => BackupOperationState::Queued,
        "running" => BackupOperationState::Running,
        "succeeded" => BackupOperationState::Succeeded,
        _ => BackupOperationState::Failed,
    };
    let database = if kind == BackupOperationKind::Restore { run.argument } else { String::new() };
    proto::BackupOperation {
        kind: kind.into(),
        state: state.into(),
        actor: run.actor,
        create_time: Some(timestamp(run.create_time)),
        start_time: run.start_time.map(timestamp),
        end_time: run.end_time.map(timestamp),
        step: run.step,
        bytes: run.bytes,
        error: run.error,
        database,
    }
}
