//! The system calls that no safe wrapper covers: the one module of this crate with unsafe code.
#![expect(
    unsafe_code,
    reason = "fork, mount_setattr and an interface ioctl have no safe wrapper"
)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::libc;
use nix::unistd::{ForkResult, Pid};

/// Forks; the child runs `child` and ends with what it returns, without coming back here.
///
/// # Errors
/// Where the caller has more than one thread, or the kernel refuses.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("only a process with one thread may fork"));
    }
    // SAFETY: with one thread, checked above, no lock can be held by a thread that the child lacks, so the
    // child may run any code.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            let code = outcome.unwrap_or(1);
            // SAFETY: `_exit` is always safe to call; it ends the process without running what the parent
            // registered for its own end.
            unsafe { libc::_exit(code) }
        }
    }
}

/// The layout that `mount_setattr` takes, `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;

/// Makes a detached mount read-only and shows its files as owned by the mapped ids of `user_namespace`.
///
/// # Source
/// mount_setattr(2), "ID-mapped mounts".
pub(crate) fn idmap_read_only(
    tree: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
) -> io::Result<()> {
    let attributes = MountAttributes {
        set: MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY,
        clear: 0,
        propagation: 0,
        user_namespace: u64::try_from(user_namespace.as_raw_fd()).map_err(io::Error::other)?,
    };
    // SAFETY: the path is a valid C string, the struct has the kernel's layout and its own size is passed;
    // both file descriptors are open for the length of the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Turns the loopback interface of the present network namespace on.
pub(crate) fn loopback_up() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING)
        .expect("interface flags fit the field made for them");
    // SAFETY: the request has the layout this ioctl reads, is alive for the call, and names an interface with
    // a terminated string.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes a system call that every filter of ours denies: `add_key` with no arguments.
///
/// # Errors
/// Always: EPERM or ENOSYS where a filter is in force, EFAULT or EINVAL from the kernel where none is.
pub(crate) fn denied_call() -> io::Error {
    // SAFETY: null pointers make the kernel refuse; it reads and changes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            std::ptr::null::<u8>(),
            std::ptr::null::<u8>(),
            std::ptr::null::<u8>(),
            0,
            0,
        )
    };
    if result < 0 {
        io::Error::last_os_error()
    } else {
        io::Error::from_raw_os_error(0)
    }
}

/// Lets `command` begin with no signal blocked, whatever its parent blocks.
pub(crate) fn unblock_signals_in(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let unblock = || Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?);
    // SAFETY: between fork and exec this makes one system call and allocates nothing.
    unsafe { command.pre_exec(unblock) };
}

/// The descriptor under which [`hand_down`] hands one down: the first after the standard three.
pub(crate) const HANDED_DOWN: i32 = 3;

/// Hands `fd` down to `command`, as [`HANDED_DOWN`].
///
/// # Errors
/// Where no descriptor is left to keep it under until then.
pub(crate) fn hand_down(command: &mut std::process::Command, fd: BorrowedFd<'_>) -> io::Result<()> {
    use std::os::unix::process::CommandExt as _;
    // Out of the way, so that it is not the very number it is to have: that would leave it closed on exec.
    let high = rustix::io::fcntl_dupfd_cloexec(fd, HANDED_DOWN + 1)?;
    // SAFETY: between fork and exec this makes one system call and allocates nothing; `high` lives in the closure.
    unsafe {
        command.pre_exec(move || match libc::dup2(high.as_raw_fd(), HANDED_DOWN) {
            HANDED_DOWN => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    Ok(())
}

/// Takes what [`hand_down`] handed down, and keeps it from those that this process starts. Only the first call in a
/// process that was started so may do that.
pub(crate) fn take_handed_down() -> io::Result<OwnedFd> {
    // SAFETY: the process has just begun and was started with this descriptor for this purpose; nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(HANDED_DOWN) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Closes every file descriptor from 3 on, except `keep`.
pub(crate) fn close_others(keep: i32) {
    let close = |first: i32, last: u32| {
        if i64::from(first) <= i64::from(last) {
            // SAFETY: only called in a process that is about to run a workload and whose Rust values that own
            // these descriptors are never touched again.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    close(3, u32::try_from(keep - 1).unwrap_or(2));
    close(keep + 1, u32::MAX);
}
