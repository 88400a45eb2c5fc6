//! What this machine was told about registries.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};

use super::auth_file::AuthFile;
use super::reach::Reach;
use super::tls;
use crate::image::error::ImageError;

/// Files of credentials and of certificates are far smaller.
const FILE_BYTES: u64 = 1 << 20;
/// Certificates for one registry.
const CERTIFICATES_MAX: usize = 64;

/// Who we are to a registry. Prints as `***`.
///
/// It may come from this machine's own file, or from a tenant: as a secret inside a sealed manifest it is written as
/// `{"user": …, "password": …}` or `{"token": …}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Credential {
    /// A name and a password, or a name and an access token that stands for one.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that the registry itself takes.
    Token {
        /// The token.
        token: String,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(***)")
    }
}

impl Credential {
    /// Returns a name and a password.
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Self {
        let (user, password) = (user.into(), password.into());
        Self::Password { user, password }
    }

    /// Returns a token.
    pub fn token(token: impl Into<String>) -> Self {
        let token = token.into();
        Self::Token { token }
    }

    /// Returns the header that tells it; `None` where it cannot be written in one.
    pub(in crate::image) fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::Password { user, password } => secret_header(&format!(
                "Basic {}",
                STANDARD.encode(format!("{user}:{password}"))
            )),
            Self::Token { token } => secret_header(&format!("Bearer {token}")),
        }
    }
}

/// Makes a header that no log shows.
pub(in crate::image) fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Where this machine keeps what it knows about registries. Read anew for each image, so that what changes there
/// counts at once.
///
/// Whoever may run something on this machine can have it pull what these credentials open: give it those of images
/// that every tenant may use. A tenant's own go with the image, see [`crate::Runtime::prepare_as`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    /// A file of credentials, as docker and podman write it. May be missing.
    pub auth_file: Option<PathBuf>,
    /// A folder with one folder for each registry, named `host` or `host:port`, whose `*.crt` files are certificates of
    /// authorities to trust for it beside the system's own: docker's `certs.d`. May be missing.
    pub certs_dir: Option<PathBuf>,
    /// To which addresses a pull may connect, also where a registry sends it on.
    pub reach: Reach,
}

impl Registries {
    /// Returns the usual names in the folder `dir`: `auth.json` and `certs.d`.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            auth_file: Some(dir.join("auth.json")),
            certs_dir: Some(dir.join("certs.d")),
            reach: Reach::Anywhere,
        }
    }

    /// Returns the credential that this machine has for a repository.
    pub(in crate::image) fn credential(
        &self,
        host: &str,
        name: &str,
    ) -> Result<Option<Credential>, ImageError> {
        let Some(path) = &self.auth_file else {
            return Ok(None);
        };
        let Some(bytes) = read_if_there(path)? else {
            return Ok(None);
        };
        let file = AuthFile::parse(&bytes).map_err(|e| unusable(path, e))?;
        Ok(file.find(host, name).cloned())
    }

    /// Returns how to speak TLS with a registry.
    pub(in crate::image) fn tls(&self, host: &str) -> Result<rustls::ClientConfig, ImageError> {
        let mut own = Vec::new();
        if let Some(dir) = &self.certs_dir {
            let dir = dir.join(host);
            for path in certificate_files(&dir)? {
                let bytes = read_if_there(&path)?.unwrap_or_default();
                own.extend(tls::certificates(&bytes).map_err(|e| unusable(&path, e))?);
            }
        }
        tls::config(own).map_err(|e| ImageError::Access {
            what: "the authorities this machine trusts".to_owned(),
            problem: e,
        })
    }
}

fn certificate_files(dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unusable(dir, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| unusable(dir, e))?.path();
        if path.extension().is_some_and(|e| e == "crt" || e == "pem") {
            found.push(path);
        }
        if found.len() > CERTIFICATES_MAX {
            return Err(unusable(
                dir,
                format!("it has more than {CERTIFICATES_MAX} files"),
            ));
        }
    }
    found.sort();
    Ok(found)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, ImageError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unusable(path, e)),
    };
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| unusable(path, e))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(unusable(
            path,
            format!("it has more than {FILE_BYTES} bytes"),
        ));
    }
    Ok(Some(bytes))
}

fn unusable(path: &Path, problem: impl fmt::Display) -> ImageError {
    ImageError::Access {
        what: path.display().to_string(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::Credential;

    #[test]
    fn credentials_are_read_from_json_and_never_printed() {
        let both: Credential = serde_json::from_str(r#"{"user":"u","password":"p"}"#).unwrap();
        assert_eq!(both, Credential::password("u", "p"));
        let token: Credential = serde_json::from_str(r#"{"token":"t"}"#).unwrap();
        assert_eq!(token, Credential::token("t"));
        assert_eq!(
            format!("{both:?}{token:?}"),
            "Credential(***)Credential(***)"
        );
        assert_eq!(both.header().unwrap(), "Basic dTpw");
        assert!(format!("{:?}", both.header()).contains("Sensitive"));
        assert_eq!(Credential::token("a\nb").header(), None);
    }
}
