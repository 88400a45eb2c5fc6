//! Notices to a receiver over real HTTP, while it fails and while the node is killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::world::{World, can_run_containers, json, until};

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_mins(1);

/// A receiver that keeps the bodies that it gets, and whether it took them.
struct Receiver {
    port: u16,
    well: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<(bool, Value)>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let receiver = Self {
            port: listener.local_addr().unwrap().port(),
            well: Arc::default(),
            seen: Arc::default(),
        };
        let (well, seen) = (Arc::clone(&receiver.well), Arc::clone(&receiver.seen));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let well = well.load(Ordering::SeqCst);
                if let Some(body) = take(&stream.unwrap(), well) {
                    seen.lock().unwrap().push((well, body));
                }
            }
        });
        receiver
    }

    fn attempts(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Returns id and kind of the notices that were taken, in order.
    fn taken(&self) -> Vec<(String, String)> {
        let seen = self.seen.lock().unwrap();
        let taken = seen.iter().filter(|(well, _)| *well);
        let word = |value: &Value| value.as_str().unwrap_or("test").to_owned();
        taken
            .map(|(_, body)| (word(&body["id"]), word(&body["event"]["kind"])))
            .collect()
    }
}

/// Reads one request and answers it; `None` where the connection ended before.
fn take(stream: &TcpStream, well: bool) -> Option<Value> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut reader = BufReader::new(stream);
    let (mut length, mut signed) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        signed |= line.starts_with("webhook-signature: v1,");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let answer = if well && signed {
        "204 No Content"
    } else {
        "500 Oops"
    };
    let mut to: &TcpStream = stream;
    write!(
        to,
        "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    serde_json::from_slice(&body).ok()
}

#[test]
fn notices_reach_their_receiver_though_it_fails_and_the_node_is_killed() {
    if !can_run_containers("notices_reach_their_receiver_though_it_fails_and_the_node_is_killed") {
        return;
    }
    let world = World::new();
    world.good(&["up", "--demo", "--port", &world.port.to_string()]);
    let receiver = Receiver::start();
    let url = format!("http://127.0.0.1:{}/x", receiver.port);
    let words = [
        "notify",
        "add",
        &url,
        "--events",
        "job-opened,job-ended",
        "-o",
        "json",
    ];
    let hook = json(&world.good(&words));
    let id = hook["id"].as_str().unwrap();
    assert!(hook["secret"].as_str().unwrap().starts_with("whsec_"));

    let job = world.hire(&["--budget", "0.01"], &["sleep", "1"]);
    until("an attempt that fails", PATIENCE, || {
        receiver.attempts() > 0
    });
    let failed = world.run(&["notify", "test", "hook_"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("[hook-failed]"), "{}", failed.stderr);
    let listed = json(&world.good(&["notify", "list", "-o", "json"]));
    let why = listed["items"][0]["failing"]["why"].as_str().unwrap();
    assert_eq!(why, "the receiver answered 500");

    world.kill("node");
    receiver.well.store(true, Ordering::SeqCst);
    world.good(&["up"]);
    world.ended(&job, PATIENCE);
    until("both notices", PATIENCE, || receiver.taken().len() >= 2);
    let mut taken = receiver.taken();
    taken.dedup();
    let kinds: Vec<&str> = taken.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(kinds, ["job-opened", "job-ended"], "in order: {taken:?}");
    let tested = json(&world.good(&["notify", "test", id, "-o", "json"]));
    assert_eq!(tested["test"]["delivered"], true);
    world.good(&["notify", "remove", id]);
    assert_eq!(
        json(&world.good(&["notify", "list", "-o", "json"]))["items"],
        json("[]")
    );
}

#[test]
fn a_node_sends_nothing_into_its_own_network_without_leave() {
    let world = World::new();
    let listen = format!("127.0.0.1:{}", world.port);
    let endpoint = format!("http://{listen}");
    let mut node = world
        .command(&["node", "start", "--listen", &listen])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let treasurer = world.home().join("keys/treasurer.key");
    let mine = |words: &[&str]| {
        let key = treasurer.to_str().unwrap();
        world.run(&[words, &["--endpoint", &endpoint, "--key-file", key]].concat())
    };
    until("the node answers", PATIENCE, || {
        mine(&["notify", "list"]).code == 0
    });
    for url in [
        "http://127.0.0.1:8080/x",
        "http://[::1]:8080/",
        "http://169.254.169.254/",
    ] {
        let refused = mine(&["notify", "add", url]);
        assert_eq!(refused.code, 6, "{}", refused.stderr);
        assert!(refused.stderr.contains("[bad-hook]"), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("--private-hooks"),
            "{}",
            refused.stderr
        );
    }
    let pid = nix::unistd::Pid::from_raw(node.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(node.wait().unwrap().success());
}
