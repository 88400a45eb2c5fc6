//! What a container wrote, kept in bounded files.
//!
//! A stream is cut into segments of [`SEGMENT_BYTES`] each. The first one and the latest
//! [`TAIL_SEGMENTS`] are kept; those between are deleted while the container runs. A byte keeps its offset for
//! ever, so a reader can come back at any time and sees what it missed.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Small enough that four of them are no burden, big enough that rotation is rare.
const SEGMENT_BYTES: u64 = 4 << 20;
/// With the first segment, 16 MiB a stream at most.
const TAIL_SEGMENTS: u64 = 3;

/// One of the two things a program writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// A piece of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Where `bytes` begins in the stream; later than asked for where that part was dropped.
    pub offset: u64,
    /// The bytes; empty where nothing was written past `offset` yet.
    pub bytes: Vec<u8>,
    /// Where to read on: `offset` and the length of `bytes`.
    pub next: u64,
    /// How many bytes the stream has so far.
    pub end: u64,
    /// How many bytes between the offset asked for and `offset` are gone for ever.
    pub dropped: u64,
}

fn segment(dir: &Path, stream: LogStream, index: u64) -> PathBuf {
    dir.join(format!("{stream}.{index:010}"))
}

/// Appends to one stream's segments. The shim has one for each stream.
#[derive(Debug)]
pub(crate) struct LogWriter {
    dir: PathBuf,
    stream: LogStream,
    index: u64,
    file: File,
    room: u64,
}

impl LogWriter {
    /// Opens the stream's last segment in `dir`: its first one, unless the container was started anew.
    pub(crate) fn create(dir: &Path, stream: LogStream) -> io::Result<Self> {
        let last = list_segments(dir, stream)?.last().copied();
        let (index, written) = last.unwrap_or((0, 0));
        Ok(Self {
            dir: dir.to_owned(),
            stream,
            index,
            file: open_segment(dir, stream, index)?,
            room: SEGMENT_BYTES.saturating_sub(written),
        })
    }

    /// Goes on after what lies in `dir`; also returns how many bytes the stream has so far.
    pub(crate) fn resume(dir: &Path, stream: LogStream) -> io::Result<(Self, u64)> {
        let Some((index, length)) = list_segments(dir, stream)?.pop() else {
            return Ok((Self::create(dir, stream)?, 0));
        };
        let writer = Self {
            dir: dir.to_owned(),
            stream,
            index,
            file: open_segment(dir, stream, index)?,
            room: SEGMENT_BYTES.saturating_sub(length),
        };
        Ok((writer, index * SEGMENT_BYTES + length))
    }

    /// Appends all of `bytes`, dropping the oldest tail segment where a new one begins.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.room == 0 {
                self.rotate()?;
            }
            let fits = usize::try_from(self.room)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let (now, later) = bytes.split_at(fits);
            self.file.write_all(now)?;
            self.room -= fits as u64;
            bytes = later;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.index += 1;
        self.file = open_segment(&self.dir, self.stream, self.index)?;
        self.room = SEGMENT_BYTES;
        // The first segment, index 0, is the head and stays.
        if self.index > TAIL_SEGMENTS {
            std::fs::remove_file(segment(&self.dir, self.stream, self.index - TAIL_SEGMENTS))?;
        }
        Ok(())
    }
}

fn open_segment(dir: &Path, stream: LogStream, index: u64) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(segment(dir, stream, index))
}

/// Reads up to `max` bytes of `stream` from `offset`, out of the segments in `dir`.
pub(crate) fn read(dir: &Path, stream: LogStream, offset: u64, max: usize) -> io::Result<LogChunk> {
    let segments = list_segments(dir, stream)?;
    let end = segments
        .last()
        .map_or(0, |(index, len)| index * SEGMENT_BYTES + len);
    let asked = offset.min(end);
    let mut chunk = LogChunk {
        offset: asked,
        bytes: Vec::new(),
        next: asked,
        end,
        dropped: 0,
    };
    for (index, len) in segments {
        let base = index * SEGMENT_BYTES;
        if base + len <= chunk.next || chunk.bytes.len() >= max {
            continue;
        }
        if base > chunk.next {
            if !chunk.bytes.is_empty() {
                break; // A gap ends the chunk: its bytes are contiguous.
            }
            chunk.dropped = base - chunk.next;
            chunk.offset = base;
            chunk.next = base;
        }
        let want = (max - chunk.bytes.len()) as u64;
        let mut file = match File::open(segment(dir, stream, index)) {
            Ok(file) => file,
            // Rotated away since it was listed: the caller comes back and sees the gap.
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            Err(e) => return Err(e),
        };
        file.seek(SeekFrom::Start(chunk.next - base))?;
        let got = file
            .take(want.min(base + len - chunk.next))
            .read_to_end(&mut chunk.bytes)?;
        chunk.next += got as u64;
    }
    Ok(chunk)
}

/// Returns the index and length of each kept segment, in order.
fn list_segments(dir: &Path, stream: LogStream) -> io::Result<Vec<(u64, u64)>> {
    let prefix = format!("{stream}.");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(index) = name.to_str().and_then(|n| n.strip_prefix(&prefix)) else {
            continue;
        };
        let Ok(index) = index.parse::<u64>() else {
            continue;
        };
        match entry.metadata() {
            Ok(meta) => found.push((index, meta.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_are_kept_and_the_gap_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::create(dir.path(), LogStream::Stdout).unwrap();
        let total = SEGMENT_BYTES * 6 + 5;
        let mut written = 0_u64;
        while written < total {
            let n = (total - written).min(1 << 20);
            let piece: Vec<u8> = (written..written + n).map(|i| (i % 251) as u8).collect();
            writer.append(&piece).unwrap();
            written += n;
        }

        let head = read(dir.path(), LogStream::Stdout, 3, 100).unwrap();
        assert_eq!(
            (head.offset, head.next, head.end, head.dropped),
            (3, 103, total, 0)
        );
        assert_eq!(head.bytes[0], 3);

        let gap = read(dir.path(), LogStream::Stdout, SEGMENT_BYTES + 7, 100).unwrap();
        assert_eq!(gap.offset, SEGMENT_BYTES * 4);
        assert_eq!(gap.dropped, SEGMENT_BYTES * 3 - 7);
        assert_eq!(u64::from(gap.bytes[0]), gap.offset % 251);

        let rest = read(dir.path(), LogStream::Stdout, total - 2, 100).unwrap();
        assert_eq!((rest.bytes.len(), rest.next), (2, total));
        let kept: u64 = list_segments(dir.path(), LogStream::Stdout)
            .unwrap()
            .iter()
            .map(|s| s.1)
            .sum();
        assert!(kept <= SEGMENT_BYTES * (TAIL_SEGMENTS + 1));
    }

    #[test]
    fn streams_are_apart_and_past_the_end_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        LogWriter::create(dir.path(), LogStream::Stdout)
            .unwrap()
            .append(b"out")
            .unwrap();
        LogWriter::create(dir.path(), LogStream::Stderr)
            .unwrap()
            .append(b"error")
            .unwrap();
        assert_eq!(
            read(dir.path(), LogStream::Stdout, 0, 9).unwrap().bytes,
            b"out"
        );
        assert_eq!(
            read(dir.path(), LogStream::Stderr, 1, 2).unwrap().bytes,
            b"rr"
        );
        let past = read(dir.path(), LogStream::Stdout, 99, 9).unwrap();
        assert_eq!((past.next, past.bytes.len()), (3, 0));
    }
}
