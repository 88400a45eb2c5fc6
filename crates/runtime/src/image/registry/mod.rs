//! What this machine knows about registries: credentials, certificates, and how they speak.
//!
//! Map: `access` is what is told to us; `auth_file` reads credentials as docker and podman keep them; `challenge` is
//! how a registry asks who we are; `range` how it goes on with a transfer that was cut; `reach`
//! where it may send us; `tls` whom we trust.

mod access;
mod auth_file;
mod challenge;
mod range;
mod reach;
mod tls;

pub(super) use access::secret_header;
pub use access::{Credential, Registries};
pub use auth_file::AuthFile;
pub use challenge::{Challenge, Token};
pub use range::ContentRange;
pub(super) use reach::{OutOfReach, Resolver};
pub use reach::{Reach, is_local_name, is_public};
