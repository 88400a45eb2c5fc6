//! The typed no of a peer.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

/// Longest text of a refusal, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// Why a peer does not do what was asked. The position is the tag on the wire: new codes are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum RefusalCode {
    /// The asker may not have it.
    NotAuthorized,
    /// The lease or job is not known, or not live.
    NoSuchLease,
    /// The grant has expired.
    ExpiredGrant,
    /// Too many others are being served; ask again later.
    Busy,
    /// The request cannot be read.
    BadRequest,
    /// It should work, but something failed on the peer's side; ask again later.
    Unavailable,
}

impl RefusalCode {
    /// Returns whether asking again later can help.
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable)
    }

    /// Returns the stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAuthorized => "not-authorized",
            Self::NoSuchLease => "no-such-lease",
            Self::ExpiredGrant => "expired-grant",
            Self::Busy => "busy",
            Self::BadRequest => "bad-request",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A peer's no, with its reason in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, BorshSerialize)]
#[error("{code}: {text}")]
pub struct Refusal {
    code: RefusalCode,
    text: String,
}

impl Refusal {
    /// Makes a refusal; the text is cut to 256 bytes, and control characters become spaces.
    pub fn new(code: RefusalCode, text: impl AsRef<str>) -> Self {
        let mut clean = String::new();
        for c in text.as_ref().chars() {
            if clean.len() + c.len_utf8() > TEXT_BYTES_MAX {
                break;
            }
            clean.push(if c.is_control() { ' ' } else { c });
        }
        Self { code, text: clean }
    }

    /// Returns the code.
    pub const fn code(&self) -> RefusalCode {
        self.code
    }

    /// Returns the reason in words.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl BorshDeserialize for Refusal {
    /// Cleans the text again: it is shown in a terminal, and the peer may be hostile.
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        let code = RefusalCode::deserialize_reader(reader)?;
        let text = String::deserialize_reader(reader)?;
        Ok(Self::new(code, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_is_cut_and_cleaned() {
        let raw = borsh::to_vec(&(3u8, "\u{1b}[2Jé".repeat(200))).unwrap();
        let refusal: Refusal = borsh::from_slice(&raw).unwrap();
        assert_eq!(refusal.code(), RefusalCode::Busy);
        assert!(refusal.text().len() <= TEXT_BYTES_MAX);
        assert!(!refusal.text().contains('\u{1b}'));
        let again: Refusal = borsh::from_slice(&borsh::to_vec(&refusal).unwrap()).unwrap();
        assert_eq!(again, refusal);
    }
}
