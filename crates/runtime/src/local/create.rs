//! Laying out a container's folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::container::Container;
use super::copy::copy_tree;
use super::ids::RANGES;
use super::{Kind, LocalRuntime};
use crate::cdi::{CdiError, Devices, Edits};
use crate::error::{Error, Result, io as io_error};
use crate::files::{self, Durable};
use crate::id::ContainerId;
use crate::image::{Digest, ImageConfig, StoredImage};
use crate::shim::job::{
    Backend, CONTROL, Command, IdRange, JOB, Job, LOCK, LOGS, ROOTFS, Root, Work,
};
use crate::spec::{ContainerSpec, Limits};

/// Below this not even an empty container starts: the kernel counts its pages too.
const MEMORY_BYTES_MIN: u64 = 8 << 20;
/// Below this a container does not get through its own start in time.
const CPU_MILLI_MIN: u32 = 10;
/// The first process, the command, and one to spare.
const PIDS_MIN: u32 = 3;
/// What the kernel takes for arguments and environment together.
const WORDS_BYTES_MAX: usize = 1 << 20;

impl LocalRuntime {
    pub(super) async fn create_alone(&self, id: &ContainerId, spec: &ContainerSpec) -> Result<()> {
        let container = self.container(id);
        if let Some(job) = container.job()? {
            if job.spec == *spec {
                return Ok(());
            }
            return Err(Error::SpecDiffers { id: id.clone() });
        }
        let bad = |reason: String| Error::BadSpec {
            id: id.clone(),
            reason,
        };
        check_spec(spec).map_err(bad)?;
        let failed = |source| Error::Image {
            image: spec.image.to_string(),
            source: Box::new(source),
        };
        let image = self
            .store
            .load(&spec.image)
            .map_err(failed)?
            .ok_or(Error::NotPrepared { image: spec.image })?;
        let edits = self.edits(spec).map_err(|source| Error::Devices {
            id: id.clone(),
            source,
        })?;
        let command = compose(spec, &image.config, &edits).map_err(bad)?;
        self.lay_out(&container, spec, command, edits, Some(&image))
            .await
    }

    /// Looks up what the devices in `spec` need.
    fn edits(&self, spec: &ContainerSpec) -> Result<Edits, CdiError> {
        if spec.devices.is_empty() {
            return Ok(Edits::default());
        }
        if !self.kind.isolates() {
            return Err(CdiError::Bad {
                what: "the process runtime".to_owned(),
                problem: "it has no devices to give".to_owned(),
            });
        }
        Devices::load(&self.cdi_dirs)?.edits(&spec.devices)
    }

    /// Makes the folder of `container`; without an image, with an empty tree.
    pub(super) async fn lay_out(
        &self,
        container: &Container,
        spec: &ContainerSpec,
        command: Command,
        edits: Edits,
        image: Option<&StoredImage>,
    ) -> Result<()> {
        let failed = || io_error("lay out the container in", container.dir());
        let id_range = match &self.ids {
            None => None,
            Some(ids) => {
                let range = ids.take(container.dir()).map_err(failed())?;
                Some(range.ok_or(Error::NoIdRange { ranges: RANGES })?)
            }
        };
        let stacked = image.filter(|_| self.flat_because.is_none());
        let job = Job {
            id: container.id().clone(),
            spec: spec.clone(),
            backend: match &self.kind {
                Kind::Embedded => Backend::Embedded {
                    cgroup: self.cgroup_path(container.id()),
                },
                Kind::Runc { program } => Backend::Runc {
                    cgroup: self.cgroup_path(container.id()),
                    program: program.clone(),
                },
                Kind::Process => Backend::Process,
            },
            root: match stacked {
                Some(image) => Root::Layers {
                    dir: self.store.layers_dir(),
                    names: image.config.diff_ids.iter().map(Digest::hex).collect(),
                },
                None => Root::Flat,
            },
            command,
            id_range,
            edits,
        };
        let tree = image
            .filter(|_| job.root == Root::Flat)
            .and_then(|i| i.trees.first().cloned());
        let (dir, made) = (
            self.root.join("tmp").join(container.id().as_str()),
            job.clone(),
        );
        let made = tokio::task::spawn_blocking(move || make_folder(&dir, &made, tree.as_deref()))
            .await
            .expect("laying out a container does not panic");
        let temporary = self.root.join("tmp").join(container.id().as_str());
        let result = made.and_then(|()| fs::rename(&temporary, container.dir()));
        if result.is_err() {
            let _ignored = files::remove_tree(&temporary);
            if let (Some(ids), Some(range)) = (&self.ids, id_range) {
                let _ignored = ids.free(range);
            }
        }
        result.map_err(failed())
    }
}

fn make_folder(dir: &Path, job: &Job, tree: Option<&Path>) -> io::Result<()> {
    files::remove_tree(dir)?;
    fs::DirBuilder::new().mode(0o700).create(dir)?;
    fs::create_dir(dir.join(LOGS))?;
    fs::write(dir.join(LOCK), "")?;
    mkfifo(&dir.join(CONTROL), Mode::from_bits_truncate(0o600))?;
    if job.root == Root::Flat {
        let rootfs = dir.join(ROOTFS);
        match tree {
            Some(tree) => copy_tree(tree, &rootfs, job.id_range)?,
            None => fs::create_dir(&rootfs)?,
        }
        if let Some(IdRange { base }) = job.id_range {
            // The image may not say who owns its root; inside, root must.
            std::os::unix::fs::lchown(&rootfs, Some(base), Some(base))?;
        }
    }
    files::put_json(dir, JOB, job, Durable::No)
}

/// Tells whether any runtime can run `spec`.
pub(crate) fn check_spec(spec: &ContainerSpec) -> Result<(), String> {
    let Limits {
        cpu_milli,
        memory_bytes,
        pids,
    } = spec.limits;
    if cpu_milli < CPU_MILLI_MIN {
        return Err(format!(
            "{cpu_milli} thousandths of a core: want at least {CPU_MILLI_MIN}"
        ));
    }
    if memory_bytes < MEMORY_BYTES_MIN {
        return Err(format!(
            "{memory_bytes} bytes of memory: want at least {MEMORY_BYTES_MIN}"
        ));
    }
    if pids < PIDS_MIN {
        return Err(format!("{pids} processes: want at least {PIDS_MIN}"));
    }
    if spec.workdir.as_ref().is_some_and(|w| !w.starts_with('/')) {
        return Err("the working directory must be absolute".to_owned());
    }
    if let Some(hostname) = &spec.hostname {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
        if hostname.is_empty() || hostname.len() > 64 || !hostname.bytes().all(ok) {
            return Err("the host name wants 1 to 64 letters, digits, and . _ -".to_owned());
        }
    }
    Ok(())
}

/// Works out what runs, from the image and what the spec replaces.
pub(crate) fn compose(
    spec: &ContainerSpec,
    image: &ImageConfig,
    edits: &Edits,
) -> Result<Command, String> {
    let mut words = spec
        .command
        .clone()
        .unwrap_or_else(|| image.entrypoint.clone());
    match (&spec.args, &spec.command) {
        (Some(args), _) => words.extend(args.iter().cloned()),
        (None, None) => words.extend(image.args.iter().cloned()),
        (None, Some(_)) => {}
    }
    if words.is_empty() {
        return Err("neither the image nor the spec says what to run".to_owned());
    }
    let env = environment(spec, image, edits);
    let all = words.iter().chain(env.iter().flat_map(|(n, v)| [n, v]));
    if all.clone().any(|w| w.contains('\0')) {
        return Err("a word has a zero byte".to_owned());
    }
    if all.map(String::len).sum::<usize>() > WORDS_BYTES_MAX {
        return Err(format!(
            "command and environment are over {WORDS_BYTES_MAX} bytes"
        ));
    }
    if env
        .iter()
        .any(|(name, _)| name.is_empty() || name.contains('='))
    {
        return Err("a variable's name is empty or has a =".to_owned());
    }
    let workdir = spec.workdir.clone().or_else(|| image.workdir.clone());
    Ok(Command {
        work: Work::Run(words),
        env,
        workdir: workdir.unwrap_or_else(|| "/".to_owned()),
        user: image.user.clone(),
        devices: edits.nodes.clone(),
    })
}

/// What a program should size itself by, then the image's, then the spec's: later ones win. The machine may
/// have many more cores than the quota; programs that count those would be throttled to a crawl.
fn environment(spec: &ContainerSpec, image: &ImageConfig, edits: &Edits) -> Vec<(String, String)> {
    let cpus = spec.limits.cpus().to_string();
    let mut env = BTreeMap::new();
    for name in ["OMP_NUM_THREADS", "GOMAXPROCS", "RAYON_NUM_THREADS"] {
        env.insert(name.to_owned(), cpus.clone());
    }
    env.extend(image.env.iter().cloned());
    env.extend(edits.env.iter().cloned());
    env.extend(spec.env.iter().map(|(n, v)| (n.clone(), v.clone())));
    env.insert("TRADEWIND_CPUS".to_owned(), cpus);
    env.insert(
        "TRADEWIND_MEMORY_BYTES".to_owned(),
        spec.limits.memory_bytes.to_string(),
    );
    env.into_iter().collect()
}
