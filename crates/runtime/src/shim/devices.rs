//! The devices a container gets: nodes, the vendor's files, rules and hooks; and the look at them from inside.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{
    Hook, HookBuilder, Hooks, HooksBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder,
    LinuxDeviceType, Mount, MountBuilder,
};
use nix::libc;
use rustix::fs::{CWD, FileType, Mode, chmod, makedev, mknodat};
use rustix::mount::{MountFlags, mount_bind_recursive, mount_remount};

use super::job::IdRange;
use super::root::Stage;
use crate::cdi::{Edits, Node};

/// Puts nodes and files on the stage, and returns how the container gets to see them. Nodes are made anew, owned by the
/// container's own ids: the host's often belong to a group that means nothing inside.
pub(super) fn show(stage: &Stage, edits: &Edits, range: IdRange) -> io::Result<Vec<Mount>> {
    let folder = stage.folder("devices")?;
    let mut mounts = Vec::new();
    for (number, node) in edits.nodes.iter().enumerate() {
        let path = folder.join(format!("node-{number}"));
        let kind = if node.is_block {
            FileType::BlockDevice
        } else {
            FileType::CharacterDevice
        };
        let mode = Mode::from_raw_mode(node.mode);
        mknodat(CWD, &path, kind, mode, makedev(node.major, node.minor))?;
        chmod(&path, mode)?;
        let shift = |id: u32| Some(range.base + id);
        std::os::unix::fs::lchown(&path, shift(node.uid), shift(node.gid))?;
        mounts.push(bind(path, &node.path, &["bind", "nosuid", "noexec"])?);
    }
    for (number, mount) in edits.mounts.iter().enumerate() {
        let path = folder.join(format!("file-{number}"));
        if fs::metadata(&mount.source)?.is_dir() {
            fs::create_dir(&path)?;
        } else {
            fs::File::create(&path)?;
        }
        mount_bind_recursive(&mount.source, &path)?;
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(&path, flags, "")?;
        mounts.push(bind(
            path,
            &mount.target,
            &["bind", "ro", "nosuid", "nodev"],
        )?);
    }
    Ok(mounts)
}

fn bind(source: PathBuf, target: &str, options: &[&str]) -> io::Result<Mount> {
    MountBuilder::default()
        .destination(target)
        .typ("bind")
        .source(source)
        .options(options.iter().map(|&o| o.to_owned()).collect::<Vec<_>>())
        .build()
        .map_err(io::Error::other)
}

/// Returns what lets the container use its nodes.
pub(super) fn rules(edits: &Edits) -> Result<Vec<LinuxDeviceCgroup>, OciSpecError> {
    let rule = |node: &Node| {
        LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(if node.is_block {
                LinuxDeviceType::B
            } else {
                LinuxDeviceType::C
            })
            .major(i64::from(node.major))
            .minor(i64::from(node.minor))
            .access(node.access.clone())
            .build()
    };
    edits.nodes.iter().map(rule).collect()
}

/// Returns what runs when the container is made.
pub(super) fn hooks(edits: &Edits) -> Result<Hooks, OciSpecError> {
    let hook = |hook: &crate::cdi::Hook| -> Result<Hook, OciSpecError> {
        let mut made = HookBuilder::default()
            .path(&hook.path)
            .args(hook.args.clone())
            .env(hook.env.clone());
        if let Some(seconds) = hook.timeout {
            made = made.timeout(seconds);
        }
        made.build()
    };
    let hooks: Result<Vec<_>, _> = edits.hooks.iter().map(hook).collect();
    HooksBuilder::default().create_container(hooks?).build()
}

/// Looks from inside whether each node is there, is the device it should be, and opens.
pub(super) fn check(nodes: &[Node]) -> Result<(), String> {
    for node in nodes {
        let path = &node.path;
        let about = fs::metadata(path).map_err(|e| format!("device {path} is not there: {e}"))?;
        if about.rdev() != makedev(node.major, node.minor) {
            return Err(format!("device {path} is another one than was asked for"));
        }
        let mut options = fs::File::options();
        options.read(node.access.contains('r'));
        options.write(node.access.contains('w'));
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let opened = options.open(path);
        opened.map_err(|e| format!("device {path} does not open: {e}"))?;
    }
    Ok(())
}
