//! The name of a container.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Long enough for a lease id, short enough for any path and cgroup name.
const MAX_BYTES: usize = 64;

/// Names a container: 1 to 64 of `a-z`, `0-9` and `_`, so that it is safe in a path. An agent uses lease ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// The text is no [`ContainerId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a container id: want 1 to {MAX_BYTES} of a-z, 0-9 and _")]
pub struct InvalidContainerId {
    text: String,
}

impl ContainerId {
    /// Returns the id that `text` spells.
    ///
    /// # Errors
    /// [`InvalidContainerId`] where it is empty, too long, or has another character.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidContainerId> {
        let text = text.into();
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if text.is_empty() || text.len() > MAX_BYTES || !text.bytes().all(allowed) {
            return Err(InvalidContainerId { text });
        }
        Ok(Self(text))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContainerId {
    type Err = InvalidContainerId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = InvalidContainerId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::ContainerId;

    #[test]
    fn ids_that_could_leave_a_folder_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "A",
            "a-b",
            "a b",
            "é",
            &"x".repeat(65),
        ] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "lse_7k3", &"x".repeat(64)] {
            assert_eq!(ContainerId::new(good).unwrap().as_str(), good);
        }
    }
}
