//! Copying a container's output out of the engine's log.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::logs::{LogStream, LogWriter};

/// Podman answers with the first byte of output, which may take as long as a lease.
const ANSWER_DEADLINE: Duration = Duration::from_hours(24 * 30);
/// Before an engine that went away is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often in a row it may give no more of a log.
const TRIES_MAX: u32 = 5;
/// Of what the engine says in place of a log, for our own.
const SAID_CHARS: usize = 200;

/// Copies one container's output until it ends.
#[derive(Debug)]
pub(super) struct Pump {
    pub(super) done: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pump {
    /// Begins to copy the output of `name` into the folder `dir`, after what lies there.
    pub(super) fn start(docker: &Docker, name: String, dir: PathBuf) -> Self {
        let docker = docker.clone().with_timeout(ANSWER_DEADLINE);
        let (tell, done) = watch::channel(false);
        let task = tokio::spawn(async move {
            for _ in 0..TRIES_MAX {
                match copy(&docker, &name, &dir).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::warn!(%name, %error, "the engine's log broke off");
                        sleep(PAUSE).await;
                    }
                }
            }
            tell.send_replace(true);
        });
        Self { done, task }
    }
}

async fn copy(docker: &Docker, name: &str, dir: &Path) -> io::Result<()> {
    let (mut out, out_has) = LogWriter::resume(dir, LogStream::Stdout)?;
    let (mut err, err_has) = LogWriter::resume(dir, LogStream::Stderr)?;
    // The engine gives all of it again: what is here already is passed over.
    let (mut out_skip, mut err_skip) = (out_has, err_has);
    let options = LogsOptionsBuilder::new().follow(true).stdout(true);
    let mut log = std::pin::pin!(docker.logs(name, Some(options.stderr(true).build())));
    while let Some(piece) = log.next().await {
        match piece.map_err(io::Error::other)? {
            LogOutput::StdErr { message } => err.append(rest(&message, &mut err_skip))?,
            LogOutput::StdOut { message } => out.append(rest(&message, &mut out_skip))?,
            // No container of ours has a terminal, so output always comes in frames. What does not is the engine's own
            // word: podman puts an error that it meets late into the answer it has begun.
            LogOutput::Console { message } => {
                let said = String::from_utf8_lossy(&message);
                let said: String = said.chars().take(SAID_CHARS).collect();
                return Err(io::Error::other(format!("the engine said: {said}")));
            }
            LogOutput::StdIn { .. } => {}
        }
    }
    Ok(())
}

/// Returns what of `message` comes after the first `skip` bytes, and counts them off.
fn rest<'a>(message: &'a [u8], skip: &mut u64) -> &'a [u8] {
    let passed = usize::try_from(*skip)
        .unwrap_or(usize::MAX)
        .min(message.len());
    *skip -= passed as u64;
    message.get(passed..).unwrap_or_default()
}
