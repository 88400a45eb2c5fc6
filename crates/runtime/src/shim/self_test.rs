//! What a container must not be able to do, tried from inside.
//!
//! Runs as the first process of a container made like any other, and writes one [`Check`] a line to standard
//! output. A machine takes tenants' jobs only where each of them passed.

use std::fs;
use std::io::{self, Write as _};

use nix::libc;

use crate::capabilities::Check;
use crate::sys;

/// A device node with numbers no driver has: opened where rules are in force it is EPERM, else ENXIO.
pub(crate) const DENIED_DEVICE: &str = "denied-device";
/// Major and minor of it: among the memory devices, where 10 was never given out.
pub(crate) const DENIED_DEVICE_NUMBERS: (u32, u32) = (1, 10);

pub(crate) const SYSCALL: &str = "denied_syscall_is_denied";
pub(crate) const DEVICE: &str = "denied_device_is_denied";
pub(crate) const PROC_SYS: &str = "kernel_settings_are_read_only";
pub(crate) const MKNOD: &str = "device_nodes_cannot_be_made";
pub(crate) const PRIVILEGES: &str = "no_new_privileges";
pub(crate) const PIDS: &str = "host_processes_are_hidden";
pub(crate) const MOUNT: &str = "nothing_can_be_mounted";

/// Tries everything. Nothing here may change the host where a check fails.
pub(super) fn write_checks() {
    let mut out = io::stdout().lock();
    for check in [
        denied(
            SYSCALL,
            Err::<(), _>(sys::denied_call()),
            &[libc::EPERM, libc::ENOSYS],
        ),
        denied(
            DEVICE,
            fs::File::open(format!("/{DENIED_DEVICE}")),
            &[libc::EPERM],
        ),
        denied(
            PROC_SYS,
            fs::OpenOptions::new()
                .write(true)
                .open("/proc/sys/kernel/core_pattern"),
            &[libc::EROFS, libc::EACCES, libc::EPERM],
        ),
        mknod_check(),
        privileges_check(),
        pids_check(),
        mount_check(),
    ] {
        let line = serde_json::to_string(&check).expect("a check has text keys only");
        let _ignored = writeln!(out, "{line}");
    }
}

fn denied<T>(name: &str, tried: io::Result<T>, allowed: &[i32]) -> Check {
    match tried {
        Ok(_) => Check {
            name: name.to_owned(),
            passed: false,
            seen: "it worked".to_owned(),
        },
        Err(e) => Check {
            name: name.to_owned(),
            passed: e
                .raw_os_error()
                .is_some_and(|errno| allowed.contains(&errno)),
            seen: e.to_string(),
        },
    }
}

fn mknod_check() -> Check {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let (major, minor) = DENIED_DEVICE_NUMBERS;
    let mode = Mode::from_raw_mode(0o600);
    let made = mknodat(
        CWD,
        "/made-device",
        FileType::CharacterDevice,
        mode,
        makedev(major, minor),
    );
    denied(MKNOD, made.map_err(io::Error::from), &[libc::EPERM])
}

fn mount_check() -> Check {
    use rustix::mount::{MountFlags, mount};
    let tried = mount("none", "/tmp", "tmpfs", MountFlags::empty(), None);
    denied(
        MOUNT,
        tried.map_err(io::Error::from),
        &[libc::EPERM, libc::ENOSYS],
    )
}

fn privileges_check() -> Check {
    let set = rustix::thread::no_new_privs();
    Check {
        name: PRIVILEGES.to_owned(),
        passed: set.is_ok_and(|set| set),
        seen: format!("{set:?}"),
    }
}

fn pids_check() -> Check {
    let is_number =
        |name: &std::ffi::OsStr| name.to_str().is_some_and(|n| n.parse::<u32>().is_ok());
    let listed = fs::read_dir("/proc").map(|entries| {
        entries
            .filter_map(Result::ok)
            .filter(|e| is_number(&e.file_name()))
            .count()
    });
    let own = std::process::id();
    Check {
        name: PIDS.to_owned(),
        passed: own == 1 && listed.as_ref().is_ok_and(|n| *n == 1),
        seen: format!("process {own}, {listed:?} listed"),
    }
}
