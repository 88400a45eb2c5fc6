//! What is kept of a container beside the engine's own record.
//!
//! ```text
//! spec.json   what it was made from
//! begun       it was handed to the engine to be started
//! end.json    how it ended, for good; of an earlier round, end.json.<round>
//! since       when the round before this one began: what the engine says of that no longer counts
//! logs/       what it wrote
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use crate::error::{Error, Result, io as io_error};
use crate::files::{self, Durable};
use crate::id::ContainerId;
use crate::root::Root;
use crate::shim::job::LOGS;
use crate::spec::ContainerSpec;
use crate::status::Status;

pub(super) const SPEC: &str = "spec.json";
const BEGUN: &str = "begun";
const END: &str = "end.json";
const SINCE: &str = "since";

/// Names one container's folder, which need not exist.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) id: ContainerId,
    pub(super) dir: PathBuf,
}

impl Folder {
    pub(super) fn of(root: &Root, id: &ContainerId) -> Self {
        Self {
            id: id.clone(),
            dir: root.container(id),
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    pub(super) fn not_found(&self) -> Error {
        let id = self.id.clone();
        Error::NotFound { id }
    }

    pub(super) fn spec(&self) -> Result<Option<ContainerSpec>> {
        files::get_json(&self.dir, SPEC).map_err(io_error("read the spec in", &self.dir))
    }

    /// Makes the folder in one step.
    pub(super) fn make(&self, root: &Root, spec: &ContainerSpec) -> Result<()> {
        let temporary = root.join("tmp").join(self.id.as_str());
        let make = || {
            files::remove_tree(&temporary)?;
            fs::DirBuilder::new().mode(0o700).create(&temporary)?;
            fs::create_dir(temporary.join(LOGS))?;
            files::put_json(&temporary, SPEC, spec, Durable::No)?;
            fs::rename(&temporary, &self.dir)
        };
        make().map_err(io_error("lay out the container in", &self.dir))
    }

    pub(super) fn has_begun(&self) -> bool {
        self.dir.join(BEGUN).exists()
    }

    pub(super) fn mark_begun(&self) -> Result<()> {
        files::put_json(&self.dir, BEGUN, &files::now_ms(), Durable::Yes)
            .map_err(io_error("mark the start in", &self.dir))
    }

    pub(super) fn end(&self) -> Result<Option<Status>> {
        files::get_json(&self.dir, END).map_err(io_error("read the end in", &self.dir))
    }

    pub(super) fn put_end(&self, end: &Status) -> Result<()> {
        files::put_json(&self.dir, END, end, Durable::Yes)
            .map_err(io_error("write down the end in", &self.dir))
    }

    /// Makes a container that has exited one that has never started, but for its disk and output.
    ///
    /// The end's new name is what makes it so: before, it is still ended; afterwards this round is made.
    pub(super) fn reopen(&self, round: u32) -> Result<()> {
        let made = self.dir.join(format!("{END}.{round}"));
        if made.exists() {
            return Ok(());
        }
        let Some(Status::Exited(exit)) = self.end()? else {
            let id = self.id.clone();
            return Err(Error::NotEnded { id });
        };
        let failed = || io_error("reopen the container in", &self.dir);
        files::put_json(&self.dir, SINCE, &exit.started_at_ms, Durable::Yes).map_err(failed())?;
        match fs::remove_file(self.dir.join(BEGUN)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed()(e)),
            _ => {}
        }
        fs::rename(self.dir.join(END), &made).map_err(failed())?;
        let dir = fs::File::open(&self.dir).map_err(failed())?;
        dir.sync_all().map_err(failed())
    }

    /// Returns when the round before this one began; zero in the first.
    pub(super) fn since(&self) -> Result<u64> {
        let since = files::get_json(&self.dir, SINCE);
        let since = since.map_err(io_error("read the rounds in", &self.dir))?;
        Ok(since.unwrap_or(0))
    }

    pub(super) fn wipe(&self, root: &Root) -> Result<()> {
        let grave = root
            .join("trash")
            .join(format!("{}-{}", self.id, files::now_ms()));
        fs::rename(&self.dir, &grave).map_err(io_error("remove", &self.dir))?;
        files::remove_tree(&grave).map_err(io_error("wipe", &grave))
    }
}
