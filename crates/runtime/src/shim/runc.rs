//! Containers made by the operator's runc, from the same bundle.
//!
//! The first process is the same program as in the other kinds. runc can only execute what the container sees, so the
//! program and the libraries that it has loaded are shown in a folder that no image uses, read-only.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libcontainer::oci_spec::runtime::{Mount, MountBuilder};
use nix::unistd::Pid;
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use super::bundle::{Bundle, First};
use super::init::{self, Ids};
use super::job::{Command, Job};
use super::root::Stage;
use super::seccomp::MaskIn;
use super::{Ends, FIRST_PROCESS, Failure, SHIM_ARGUMENT};
use crate::sys;

/// Where the container sees our program. The folder is runc's own, so nothing of the image lies there.
const SHOWN: &str = "/dev/.tradewind";
const PROGRAM: &str = "program";
/// runc needs tens of milliseconds; many times that on a machine that swaps.
const DEADLINE: Duration = Duration::from_secs(40);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Longer than any report of its errors.
const LOG_BYTES: u64 = 16 << 10;

/// Makes and starts the container, and returns its first process.
pub(super) fn start(
    dir: &Path,
    job: &Job,
    cgroup: &str,
    program: &Path,
    ends: Ends,
) -> Result<Pid, Failure> {
    let bundle = Bundle::make(dir, job, cgroup, show_program)?;
    let runc = Runc {
        program,
        bundle: &bundle,
        id: job.id.as_str(),
    };
    let command = hand_over(&bundle, &job.command).map_err(|e| Failure::of("command", e))?;
    let pid_file = bundle.dir.join("pid");
    let mut create = runc.call("create");
    create
        .arg("--bundle")
        .arg(&bundle.dir)
        .arg("--pid-file")
        .arg(&pid_file)
        .args(["--preserve-fds", "1"])
        .stdin(command)
        .stdout(ends.stdout)
        .stderr(ends.stderr);
    create.arg(runc.id);
    sys::hand_down(&mut create, ends.report.as_fd()).map_err(|e| Failure::of("runc", e))?;
    runc.run(create)?;
    let pid = fs::read_to_string(&pid_file).map_err(|e| Failure::of("runc", e))?;
    let pid: i32 = pid.trim().parse().map_err(|e| Failure::of("runc", e))?;
    let pid = Pid::from_raw(pid);
    // Created first, so that the container's parent is this process by the time the first process looks for one.
    let mut start = runc.call("start");
    start.arg(runc.id);
    runc.run(start).inspect_err(|_| {
        let _ignored = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    })?;
    Ok(pid)
}

struct Runc<'a> {
    program: &'a Path,
    bundle: &'a Bundle,
    id: &'a str,
}

impl Runc<'_> {
    fn call(&self, what: &str) -> Process {
        let mut call = Process::new(self.program);
        call.arg("--root").arg(&self.bundle.state);
        call.arg("--log").arg(self.log());
        call.args(["--log-format", "json", what]);
        call.env_clear().current_dir("/");
        call.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        sys::unblock_signals_in(&mut call);
        call
    }

    fn log(&self) -> PathBuf {
        self.bundle.dir.join("log")
    }

    /// Waits for a call to end well.
    fn run(&self, mut call: Process) -> Result<(), Failure> {
        let failed = |e: io::Error| Failure::of(&self.program.display().to_string(), e);
        let mut child = call.spawn().map_err(failed)?;
        // What it was given belongs to the container alone.
        drop(call);
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break status;
            }
            if begin.elapsed() > DEADLINE {
                let _ignored = child.kill();
                let _ignored = child.wait();
                let reason = format!("no answer within {DEADLINE:?}");
                return Err(Failure::of("runc", reason));
            }
            std::thread::sleep(LOOK_AGAIN);
        };
        if status.success() {
            return Ok(());
        }
        Err(Failure::of("runc", self.last_word(&status.to_string())))
    }

    /// Returns the last error in runc's log.
    fn last_word(&self, otherwise: &str) -> String {
        let mut text = String::new();
        let log = File::open(self.log());
        let read = log.and_then(|log| log.take(LOG_BYTES).read_to_string(&mut text));
        let last = read
            .ok()
            .and_then(|_| text.lines().last().map(str::to_owned));
        let message = last.and_then(|line| {
            let line: serde_json::Value = serde_json::from_str(&line).ok()?;
            Some(line.get("msg")?.as_str()?.to_owned())
        });
        message.unwrap_or_else(|| otherwise.to_owned())
    }
}

/// Shows our program to the container, and tells how it is executed there.
fn show_program(stage: &Stage) -> io::Result<First> {
    let folder = stage.folder("program")?;
    let program = std::env::current_exe()?;
    let mut shown: BTreeMap<String, PathBuf> = loaded_libraries(&program)?;
    let loader = shown.keys().find(|name| name.starts_with("ld-")).cloned();
    shown.insert(PROGRAM.to_owned(), program);
    for (name, source) in &shown {
        let target = folder.join(name);
        File::create(&target)?;
        mount_bind(source, &target)?;
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(&target, flags, "")?;
    }
    let mut args = Vec::new();
    if let Some(loader) = loader {
        args.push(format!("{SHOWN}/{loader}"));
        args.extend(["--library-path".to_owned(), SHOWN.to_owned()]);
    }
    args.push(format!("{SHOWN}/{PROGRAM}"));
    args.extend([SHIM_ARGUMENT, FIRST_PROCESS].map(str::to_owned));
    Ok(First {
        args,
        mounts: vec![shown_mount(&folder)?],
        mask: MaskIn::FirstValue,
    })
}

fn shown_mount(folder: &Path) -> io::Result<Mount> {
    let options = ["rbind", "ro", "nosuid", "nodev"];
    MountBuilder::default()
        .destination(SHOWN)
        .typ("bind")
        .source(folder)
        .options(options.map(str::to_owned).to_vec())
        .build()
        .map_err(io::Error::other)
}

/// Returns the libraries that this process has loaded, the loader among them, by the names they are looked for.
fn loaded_libraries(program: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for line in fs::read_to_string("/proc/self/maps")?.lines() {
        let Some(at) = line.find('/') else { continue };
        let path = Path::new(line.get(at..).unwrap_or_default());
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| name.contains(".so")) else {
            continue;
        };
        if path != program {
            for name in looked_for(name) {
                found.insert(name.to_owned(), path.to_owned());
            }
        }
    }
    Ok(found)
}

/// Returns the names under which a library may be looked for: its own, and those with less of its version.
fn looked_for(name: &str) -> impl Iterator<Item = &str> {
    let versions = name.match_indices('.').map(|(at, _)| at);
    let ends = versions.chain([name.len()]);
    ends.filter_map(|end| name.get(..end))
        .filter(|name| name.contains(".so"))
}

/// Writes the command where the first process reads it: not into the bundle, which others may read, as it holds secrets.
fn hand_over(bundle: &Bundle, command: &Command) -> io::Result<File> {
    let path = bundle.dir.join("command");
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    file.write_all(&serde_json::to_vec(command)?)?;
    file.rewind()?;
    Ok(file)
}

/// Is the first process of a container that runc made.
pub(super) fn first_process() -> ExitCode {
    let Ok(report) = sys::take_handed_down() else {
        return ExitCode::FAILURE;
    };
    let mut text = Vec::new();
    let read = io::stdin().read_to_end(&mut text).and_then(|_| {
        let null = File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        Ok(serde_json::from_slice::<Command>(&text)?)
    });
    let code = match read {
        Ok(command) => init::run(&command, Ids::Range, report),
        Err(e) => init::broken(report, &e),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    #[test]
    fn libraries_are_found_by_each_of_their_names() {
        let names: Vec<_> = super::looked_for("libseccomp.so.2.5.4").collect();
        let all = [
            "libseccomp.so",
            "libseccomp.so.2",
            "libseccomp.so.2.5",
            "libseccomp.so.2.5.4",
        ];
        assert_eq!(names, all);
    }
}
