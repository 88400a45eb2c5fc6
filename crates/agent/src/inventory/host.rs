//! Processor, memory and disk, from the kernel.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
};

use market::{ByteSize, Digest, MilliCpu, Name};

/// What the host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Processor time that this process may use, cgroup quota included.
    pub cpu: MilliCpu,
    /// Memory that this process may use, cgroup limit included.
    pub memory: ByteSize,
    /// Free space on the disk of the data folder.
    pub disk: ByteSize,
    /// Speed of the link that the default route uses, as the driver states it; virtual ones state none.
    pub link_bits_per_s: Option<u64>,
    /// Salted digest of the host's identity: the same for every agent on it.
    pub identity: Digest,
}

/// The kernel did not tell something.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file has another form than expected.
    #[error("{} has no {what}", path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The number of processors is not known.
    #[error("could not count processors")]
    Processors(#[source] std::io::Error),
}

impl Host {
    /// Measures this host.
    pub(super) fn measure(data: &Path) -> Result<Self, HostError> {
        let cores = std::thread::available_parallelism().map_err(HostError::Processors)?;
        Ok(Self {
            cpu: milli_cpu(cores),
            memory: memory()?,
            disk: disk(data)?,
            link_bits_per_s: link_speed(),
            identity: identity(),
        })
    }

    /// Returns the failure domain of this host: a short public name that does not give its identity away.
    pub fn failure_domain(&self) -> Name {
        let text: String = self.identity.to_string().chars().take(12).collect();
        Name::parse(&format!("host-{text}")).expect("a dozen hex digits make a name")
    }
}

fn milli_cpu(cores: NonZero<usize>) -> MilliCpu {
    MilliCpu::from_milli(u32::try_from(cores.get().saturating_mul(1000)).unwrap_or(u32::MAX))
}

fn read(path: &str) -> Result<String, HostError> {
    std::fs::read_to_string(path).map_err(|source| HostError::Read {
        path: path.into(),
        source,
    })
}

fn memory() -> Result<ByteSize, HostError> {
    const MEMINFO: &str = "/proc/meminfo";
    let total = total_memory(&read(MEMINFO)?).ok_or(HostError::Form {
        path: MEMINFO.into(),
        what: "MemTotal",
    })?;
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let limit = limits
        .iter()
        .filter_map(|p| read(p).ok()?.trim().parse::<u64>().ok())
        .min();
    Ok(ByteSize::from_bytes(limit.map_or(total, |l| l.min(total))))
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

fn disk(data: &Path) -> Result<ByteSize, HostError> {
    let stat = nix::sys::statvfs::statvfs(data).map_err(|errno| HostError::Read {
        path: data.to_owned(),
        source: errno.into(),
    })?;
    Ok(ByteSize::from_bytes(
        stat.blocks_available().saturating_mul(stat.fragment_size()),
    ))
}

/// Virtual devices state -1, or refuse to be read: then the speed is unknown.
fn link_speed() -> Option<u64> {
    let device = default_device(&read("/proc/net/route").ok()?)?;
    let speed = read(&format!("/sys/class/net/{device}/speed")).ok()?;
    let mbit = speed.trim().parse::<i64>().ok().filter(|s| *s > 0)?;
    u64::try_from(mbit).ok()?.checked_mul(1_000_000)
}

fn default_device(routes: &str) -> Option<String> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (device, to) = (fields.next()?, fields.next()?);
        let plain = device
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b));
        (to == "00000000" && plain).then(|| device.to_owned())
    })
}

/// The machine-id manual asks that it is never published as it is. A host without one is told apart by its name.
fn identity() -> Digest {
    let text = read("/etc/machine-id")
        .or_else(|_| read("/proc/sys/kernel/hostname"))
        .unwrap_or_default();
    Digest::of(&[b"tradewind/host/v1", text.trim().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something_of_everything() {
        let host = Host::measure(&std::env::temp_dir()).unwrap();
        assert!(host.cpu.milli() >= 1000);
        assert!(host.memory > ByteSize::from_mib(64));
        assert!(host.disk > ByteSize::ZERO);
        assert!(host.failure_domain().as_str().starts_with("host-"));
    }

    #[test]
    fn kernel_files_are_read_strictly() {
        assert_eq!(
            total_memory("MemFree: 1 kB\nMemTotal:       8131392 kB\n"),
            Some(8_326_545_408)
        );
        assert_eq!(total_memory("MemTotal: many kB"), None);
        let routes = "Iface\tDestination\tGateway\neth1\t0000A8C0\t0\neth0\t00000000\t0102A8C0\n";
        assert_eq!(default_device(routes), Some("eth0".to_owned()));
        assert_eq!(default_device("Iface\tDestination\n../x\t00000000\n"), None);
    }
}
