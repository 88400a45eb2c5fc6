//! The first process in a container: starts the command, passes signals on, reaps, and reports.
//!
//! It is this program's own code in a forked copy of the shim, so images need nothing for it. The command is
//! its child: as process 1 itself, a command that sets no handlers could not be ended by SIGTERM, and what it
//! leaves behind would stay as zombies. When this process ends, the kernel kills all else in the container.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::job::{Command, Work};
use super::self_test;
use crate::files::now_ms;
use crate::sys;

/// A command that is not there, as shells have it.
const NOT_FOUND: u8 = 127;
/// A command that is there and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the first process tells the shim, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The command runs.
    Started { at_ms: u64 },
    /// The command cannot be executed.
    Refused {
        code: u8,
        reason: String,
        at_ms: u64,
    },
    /// The container could not be finished, before the command was looked at.
    Broken { reason: String },
    /// The command ended.
    Ended {
        code: u8,
        signal: Option<i32>,
        at_ms: u64,
    },
}

/// Whether the container has ids besides root's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    Range,
    RootOnly,
}

/// Does all a first process does, and returns its exit code. The caller is process 1 of a container that is
/// otherwise complete.
pub(super) fn run(command: &Command, ids: Ids, report: OwnedFd) -> i32 {
    // Should the shim die, nobody would be left to meter or to end the container: it dies along.
    let _ignored =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    sys::close_others(report.as_raw_fd());
    let mut report = Reporter(fs::File::from(report));
    let words = match &command.work {
        Work::Run(words) => words,
        Work::SelfTest => {
            report.send(&Report::Started { at_ms: now_ms() });
            self_test::write_checks();
            // The agent looks at the limits meanwhile, then ends this.
            let all = SigSet::all();
            while all.thread_block().is_ok() && all.wait() != Ok(Signal::SIGTERM) {}
            report.send(&Report::Ended {
                code: 0,
                signal: None,
                at_ms: now_ms(),
            });
            return 0;
        }
    };
    // Looked at from inside, before anything is said to run: nobody pays for a device that is not there.
    if let Err(reason) = super::devices::check(&command.devices) {
        report.send(&Report::Broken { reason });
        return 1;
    }
    // Blocked before the command exists, so that none is lost.
    let signals = SigSet::all();
    let blocked = signals.thread_block();
    let started = blocked
        .map_err(|e| Refusal {
            code: NOT_EXECUTABLE,
            reason: format!("signals: {e}"),
        })
        .and_then(|()| spawn(command, words, ids));
    match started {
        Ok(child) => {
            report.send(&Report::Started { at_ms: now_ms() });
            let end = wait(child, &signals);
            report.send(&end);
            match end {
                Report::Ended { code, .. } => i32::from(code),
                _ => 1,
            }
        }
        Err(Refusal { code, reason }) => {
            // Where the tenant looks first.
            let _ignored = writeln!(io::stderr(), "could not run the command: {reason}");
            report.send(&Report::Refused {
                code,
                reason,
                at_ms: now_ms(),
            });
            i32::from(code)
        }
    }
}

/// Reports that the container could not be finished, and returns the exit code.
pub(super) fn broken(report: OwnedFd, error: &io::Error) -> i32 {
    Reporter(fs::File::from(report)).send(&Report::Broken {
        reason: error.to_string(),
    });
    1
}

struct Reporter(fs::File);

impl Reporter {
    /// Without a shim to read it there is nobody to tell, and this process is about to be killed.
    fn send(&mut self, report: &Report) {
        let mut line = serde_json::to_vec(report).expect("reports have text keys only");
        line.push(b'\n');
        let _ignored = self.0.write_all(&line);
    }
}

struct Refusal {
    code: u8,
    reason: String,
}

impl Refusal {
    fn of(word: &str, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::NotFound {
            NOT_FOUND
        } else {
            NOT_EXECUTABLE
        };
        Self {
            code,
            reason: format!("{word}: {error}"),
        }
    }
}

fn spawn(command: &Command, words: &[String], ids: Ids) -> Result<Pid, Refusal> {
    let (Some(word), arguments) = (words.first(), words.get(1..).unwrap_or_default()) else {
        return Err(Refusal {
            code: NOT_FOUND,
            reason: "no command".to_owned(),
        });
    };
    let mut env: BTreeMap<&str, &str> = command
        .env
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    env.entry("PATH").or_insert(DEFAULT_PATH);
    let user = User::find(command.user.as_deref(), ids).map_err(|reason| Refusal {
        code: NOT_EXECUTABLE,
        reason,
    })?;
    env.entry("HOME").or_insert(&user.home);
    let workdir = Path::new(&command.workdir);
    make_workdir(workdir, &user).map_err(|e| Refusal::of(&command.workdir, &e))?;
    let program = search(word, env.get("PATH").copied().unwrap_or_default(), workdir)
        .map_err(|e| Refusal::of(word, &e))?;
    for stream in [1, 2] {
        // So that the command can open /dev/stdout by name, as it could a terminal.
        let _ignored = std::os::unix::fs::chown(
            format!("/proc/self/fd/{stream}"),
            Some(user.uid),
            Some(user.gid),
        );
    }
    let mut process = std::process::Command::new(&program);
    process
        .arg0(word)
        .args(arguments)
        .env_clear()
        .envs(env)
        .current_dir(workdir);
    process.stdin(Stdio::null());
    if user.uid != 0 || user.gid != 0 {
        process.gid(user.gid).uid(user.uid);
    }
    sys::unblock_signals_in(&mut process);
    // Only its number is needed: it is waited for with all others.
    let child = process.spawn().map_err(|e| Refusal::of(word, &e))?;
    Ok(Pid::from_raw(
        i32::try_from(child.id()).expect("process numbers are below 2^22"),
    ))
}

/// Makes the working directory where the image has none, as container engines do.
fn make_workdir(path: &Path, user: &User) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))
}

/// Finds a program as a shell does, and tells "is not there" from "cannot be executed".
fn search(word: &str, path: &str, workdir: &Path) -> io::Result<PathBuf> {
    if word.contains('/') {
        let program = workdir.join(word);
        return check_executable(&program).map(|()| program);
    }
    let mut found = io::Error::from(io::ErrorKind::NotFound);
    for folder in path.split(':').filter(|f| !f.is_empty()) {
        let program = workdir.join(folder).join(word);
        match check_executable(&program) {
            Ok(()) => return Ok(program),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => found = e,
        }
    }
    Err(found)
}

fn check_executable(program: &Path) -> io::Result<()> {
    let metadata = fs::metadata(program)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Reaps everything until `main` has ended, passing on every signal that comes meanwhile.
fn wait(main: Pid, signals: &SigSet) -> Report {
    loop {
        loop {
            match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == main => {
                    let code = u8::try_from(code).unwrap_or(u8::MAX);
                    return Report::Ended {
                        code,
                        signal: None,
                        at_ms: now_ms(),
                    };
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => {
                    let signal = signal as i32;
                    let code = u8::try_from(128 + signal).unwrap_or(u8::MAX);
                    return Report::Ended {
                        code,
                        signal: Some(signal),
                        at_ms: now_ms(),
                    };
                }
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(signal) => {
                // It may have ended just now; the next round sees that.
                let _ignored = kill(main, signal);
            }
        }
    }
}

/// Who runs the command.
#[derive(Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
    home: String,
}

impl User {
    /// Finds what an image means by `name`, `uid`, `name:group` or `uid:gid`, in the container's own files.
    fn find(text: Option<&str>, ids: Ids) -> Result<Self, String> {
        let text = text.unwrap_or("0");
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let group = fs::read_to_string("/etc/group").unwrap_or_default();
        let found = Self::find_in(text, &passwd, &group)?;
        match ids {
            Ids::Range => Ok(found),
            // There is no other user to become.
            Ids::RootOnly => Ok(Self {
                uid: 0,
                gid: 0,
                home: found.home,
            }),
        }
    }

    fn find_in(text: &str, passwd: &str, group: &str) -> Result<Self, String> {
        let (name, group_name) = match text.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (text, None),
        };
        let line = passwd
            .lines()
            .map(|l| l.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&name) || fields.get(2) == Some(&name));
        let of_line = |n: usize| line.as_ref().and_then(|fields| fields.get(n).copied());
        let number = |text: Option<&str>| text.and_then(|t| t.parse::<u32>().ok());
        let uid = number(of_line(2))
            .or_else(|| number(Some(name)))
            .ok_or_else(|| format!("the image has no user {name:?}"))?;
        let gid = match group_name {
            None => number(of_line(3)).unwrap_or(0),
            Some(wanted) => group
                .lines()
                .map(|l| l.split(':').collect::<Vec<_>>())
                .find(|fields| fields.first() == Some(&wanted))
                .and_then(|fields| number(fields.get(2).copied()))
                .or_else(|| number(Some(wanted)))
                .ok_or_else(|| format!("the image has no group {wanted:?}"))?,
        };
        let home = match of_line(5).filter(|h| !h.is_empty()) {
            Some(home) => home.to_owned(),
            None if uid == 0 => "/root".to_owned(),
            None => "/".to_owned(),
        };
        Ok(Self { uid, gid, home })
    }
}

#[cfg(test)]
mod tests {
    use super::User;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/srv/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nvideo:x:44:app\n";

    #[test]
    fn users_are_found_as_images_name_them() {
        let found = |text| User::find_in(text, PASSWD, GROUP).map(|u| (u.uid, u.gid, u.home));
        assert_eq!(found("0").unwrap(), (0, 0, "/root".to_owned()));
        assert_eq!(found("app").unwrap(), (1000, 1001, "/srv/app".to_owned()));
        assert_eq!(found("1000").unwrap(), (1000, 1001, "/srv/app".to_owned()));
        assert_eq!(
            found("app:video").unwrap(),
            (1000, 44, "/srv/app".to_owned())
        );
        assert_eq!(found("7:8").unwrap(), (7, 8, "/".to_owned()));
        assert!(found("nobody").is_err());
        assert!(found("app:nogroup").is_err());
    }
}
