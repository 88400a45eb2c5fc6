//! A client that we did not write.

use std::io::Write as _;

use tokio::process::Command;

/// The program `curl` of this machine.
pub(crate) struct Curl;

/// What it got.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Curl {
    /// Looks for the program; says which test does without it where there is none.
    pub(crate) fn find(test: &str) -> Option<Self> {
        let found = std::process::Command::new("curl").arg("--version").output();
        if found.is_ok_and(|found| found.status.success()) {
            return Some(Self);
        }
        writeln!(std::io::stderr(), "SKIPPED {test}: there is no curl").unwrap();
        None
    }

    /// Sends one request, and reads its answer.
    pub(crate) async fn ask(&self, words: &[&str]) -> Reply {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--include",
                "--max-time",
                "20",
                "--noproxy",
                "*",
            ])
            .args(words)
            .output()
            .await
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "curl {words:?}: {error}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }
}

impl Reply {
    /// Returns a header of the answer; empty where it has none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_default()
    }
}
