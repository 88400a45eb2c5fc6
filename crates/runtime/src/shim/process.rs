//! Containers without root and without libcontainer: namespaces and a private root, no limits.
//!
//! The shim itself enters the new namespaces, so that the first process is its own child; only the process
//! namespace begins with that child. As root, ids are mapped into a range as in an embedded container;
//! without, the container's root is the one user there is.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Pid, Uid, getegid, geteuid, pivot_root, setgid, sethostname, setuid};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, unmount,
};

use super::bundle::{as_io, capabilities};
use super::init::{self, Ids};
use super::job::{IdRange, Job, ROOTFS};
use super::root::{expect_byte, write_maps};
use super::{Ends, Failure, seccomp};
use crate::sys;

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// Tries whether this user may make what a container needs.
pub(super) fn probe() -> Result<(), String> {
    let hint = match fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") {
        Ok(value) if value.trim() == "1" => {
            " (kernel.apparmor_restrict_unprivileged_userns is 1: set it to 0, or run as root)"
        }
        _ => " (see user.max_user_namespaces and kernel.unprivileged_userns_clone, or run as root)",
    };
    enter(None).map_err(|e| format!("user namespaces are not permitted here: {e}{hint}"))?;
    let child = sys::fork(|| {
        let own = unshare(CloneFlags::CLONE_NEWNS).is_ok();
        let tried = mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .and_then(|()| mount("probe", "/tmp", "tmpfs", MountFlags::empty(), None));
        i32::from(!own || tried.is_err())
    });
    let status = child.and_then(|pid| Ok(nix::sys::wait::waitpid(pid, None)?));
    match status {
        Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => Ok(()),
        other => Err(format!(
            "nothing can be mounted in a user namespace here: {other:?}{hint}"
        )),
    }
}

/// Makes and starts the container, and returns its first process.
pub(super) fn start(dir: &Path, job: &Job, ends: Ends) -> Result<Pid, Failure> {
    enter(job.id_range).map_err(|e| Failure::of("user namespace", e))?;
    let Ends {
        stdout,
        stderr,
        report,
    } = ends;
    let rootfs = dir.join(ROOTFS);
    sys::fork(|| match furnish(&rootfs, job, &stdout, &stderr) {
        Ok(()) => {
            let ids = if job.id_range.is_some() {
                Ids::Range
            } else {
                Ids::RootOnly
            };
            init::run(&job.command, ids, report)
        }
        Err(e) => init::broken(report, &e),
    })
    .map_err(|e| Failure::of("first process", e))
}

/// Puts this process into new namespaces and maps the ids.
fn enter(range: Option<IdRange>) -> io::Result<()> {
    let flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let Some(range) = range else {
        let (uid, gid) = (geteuid(), getegid());
        unshare(flags)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
        return fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"));
    };
    // Only a process outside may map more than one id: a child that stays behind does it.
    let (inside_read, inside) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let here = nix::unistd::getpid();
    let mapper = sys::fork(|| {
        let mapped = expect_byte(&inside_read).and_then(|()| write_maps(here, range));
        i32::from(mapped.is_err())
    })?;
    let entered = unshare(flags);
    if entered.is_ok() {
        rustix::io::write(&inside, b"i")?;
    }
    drop(inside);
    let status = nix::sys::wait::waitpid(mapper, None)?;
    entered?;
    match status {
        nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
        other => Err(io::Error::other(format!(
            "mapping the ids failed: {other:?}"
        ))),
    }
}

/// In the first process: makes the root folder, and gives up what a container has no use for.
fn furnish(rootfs: &Path, job: &Job, stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
    let _ignored = rustix::process::setsid();
    let hostname = job.spec.hostname.as_deref().unwrap_or(job.id.as_str());
    sethostname(hostname)?;
    sys::loopback_up()?;
    // Its own, not the shim's: changing the root changes it for all in one mount namespace.
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    mount_bind_recursive(rootfs, rootfs)?;
    // From the root on, as only the agent's user may walk through the folders above it.
    std::env::set_current_dir(rootfs)?;
    if job.id_range.is_some() {
        // What is made below needs an owner who is known inside.
        nix::unistd::setgroups(&[])?;
        setgid(Gid::from_raw(0))?;
        setuid(Uid::from_raw(0))?;
    }
    furnish_proc(Path::new("."))?;
    furnish_dev(Path::new("."))?;
    // Both in one place: the old root lands on top of the new one, and is taken off.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    give_up_privileges()
}

fn give_up_privileges() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let syscall = libcontainer::syscall::syscall::create_syscall();
    let wanted = capabilities().map_err(as_io)?;
    libcontainer::capabilities::drop_privileges(&wanted, syscall.as_ref()).map_err(as_io)?;
    let profile = seccomp::profile(seccomp::MaskIn::SecondValue).map_err(as_io)?;
    libcontainer::seccomp::initialize_seccomp(&profile).map_err(as_io)?;
    Ok(())
}

/// Returns a real folder of that name in the root: a link there could lead out of it.
fn folder(rootfs: &Path, name: &str) -> io::Result<std::path::PathBuf> {
    let path = rootfs.join(name);
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => Err(io::Error::other(format!(
            "the image's /{name} is no folder"
        ))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir(&path).map(|()| path),
        Err(e) => Err(e),
    }
}

fn furnish_proc(rootfs: &Path) -> io::Result<()> {
    let proc = folder(rootfs, "proc")?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Refused where parts of the host's own are hidden, as in a container: then there is none inside.
    match mount("proc", &proc, "proc", quiet, None) {
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn furnish_dev(rootfs: &Path) -> io::Result<()> {
    let dev = folder(rootfs, "dev")?;
    mount(
        "dev",
        &dev,
        "tmpfs",
        MountFlags::NOSUID,
        Some(c"mode=0755,size=64k"),
    )?;
    for name in DEVICES {
        let node = dev.join(name);
        fs::File::create(&node)?;
        mount_bind(Path::new("/dev").join(name), &node)?;
    }
    for (target, name) in DEVICE_LINKS {
        std::os::unix::fs::symlink(target, dev.join(name))?;
    }
    let shared = dev.join("shm");
    fs::create_dir(&shared)?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("shm", &shared, "tmpfs", quiet, Some(c"mode=1777"))?;
    Ok(())
}
