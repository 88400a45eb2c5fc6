//! The root folder of a container: layers under a writable one, with shifted owners.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind,
    mount_change, move_mount, open_tree,
};

use super::job::{IdRange, ROOTFS, Root, UPPER, WORK};
use crate::sys;

/// Folders that every Linux has and that nothing of ours lies in: one becomes the stage.
const STAGES: [&str; 4] = ["/mnt", "/media", "/srv", "/opt"];

/// Where a shim builds its container, out of everybody else's sight: in a mount namespace of its own, a small
/// file system over a folder that any user can reach. It all vanishes with the shim, however that ends.
///
/// A container's root has no right to walk through the agent's folders; here it needs none.
#[derive(Debug)]
pub(super) struct Stage {
    path: PathBuf,
}

impl Stage {
    /// Sets the stage; `avoid` are paths that must stay visible.
    pub(super) fn set(avoid: &[&Path]) -> io::Result<Self> {
        // One thread, so that the namespace is the process's.
        leave_mounts()?;
        let free = |stage: &Path| {
            stage.is_dir()
                && !fs::symlink_metadata(stage).is_ok_and(|m| m.is_symlink())
                && !avoid.iter().any(|path| path.starts_with(stage))
        };
        let path = STAGES
            .iter()
            .map(Path::new)
            .find(|p| free(p))
            .ok_or_else(|| {
                io::Error::other(format!("none of {STAGES:?} is a folder free to mount over"))
            })?;
        mount(
            "tradewind",
            path,
            "tmpfs",
            MountFlags::NOSUID,
            Some(c"mode=0755,size=16m"),
        )?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Returns the path of a new folder on the stage.
    pub(super) fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// Makes the container's root, and returns its path.
    pub(super) fn root(
        &self,
        dir: &Path,
        root: &Root,
        range: IdRange,
        user_namespace: &Path,
    ) -> io::Result<PathBuf> {
        let rootfs = self.folder("rootfs")?;
        match root {
            Root::Flat => mount_bind(dir.join(ROOTFS), &rootfs)?,
            Root::Layers { dir: layers, names } => {
                // Where it was started before, it goes on with what it wrote. The kernel's mark that nothing was synced
                // is in the other folder, and keeps it from being used twice.
                crate::files::remove_tree(&dir.join(WORK))?;
                fs::create_dir(dir.join(WORK))?;
                match fs::create_dir(dir.join(UPPER)) {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    made => made?,
                }
                let owner = Some(range.base);
                std::os::unix::fs::chown(dir.join(UPPER), owner, owner)?;
                let lower = self.lower(layers, names, user_namespace)?;
                self.stack(dir, &lower, &rootfs)?;
            }
        }
        Ok(rootfs)
    }

    /// Shows the layers with owners shifted into the container's range, and returns their short names in
    /// overlayfs's order, top first.
    fn lower(
        &self,
        layers: &Path,
        names: &[String],
        user_namespace: &Path,
    ) -> io::Result<Vec<String>> {
        let shown = self.folder("layers")?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, layers, flags)?;
        let namespace = rustix::fs::open(
            user_namespace,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        sys::idmap_read_only(tree.as_fd(), namespace.as_fd())?;
        move_mount(
            &tree,
            "",
            CWD,
            &shown,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
        // Options must fit a page: links of a few letters stand for names of 64.
        let links = self.folder("l")?;
        let mut lower = Vec::new();
        for (number, name) in names.iter().enumerate().rev() {
            let link = links.join(number.to_string());
            std::os::unix::fs::symlink(shown.join(name), &link)?;
            lower.push(link.display().to_string());
        }
        Ok(lower)
    }

    fn stack(&self, dir: &Path, lower: &[String], rootfs: &Path) -> io::Result<()> {
        // The container's folder under a name without commas and colons.
        let here = self.folder("c")?;
        mount_bind(dir, &here)?;
        let here = here.display();
        // Nothing in the writable layer outlives the container, so nothing in it need ever be synced.
        let options = format!(
            "lowerdir={},upperdir={here}/{UPPER},workdir={here}/{WORK},volatile",
            lower.join(":")
        );
        let options = std::ffi::CString::new(options)?;
        mount(
            "overlay",
            rootfs,
            "overlay",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )?;
        Ok(())
    }
}

/// Gives this process mounts of its own; what the host unmounts later goes away here too.
fn leave_mounts() -> io::Result<()> {
    unshare_mounts()?;
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    Ok(())
}

fn unshare_mounts() -> io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    Ok(())
}

/// A user and a network namespace, kept by bind mounts on the stage.
#[derive(Debug)]
pub(super) struct Namespaces {
    pub(super) user: PathBuf,
    pub(super) network: PathBuf,
}

impl Namespaces {
    /// Makes both, with the user namespace's ids in `range` and the loopback interface on.
    pub(super) fn make(stage: &Stage, range: IdRange) -> io::Result<Self> {
        let folder = stage.folder("ns")?;
        let kept = Self {
            user: folder.join("user"),
            network: folder.join("net"),
        };
        let (mapped_read, mapped) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (ready, ready_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let holder = sys::fork(|| {
            let made = hold_namespaces(&mapped_read, &ready_write);
            i32::from(made.is_err())
        })?;
        drop(ready_write);
        let result = (|| {
            expect_byte(&ready)?;
            write_maps(holder, range)?;
            rustix::io::write(&mapped, b"m")?;
            expect_byte(&ready)?;
            for (path, name) in [(&kept.user, "user"), (&kept.network, "net")] {
                fs::File::create(path)?;
                mount_bind(format!("/proc/{holder}/ns/{name}"), path)?;
            }
            Ok(())
        })();
        // Whatever happened, it must not stay.
        nix::sys::signal::kill(holder, nix::sys::signal::Signal::SIGKILL)?;
        nix::sys::wait::waitpid(holder, None)?;
        result.map(|()| kept)
    }
}

/// The forked holder: makes the namespaces and stays until it is killed.
fn hold_namespaces(mapped: &std::os::fd::OwnedFd, ready: &std::os::fd::OwnedFd) -> io::Result<()> {
    use nix::sched::{CloneFlags, unshare};
    unshare(CloneFlags::CLONE_NEWUSER)?;
    rustix::io::write(ready, b"u")?;
    expect_byte(mapped)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    sys::loopback_up()?;
    rustix::io::write(ready, b"n")?;
    loop {
        nix::unistd::pause();
    }
}

/// Waits for a word from the other side; its end means that it failed.
pub(super) fn expect_byte(pipe: &std::os::fd::OwnedFd) -> io::Result<()> {
    let mut byte = [0];
    match rustix::io::read(pipe, &mut byte)? {
        1 => Ok(()),
        _ => Err(io::Error::other("the other side of a pipe failed")),
    }
}

pub(super) fn write_maps(process: Pid, range: IdRange) -> io::Result<()> {
    let map = format!("0 {} {}\n", range.base, IdRange::LEN);
    fs::write(format!("/proc/{process}/uid_map"), &map)?;
    fs::write(format!("/proc/{process}/gid_map"), &map)
}

/// Tries in `dir` whether idmapped layers can be stacked here, and leaves nothing behind.
pub(super) fn probe_layers(dir: &Path) -> Result<(), String> {
    let range = IdRange {
        base: super::super::local::PROBE_BASE,
    };
    let try_it = || -> io::Result<()> {
        let layer = dir.join("layers/probe");
        fs::create_dir_all(&layer)?;
        fs::write(layer.join("file"), "below")?;
        let stage = Stage::set(&[dir])?;
        let namespaces = Namespaces::make(&stage, range)?;
        let root = Root::Layers {
            dir: dir.join("layers"),
            names: vec!["probe".to_owned()],
        };
        let rootfs = stage.root(dir, &root, range, &namespaces.user)?;
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(rootfs.join("file"))?);
        if owner != range.base {
            return Err(io::Error::other(format!(
                "owner {owner} shows, want {}",
                range.base
            )));
        }
        // Writing must copy up.
        fs::write(rootfs.join("file"), "above")?;
        Ok(())
    };
    try_it().map_err(|e| format!("layers cannot be stacked: {e}"))
}
