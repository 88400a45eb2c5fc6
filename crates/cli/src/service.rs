//! Long-running processes of this machine: started detached, found again, stopped.
//!
//! A service holds an exclusive lock on its pid file for as long as it lives, so a pid file without a lock is stale
//! whatever number it holds, and a number that was given to another program is never signalled.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Failure, Result, io_failure};
use crate::files;

/// How often a lock is looked at while waiting for it; it cannot be waited for with a deadline.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A killed process is gone at once, unless it hangs in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// Lines of a log shown when its process died.
const TAIL_LINES: usize = 12;
/// Bytes of a log read for its tail.
const TAIL_BYTES: u64 = 16 * 1024;
/// A log beyond this size is moved aside at the next start, one generation.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// A process of this machine under a name, with its pid file and log.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    name: String,
    pid_file: PathBuf,
    log: PathBuf,
}

/// Keeps a service's pid file locked; held by the service itself until it ends.
#[derive(Debug)]
pub(crate) struct Claim {
    file: File,
    path: PathBuf,
}

impl Service {
    /// Names a service of `home`.
    pub(crate) fn new(home: &Path, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            pid_file: home.join("run").join(format!("{name}.pid")),
            log: home.join("log").join(format!("{name}.log")),
            name,
        }
    }

    /// Returns the service's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns where it logs to.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Returns the process, if it runs. One that was killed holds its lock until the kernel has taken it apart, which is
    /// waited for: it runs no more.
    pub(crate) fn running(&self) -> Result<Option<i32>> {
        let give_up = Instant::now() + KILL_DEADLINE;
        loop {
            match self.holder()? {
                Some(pid) if is_dying(pid) && Instant::now() < give_up => {
                    std::thread::sleep(LOOK_EVERY);
                }
                found => return Ok(found),
            }
        }
    }

    /// Returns the process that holds the lock.
    fn holder(&self) -> Result<Option<i32>> {
        let mut file = match File::open(&self.pid_file) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_failure("read", &self.pid_file)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text)
                    .map_err(io_failure("read", &self.pid_file))?;
                // Between lock and write the number is missing; the caller asks again.
                Ok(text.trim().parse().ok().filter(|pid| *pid > 1))
            }
            Err(TryLockError::Error(error)) => Err(io_failure("lock", &self.pid_file)(error)),
        }
    }

    /// Claims the service for this process.
    ///
    /// # Errors
    /// `busy` where another process has it.
    pub(crate) fn claim(&self) -> Result<Claim> {
        let folder = self.pid_file.parent().unwrap_or(Path::new("/"));
        files::create_private_folder(folder)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.pid_file)
            .map_err(io_failure("create", &self.pid_file))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(
                    Failure::new("home-busy", format!("{} runs already", self.name))
                        .detail(format!("its pid file is {}", self.pid_file.display()))
                        .hint("stop it first: tradewind down"),
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(io_failure("lock", &self.pid_file)(error));
            }
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_start| writeln!(file, "{}", std::process::id()))
            .and_then(|()| file.sync_all());
        written.map_err(io_failure("write", &self.pid_file))?;
        Ok(Claim {
            file,
            path: self.pid_file.clone(),
        })
    }

    /// Starts this program anew with `words`, with nothing of this terminal but the log.
    pub(crate) fn start(&self, words: &[String]) -> Result<Child> {
        let program =
            std::env::current_exe().map_err(io_failure("find", Path::new("/proc/self/exe")))?;
        files::create_private_folder(self.log.parent().unwrap_or(Path::new("/")))?;
        self.rotate_log()?;
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.log)
            .map_err(io_failure("open", &self.log))?;
        let errors = log.try_clone().map_err(io_failure("open", &self.log))?;
        Command::new(&program)
            .args(words)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(io_failure("start", &program))
    }

    fn rotate_log(&self) -> Result<()> {
        let long = fs::metadata(&self.log).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX);
        if long {
            fs::rename(&self.log, self.log.with_extension("log.1"))
                .map_err(io_failure("move aside", &self.log))?;
        }
        Ok(())
    }

    /// Returns the failure of a process that ended while it was waited for, with the end of its log.
    pub(crate) fn died(&self, how: &str) -> Failure {
        let mut failure = Failure::new(
            "died",
            format!("{} ended while it was starting: {how}", self.name),
        )
        .detail(format!("log: {}", self.log.display()));
        for line in self.log_tail() {
            failure = failure.detail(format!("| {line}"));
        }
        failure
    }

    fn log_tail(&self) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            file.take(TAIL_BYTES).read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        lines
            .iter()
            .skip(from)
            .map(|line| (*line).to_owned())
            .collect()
    }

    /// Asks the process to end, kills it after `grace`, and returns once it is gone; false where it did not run.
    pub(crate) fn stop(&self, grace: Duration) -> Result<bool> {
        let Some(pid) = self.running()? else {
            self.forget();
            return Ok(false);
        };
        self.signal(pid, Signal::SIGTERM)?;
        if !self.gone_within(grace)? {
            self.signal(pid, Signal::SIGKILL)?;
            if !self.gone_within(KILL_DEADLINE)? {
                return Err(Failure::new(
                    "timed-out",
                    format!("{} (pid {pid}) does not end", self.name),
                ));
            }
        }
        self.forget();
        Ok(true)
    }

    fn signal(&self, pid: i32, signal: Signal) -> Result<()> {
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(nix::errno::Errno::EPERM) => Err(Failure::new(
                "no-permission",
                format!(
                    "may not stop {} (pid {pid}): it belongs to another user",
                    self.name
                ),
            )),
            Err(error) => {
                Err(Failure::new("io", format!("could not stop {}", self.name)).causes(&error))
            }
        }
    }

    fn gone_within(&self, time: Duration) -> Result<bool> {
        let deadline = Instant::now() + time;
        while self.running()?.is_some() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(true)
    }

    /// Removes the pid file of a service that does not run; a missing one is as good.
    fn forget(&self) {
        let _removed = fs::remove_file(&self.pid_file);
    }
}

/// Returns whether a process has been killed and is about to be gone.
fn is_dying(pid: i32) -> bool {
    /// The kernel's `PF_EXITING`, in the flags of `/proc/PID/stat`.
    const EXITING: u64 = 0x4;
    /// The bit of SIGKILL in the masks of `/proc/PID/status`.
    const KILL: u64 = 1 << 8;
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let stat = read("stat");
    let Some((_, after)) = stat.rsplit_once(')') else {
        return true;
    };
    let mut fields = after.split_whitespace();
    let ended = matches!(fields.next(), Some("Z" | "X"));
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    let status = read("status");
    let pending = |line: &&str| line.starts_with("SigPnd:") || line.starts_with("ShdPnd:");
    let mask = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    let killed = status
        .lines()
        .filter(pending)
        .filter_map(mask)
        .any(|mask| mask & KILL != 0);
    ended || killed || flags.is_some_and(|flags| flags & EXITING != 0)
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Removed while still locked, so that nobody reads a number that is about to be free.
        let _removed = fs::remove_file(&self.path);
        let _unlocked = self.file.unlock();
    }
}

/// Leaves the terminal's session, so that closing it, or Ctrl-C in it, does not end this process.
pub(crate) fn detach_from_terminal() {
    // Fails where this process leads a group already: then it is detached as far as it can be.
    let _session = nix::unistd::setsid();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_is_seen_and_exclusive_until_dropped() {
        let home = tempfile::tempdir().unwrap();
        let service = Service::new(home.path(), "node");
        assert_eq!(service.running().unwrap(), None);
        let claim = service.claim().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(service.running().unwrap(), Some(own));
        assert_eq!(service.claim().unwrap_err().code(), "home-busy");
        drop(claim);
        assert_eq!(service.running().unwrap(), None);
    }

    #[test]
    fn stale_pid_file_is_no_process() {
        let home = tempfile::tempdir().unwrap();
        let service = Service::new(home.path(), "node");
        files::create_private_folder(&home.path().join("run")).unwrap();
        // Our own number: alive, but not the service.
        let own = std::process::id().to_string();
        for content in ["", "1\n", "0", "-1", "999999999", "words", own.as_str()] {
            fs::write(home.path().join("run/node.pid"), content).unwrap();
            assert_eq!(service.running().unwrap(), None, "{content:?}");
            assert!(!service.stop(Duration::ZERO).unwrap(), "{content:?}");
        }
    }
}
