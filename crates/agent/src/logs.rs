//! The output of workloads: served from the runtime while the container is there, from the agent's folder afterwards.
//!
//! When a lease has ended, its container is wiped at once; what it wrote is copied first. One folder a lease holds, for
//! each stream, a file for each piece without gaps, named for the offset of its first byte (`stdout.0`), and lives until
//! [`LEASES_KEPT`] newer ones are there.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use api::{Client, ClientError, Code};
use async_trait::async_trait;
use market::{LeaseId, MachineId, PublicKey, SignedGrant};
use net::{
    Refusal, RefusalCode,
    logs::{LogChunk, LogSource, LogStream},
};
use runtime::{ContainerId, Runtime};

use crate::submit::now;

/// Ended leases whose output is kept: at 32 MiB each at most, 2 GiB in all.
const LEASES_KEPT: usize = 64;
/// Bytes copied at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces of one stream: the runtime keeps 16 MiB of each, so this only bounds a runtime gone wrong.
const PIECES_MAX: usize = 256;

/// What stands after output that could not be kept in the end.
const LOST_WORD: &str = "tradewind: output-lost: the rest of the output is lost: the provider's disk could not take it\n";

/// Serves the logs of one machine's leases.
#[derive(Debug)]
pub(crate) struct MachineLogs {
    pub(crate) client: Client,
    pub(crate) machine: MachineId,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) folder: PathBuf,
}

#[async_trait]
impl LogSource for MachineLogs {
    async fn authorize(&self, grant: &SignedGrant, _remote: PublicKey) -> Result<(), Refusal> {
        let lease = self
            .client
            .lease(&grant.grant.lease)
            .await
            .map_err(|e| unavailable(&e))?;
        if lease.machine != self.machine {
            return Err(Refusal::new(
                RefusalCode::NoSuchLease,
                "the lease is not of this machine",
            ));
        }
        let key = self
            .client
            .key(&grant.signer)
            .await
            .map_err(|e| unavailable(&e))?;
        let expired = key.expires_at.is_some_and(|at| at.0 <= now());
        let role = key.role.as_deref().unwrap_or_default();
        if key.account != Some(lease.tenant) || key.revoked || expired || !may_look(role) {
            let text = "the grant's signer may not act for the lease's tenant";
            return Err(Refusal::new(RefusalCode::NotAuthorized, text));
        }
        Ok(())
    }

    async fn read(
        &self,
        lease: LeaseId,
        stream: LogStream,
        offset: u64,
        max: usize,
    ) -> Result<LogChunk, Refusal> {
        let id = container(lease);
        let read = self.runtime.logs(&id, ours(stream), offset, max).await;
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::new(RefusalCode::Unavailable, error.to_string())
        };
        match read {
            Ok(chunk) => {
                let ended = chunk.next == chunk.end && self.has_ended(&id).await;
                // It may have written between the two looks: only an end seen first is the end of its output.
                let at_end = ended && self.end_of(&id, stream).await == Some(chunk.next);
                Ok(LogChunk {
                    offset: chunk.offset,
                    bytes: chunk.bytes,
                    ended: at_end,
                })
            }
            Err(runtime::Error::NotFound { .. }) => {
                let folder = self.folder.join(lease.to_string());
                let reading = move || read_kept(&folder, stream, offset, max);
                let kept = tokio::task::spawn_blocking(reading)
                    .await
                    .map_err(|e| failed(&e))?;
                kept.map_err(|e| failed(&e))
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

impl MachineLogs {
    async fn has_ended(&self, id: &ContainerId) -> bool {
        self.runtime
            .status(id)
            .await
            .is_ok_and(|status| status.is_final())
    }

    async fn end_of(&self, id: &ContainerId, stream: LogStream) -> Option<u64> {
        let chunk = self.runtime.logs(id, ours(stream), u64::MAX, 0).await;
        chunk.ok().map(|chunk| chunk.end)
    }
}

/// Returns whether a key of that role may read its account's output: all that may look, as the ledger has it.
fn may_look(role: &str) -> bool {
    // A treasurer's account may hire as well, and its only key is the treasurer's.
    matches!(role, "owner" | "treasurer" | "tenant" | "viewer")
}

fn container(lease: LeaseId) -> ContainerId {
    crate::driver::container(lease)
}

const fn ours(stream: LogStream) -> runtime::LogStream {
    match stream {
        LogStream::Stdout => runtime::LogStream::Stdout,
        LogStream::Stderr => runtime::LogStream::Stderr,
    }
}

fn unavailable(error: &ClientError) -> Refusal {
    match error.code() {
        Some(Code::NoLease) => {
            Refusal::new(RefusalCode::NoSuchLease, "the ledger knows no such lease")
        }
        _ => Refusal::new(RefusalCode::Unavailable, "the ledger cannot be asked now"),
    }
}

/// Why output could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// The runtime did not give it.
    #[error("could not read the output")]
    Read(#[from] runtime::Error),
    /// The disk did not take it.
    #[error("could not write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Copies what a container wrote into `folder`, and drops the oldest copies. Does nothing where it is there already.
pub(crate) async fn keep(
    runtime: &dyn Runtime,
    lease: LeaseId,
    folder: &Path,
) -> Result<(), KeepError> {
    let done = folder.join(lease.to_string());
    if done.exists() {
        return Ok(());
    }
    // Visible only when it is whole: a copy that was cut short is made again.
    let half = folder.join(format!(".{lease}"));
    let write = |source| KeepError::Write {
        path: half.clone(),
        source,
    };
    match fs::remove_dir_all(&half) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(write(e)),
        _ => {}
    }
    private_folder(&half).map_err(write)?;
    for stream in LogStream::BOTH {
        copy(runtime, lease, stream, &half).await?;
    }
    fs::rename(&half, &done).map_err(write)?;
    drop_oldest(folder).map_err(write)
}

/// Leaves words of this machine in place of the output of a lease whose workload never ran.
pub(crate) fn leave_word(folder: &Path, lease: LeaseId, text: &str) -> Result<(), KeepError> {
    let half = folder.join(format!(".{lease}"));
    let done = folder.join(lease.to_string());
    let write = |source| KeepError::Write {
        path: half.clone(),
        source,
    };
    if done.exists() {
        return Ok(());
    }
    private_folder(&half).map_err(write)?;
    append(&half.join("stderr.0"), text.as_bytes()).map_err(write)?;
    fs::rename(&half, &done).map_err(write)?;
    drop_oldest(folder).map_err(write)
}

/// Keeps what of the output was copied before the disk refused more, and says that the rest is lost.
pub(crate) fn give_up(folder: &Path, lease: LeaseId) -> Result<(), KeepError> {
    let half = folder.join(format!(".{lease}"));
    let done = folder.join(lease.to_string());
    let write = |source| KeepError::Write {
        path: half.clone(),
        source,
    };
    private_folder(&half).map_err(write)?;
    let end = read_kept(&half, LogStream::Stderr, u64::MAX, 0).map_err(write)?;
    // The end of an empty stream is where nothing was.
    let at = end.offset;
    append(&half.join(format!("stderr.{at}")), LOST_WORD.as_bytes()).map_err(write)?;
    fs::rename(&half, &done).map_err(write)?;
    drop_oldest(folder).map_err(write)
}

/// Makes a folder that nobody else on the host reads: what tenants print is theirs.
fn private_folder(path: &Path) -> io::Result<()> {
    let mut private = fs::DirBuilder::new();
    private.recursive(true).mode(0o700);
    private.create(path)
}

async fn copy(
    runtime: &dyn Runtime,
    lease: LeaseId,
    stream: LogStream,
    to: &Path,
) -> Result<(), KeepError> {
    let id = container(lease);
    let (mut at, mut file): (u64, Option<PathBuf>) = (0, None);
    for _ in 0..PIECES_MAX {
        let chunk = match runtime.logs(&id, ours(stream), at, PIECE_BYTES).await {
            // It never ran here, or is gone: there is nothing to keep.
            Err(runtime::Error::NotFound { .. }) => return Ok(()),
            chunk => chunk?,
        };
        if chunk.bytes.is_empty() && chunk.next >= chunk.end {
            return Ok(());
        }
        if chunk.offset != at {
            file = None;
        }
        let path = file.get_or_insert_with(|| to.join(format!("{stream}.{}", chunk.offset)));
        append(path, &chunk.bytes).map_err(|source| KeepError::Write {
            path: path.clone(),
            source,
        })?;
        at = chunk.next;
    }
    Ok(())
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    io::Write::write_all(&mut file, bytes)
}

fn drop_oldest(folder: &Path) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        kept.push((entry.metadata()?.modified()?, entry.path()));
    }
    kept.sort();
    let surplus = kept.len().saturating_sub(LEASES_KEPT);
    kept.into_iter()
        .take(surplus)
        .try_for_each(|(_, path)| fs::remove_dir_all(path))
}

/// Reads from a kept copy; a stream without a piece at or after `offset` has ended.
fn read_kept(folder: &Path, stream: LogStream, offset: u64, max: usize) -> io::Result<LogChunk> {
    let prefix = format!("{stream}.");
    let mut pieces = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let from = name
            .to_str()
            .and_then(|n| n.strip_prefix(&prefix))
            .and_then(|n| n.parse::<u64>().ok());
        if let Some(from) = from {
            pieces.push((from, entry.metadata()?.len(), entry.path()));
        }
    }
    pieces.sort();
    let end = pieces.last().map_or(0, |(from, len, _)| from + len);
    let piece = pieces
        .into_iter()
        .find(|(from, len, _)| offset < from + len);
    let Some((from, _, path)) = piece else {
        return Ok(LogChunk {
            offset: end.min(offset),
            bytes: Vec::new(),
            ended: true,
        });
    };
    let offset = offset.max(from);
    let mut file = fs::File::open(path)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset - from))?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, max as u64), &mut bytes)?;
    let ended = offset + bytes.len() as u64 == end;
    Ok(LogChunk {
        offset,
        bytes,
        ended,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use runtime::{ContainerSpec, Fake, Limits};

    use super::*;

    #[tokio::test]
    async fn output_outlives_its_container_byte_for_byte() {
        let fake = Fake::new();
        let lease = LeaseId::from_bytes([8; 16]);
        let limits = Limits {
            cpu_milli: 1,
            memory_bytes: 1,
            pids: 1,
        };
        let spec = ContainerSpec::new(runtime::Digest::of(b"x"), limits);
        fake.create(&container(lease), &spec).await.unwrap();
        let text: Vec<u8> = (0..700_000_u32).map(|i| (i % 251) as u8).collect();
        fake.write(&container(lease), runtime::LogStream::Stdout, &text);
        let dir = tempfile::tempdir().unwrap();
        keep(&fake, lease, dir.path()).await.unwrap();
        keep(&fake, lease, dir.path()).await.unwrap();

        let folder = dir.path().join(lease.to_string());
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let (mut at, mut all, mut ended) = (0, Vec::new(), false);
        while !ended {
            let chunk = read_kept(&folder, LogStream::Stdout, at, 32_768).unwrap();
            assert_eq!(chunk.offset, at);
            at += chunk.bytes.len() as u64;
            all.extend(chunk.bytes);
            ended = chunk.ended;
        }
        assert_eq!(all, text);
        let silent = read_kept(&folder, LogStream::Stderr, 0, 9).unwrap();
        assert!(silent.ended && silent.bytes.is_empty());
    }

    #[test]
    fn a_treasurer_reads_the_output_of_its_own_leases_and_a_machine_key_does_not() {
        for role in ["owner", "treasurer", "tenant", "viewer"] {
            assert!(may_look(role), "{role}");
        }
        for role in ["machine", "provider", ""] {
            assert!(!may_look(role), "{role}");
        }
    }

    #[test]
    fn a_gap_shows_in_the_offset_and_old_copies_go() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stdout.0"), b"head").unwrap();
        fs::write(dir.path().join("stdout.100"), b"tail").unwrap();
        let chunk = read_kept(dir.path(), LogStream::Stdout, 4, 9).unwrap();
        assert_eq!(
            (chunk.offset, chunk.bytes, chunk.ended),
            (100, b"tail".to_vec(), true)
        );
        let kept = tempfile::tempdir().unwrap();
        for n in 0..LEASES_KEPT + 3 {
            fs::create_dir(kept.path().join(format!("{n}"))).unwrap();
        }
        drop_oldest(kept.path()).unwrap();
        assert_eq!(fs::read_dir(kept.path()).unwrap().count(), LEASES_KEPT);
    }

    #[tokio::test]
    async fn output_that_cannot_be_kept_is_an_error_until_it_is_given_up_with_a_word() {
        let fake = Fake::new();
        let lease = LeaseId::from_bytes([9; 16]);
        let limits = Limits {
            cpu_milli: 1,
            memory_bytes: 1,
            pids: 1,
        };
        let spec = ContainerSpec::new(runtime::Digest::of(b"x"), limits);
        fake.create(&container(lease), &spec).await.unwrap();
        fake.write(&container(lease), runtime::LogStream::Stderr, b"head");
        let dir = tempfile::tempdir().unwrap();
        // A file where the folder should be refuses as a full disk does.
        let folder = dir.path().join("logs");
        fs::write(&folder, b"").unwrap();
        let refused = keep(&fake, lease, &folder).await;
        assert!(
            matches!(refused, Err(KeepError::Write { .. })),
            "{refused:?}"
        );
        fs::remove_file(&folder).unwrap();
        // What was copied before the disk was full stays.
        let half = folder.join(format!(".{lease}"));
        fs::create_dir_all(&half).unwrap();
        fs::write(half.join("stderr.0"), b"head").unwrap();
        give_up(&folder, lease).unwrap();
        let kept = folder.join(lease.to_string());
        let head = read_kept(&kept, LogStream::Stderr, 0, 99).unwrap();
        assert_eq!((head.bytes, head.ended), (b"head".to_vec(), false));
        let word = read_kept(&kept, LogStream::Stderr, 4, 999).unwrap();
        assert_eq!(
            (word.bytes, word.ended),
            (LOST_WORD.as_bytes().to_vec(), true)
        );
    }

    #[test]
    fn a_word_of_the_machine_is_read_as_output_and_does_not_replace_any() {
        let dir = tempfile::tempdir().unwrap();
        let lease = LeaseId::from_bytes([10; 16]);
        leave_word(dir.path(), lease, "why\n").unwrap();
        leave_word(dir.path(), lease, "again\n").unwrap();
        let kept = dir.path().join(lease.to_string());
        let word = read_kept(&kept, LogStream::Stderr, 0, 99).unwrap();
        assert_eq!((word.bytes, word.ended), (b"why\n".to_vec(), true));
    }
}
