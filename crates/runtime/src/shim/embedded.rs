//! Containers made by libcontainer.

use std::fmt::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::unistd::Pid;

use super::bundle::{Bundle, First};
use super::init::{self, Ids};
use super::job::{Command, Job};
use super::seccomp::MaskIn;
use super::{Ends, Failure};

/// Makes and starts the container, and returns its first process.
pub(super) fn start(dir: &Path, job: &Job, cgroup: &str, ends: Ends) -> Result<Pid, Failure> {
    let bundle = Bundle::make(dir, job, cgroup, |_| {
        Ok(First {
            // It executes nothing; the field must not be empty.
            args: vec!["first-process".to_owned()],
            mounts: Vec::new(),
            mask: MaskIn::SecondValue,
        })
    })?;
    run(job, &bundle, ends).map_err(|e| Failure::of("container", chain(&e)))
}

fn run(job: &Job, bundle: &Bundle, ends: Ends) -> Result<Pid, LibcontainerError> {
    let first = FirstProcess {
        command: job.command.clone(),
        report: Rc::new(ends.report),
    };
    let mut container = ContainerBuilder::new(job.id.as_str().to_owned(), SyscallType::default())
        .with_root_path(bundle.state.clone())?
        .with_executor(first)
        .with_stdout(ends.stdout)
        .with_stderr(ends.stderr)
        .as_init(&bundle.dir)
        .with_systemd(false)
        .with_detach(true)
        .build()?;
    container.start()?;
    container
        .pid()
        .map(|pid| Pid::from_raw(pid.as_raw()))
        .ok_or_else(|| LibcontainerError::Other("the container has no process".to_owned()))
}

/// Writes an error with all its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ignored = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// What libcontainer runs in place of an exec: our first process.
#[derive(Clone)]
struct FirstProcess {
    command: Command,
    report: Rc<OwnedFd>,
}

impl Executor for FirstProcess {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let report = self.report.as_fd().try_clone_to_owned();
        let report = report.map_err(|e| ExecutorError::Other(e.to_string()))?;
        let code = init::run(&self.command, Ids::Range, report);
        // A first process ends here; it has no main to return to.
        std::process::exit(code);
    }

    /// The command is looked for when it is run: its lack is an exit code, not a failure to start.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}
