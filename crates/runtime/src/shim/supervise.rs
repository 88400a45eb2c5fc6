//! What a shim does while its container runs.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Started;
use super::init::Report;
use super::job::{CONTROL, Job, LOGS, RUNNING, Request, Running, birth_of};
use crate::cgroup::Cgroup;
use crate::error::Blame;
use crate::files::{self, Durable, now_ms};
use crate::logs::{LogStream, LogWriter};
use crate::status::{Exit, Status};

/// How long a container gets when the machine shuts down: less than service managers give us.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// How long to wait for the last bytes of a container whose processes are all gone.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// A pipe holds this much unless somebody asked for more.
const PIPE_BYTES: usize = 64 << 10;
/// Longer than any request; more is noise.
const CONTROL_BYTES: usize = 256;
/// Longer than any report but a refusal with a very long name in it.
const REPORT_BYTES: usize = 64 << 10;

/// Holds what a shim keeps open from the start: requests may come before the container is there.
pub(super) struct Supervisor {
    dir: PathBuf,
    cgroup: Option<Cgroup>,
    control: File,
    stdout: LogWriter,
    stderr: LogWriter,
    signals: SignalFd,
    buffer: Vec<u8>,
}

/// What became known so far.
#[derive(Default)]
struct Seen {
    started_at_ms: Option<u64>,
    last: Option<Report>,
    report_text: Vec<u8>,
    kill_at: Option<Instant>,
}

impl Supervisor {
    pub(super) fn open(dir: &Path, job: &Job) -> io::Result<Self> {
        // Blocked here and read below; what the container starts gets a clean mask from its first process.
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block()?;
        // Open for writing too, so that the last agent to close it is no end of file.
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(dir.join(CONTROL))?;
        Ok(Self {
            dir: dir.to_owned(),
            cgroup: job.backend.cgroup().map(Cgroup::at),
            control,
            stdout: LogWriter::create(&dir.join(LOGS), LogStream::Stdout)?,
            stderr: LogWriter::create(&dir.join(LOGS), LogStream::Stderr)?,
            signals: SignalFd::with_flags(
                &signals,
                SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
            )?,
            buffer: vec![0; PIPE_BYTES],
        })
    }

    /// Serves the container until its first process has ended, and says how it ended.
    pub(super) fn stay(&mut self, started: Started) -> io::Result<Status> {
        let Started {
            init,
            stdout,
            stderr,
            report,
        } = started;
        let mut pipes = Pipes {
            stdout: Some(stdout),
            stderr: Some(stderr),
            report: Some(report),
        };
        let watch = rustix::process::pidfd_open(
            rustix::process::Pid::from_raw(init.as_raw()).ok_or_else(no_process)?,
            rustix::process::PidfdFlags::empty(),
        )?;
        let mut seen = Seen::default();
        loop {
            let ready = self.wait(&pipes, watch.as_fd(), seen.kill_at)?;
            self.copy(&mut pipes, &ready, init, &mut seen)?;
            if ready.signals {
                while matches!(self.signals.read_signal(), Ok(Some(_))) {}
                self.obey(
                    Request::Stop {
                        grace_ms: millis(SHUTDOWN_GRACE),
                    },
                    init,
                    &mut seen,
                );
            }
            if ready.control {
                for request in self.requests() {
                    self.obey(request, init, &mut seen);
                }
            }
            if seen.kill_at.is_some_and(|at| at <= Instant::now()) {
                seen.kill_at = None;
                self.kill_all(init);
            }
            if ready.ended {
                break;
            }
        }
        let status = reap(init);
        self.drain(&mut pipes, init, &mut seen)?;
        Ok(self.conclude(&seen, status))
    }

    /// Removes the control group: whatever was in it is dead by now.
    pub(super) fn clean_up(&self) {
        if let Some(cgroup) = &self.cgroup {
            // What cannot be removed now, the agent removes with the container.
            let _ignored = cgroup.remove();
        }
    }

    fn wait(
        &self,
        pipes: &Pipes,
        watch: BorrowedFd<'_>,
        kill_at: Option<Instant>,
    ) -> io::Result<Ready> {
        let timeout = kill_at.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut fds = vec![
            PollFd::from_borrowed_fd(watch, PollFlags::IN),
            PollFd::new(&self.control, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        for pipe in [&pipes.stdout, &pipes.stderr].into_iter().flatten() {
            fds.push(PollFd::new(pipe, PollFlags::IN));
        }
        if let Some(report) = &pipes.report {
            fds.push(PollFd::new(report, PollFlags::IN));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut answers = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || answers.next().unwrap_or(false);
        Ok(Ready {
            ended: next(),
            control: next(),
            signals: next(),
            stdout: pipes.stdout.is_some() && next(),
            stderr: pipes.stderr.is_some() && next(),
            report: pipes.report.is_some() && next(),
        })
    }

    /// Copies what the ready pipes hold, once; a pipe at its end is closed.
    fn copy(
        &mut self,
        pipes: &mut Pipes,
        ready: &Ready,
        init: Pid,
        seen: &mut Seen,
    ) -> io::Result<()> {
        if ready.stdout {
            copy_one(&mut pipes.stdout, &mut self.stdout, &mut self.buffer)?;
        }
        if ready.stderr {
            copy_one(&mut pipes.stderr, &mut self.stderr, &mut self.buffer)?;
        }
        if ready.report
            && let Some(report) = &mut pipes.report
        {
            let got = report.read(&mut self.buffer)?;
            if got == 0 {
                pipes.report = None;
            } else if seen.report_text.len() < REPORT_BYTES {
                seen.report_text
                    .extend_from_slice(self.buffer.get(..got).unwrap_or_default());
                self.take_reports(init, seen)?;
            }
        }
        Ok(())
    }

    fn take_reports(&self, init: Pid, seen: &mut Seen) -> io::Result<()> {
        while let Some(end) = seen.report_text.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = seen.report_text.drain(..=end).collect();
            let report: Report = serde_json::from_slice(&line)?;
            if let Report::Started { at_ms } = report {
                seen.started_at_ms = Some(at_ms);
                let running = Running {
                    started_at_ms: at_ms,
                    init_pid: init.as_raw(),
                    init_birth: birth_of(init.as_raw()).unwrap_or(0),
                };
                files::put_json(&self.dir, RUNNING, &running, Durable::No)?;
                tell_agent();
            } else {
                seen.last = Some(report);
            }
        }
        Ok(())
    }

    fn requests(&mut self) -> Vec<Request> {
        let mut bytes = [0; CONTROL_BYTES];
        let got = self.control.read(&mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..got).unwrap_or_default()).into_owned();
        text.lines().filter_map(Request::parse).collect()
    }

    fn obey(&self, request: Request, init: Pid, seen: &mut Seen) {
        match request {
            Request::Kill => self.kill_all(init),
            Request::Stop { grace_ms } => {
                // The first process passes it on; it is not reaped yet, so the number is still its own.
                let _ignored = kill(init, Signal::SIGTERM);
                let at = Instant::now() + Duration::from_millis(grace_ms);
                // A second stop may shorten the first one's grace, not lengthen it.
                seen.kill_at = Some(seen.kill_at.map_or(at, |before| before.min(at)));
            }
        }
    }

    pub(super) fn kill_all(&self, init: Pid) {
        // With the first process the kernel kills all in its process namespace.
        let _ignored = kill(init, Signal::SIGKILL);
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
    }

    fn drain(&mut self, pipes: &mut Pipes, init: Pid, seen: &mut Seen) -> io::Result<()> {
        let deadline = Instant::now() + DRAIN_DEADLINE;
        while pipes.any() && Instant::now() < deadline {
            let never = self.signals.as_fd();
            let ready = self.wait(pipes, never, Some(deadline))?;
            self.copy(pipes, &ready, init, seen)?;
        }
        Ok(())
    }

    fn conclude(&self, seen: &Seen, status: Option<WaitStatus>) -> Status {
        let stats = self.cgroup.as_ref().map(Cgroup::stats).unwrap_or_default();
        let now = now_ms();
        let (code, signal, ended_at_ms, reason) = match (&seen.last, status) {
            (
                Some(Report::Ended {
                    code,
                    signal,
                    at_ms,
                }),
                _,
            ) => (*code, *signal, *at_ms, None),
            (
                Some(Report::Refused {
                    code,
                    reason,
                    at_ms,
                }),
                _,
            ) => (*code, None, *at_ms, Some(reason.clone())),
            (Some(Report::Broken { reason }), _) => {
                return Status::Failed {
                    blame: Blame::Provider,
                    reason: reason.clone(),
                };
            }
            (_, Some(WaitStatus::Signaled(_, signal, _))) if seen.started_at_ms.is_some() => {
                let signal = signal as i32;
                (
                    u8::try_from(128 + signal).unwrap_or(u8::MAX),
                    Some(signal),
                    now,
                    None,
                )
            }
            (_, Some(WaitStatus::Signaled(_, signal, _))) => {
                let reason = format!("its first process got {signal} before the command ran");
                return Status::Failed {
                    blame: Blame::Provider,
                    reason,
                };
            }
            (_, status) => {
                let reason = format!("its first process ended without a word: {status:?}");
                return Status::Failed {
                    blame: Blame::Provider,
                    reason,
                };
            }
        };
        let started_at_ms = seen.started_at_ms.unwrap_or(ended_at_ms);
        Status::Exited(Exit {
            code,
            signal,
            oom: stats.oom_kills > 0,
            started_at_ms,
            // The wall clock may have been set back in between.
            ended_at_ms: ended_at_ms.max(started_at_ms),
            reason,
            stats,
        })
    }
}

struct Pipes {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    report: Option<File>,
}

impl Pipes {
    fn any(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some() || self.report.is_some()
    }
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "one answer for each descriptor polled"
)]
struct Ready {
    ended: bool,
    control: bool,
    signals: bool,
    stdout: bool,
    stderr: bool,
    report: bool,
}

fn copy_one(pipe: &mut Option<OwnedFd>, log: &mut LogWriter, buffer: &mut [u8]) -> io::Result<()> {
    let Some(open) = pipe else { return Ok(()) };
    let got = rustix::io::read(open, &mut *buffer)?;
    if got == 0 {
        *pipe = None;
        return Ok(());
    }
    // A full disk loses log lines; it must not stop the container that is still being paid for.
    let _ignored = log.append(buffer.get(..got).unwrap_or_default());
    Ok(())
}

/// Collects the first process, and whatever else was left to us.
fn reap(init: Pid) -> Option<WaitStatus> {
    let status = waitpid(init, None).ok();
    while matches!(waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)), Ok(s) if s != WaitStatus::StillAlive)
    {
    }
    status
}

/// Wakes the agent that started this shim, which waits for the end of our standard output.
fn tell_agent() {
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        let _ignored = rustix::stdio::dup2_stdout(&null);
    }
}

fn no_process() -> io::Error {
    io::Error::other("the container has no first process")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
