//! Ranges of user ids, one for each container on the machine.
//!
//! A range in use is a file in a folder that all runtimes on the machine share, and that a reboot empties,
//! as it ends all containers.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::shim::job::{IdRange, birth_of};

/// Shared by all runtimes of the machine, as the ids are.
const SHARED: &str = "/run/tradewind/ids";
/// Far above what administrators give to people and to other container engines, and below 2^31, above which
/// some file systems and tools stumble.
const BASE: u32 = 0x7000_0000;
/// As many containers as one machine could ever run.
pub(super) const RANGES: u32 = 4096;
/// The range below all others: for trying things out.
pub(crate) const PROBE_BASE: u32 = BASE - IdRange::LEN;

/// Hands out the ranges.
#[derive(Clone, Debug)]
pub(super) struct IdRanges {
    dir: PathBuf,
}

impl IdRanges {
    /// Opens the machine's table; where there is no place for one, a table in `root`.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let make = |dir: &Path| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
        };
        let shared = PathBuf::from(SHARED);
        if make(&shared).is_ok() {
            return Ok(Self { dir: shared });
        }
        let own = root.join("ids");
        make(&own)?;
        Ok(Self { dir: own })
    }

    /// Takes a range for the container that is about to be made in `container`; `None` where all are taken.
    pub(super) fn take(&self, container: &Path) -> io::Result<Option<IdRange>> {
        // One at a time on the whole machine; held for a few small writes.
        let table = fs::File::open(&self.dir)?;
        rustix::fs::flock(&table, rustix::fs::FlockOperation::LockExclusive)?;
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let birth = birth_of(pid).unwrap_or(0);
        for number in 0..RANGES {
            let path = self.dir.join(number.to_string());
            if path.exists() && !is_stale(&path) {
                continue;
            }
            // In one step, so that a file here always says whose it is.
            let temporary = self.dir.join(".next");
            fs::write(&temporary, format!("{pid} {birth} {}", container.display()))?;
            fs::rename(&temporary, &path)?;
            return Ok(Some(IdRange {
                base: BASE + number * IdRange::LEN,
            }));
        }
        Ok(None)
    }

    /// Gives a range back.
    pub(super) fn free(&self, range: IdRange) -> io::Result<()> {
        let number = (range.base - BASE) / IdRange::LEN;
        match fs::remove_file(self.dir.join(number.to_string())) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Tells whether neither the container nor the agent that was about to make it is there any more.
fn is_stale(path: &Path) -> bool {
    let Ok(text) = fs::read_to_string(path) else {
        return false;
    };
    let mut words = text.splitn(3, ' ');
    let (Some(pid), Some(birth), Some(container)) = (words.next(), words.next(), words.next())
    else {
        return true;
    };
    let agent_lives = match (pid.parse(), birth.parse()) {
        (Ok(pid), Ok(birth)) => birth_of(pid) == Some(birth),
        _ => false,
    };
    !agent_lives && !Path::new(container).exists()
}
