//! One error for every slice, and the one table from it to a gRPC status.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::backup::BackupError;
use crate::llm::LlmError;
use crate::search::embedding::ModelError;
use crate::telemetry;
use crate::validation::Violation;

/// `ErrorInfo.domain` of every error.
const DOMAIN: &str = "euhub";
/// When to try again after the database or another part was away.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Result of a slice.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while a call is answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that nothing has.
    #[error("{0} does not exist")]
    NotFound(String),
    /// Input that breaks a rule.
    #[error("{}", summary(.0))]
    Invalid(Vec<Violation>),
    /// A name that is taken.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// The call is right, but not in this state; `reason` is stable, for programs.
    #[error("{message}")]
    FailedPrecondition {
        /// `ErrorInfo.reason`.
        reason: &'static str,
        /// For people: what to do.
        message: String,
    },
    /// A change that a resource's state does not allow; `overtaken` when it still did as the call began, and another came first.
    #[error("{name} is {state}{}", if *.overtaken { " now: another change came first" } else { ", which does not allow this" })]
    WrongState {
        /// The resource.
        name: String,
        /// Its state, as messages name it.
        state: &'static str,
        /// Another change came first.
        overtaken: bool,
    },
    /// No key, or one that does not hold.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// A key without the scope that the call needs.
    #[error("this call needs a key with the scope `{0}`")]
    PermissionDenied(&'static str),
    /// Too much at once.
    #[error("{0}")]
    ResourceExhausted(&'static str),
    /// The call took longer than its deadline.
    #[error("the call took longer than its deadline")]
    DeadlineExceeded,
    /// This process is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// The database.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The embedding model.
    #[error("model: {0}")]
    Model(#[from] ModelError),
    /// The language model.
    #[error("language model: {0}")]
    Llm(#[from] LlmError),
    /// A backup.
    #[error("{0}")]
    Backup(#[source] BackupError),
    /// What came of a read that several calls shared.
    #[error("{}", .0.message())]
    Shared(#[from] Status),
    /// A fault of ours.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// One broken rule of one field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation {
            field: field.into(),
            description: description.into(),
            rule: "invalid",
        }])
    }
}

fn summary(violations: &[Violation]) -> String {
    let mut text = String::new();
    for violation in violations {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&violation.field);
        text.push_str(": ");
        text.push_str(&violation.description);
    }
    text
}

impl From<BackupError> for Error {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Database(error) => Self::Database(error),
            error => Self::Backup(error),
        }
    }
}

impl From<Vec<Violation>> for Error {
    fn from(violations: Vec<Violation>) -> Self {
        Self::Invalid(violations)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut details = ErrorDetails::new();
        let mut message = error.to_string();
        let mut metadata = HashMap::new();
        let (code, reason) = match &error {
            Error::Shared(status) => return status.clone(),
            Error::NotFound(_) => (Code::NotFound, "NOT_FOUND"),
            Error::Invalid(violations) => {
                for violation in violations {
                    details.add_bad_request_violation(&violation.field, &violation.description);
                }
                (Code::InvalidArgument, "INVALID_ARGUMENT")
            }
            Error::AlreadyExists(_) => (Code::AlreadyExists, "ALREADY_EXISTS"),
            Error::FailedPrecondition { reason, .. } => (Code::FailedPrecondition, *reason),
            Error::WrongState { state, overtaken, .. } => {
                metadata.insert("state".into(), (*state).into());
                if *overtaken {
                    (Code::Aborted, "STATE_CHANGED")
                } else {
                    (Code::FailedPrecondition, "WRONG_STATE")
                }
            }
            Error::Unauthenticated(_) => (Code::Unauthenticated, "UNAUTHENTICATED"),
            Error::PermissionDenied(_) => (Code::PermissionDenied, "SCOPE_MISSING"),
            Error::ResourceExhausted(_) => {
                details.set_retry_info(Some(RETRY_DELAY));
                (Code::ResourceExhausted, "RESOURCE_EXHAUSTED")
            }
            Error::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            Error::Stopping => {
                details.set_retry_info(Some(RETRY_DELAY));
                (Code::Unavailable, "STOPPING")
            }
            Error::Database(cause) => match database_fault(cause) {
                DatabaseFault::Away => {
                    telemetry::fault("database", &error);
                    details.set_retry_info(Some(RETRY_DELAY));
                    message = "the database cannot be reached".into();
                    (Code::Unavailable, "DATABASE_UNAVAILABLE")
                }
                DatabaseFault::Slow => {
                    telemetry::fault("database", &error);
                    message = "the database took too long".into();
                    (Code::DeadlineExceeded, "DATABASE_TIMEOUT")
                }
                DatabaseFault::Conflict => {
                    details.set_retry_info(Some(RETRY_DELAY));
                    message = "another change came first".into();
                    (Code::Aborted, "CONFLICT")
                }
                DatabaseFault::Other => {
                    telemetry::fault("database", &error);
                    message = "internal error".into();
                    (Code::Internal, "INTERNAL")
                }
            },
            Error::Backup(cause) => match cause {
                BackupError::NotFound(_) | BackupError::Id(_) => (Code::NotFound, "NOT_FOUND"),
                BackupError::Running(_) => (Code::AlreadyExists, "ALREADY_EXISTS"),
                BackupError::Refused(_) => (Code::FailedPrecondition, "BACKUP_REFUSED"),
                BackupError::Storage { .. } => {
                    telemetry::fault("backup", cause);
                    details.set_retry_info(Some(RETRY_DELAY));
                    message = "the storage of backups cannot be used".into();
                    (Code::Unavailable, "BACKUP_STORAGE_UNAVAILABLE")
                }
                _ => {
                    telemetry::fault("backup", cause);
                    message = "internal error".into();
                    (Code::Internal, "INTERNAL")
                }
            },
            Error::Model(_) | Error::Llm(_) | Error::Internal(_) => {
                telemetry::fault("core", &error);
                message = "internal error".into();
                (Code::Internal, "INTERNAL")
            }
        };
        details.set_error_info(reason, DOMAIN, metadata);
        Status::with_error_details(code, message, details)
    }
}

enum DatabaseFault {
    Away,
    Slow,
    Conflict,
    Other,
}

fn database_fault(error: &sqlx::Error) -> DatabaseFault {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => {
            DatabaseFault::Away
        }
        sqlx::Error::Database(error) => match error.code().as_deref() {
            // admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections
            Some("57P01" | "57P02" | "57P03" | "53300") => DatabaseFault::Away,
            Some("57014") => DatabaseFault::Slow,
            // serialization_failure, deadlock_detected
            Some("40001" | "40P01") => DatabaseFault::Conflict,
            Some(code) if code.starts_with("08") => DatabaseFault::Away,
            _ => DatabaseFault::Other,
        },
        _ => DatabaseFault::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_code_and_an_error_info() {
        let table = [
            (Error::NotFound("keywords/x".into()), Code::NotFound, "NOT_FOUND"),
            (Error::invalid("query", "must not be empty."), Code::InvalidArgument, "INVALID_ARGUMENT"),
            (Error::AlreadyExists("keywords/x".into()), Code::AlreadyExists, "ALREADY_EXISTS"),
            (
                Error::FailedPrecondition { reason: "MODEL_MISSING", message: "m".into() },
                Code::FailedPrecondition,
                "MODEL_MISSING",
            ),
            (
                Error::WrongState { name: "suggestions/1".into(), state: "APPROVED", overtaken: false },
                Code::FailedPrecondition,
                "WRONG_STATE",
            ),
            (
                Error::WrongState { name: "suggestions/1".into(), state: "APPROVED", overtaken: true },
                Code::Aborted,
                "STATE_CHANGED",
            ),
            (Error::Unauthenticated("no key"), Code::Unauthenticated, "UNAUTHENTICATED"),
            (Error::PermissionDenied("admin"), Code::PermissionDenied, "SCOPE_MISSING"),
            (Error::ResourceExhausted("full"), Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
            (Error::DeadlineExceeded, Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            (Error::Stopping, Code::Unavailable, "STOPPING"),
            (sqlx::Error::PoolTimedOut.into(), Code::Unavailable, "DATABASE_UNAVAILABLE"),
            (sqlx::Error::RowNotFound.into(), Code::Internal, "INTERNAL"),
            (BackupError::NotFound("backup x".into()).into(), Code::NotFound, "NOT_FOUND"),
            (BackupError::Running("backup x".into()).into(), Code::AlreadyExists, "ALREADY_EXISTS"),
            (BackupError::Refused("no".into()).into(), Code::FailedPrecondition, "BACKUP_REFUSED"),
            (BackupError::Setting("/etc/secret".into()).into(), Code::Internal, "INTERNAL"),
            (
                BackupError::Database(sqlx::Error::PoolTimedOut).into(),
                Code::Unavailable,
                "DATABASE_UNAVAILABLE",
            ),
            (Error::Internal("/etc/secret".into()), Code::Internal, "INTERNAL"),
        ];
        for (error, code, reason) in table {
            let text = error.to_string();
            let status = Status::from(error);
            assert_eq!(status.code(), code, "{text}");
            let details = status.get_error_details();
            assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(reason), "{text}");
            if code == Code::Internal {
                assert_eq!(status.message(), "internal error", "nothing of the inside reaches a client");
            }
        }
    }
}
