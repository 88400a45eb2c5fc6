//! Who may use what lies in the store.
//!
//! Whoever names a digest has not shown that they may have its bytes. So each thing notes the scopes that have brought
//! its bytes here themselves, each checked against the digest; another one has to bring them too, from its own source.
//! Layers' trees are noted by diff-id, as an image could name its own packed layer next to somebody else's diff-id.
//!
//! A note stays true for ever, as the bytes of a digest do not change; one that is missing or cannot be read costs one
//! more transfer. So what a store holds from before there were notes is brought anew.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Store;
use crate::files::{self, Durable};
use crate::image::digest::Digest;
use crate::image::error::{ImageError, io as io_error};
use crate::image::source::Scope;

const FOLDER: &str = "grants";
/// Scopes noted for one thing; where there are more, one of them brings it once more.
const SCOPES_MAX: usize = 64;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Grants {
    public: bool,
    scopes: BTreeSet<Digest>,
}

impl Grants {
    fn allow(&self, scope: Scope) -> bool {
        match scope {
            _ if self.public => true,
            Scope::Public => false,
            Scope::Of(name) => self.scopes.contains(&name),
        }
    }

    fn add(&mut self, scope: Scope) {
        match scope {
            Scope::Public => {
                *self = Self {
                    public: true,
                    scopes: BTreeSet::new(),
                }
            }
            Scope::Of(name) => {
                if self.scopes.len() >= SCOPES_MAX {
                    self.scopes.pop_first();
                }
                self.scopes.insert(name);
            }
        }
    }
}

impl Store {
    /// Tells whether `scope` may use what is here under `digest`.
    pub(super) fn may_use(&self, digest: &Digest, scope: Scope) -> bool {
        self.grants(digest).allow(scope)
    }

    /// Notes that `scope` has brought the bytes of `digest`, and that they were checked.
    pub(super) fn grant(&self, digest: &Digest, scope: Scope) -> Result<(), ImageError> {
        // Two may bring it at once.
        let _state = self.state();
        let mut grants = self.grants(digest);
        if grants.allow(scope) {
            return Ok(());
        }
        grants.add(scope);
        let folder = self.folder(FOLDER);
        files::put_json(&folder, &digest.hex(), &grants, Durable::No)
            .map_err(io_error("note who may use", &folder.join(digest.hex())))
    }

    fn grants(&self, digest: &Digest) -> Grants {
        let noted = files::get_json(&self.folder(FOLDER), &digest.hex());
        noted.ok().flatten().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Grants, SCOPES_MAX, Scope};
    use crate::image::digest::Digest;

    #[test]
    fn only_who_brought_it_may_use_it_unless_it_is_public() {
        let (ours, theirs) = (Scope::Of(Digest::of(b"a")), Scope::Of(Digest::of(b"b")));
        let mut grants = Grants::default();
        assert!(!grants.allow(ours) && !grants.allow(Scope::Public));
        grants.add(ours);
        assert!(grants.allow(ours) && !grants.allow(theirs) && !grants.allow(Scope::Public));
        grants.add(Scope::Public);
        assert!(grants.allow(ours) && grants.allow(theirs) && grants.allow(Scope::Public));
    }

    #[test]
    fn a_note_does_not_grow_without_end() {
        let mut grants = Grants::default();
        for number in 0..=SCOPES_MAX {
            grants.add(Scope::Of(Digest::of(&number.to_le_bytes())));
        }
        assert_eq!(grants.scopes.len(), SCOPES_MAX);
    }
}
