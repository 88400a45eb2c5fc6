//! Credentials as docker and podman keep them: `config.json`, `auth.json`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::access::Credential;
use crate::image::reference::DOCKER_HUB;

/// Nobody has accounts at more registries.
const ENTRIES_MAX: usize = 1_000;

/// Credentials by registry, or by a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthFile {
    /// By `host[:port][/path]`.
    entries: BTreeMap<String, Credential>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl AuthFile {
    /// Reads a file's bytes. Names of helper programs in it are passed over: none is run.
    ///
    /// # Errors
    /// What is wrong with it, without any of its secrets.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        // The parser's own words could quote a secret.
        let file: File = serde_json::from_slice(bytes).map_err(|e| {
            format!(
                "line {}, column {}: it is not what docker writes",
                e.line(),
                e.column()
            )
        })?;
        if file.auths.len() > ENTRIES_MAX {
            return Err(format!("it has more than {ENTRIES_MAX} entries"));
        }
        let mut entries = BTreeMap::new();
        for (name, entry) in file.auths {
            let shown: String = name.chars().take(100).collect();
            let credential = entry.credential();
            // An entry without anything stands for a helper program.
            if let Some(credential) =
                credential.map_err(|e| format!("the entry of {shown}: {e}"))?
            {
                entries.insert(key_of(&name), credential);
            }
        }
        Ok(Self { entries })
    }

    /// Returns the credential for repository `name` at `host`: that of the longest path that covers it.
    pub fn find(&self, host: &str, name: &str) -> Option<&Credential> {
        let mut path = format!("{host}/{name}");
        loop {
            if let Some(found) = self.entries.get(&path) {
                return Some(found);
            }
            path.truncate(path.rfind('/')?);
        }
    }
}

/// Writes an entry's name without scheme and version, as both were once part of it.
fn key_of(name: &str) -> String {
    let name = name
        .strip_prefix("https://")
        .or_else(|| name.strip_prefix("http://"))
        .unwrap_or(name);
    let name = name.trim_end_matches('/');
    let name = name
        .strip_suffix("/v1")
        .or_else(|| name.strip_suffix("/v2"))
        .unwrap_or(name);
    match name {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

impl Entry {
    fn credential(self) -> Result<Option<Credential>, &'static str> {
        if let Some(token) = self.registrytoken.filter(|t| !t.is_empty()) {
            return Ok(Some(Credential::token(token)));
        }
        if let (Some(user), Some(password)) = (self.username, self.password)
            && !user.is_empty()
        {
            return Ok(Some(Credential::password(user, password)));
        }
        if let Some(auth) = self.auth.filter(|a| !a.is_empty()) {
            let plain = STANDARD.decode(auth.trim());
            let plain = plain.map_err(|_| "its auth is not base64")?;
            let plain = String::from_utf8(plain).map_err(|_| "its auth is no text")?;
            let (user, password) = plain.split_once(':').ok_or("its auth has no colon")?;
            // Written by old versions of docker, padded with zeroes.
            let password = password.trim_matches('\0');
            return Ok(Some(Credential::password(user, password)));
        }
        if self.identitytoken.is_some_and(|t| !t.is_empty()) {
            return Err(
                "an identity token; want a name and a password, or an access token as the password",
            );
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::AuthFile;
    use crate::image::registry::Credential;

    #[test]
    fn the_longest_path_wins_and_old_names_are_known() {
        // am9lOnM6M2NyZXQ= is joe:s:3cret
        let file = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "am9lOnM6M2NyZXQ="},
            "host.example:5000": {"username": "all", "password": "1"},
            "host.example:5000/team": {"username": "team", "password": "2"},
            "ghcr.io": {}
        }, "credsStore": "desktop", "credHelpers": {"gcr.io": "gcloud"}}"#;
        let file = AuthFile::parse(file).unwrap();
        let password = |user, password| Some(Credential::password(user, password));
        assert_eq!(
            file.find("docker.io", "library/debian").cloned(),
            password("joe", "s:3cret")
        );
        assert_eq!(
            file.find("host.example:5000", "team/app").cloned(),
            password("team", "2")
        );
        assert_eq!(
            file.find("host.example:5000", "teams/app").cloned(),
            password("all", "1")
        );
        assert_eq!(file.find("ghcr.io", "x"), None);
        assert_eq!(file.find("other", "x"), None);
        assert!(!format!("{file:?}").contains("3cret"));
    }

    #[test]
    fn what_is_wrong_is_told_without_secrets() {
        for bad in [
            r#"{"auths": {"h": {"auth": "c2VjcmV0"}}}"#,
            r#"{"auths": {"h": {"auth": "secret!"}}}"#,
            r#"{"auths": {"h": {"password": ["secret"]}}}"#,
            r#"{"auths": {"h": {"identitytoken": "secret"}}}"#,
            "secret",
        ] {
            let problem = AuthFile::parse(bad.as_bytes()).unwrap_err();
            assert!(!problem.contains("secret"), "{problem}");
        }
    }
}
