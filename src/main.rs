//! The `euhub` binary.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    euhub::cli::main().await
}
