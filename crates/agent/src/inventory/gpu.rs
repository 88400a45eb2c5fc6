//! GPUs, asked for in a child process: a fault in the driver takes the child down, not the agent.

use std::{
    fs,
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use market::DEVICES_MAX;
use nvml_wrapper::{Device, Nvml, error::NvmlError};
use serde::{Deserialize, Serialize};

/// Initialising the driver takes up to a few seconds when persistence mode is off.
const PROBE_DEADLINE: Duration = Duration::from_secs(20);
/// For a killed child to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(2);
/// Between two looks at the child.
const PROBE_LOOK: Duration = Duration::from_millis(5);
/// What the largest honest answer stays far below; also what a pipe holds without a reader.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// One GPU as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// The driver's name for it.
    pub name: String,
    /// The hardware's identity; hashed before it is published.
    pub uuid: String,
    /// Memory.
    pub vram_bytes: u64,
    /// Place on the bus.
    pub pci_bus_id: String,
    /// Whether a link to another GPU is up.
    pub linked: bool,
    /// Whether it is cut into instances.
    pub mig: bool,
    /// Programs that compute on it now, and are in no container of ours.
    pub programs: u32,
    /// The driver's number for it, which changes with the others that are there.
    #[serde(default)]
    pub index: Option<u32>,
}

/// Why GPUs could not be told of.
#[derive(Debug, thiserror::Error)]
pub enum GpuProbeError {
    /// The child could not be started or read.
    #[error("could not run the GPU probe")]
    Child(#[source] std::io::Error),
    /// The child did not answer in time.
    #[error("the GPU probe did not answer within {PROBE_DEADLINE:?}")]
    Deadline,
    /// The child died.
    #[error("the GPU probe failed: {0}")]
    Died(std::process::ExitStatus),
    /// The answer is not understood.
    #[error("the GPU probe's answer is malformed")]
    Malformed(#[source] serde_json::Error),
    /// The driver is there and does not work.
    #[error("the GPU driver does not work: {0}")]
    Driver(String),
}

/// Tells which GPUs there are.
pub trait GpuProbe: Send + Sync + std::fmt::Debug {
    /// Returns the GPUs in bus order; none where there is no driver.
    ///
    /// # Errors
    /// Where a driver is there and does not work.
    fn gpus(&self) -> Result<Vec<Gpu>, GpuProbeError>;
}

/// Runs `<program> probe-gpus`, which must call [`probe_gpus_main`].
#[derive(Clone, Debug)]
pub struct ChildProbe {
    /// Usually this very program.
    pub program: PathBuf,
}

/// Replays what [`probe_gpus_main`] printed on another machine.
#[derive(Clone, Debug)]
pub struct RecordedProbe {
    /// What it printed.
    pub answer: String,
}

/// What the child prints.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Gpus(Vec<Gpu>),
    Broken(String),
}

/// The child's side: prints what the driver says as one line of JSON. The command `tradewind probe-gpus` is this.
#[expect(
    clippy::print_stdout,
    reason = "its output is its answer to the parent"
)]
pub fn probe_gpus_main() -> ExitCode {
    let answer = match ask_driver() {
        Ok(gpus) => Answer::Gpus(gpus),
        Err(NvmlError::LibloadingError(_) | NvmlError::DriverNotLoaded) => Answer::Gpus(Vec::new()),
        Err(e) => Answer::Broken(e.to_string()),
    };
    match serde_json::to_string(&answer) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn ask_driver() -> Result<Vec<Gpu>, NvmlError> {
    let nvml = Nvml::init()?;
    let most = u32::try_from(DEVICES_MAX).unwrap_or(u32::MAX);
    let count = nvml.device_count()?.min(most);
    let mut gpus = (0..count)
        .map(|index| describe(&nvml.device_by_index(index)?, index))
        .collect::<Result<Vec<Gpu>, NvmlError>>()?;
    gpus.sort_by(|a, b| a.pci_bus_id.cmp(&b.pci_bus_id));
    Ok(gpus)
}

fn describe(device: &Device<'_>, index: u32) -> Result<Gpu, NvmlError> {
    // What a model does not support is an error of the call; its absence is then the answer.
    let linked = device.link_wrapper_for(0).is_active().unwrap_or(false);
    let mig = device.mig_mode().is_ok_and(|mode| mode.current != 0);
    let programs = device.running_compute_processes().unwrap_or_default();
    let outside = programs.iter().filter(|p| !is_ours(p.pid)).count();
    Ok(Gpu {
        name: device.name()?,
        uuid: device.uuid()?,
        vram_bytes: device.memory_info()?.total,
        pci_bus_id: device.pci_info()?.bus_id,
        linked,
        mig,
        programs: u32::try_from(outside).unwrap_or(u32::MAX),
        index: Some(index),
    })
}

/// Tells whether a program runs in a container of this machine's agents.
fn is_ours(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| in_container(&text))
}

/// Reads `/proc/PID/cgroup`: lines of hierarchy, controllers and path.
fn in_container(cgroups: &str) -> bool {
    let mut paths = cgroups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2));
    paths.any(runtime::is_container_cgroup)
}

impl GpuProbe for ChildProbe {
    fn gpus(&self) -> Result<Vec<Gpu>, GpuProbeError> {
        self.ask(PROBE_DEADLINE)
    }
}

impl ChildProbe {
    fn ask(&self, deadline: Duration) -> Result<Vec<Gpu>, GpuProbeError> {
        let mut child = Command::new(&self.program)
            .arg("probe-gpus")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(GpuProbeError::Child)?;
        if let Err(error) = wait(&mut child, deadline) {
            // It hangs in the driver or not at all; either way it is no use. One that not even the kernel can kill is
            // left to it: whoever waited for that would hang as well.
            child.kill().map_err(GpuProbeError::Child)?;
            if let Err(GpuProbeError::Deadline) = wait(&mut child, KILL_DEADLINE) {
                tracing::error!(
                    pid = child.id(),
                    "the GPU probe hangs in the driver and cannot be killed"
                );
            }
            return Err(error);
        }
        let mut answer = String::new();
        if let Some(stdout) = child.stdout.take() {
            stdout
                .take(ANSWER_BYTES_MAX)
                .read_to_string(&mut answer)
                .map_err(GpuProbeError::Child)?;
        }
        parse(&answer)
    }
}

fn wait(child: &mut Child, deadline: Duration) -> Result<(), GpuProbeError> {
    let give_up = Instant::now() + deadline;
    loop {
        match child.try_wait().map_err(GpuProbeError::Child)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(GpuProbeError::Died(status)),
            None if Instant::now() >= give_up => return Err(GpuProbeError::Deadline),
            None => std::thread::sleep(PROBE_LOOK),
        }
    }
}

impl GpuProbe for RecordedProbe {
    fn gpus(&self) -> Result<Vec<Gpu>, GpuProbeError> {
        parse(&self.answer)
    }
}

fn parse(answer: &str) -> Result<Vec<Gpu>, GpuProbeError> {
    match serde_json::from_str(answer).map_err(GpuProbeError::Malformed)? {
        Answer::Gpus(mut gpus) => {
            gpus.truncate(DEVICES_MAX);
            Ok(gpus)
        }
        Answer::Broken(why) => Err(GpuProbeError::Driver(why)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn script(dir: &tempfile::TempDir, body: &str) -> ChildProbe {
        let program = dir.path().join("probe");
        std::fs::write(&program, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        ChildProbe { program }
    }

    #[test]
    fn a_machine_without_a_driver_has_no_gpus_and_no_error() {
        if std::path::Path::new("/dev/nvidiactl").exists() {
            eprintln!(
                "skipped a_machine_without_a_driver_has_no_gpus_and_no_error: there is a driver"
            );
            return;
        }
        assert!(matches!(
            ask_driver(),
            Err(NvmlError::LibloadingError(_) | NvmlError::DriverNotLoaded)
        ));
        assert_eq!(probe_gpus_main(), ExitCode::SUCCESS);
    }

    #[test]
    fn a_child_that_answers_is_heard_and_one_that_dies_or_babbles_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let recorded = include_str!("h100x2.json");
        let told = script(&dir, &format!("echo '{}'", recorded.trim()))
            .gpus()
            .unwrap();
        assert_eq!(
            told,
            RecordedProbe {
                answer: recorded.to_owned()
            }
            .gpus()
            .unwrap()
        );
        assert_eq!(told.len(), 2);
        assert!(matches!(
            script(&dir, "kill -SEGV $$").gpus(),
            Err(GpuProbeError::Died(_))
        ));
        assert!(matches!(
            script(&dir, "echo hello").gpus(),
            Err(GpuProbeError::Malformed(_))
        ));
        let broken = script(
            &dir,
            r#"echo '{"broken":"RM has detected an NVML/RM version mismatch"}'"#,
        );
        assert!(
            matches!(broken.gpus(), Err(GpuProbeError::Driver(why)) if why.contains("mismatch"))
        );
        let missing = ChildProbe {
            program: dir.path().join("none"),
        };
        assert!(matches!(missing.gpus(), Err(GpuProbeError::Child(_))));
    }

    #[test]
    fn a_program_in_a_container_of_ours_is_told_from_others() {
        let ours = "12:devices:/tradewind-1f2e3d4c/lease_1\n0::/\n";
        assert!(in_container(ours));
        assert!(in_container("0::/tradewind-1f2e3d4c/lease_1/below\n"));
        for other in [
            "0::/user.slice/session-1.scope\n",
            "0::/x/tradewind-1/y\n",
            "0::/tradewind\n",
            "",
        ] {
            assert!(!in_container(other), "{other}");
        }
        assert!(!is_ours(std::process::id()));
    }

    #[test]
    fn a_driver_that_hangs_is_given_up_and_its_child_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("pid");
        let hangs = script(
            &dir,
            &format!("echo $$ > {}; exec sleep 600", note.display()),
        );
        let begun = Instant::now();
        let asked = hangs.ask(Duration::from_millis(300));
        assert!(matches!(asked, Err(GpuProbeError::Deadline)), "{asked:?}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        let pid = std::fs::read_to_string(note).unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists());
    }
}
