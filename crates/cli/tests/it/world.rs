//! A home folder with whatever runs in it, and what is left after.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// No single command of these tests takes longer, even on two busy cores.
const COMMAND_DEADLINE: Duration = Duration::from_secs(150);

/// A home folder of its own and a free port.
pub(crate) struct World {
    home: TempDir,
    pub(crate) port: u16,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl World {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        Self {
            home: tempfile::Builder::new()
                .prefix("tradewind-it-")
                .tempdir()
                .unwrap(),
            port,
        }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns the program, which knows of this home folder and nothing else of the caller's.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tradewind"));
        command
            .env_clear()
            .env("TRADEWIND_HOME", self.home())
            .env("LANG", "C.UTF-8");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.args(words).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        finish(
            self.command(words)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
            words,
        )
    }

    /// Runs a command that must succeed, and returns what it wrote to standard output.
    pub(crate) fn good(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "{words:?}\n{}\n{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// Hires a machine for a command in the demo's image, with these flags; returns the job.
    pub(crate) fn hire(&self, flags: &[&str], command: &[&str]) -> String {
        let (class, image) = (self.isolation(), self.demo_image());
        let run = ["run", "-d", "-y"];
        let place = ["--isolation", &class, &image, "--"];
        job_id(&self.good(&[&run, flags, &place, command].concat()))
    }

    /// Returns a job as the API shows it.
    pub(crate) fn job(&self, job: &str) -> Value {
        json(&self.good(&["job", "show", job, "-o", "json"]))
    }

    /// Tells whether the job's container runs: charging begins when it is ready.
    pub(crate) fn runs(&self, job: &str) -> bool {
        let leases = json(&http_get(self.port, &format!("/api/v1/jobs/{job}/leases")));
        leases["items"][0]["state"] == "running"
    }

    /// Waits for a job's end, and returns it as shown then.
    pub(crate) fn ended(&self, job: &str, patience: Duration) -> Value {
        until("ended", patience, || self.job(job)["state"] == "ended");
        self.job(job)
    }

    /// Returns what is available and what is held, in micro-dollars.
    pub(crate) fn balance(&self) -> (u64, u64) {
        let account = json(&self.good(&["account", "show", "-o", "json"]));
        (micros(&account["available"]), micros(&account["held"]))
    }

    /// Returns how strongly the offered machines isolate.
    pub(crate) fn isolation(&self) -> String {
        let offers = json(&self.good(&["offers", "-o", "json"]));
        offers["items"][0]["isolation"].as_str().unwrap().to_owned()
    }

    /// Returns the image that the demo built.
    pub(crate) fn demo_image(&self) -> String {
        format!("oci:{}", self.home().join("images/demo").display())
    }

    /// Kills a process of `up`, as a power cut would.
    pub(crate) fn kill(&self, name: &str) {
        let path = self.home().join("run").join(format!("{name}.pid"));
        let pid: i32 = std::fs::read_to_string(path)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
        let stat = format!("/proc/{pid}/stat");
        let begun = Instant::now();
        // Gone, or a zombie that nobody collects.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{name} does not die"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns what of this home folder still runs, is mounted or has a cgroup.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = processes_of(self.home());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let home = self.home().to_str().unwrap();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(home))
                .map(ToOwned::to_owned),
        );
        for label in ["a", "b"] {
            let root = self.home().join("providers").join(label).join("runtime");
            let name = runtime::Digest::of(root.as_os_str().as_encoded_bytes()).hex();
            let short: String = name.chars().take(12).collect();
            left.extend(cgroups(&format!("tradewind-{short}")));
        }
        left
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What a failed test left must not stay; a good one has nothing left.
        let _down = self
            .command(&["down", "--purge"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Waits for a process to end; one that takes longer is killed, and `None` returned.
pub(crate) fn end_within(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if begun.elapsed() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn finish(command: &mut Command, words: &[&str]) -> Ran {
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let stdout = std::thread::spawn(move || read(&mut out));
    let stderr = std::thread::spawn(move || read(&mut err));
    let Some(status) = end_within(&mut child, COMMAND_DEADLINE) else {
        panic!(
            "{words:?} takes longer than {COMMAND_DEADLINE:?}\n{}\n{}",
            stdout.join().unwrap(),
            stderr.join().unwrap()
        );
    };
    Ran {
        code: status.code().unwrap_or(-1),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
        took: begun.elapsed(),
    }
}

fn read(from: &mut impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Processes that name the folder in their arguments or environment; the dead that nobody has collected yet do neither.
fn processes_of(home: &Path) -> Vec<String> {
    let home = home.to_str().unwrap();
    let names = |pid: i32, file: &str| {
        let mut bytes = Vec::new();
        let path = format!("/proc/{pid}/{file}");
        let read = std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
        read.is_ok() && String::from_utf8_lossy(&bytes).contains(home)
    };
    let own = i32::try_from(std::process::id()).unwrap();
    processes()
        .into_iter()
        .filter(|pid| *pid != own && (names(*pid, "cmdline") || names(*pid, "environ")))
        .map(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("process {pid}: {}", line.replace('\0', " "))
        })
        .collect()
}

/// Returns every process of this machine.
pub(crate) fn processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn cgroups(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(name) {
                found.push(format!("cgroup {}", entry.path().display()));
            }
            folders.push(entry.path());
        }
    }
    found
}

/// Returns a job's id from what `run -d` wrote.
pub(crate) fn job_id(stdout: &str) -> String {
    let id = stdout.trim().to_owned();
    assert!(id.starts_with("job_") && id.len() == 30, "{stdout:?}");
    id
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Returns the exact amount of a view's money.
pub(crate) fn micros(money: &Value) -> u64 {
    money["micros"].as_str().unwrap().parse().unwrap()
}

/// Looks again and again until it is so.
pub(crate) fn until(what: &str, patience: Duration, mut look: impl FnMut() -> bool) {
    let give_up = Instant::now() + patience;
    while !look() {
        assert!(Instant::now() < give_up, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks the gateway itself, byte for byte.
pub(crate) fn http_get(port: u16, path: &str) -> String {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    body.to_owned()
}

/// Tells whether containers of some kind can run here, and says loudly where not.
pub(crate) fn can_run_containers(test: &str) -> bool {
    let world = World::new();
    std::fs::create_dir_all(world.home()).unwrap();
    let seen = world.run(&["doctor", "-o", "json"]).stdout;
    let report = json(&seen);
    let checks = report["items"].as_array().unwrap();
    let works = checks
        .iter()
        .filter(|check| check["name"].as_str().unwrap().ends_with("runtime"));
    if works.clone().any(|check| check["passed"] == true) {
        return true;
    }
    eprintln!(
        "SKIPPED {test}: neither root nor user namespaces: {:?}",
        works.collect::<Vec<_>>()
    );
    false
}
