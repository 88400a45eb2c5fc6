//! Devices as their vendors describe them: the Container Device Interface.
//!
//! A vendor's tool writes what a container needs for a device (nodes, libraries, variables, hooks) into a file in
//! `/etc/cdi` or `/var/run/cdi`; a device is then asked for by name, `nvidia.com/gpu=GPU-…`. Those files are the
//! machine's own, but they are read as if they were not: bounded, and what is not known in them is refused.
//!
//! # Source
//! <https://github.com/cncf-tags/container-device-interface>, specification 0.8.

mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where vendors' tools write; what lies in a later one wins.
pub const USUAL_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// For a machine of 16 GPUs the NVIDIA tool writes some 100 KiB.
const FILE_BYTES: u64 = 4 << 20;
const FILES_MAX: usize = 256;
const DEVICES_MAX: usize = 4_096;
/// Of each kind, in what one container asks for.
const EDITS_MAX: usize = 4_096;
/// Programs that may be run as hooks, by name: those of NVIDIA's toolkit. They make links to libraries in the container
/// and refresh its list of them. Others would run as root on the word of a file.
const HOOK_PROGRAMS: [&str; 2] = ["nvidia-cdi-hook", "nvidia-ctk"];
/// The one moment at which those are run.
const HOOK_MOMENT: &str = "createContainer";

/// What can be wrong with a device or its description.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CdiError {
    /// No file describes it.
    #[error("no device {name} is described in {}", dirs.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        dirs: Vec<String>,
    },
    /// A description cannot be used.
    #[error("{what}: {problem}")]
    Bad {
        /// Which file or device.
        what: String,
        /// What is wrong.
        problem: String,
    },
}

fn bad(what: impl Into<String>, problem: impl std::fmt::Display) -> CdiError {
    CdiError::Bad {
        what: what.into(),
        problem: problem.to_string(),
    }
}

/// One file, as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Written,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: Written,
}

/// What a container needs, as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    device_nodes: Vec<WrittenNode>,
    #[serde(default)]
    mounts: Vec<WrittenMount>,
    #[serde(default)]
    hooks: Vec<Hook>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenNode {
    path: String,
    host_path: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<u32>,
    minor: Option<u32>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMount {
    host_path: String,
    container_path: String,
}

/// A program to be run when a container is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hook {
    #[serde(rename = "hookName")]
    pub(crate) moment: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: Vec<String>,
    pub(crate) timeout: Option<i64>,
}

/// What a container needs for its devices, looked up and checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Edits {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) mounts: Vec<HostMount>,
    pub(crate) hooks: Vec<Hook>,
}

/// A device node in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) path: String,
    pub(crate) is_block: bool,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    /// As the container sees them.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Of `r`, `w` and `m`.
    pub(crate) access: String,
}

/// A file or folder of the host that the container sees, read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostMount {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
}

/// Every device that files describe.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    dirs: Vec<String>,
    specs: Vec<Spec>,
    /// By full name: which file, and which device of it.
    by_name: BTreeMap<String, (usize, usize)>,
}

impl Devices {
    /// Reads the files in `dirs`, in order; a folder that is missing has none.
    ///
    /// # Errors
    /// [`CdiError::Bad`] where a file cannot be read or used; none is passed over, as it could be the one that counts.
    pub fn load(dirs: &[PathBuf]) -> Result<Self, CdiError> {
        let mut found = Self {
            dirs: dirs.iter().map(|dir| dir.display().to_string()).collect(),
            ..Self::default()
        };
        for dir in dirs {
            for path in files_in(dir).map_err(|e| bad(dir.display().to_string(), e))? {
                let name = path.display().to_string();
                let bytes = read(&path).map_err(|e| bad(&name, e))?;
                found.add(parse(&bytes).map_err(|problem| bad(&name, problem))?);
            }
        }
        Ok(found)
    }

    fn add(&mut self, spec: Spec) {
        for (number, device) in spec.devices.iter().enumerate() {
            let name = format!("{}={}", spec.kind, device.name);
            self.by_name.insert(name, (self.specs.len(), number));
        }
        self.specs.push(spec);
    }

    /// Returns the full names of all devices, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Returns what a container needs for the devices `names`.
    pub(crate) fn edits(&self, names: &[String]) -> Result<Edits, CdiError> {
        let mut edits = Edits::default();
        // What a file says for all of its devices counts once.
        let mut files = BTreeSet::new();
        for name in names {
            let found = self.by_name.get(name).and_then(|(file, device)| {
                let spec = self.specs.get(*file)?;
                Some((*file, spec, spec.devices.get(*device)?))
            });
            let (file, spec, device) = found.ok_or_else(|| CdiError::Unknown {
                name: name.chars().take(200).collect(),
                dirs: self.dirs.clone(),
            })?;
            let failed = |problem| bad(format!("device {name}"), problem);
            if files.insert(file) {
                edits.add(&spec.container_edits).map_err(failed)?;
            }
            edits.add(&device.container_edits).map_err(failed)?;
        }
        Ok(edits)
    }
}

/// Reads a description, in YAML or JSON, which is YAML too.
fn parse(bytes: &[u8]) -> Result<Spec, String> {
    let value = yaml::parse(bytes)?;
    let spec: Spec = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let numbers = spec.cdi_version.split('.').map(str::parse::<u32>);
    if !matches!(
        numbers.collect::<Vec<_>>().as_slice(),
        [Ok(0 | 1), Ok(_), Ok(_)]
    ) {
        return Err("its cdiVersion is none that we know".to_owned());
    }
    let word = |text: &str| {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"_.-:".contains(&b);
        !text.is_empty() && text.len() <= 128 && text.bytes().all(ok)
    };
    let kind = spec.kind.split_once('/');
    if !kind.is_some_and(|(vendor, class)| word(vendor) && word(class)) {
        return Err("its kind is not vendor/class".to_owned());
    }
    if spec.devices.len() > DEVICES_MAX || !spec.devices.iter().all(|d| word(&d.name)) {
        return Err("a device's name is no good, or there are too many".to_owned());
    }
    Ok(spec)
}

/// Reads a description as fuzzing does.
///
/// # Errors
/// What is wrong with it.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    let mut edits = Edits::default();
    let spec = parse(bytes)?;
    for device in &spec.devices {
        edits.add(&device.container_edits)?;
    }
    edits.add(&spec.container_edits)
}

impl Edits {
    fn add(&mut self, written: &Written) -> Result<(), String> {
        for pair in &written.env {
            let pair = pair.split_once('=').filter(|(name, _)| !name.is_empty());
            let (name, value) = pair.ok_or("a variable is not name=value")?;
            self.env.push((name.to_owned(), value.to_owned()));
        }
        for node in &written.device_nodes {
            let node = node.look_up()?;
            if !self.nodes.iter().any(|known| known.path == node.path) {
                self.nodes.push(node);
            }
        }
        for mount in &written.mounts {
            let target = inside(&mount.container_path)?;
            if !self.mounts.iter().any(|known| known.target == target) {
                let source = PathBuf::from(inside(&mount.host_path)?);
                self.mounts.push(HostMount { source, target });
            }
        }
        for hook in &written.hooks {
            hook.check()?;
            if !self.hooks.contains(hook) {
                self.hooks.push(hook.clone());
            }
        }
        let most = [
            self.env.len(),
            self.nodes.len(),
            self.mounts.len(),
            self.hooks.len(),
        ];
        if most.iter().any(|count| *count > EDITS_MAX) {
            return Err(format!("it asks for more than {EDITS_MAX} things"));
        }
        Ok(())
    }
}

impl WrittenNode {
    /// Works out the numbers, from the host's own node where the file does not say them.
    fn look_up(&self) -> Result<Node, String> {
        let path = inside(&self.path)?;
        if !path.starts_with("/dev/") {
            return Err(format!("{path} is not in /dev"));
        }
        let (is_block, major, minor) = match (self.kind.as_deref(), self.major, self.minor) {
            (Some(kind @ ("c" | "u" | "b")), Some(major), Some(minor)) => {
                (kind == "b", major, minor)
            }
            (None | Some("c" | "u" | "b"), _, _) => {
                numbers_of(self.host_path.as_deref().unwrap_or(&path))?
            }
            (Some(other), ..) => return Err(format!("{path} is of type {other:?}")),
        };
        let access = self.permissions.clone().unwrap_or_else(|| "rw".to_owned());
        if !access.bytes().all(|b| b"rwm".contains(&b)) {
            return Err(format!("{path} has permissions {access:?}"));
        }
        Ok(Node {
            is_block,
            major,
            minor,
            mode: self.file_mode.unwrap_or(0o666) & 0o777,
            uid: self.uid.unwrap_or(0).min(u32::from(u16::MAX)),
            gid: self.gid.unwrap_or(0).min(u32::from(u16::MAX)),
            access: access.replace('m', ""),
            path,
        })
    }
}

fn numbers_of(path: &str) -> Result<(bool, u32, u32), String> {
    let about = fs::symlink_metadata(path).map_err(|e| format!("{path}: {e}"))?;
    let kind = about.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(format!("{path} is no device"));
    }
    let number = about.rdev();
    Ok((
        kind.is_block_device(),
        rustix::fs::major(number),
        rustix::fs::minor(number),
    ))
}

impl Hook {
    fn check(&self) -> Result<(), String> {
        let path = Path::new(&self.path);
        let name = path.file_name().and_then(|name| name.to_str());
        let known = name.is_some_and(|name| HOOK_PROGRAMS.contains(&name));
        if path.is_absolute() && known && self.moment == HOOK_MOMENT {
            return Ok(());
        }
        Err(format!(
            "it wants to run {} at {}; only {HOOK_MOMENT} hooks of {} are run",
            self.path.chars().take(100).collect::<String>(),
            self.moment.chars().take(40).collect::<String>(),
            HOOK_PROGRAMS.join(" and "),
        ))
    }
}

/// Checks a path that is to lie in the container, or on the host.
fn inside(path: &str) -> Result<String, String> {
    let shown = || path.chars().take(100).collect::<String>();
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.starts_with('/') || !plain || path.len() < 2 || path.contains('\0') {
        return Err(format!("{:?} is no absolute path without ..", shown()));
    }
    Ok(path.to_owned())
}

fn files_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let kind = path.extension().and_then(|e| e.to_str());
        if matches!(kind, Some("json" | "yaml" | "yml")) {
            found.push(path);
        }
        if found.len() > FILES_MAX {
            return Err(io::Error::other(format!(
                "it has more than {FILES_MAX} files"
            )));
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(io::Error::other(format!(
            "it has more than {FILE_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Devices, check, parse};

    /// As nvidia-ctk writes them, shortened.
    const NVIDIA: &str = r#"
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/null
- name: GPU-11111111-2222-3333-4444-555555555555
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      hostPath: /dev/null
      type: c
      permissions: rwm
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  deviceNodes:
  - path: /dev/nvidiactl
    type: c
    major: 195
    minor: 255
    fileMode: 438
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-ctk
    args: [nvidia-ctk, hook, update-ldcache, --folder, /usr/lib/x86_64-linux-gnu]
  mounts:
  - hostPath: /usr/bin/nvidia-smi
    containerPath: /usr/bin/nvidia-smi
    options: [ro, nosuid, nodev, bind]
"#;

    #[test]
    fn a_vendors_file_gives_what_each_device_needs() {
        let mut devices = Devices::default();
        devices.add(parse(NVIDIA.as_bytes()).unwrap());
        let gpu = "nvidia.com/gpu=GPU-11111111-2222-3333-4444-555555555555".to_owned();
        assert_eq!(
            devices.names().collect::<Vec<_>>(),
            ["nvidia.com/gpu=0", &gpu]
        );
        let edits = devices.edits(&[gpu.clone(), gpu]).unwrap();
        let paths: Vec<_> = edits.nodes.iter().map(|n| n.path.as_str()).collect();
        assert_eq!(paths, ["/dev/nvidiactl", "/dev/nvidia0"]);
        assert_eq!((edits.nodes[1].major, edits.nodes[1].minor), (1, 3));
        assert_eq!(
            (edits.nodes[0].mode, edits.nodes[1].access.as_str()),
            (0o666, "rw")
        );
        assert_eq!(
            (edits.env.len(), edits.mounts.len(), edits.hooks.len()),
            (1, 1, 1)
        );
        let unknown = devices.edits(&["nvidia.com/gpu=7".to_owned()]).unwrap_err();
        assert!(unknown.to_string().contains("nvidia.com/gpu=7"));
    }

    #[test]
    fn what_a_file_may_not_ask_for_is_refused() {
        let with = |edits: &str| {
            format!(
                r#"{{"cdiVersion": "0.6.0", "kind": "a/b", "devices": [], "containerEdits": {edits}}}"#
            )
        };
        check(with("{}").as_bytes()).unwrap();
        for edits in [
            r#"{"hooks": [{"hookName": "prestart", "path": "/usr/bin/nvidia-ctk"}]}"#,
            r#"{"hooks": [{"hookName": "createContainer", "path": "/bin/sh"}]}"#,
            r#"{"hooks": [{"hookName": "createContainer", "path": "nvidia-ctk"}]}"#,
            r#"{"deviceNodes": [{"path": "/etc/passwd", "type": "c", "major": 1, "minor": 3}]}"#,
            r#"{"deviceNodes": [{"path": "/dev/../etc/x", "type": "c", "major": 1, "minor": 3}]}"#,
            r#"{"deviceNodes": [{"path": "/dev/x", "type": "p"}]}"#,
            r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "/etc/passwd"}]}"#,
            r#"{"mounts": [{"hostPath": "/a/../b", "containerPath": "/x"}]}"#,
            r#"{"mounts": [{"hostPath": "/", "containerPath": "/x"}]}"#,
            r#"{"env": ["novalue"]}"#,
            r#"{"intelRdt": {}}"#,
            r#"{"additionalGids": [1]}"#,
        ] {
            let refused = check(with(edits).as_bytes());
            assert!(refused.is_err(), "{edits}");
        }
        for whole in [
            "",
            "[]",
            "a: *b",
            "a: &b c",
            "\u{0}",
            "a: b: c",
            "cdiVersion: 9",
            NVIDIA.trim_start_matches("\ncdiVersion: \"0.5.0\""),
        ] {
            assert!(check(whole.as_bytes()).is_err(), "{whole}");
        }
    }
}
