//! One container's folder, as the agent sees it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::sleep;

use super::ids::IdRanges;
use super::{KILL_DEADLINE, LOOK_AGAIN, SHIM_LOG_BYTES, process_end};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result, io as io_error};
use crate::files::{self, Durable};
use crate::id::ContainerId;
use crate::shim::job::{BEGUN, END, JOB, Job, Lock, RUNNING, Running, SHIM_LOG, birth_of};
use crate::status::{Stats, Status};

/// Names one container's folder and control group, which need not exist.
#[derive(Clone, Debug)]
pub(super) struct Container {
    id: ContainerId,
    dir: PathBuf,
    cgroup: Option<Cgroup>,
}

impl Container {
    pub(super) fn new(id: ContainerId, dir: PathBuf, cgroup: Option<Cgroup>) -> Self {
        Self { id, dir, cgroup }
    }

    pub(super) fn id(&self) -> &ContainerId {
        &self.id
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn exists(&self) -> bool {
        self.dir.exists()
    }

    pub(super) fn not_found(&self) -> Error {
        Error::NotFound {
            id: self.id.clone(),
        }
    }

    pub(super) fn job(&self) -> Result<Option<Job>> {
        files::get_json(&self.dir, JOB).map_err(io_error("read the job in", &self.dir))
    }

    /// Reads where the container stands. The order of the questions matters: each answer is only changed by
    /// the shim that holds the lock.
    pub(super) fn status(&self) -> Result<Status> {
        if let Some(end) = self.end()? {
            return Ok(end);
        }
        let running = self.running()?;
        if self.shim_pid()?.is_some() {
            return Ok(match running {
                Some(running) => Status::Running {
                    started_at_ms: running.started_at_ms,
                },
                // Between the lock and the word that it has begun it counts as starting as well.
                None => Status::Starting,
            });
        }
        // The shim may have ended since the first look.
        if let Some(end) = self.end()? {
            return Ok(end);
        }
        if !self.dir.join(BEGUN).exists() {
            return if self.exists() {
                Ok(Status::Created)
            } else {
                Err(self.not_found())
            };
        }
        let running = self.running()?;
        let alive = self.cgroup.as_ref().is_some_and(Cgroup::is_alive)
            || running.is_some_and(|r| birth_of(r.init_pid) == Some(r.init_birth));
        Ok(Status::Lost {
            alive,
            started_at_ms: running.map(|r| r.started_at_ms),
        })
    }

    fn end(&self) -> Result<Option<Status>> {
        files::get_json(&self.dir, END).map_err(io_error("read the end in", &self.dir))
    }

    fn running(&self) -> Result<Option<Running>> {
        files::get_json(&self.dir, RUNNING).map_err(io_error("read the state in", &self.dir))
    }

    fn shim_pid(&self) -> Result<Option<Pid>> {
        match Lock::holder(&self.dir) {
            Ok(pid) => Ok(pid.and_then(Pid::from_raw)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(self.not_found()),
            Err(e) => Err(io_error("look at the lock in", &self.dir)(e)),
        }
    }

    /// Returns a handle of the shim that is alive now, and of no other process.
    fn watch_shim(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = self.shim_pid()? else {
            return Ok(None);
        };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::NONBLOCK) else {
            return Ok(None);
        };
        // Where it holds the lock still, the number was its own when the handle was made.
        Ok((self.shim_pid()? == Some(pid)).then_some(handle))
    }

    /// Waits until the shim that is alive now has ended, at most `patience`.
    pub(super) async fn shim_end(&self, patience: Duration) -> Result<()> {
        if let Some(watch) = self.watch_shim()? {
            process_end(watch, patience)
                .await
                .map_err(io_error("wait for the shim in", &self.dir))?;
        } else {
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    pub(super) fn kill_shim(&self) {
        if let Ok(Some(shim)) = self.watch_shim() {
            // Gone already is as good.
            let _ignored = pidfd_send_signal(shim, Signal::KILL);
        }
    }

    /// Writes that the container will never start. The caller keeps others from starting it; the lock keeps
    /// out a shim that an agent before us ran.
    pub(super) fn cancel(&self) -> Result<()> {
        let failed = || io_error("cancel the container in", &self.dir);
        let Some(_lock) = Lock::try_take(&self.dir).map_err(failed())? else {
            return Ok(());
        };
        if self.dir.join(BEGUN).exists() || self.dir.join(END).exists() {
            return Ok(());
        }
        files::put_json(&self.dir, END, &files::stopped_before_start(), Durable::Yes)
            .map_err(failed())
    }

    /// Makes a container that has exited one that has never started, but for its disk and output. Blocks.
    ///
    /// The end's new name is what makes it so: before, it is still ended; afterwards this round is made.
    pub(super) fn reopen(&self, round: u32) -> Result<()> {
        let made = self.dir.join(format!("{END}.{round}"));
        if made.exists() {
            return Ok(());
        }
        if !matches!(self.status()?, Status::Exited(_)) {
            return Err(Error::NotEnded {
                id: self.id.clone(),
            });
        }
        let failed = || io_error("reopen the container in", &self.dir);
        let Some(_lock) = Lock::try_take(&self.dir).map_err(failed())? else {
            return Err(Error::NotEnded {
                id: self.id.clone(),
            });
        };
        self.remove_cgroup()?;
        for name in [RUNNING, BEGUN] {
            match fs::remove_file(self.dir.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed()(e)),
                _ => {}
            }
        }
        fs::rename(self.dir.join(END), &made).map_err(failed())?;
        let dir = fs::File::open(&self.dir).map_err(failed())?;
        dir.sync_all().map_err(failed())
    }

    /// Kills what a dead shim left running. Blocks until it is dead.
    pub(super) fn kill_lost(&self) -> Result<()> {
        if let Some(running) = self.running()?
            && birth_of(running.init_pid) == Some(running.init_birth)
            && let Some(pid) = Pid::from_raw(running.init_pid)
            && let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
            && birth_of(running.init_pid) == Some(running.init_birth)
        {
            let _ignored = pidfd_send_signal(handle, Signal::KILL);
        }
        self.remove_cgroup()?;
        let begin = Instant::now();
        while matches!(self.status()?, Status::Lost { alive: true, .. }) {
            if begin.elapsed() > KILL_DEADLINE {
                let what = format!("killing what is left of container {}", self.id);
                return Err(Error::Deadline {
                    what,
                    after: KILL_DEADLINE,
                });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn remove_cgroup(&self) -> Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup
                .remove()
                .map_err(io_error("kill the processes of", &self.dir)),
            None => Ok(()),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        self.cgroup.as_ref().map(Cgroup::stats).unwrap_or_default()
    }

    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Removes all there is of a container that has ended. Blocks.
    pub(super) fn wipe(&self, trash: &Path, ids: Option<&IdRanges>) -> Result<()> {
        self.remove_cgroup()?;
        // Its name is free at once and its folder gone in one step, whatever happens on the way.
        let grave = trash.join(format!("{}-{}", self.id, files::now_ms()));
        let range = self.job()?.and_then(|job| job.id_range);
        fs::rename(&self.dir, &grave).map_err(io_error("remove", &self.dir))?;
        files::remove_tree(&grave).map_err(io_error("wipe", &grave))?;
        if let (Some(ids), Some(range)) = (ids, range) {
            // Last: nobody gets the ids while files of theirs are left.
            ids.free(range)
                .map_err(io_error("free the ids of", &self.dir))?;
        }
        Ok(())
    }

    /// Returns the beginning of what the shim had to say about itself.
    pub(super) fn shim_log(&self) -> String {
        let bytes = fs::read(self.dir.join(SHIM_LOG)).unwrap_or_default();
        let start = bytes
            .get(..bytes.len().min(SHIM_LOG_BYTES))
            .unwrap_or_default();
        String::from_utf8_lossy(start).trim().to_owned()
    }
}
