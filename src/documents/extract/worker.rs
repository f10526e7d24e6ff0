//! The process that reads a file: this program again, under limits of memory, CPU and time, and killed when it passes them.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::{Extracted, MAX_FILE_BYTES, MAX_TEXT_BYTES, Refusal};
use crate::error::{Error, Result};

/// Name of the command that the process runs.
pub const COMMAND: &str = "extract-text";
/// Files that are read at once.
const AT_ONCE: usize = 2;
/// Address space of the process, in bytes.
const MEMORY: u64 = 768 << 20;
/// CPU time of the process, in seconds.
const CPU_SECONDS: u64 = 10;
/// Time that a file may take in all. Below the deadline of a call, so that the answer says why.
const TIME: Duration = Duration::from_secs(20);
/// Longest answer: JSON may need six bytes for one of the text.
const MAX_ANSWER_BYTES: u64 = 6 * MAX_TEXT_BYTES as u64 + 4_096;

/// Reads files in processes of their own. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Extractor {
    program: PathBuf,
    slots: Arc<Semaphore>,
}

impl Extractor {
    /// With `program` as the `euhub` that is run.
    pub fn new(program: PathBuf) -> Self {
        Self { program, slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// With the program of this process, even where its file was replaced since.
    pub fn this_program() -> Self {
        Self::new("/proc/self/exe".into())
    }

    /// The text of a file, or why it has none. Waits for its turn. The process ends with the call.
    pub async fn extract(&self, bytes: &[u8], charset: Option<&str>) -> Result<Result<Extracted, Refusal>> {
        let _slot = self
            .slots
            .acquire()
            .await
            .map_err(|error| Error::Internal(format!("reading a document: {error}")))?;
        match tokio::time::timeout(TIME, self.run(bytes, charset)).await {
            Ok(answer) => answer.map_err(|error| Error::Internal(format!("reading a document: {error}"))),
            Err(_) => Ok(Err(Refusal::GaveUp)),
        }
    }

    async fn run(&self, bytes: &[u8], charset: Option<&str>) -> std::io::Result<Result<Extracted, Refusal>> {
        let mut command = Command::new(&self.program);
        command.arg(COMMAND);
        if let Some(charset) = charset {
            command.arg(format!("--charset={charset}"));
        }
        // Nothing of this process' surroundings, such as passwords, is there to be found.
        command.env_clear().current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A process that crashed reads no further; its end says so.
                let _ = stdin.write_all(bytes).await;
            }
        };
        let mut answer = Vec::new();
        let read = async {
            match stdout {
                Some(stdout) => stdout.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await.map(drop),
                None => Ok(()),
            }
        };
        let ((), read) = tokio::join!(feed, read);
        read?;
        let status = child.wait().await?;
        let answer = status.success().then(|| serde_json::from_slice(&answer).ok()).flatten();
        Ok(answer.unwrap_or(Err(Refusal::GaveUp)))
    }
}

/// What the process does: a file on standard input, its text or why there is none on standard output, as JSON.
pub fn run(charset: Option<&str>) -> std::io::Result<()> {
    limit()?;
    answer(charset)
}

fn limit() -> std::io::Result<()> {
    for (resource, most) in [
        (Resource::As, MEMORY),
        (Resource::Cpu, CPU_SECONDS),
        // It writes to no file, and leaves no image of what it read.
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

fn answer(charset: Option<&str>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    std::io::stdin().take(MAX_FILE_BYTES as u64).read_to_end(&mut bytes)?;
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, &super::extract(&bytes, charset))?;
    stdout.flush()
}
