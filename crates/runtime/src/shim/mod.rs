//! The process that owns one container and outlives the agent.
//!
//! The agent runs its own program again as `<exe> shim <folder>`. That process has one thread, as what it
//! does with namespaces and forks wants; it takes the container's lock, makes the container, copies what it
//! writes into bounded files, obeys the control pipe, and writes down how it ended. It reads nothing from the
//! agent and tells it nothing that is not on disk as well, so an agent may die and come back at any time.
//!
//! Map: `job` is the folder; `bundle` describes a container as OCI runtimes want it, `devices` what it gets of the host's; `embedded`, `runc` and `process`
//! make the three kinds of container, the first two from the same bundle; `init` is the first
//! process inside; `supervise` is the loop until the end; `self_test` is tried from inside at start-up.

mod bundle;
mod devices;
mod embedded;
mod init;
pub(crate) mod job;
mod process;
mod root;
mod runc;
mod seccomp;
pub(crate) mod self_test;
mod supervise;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::unistd::Pid;
use rustix::pipe::{PipeFlags, pipe_with};

use self::job::{BEGUN, Backend, Begun, END, JOB, Job, Lock};
use crate::error::Blame;
use crate::files::{self, Durable};
use crate::status::Status;

/// The first argument that makes a program a shim.
pub const SHIM_ARGUMENT: &str = "shim";
/// In place of a folder: try whether this machine can stack idmapped layers, and end with 0 where it can.
pub(crate) const PROBE_LAYERS: &str = "--probe-layers";
/// In place of a folder: try whether this user may make user namespaces, and end with 0 where it may.
pub(crate) const PROBE_NAMESPACES: &str = "--probe-namespaces";

/// In place of a folder: this is the first process of a container that another program made.
const FIRST_PROCESS: &str = "--first-process";

/// How often, and after what pause, to try again to write down the end: a minute in all.
const END_TRIES: u32 = 60;
const END_PAUSE: Duration = Duration::from_secs(1);
/// Files a process in a container may have open: what container engines give.
const OPEN_FILES: u64 = 1_048_576;

/// Runs a shim: call it before anything else in `main`, while the process has one thread, with the arguments
/// that follow [`SHIM_ARGUMENT`].
pub fn shim_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let result = match arguments.as_slice() {
        [what, dir] if what == PROBE_LAYERS => root::probe_layers(Path::new(dir)),
        [what] if what == PROBE_NAMESPACES => process::probe(),
        [what] if what == FIRST_PROCESS => return runc::first_process(),
        [dir] => run(Path::new(dir)),
        _ => Err("want one argument, the container's folder".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // The agent keeps this stream in the container's folder, or reads it where it probes.
            let _ignored = writeln!(io::stderr(), "{reason}");
            ExitCode::FAILURE
        }
    }
}

/// A container whose first process has been let go.
struct Started {
    init: Pid,
    stdout: OwnedFd,
    stderr: OwnedFd,
    report: File,
}

/// A container could not be made.
#[derive(Debug)]
struct Failure {
    blame: Blame,
    reason: String,
}

impl Failure {
    /// This machine's fault, as anything is that goes wrong before the image's command is looked at.
    fn of(what: &str, error: impl std::fmt::Display) -> Self {
        Self {
            blame: Blame::Provider,
            reason: format!("{what}: {error}"),
        }
    }
}

/// The ends of the pipes that a container gets.
struct Ends {
    stdout: OwnedFd,
    stderr: OwnedFd,
    report: OwnedFd,
}

fn run(dir: &Path) -> Result<(), String> {
    detach();
    let lock = Lock::try_take(dir).map_err(|e| format!("lock: {e}"))?;
    let Some(_lock) = lock else {
        return Ok(()); // Another shim was faster.
    };
    if dir.join(BEGUN).exists() || dir.join(END).exists() {
        return Ok(()); // Another shim was here before.
    }
    let job: Job = files::get_json(dir, JOB)
        .map_err(|e| format!("{JOB}: {e}"))?
        .ok_or_else(|| format!("{JOB} is missing"))?;
    let begun = Begun {
        shim_pid: i32::try_from(std::process::id()).unwrap_or(0),
        begun_at_ms: files::now_ms(),
    };
    // On disk before anything runs: not even a power cut makes it start twice.
    files::put_json(dir, BEGUN, &begun, Durable::Yes).map_err(|e| format!("{BEGUN}: {e}"))?;
    set_process_limits();
    let end = hold(dir, &job);
    write_end(dir, &end).map_err(|e| format!("{END}: {e}"))
}

/// Writes down the end, and tries again for a while: on a full disk somebody may make room.
fn write_end(dir: &Path, end: &Status) -> io::Result<()> {
    let mut tries = END_TRIES;
    loop {
        match files::put_json(dir, END, end, Durable::Yes) {
            Err(_) if tries > 0 => tries -= 1,
            other => return other,
        }
        std::thread::sleep(END_PAUSE);
    }
}

/// Makes the container, stays with it until it ends, and says how it did.
fn hold(dir: &Path, job: &Job) -> Status {
    let failed = |f: Failure| Status::Failed {
        blame: f.blame,
        reason: f.reason,
    };
    let mut supervisor = match supervise::Supervisor::open(dir, job) {
        Ok(supervisor) => supervisor,
        Err(e) => return failed(Failure::of("the container's folder", e)),
    };
    let status = match start(dir, job) {
        Ok(started) => {
            let init = started.init;
            supervisor.stay(started).unwrap_or_else(|e| {
                // Nobody would look after it any more: it must not run on.
                supervisor.kill_all(init);
                failed(Failure::of("shim", e))
            })
        }
        Err(failure) => failed(failure),
    };
    supervisor.clean_up();
    status
}

fn start(dir: &Path, job: &Job) -> Result<Started, Failure> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| Failure::of("pipe", e));
    let (stdout, stdout_end) = pipe()?;
    let (stderr, stderr_end) = pipe()?;
    let (report, report_end) = pipe()?;
    if let Some(range) = job.id_range {
        for end in [&stdout_end, &stderr_end] {
            std::os::unix::fs::fchown(end, Some(range.base), Some(range.base))
                .map_err(|e| Failure::of("pipe", e))?;
        }
    }
    let ends = Ends {
        stdout: stdout_end,
        stderr: stderr_end,
        report: report_end,
    };
    let init = match &job.backend {
        Backend::Embedded { cgroup } => embedded::start(dir, job, cgroup, ends)?,
        Backend::Runc { cgroup, program } => runc::start(dir, job, cgroup, program, ends)?,
        Backend::Process => process::start(dir, job, ends)?,
    };
    Ok(Started {
        init,
        stdout,
        stderr,
        report: File::from(report),
    })
}

/// Sets limits that the container inherits: inside its user namespace nobody could raise them any more.
fn set_process_limits() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // Without root only up to what we have ourselves.
    if setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES).is_err()
        && let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
    {
        let _ignored = setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES), hard);
    }
    // A core file would land in the tenant's own layer, at the provider's cost.
    let _ignored = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// Leaves the agent's session, so that nothing that ends the agent ends the shim, and takes in orphans.
fn detach() {
    // Fails only where it leads a session already.
    let _ignored = rustix::process::setsid();
    let _ignored = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let _ignored = std::env::set_current_dir("/");
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
}
