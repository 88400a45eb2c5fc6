//! What is typed wrong, and a network that is not there: a clear word, a way out, the published exit code.

use crate::world::World;

/// Returns code, text and exit code of a failing command.
fn refused(words: &[&str]) -> String {
    let world = World::new();
    let ran = world.run(words);
    assert_ne!(ran.code, 0, "{words:?} succeeded: {}", ran.stdout);
    assert_eq!(ran.stdout, "", "errors go to standard error");
    let home = world.home().to_str().unwrap();
    format!(
        "$ tradewind {}\n{}exit {}\n",
        words.join(" "),
        ran.stderr.replace(home, "HOME"),
        ran.code
    )
}

#[test]
fn wrong_command_lines_are_told_what_was_meant() {
    let lines: &[&[&str]] = &[
        &["offfers"],
        &["run"],
        &["run", "--bugdet", "1", "oci:/x"],
        &["run", "--budget", "1e9", "oci:/x"],
        &["run", "--for", "soon", "oci:/x"],
        &["run", "--gpu", "h100:0", "oci:/x"],
        &["run", "--mem", "64", "oci:/x"],
        &["run", "--isolation", "glass", "oci:/x"],
        &["run", "--vram", "80G", "oci:/x"],
        &["run", "-e", "=1", "oci:/x"],
        &["ps", "-o", "xml"],
        &["stop"],
        &["job"],
        &["help", "no-mach"],
        &["account", "show", "acc_1"],
        &["node", "start", "--network", "Not A Name"],
        &["ps", "--context", "../../etc"],
    ];
    let all: Vec<String> = lines.iter().map(|words| refused(words)).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn commands_without_a_network_say_how_to_get_one() {
    let lines: &[&[&str]] = &[
        &["ps"],
        &["offers"],
        &["run", "-y", "oci:/x"],
        &["run", "oci:/x"],
        &["offers", "--endpoint", "http://127.0.0.1:1"],
        &["offers", "--endpoint", "https://example.org"],
        &["offers", "--endpoint", "http://127.0.0.1:1", "-o", "json"],
        &[
            "lease",
            "list",
            "--key-file",
            "/nowhere/x.key",
            "--endpoint",
            "http://127.0.0.1:1",
        ],
        &["provider", "start"],
        &["ps", "--context", "prod"],
    ];
    let all: Vec<String> = lines.iter().map(|words| refused(words)).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn something_else_at_the_address_is_no_gateway() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).unwrap();
        assert!(read > 0);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            .unwrap();
    });
    let ran = world.run(&["offers", "--endpoint", &format!("http://{address}")]);
    server.join().unwrap();
    assert_eq!(ran.code, 9, "{}", ran.stderr);
    assert!(ran.stderr.contains("[bad-reply]"), "{}", ran.stderr);
}

#[test]
fn down_where_nothing_is_does_nothing() {
    let world = World::new();
    world.good(&["down"]);
    let gone = world.home().join("not-there");
    let output = world
        .command(&["down"])
        .env("TRADEWIND_HOME", &gone)
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(!gone.exists());
}

#[test]
fn help_is_there_offline() {
    let world = World::new();
    assert!(world.good(&["--help"]).contains("RUN\n  run "));
    assert!(world.good(&["help", "no-match"]).contains("Exit code 7"));
    assert!(world.good(&["help", "exit-codes"]).contains(" 125  "));
    assert!(
        world
            .good(&["help", "environment"])
            .contains("TRADEWIND_HOME")
    );
    assert!(
        world
            .good(&["version", "-o", "json"])
            .starts_with("{\"version\":")
    );
}

#[test]
fn port_that_another_program_has_is_named() {
    let world = World::new();
    let listener = std::net::TcpListener::bind(("127.0.0.1", world.port)).unwrap_or_else(|_| {
        // Somebody took the free port meanwhile: it is taken all the same.
        std::net::TcpListener::bind("127.0.0.1:0").unwrap()
    });
    let port = listener.local_addr().unwrap().port().to_string();
    let ran = world.run(&["up", "--port", &port]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("[port-taken]") && ran.stderr.contains("tradewind up --port"),
        "{}",
        ran.stderr
    );
}
