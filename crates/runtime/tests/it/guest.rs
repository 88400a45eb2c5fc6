//! What the tests run inside containers. Built by the tests with `rustc`, statically, so that an image of
//! this one file works; it uses the standard library alone.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

unsafe extern "C" {
    fn signal(signum: i32, handler: usize) -> usize;
    fn unshare(flags: i32) -> i32;
    fn mknod(path: *const i8, mode: u32, dev: u64) -> i32;
    fn mount(
        source: *const i8,
        target: *const i8,
        kind: *const i8,
        flags: u64,
        data: *const i8,
    ) -> i32;
    fn syscall(number: i64, ...) -> i64;
    fn getuid() -> u32;
    fn getgid() -> u32;
    fn getppid() -> i32;
}

const SIGTERM: i32 = 15;
const SIG_IGN: usize = 1;

extern "C" fn leave_politely(_: i32) {
    exit(33)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["exit", code] => exit(code.parse().unwrap()),
        ["say", text] => println!("{text}"),
        ["complain", text] => eprintln!("{text}"),
        ["env"] => std::env::vars().for_each(|(n, v)| println!("{n}={v}")),
        ["who"] => {
            let cwd = std::env::current_dir().unwrap();
            // SAFETY: these calls cannot fail.
            let (uid, gid, parent) = unsafe { (getuid(), getgid(), getppid()) };
            println!("uid={uid} gid={gid} parent={parent} cwd={}", cwd.display());
        }
        ["cat", path] => io::stdout().write_all(&fs::read(path).unwrap()).unwrap(),
        ["ls", path] => list(path),
        // Exits with how often it was run on this disk.
        ["count", path] => {
            let mut before = fs::read(path).unwrap_or_default();
            before.push(b'x');
            fs::write(path, &before).unwrap();
            println!("run {}", before.len());
            exit(i32::try_from(before.len()).unwrap())
        }
        ["write", path, text] => answer(fs::write(path, text)),
        ["open", path] => answer(fs::File::open(path).map(drop)),
        ["sleep", seconds] => sleep(Duration::from_secs(seconds.parse().unwrap())),
        ["polite"] => {
            // SAFETY: the handler does nothing but end the process.
            unsafe { signal(SIGTERM, leave_politely as *const () as usize) };
            ready_forever()
        }
        ["deaf"] => {
            // SAFETY: ignoring a signal runs no code.
            unsafe { signal(SIGTERM, SIG_IGN) };
            ready_forever()
        }
        ["ticks"] => (0_u64..).for_each(|n| {
            println!("tick {n}");
            sleep(Duration::from_millis(20));
        }),
        ["abort"] => std::process::abort(),
        ["alloc", mib] => alloc(mib.parse().unwrap()),
        ["tasks", count] => tasks(count.parse().unwrap()),
        ["spin", millis] => {
            let begin = std::time::Instant::now();
            while begin.elapsed() < Duration::from_millis(millis.parse().unwrap()) {}
        }
        ["spam", bytes] => spam(bytes.parse().unwrap()),
        ["orphan"] => orphan(),
        ["pids"] => pids(),
        ["unshare", flags] => {
            // SAFETY: plain numbers in and out.
            result(unsafe { unshare(flags.parse().unwrap()) }.into())
        }
        ["clone", flags] => {
            // SAFETY: a null stack makes it fork-like; the child ends at once.
            let made = unsafe { syscall(56, flags.parse::<i64>().unwrap() | 17, 0, 0, 0, 0) };
            if made == 0 {
                exit(0)
            }
            result(made)
        }
        // SAFETY: the kernel checks the numbers; no pointers are passed.
        ["syscall", number] => result(unsafe { syscall(number.parse().unwrap(), 0, 0, 0, 0, 0) }),
        ["mknod"] => {
            // SAFETY: the path is a terminated string.
            result(unsafe { mknod(c"/node".as_ptr().cast(), 0o020_666, 0x103) }.into())
        }
        ["mount"] => {
            let word = c"tmpfs".as_ptr().cast();
            // SAFETY: all strings are terminated; null means no data.
            let made = unsafe { mount(word, c"/tmp".as_ptr().cast(), word, 0, std::ptr::null()) };
            result(made.into())
        }
        ["loopback"] => loopback(),
        _ => {
            eprintln!("what? {words:?}");
            exit(99)
        }
    }
}

fn answer(tried: io::Result<()>) {
    match tried {
        Ok(()) => println!("ok"),
        Err(e) => println!("errno {}", e.raw_os_error().unwrap_or(-1)),
    }
}

fn result(value: i64) {
    answer(if value < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    });
}

fn ready_forever() {
    println!("ready");
    loop {
        sleep(Duration::from_secs(1));
    }
}

fn list(path: &str) {
    let mut lines = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        let mode = meta.permissions().mode();
        let name = entry.file_name().into_string().unwrap();
        lines.push(format!("{name} {mode:o} {}:{}", meta.uid(), meta.gid()));
    }
    lines.sort();
    println!("{}", lines.join("\n"));
}

fn alloc(mib: usize) {
    let mut held = Vec::new();
    for _ in 0..mib {
        let mut block = vec![0_u8; 1 << 20];
        block.iter_mut().step_by(4096).for_each(|b| *b = 1);
        held.push(block);
    }
    println!("held {}", held.len());
}

fn tasks(count: usize) {
    let mut made = 0;
    for _ in 0..count {
        let sleeper = || sleep(Duration::from_secs(30));
        if std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(sleeper)
            .is_err()
        {
            break;
        }
        made += 1;
    }
    println!("made {made}");
    exit(0)
}

fn spam(bytes: usize) {
    let mut out = io::stdout().lock();
    let mut left = bytes;
    let line = [b'x'; 4096];
    while left > 0 {
        let now = left.min(line.len());
        out.write_all(&line[..now]).unwrap();
        left -= now;
    }
}

/// Leaves a grandchild behind and ends: who holds its pipe must not be waited for.
fn orphan() {
    std::process::Command::new("/guest")
        .args(["sleep", "60"])
        .spawn()
        .unwrap();
    println!("left");
}

fn pids() {
    let is_number = |n: &String| n.bytes().all(|b| b.is_ascii_digit());
    let names = fs::read_dir("/proc")
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    println!("{}", names.filter(is_number).count());
}

fn loopback() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let made = std::net::TcpStream::connect(listener.local_addr().unwrap());
    answer(made.map(drop));
    let out = std::net::TcpStream::connect_timeout(
        &"192.0.2.1:80".parse().unwrap(),
        Duration::from_millis(500),
    );
    answer(out.map(drop));
}
