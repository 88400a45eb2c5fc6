//! Hooks on disk: one file each, so that a restart goes on where delivery stood.

use std::{
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt},
    path::{Path, PathBuf},
};

use api::{
    HookFailureView, HookState, HookView,
    hook::{HookId, HookSecret},
    view::text,
};
use market::{AccountId, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

/// Form of the files.
const VERSION: u8 = 1;
/// Ending of a file that is being written.
const PART: &str = ".part";
/// Largest file that is read: an address, a few kinds and the last error.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// A hook as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    version: u8,
    #[serde(with = "text")]
    pub(super) id: HookId,
    #[serde(with = "text")]
    pub(super) account: AccountId,
    #[serde(with = "text")]
    pub(super) key: PublicKey,
    pub(super) url: String,
    /// Words, so that a file outlives a change of their order.
    pub(super) kinds: Vec<String>,
    secret: String,
    added_at_ms: u64,
    /// Number of the last event that is dealt with.
    pub(super) after: Option<u64>,
    pub(super) delivered: u64,
    pub(super) given_up: u64,
    /// Notices given up since the last that was delivered.
    pub(super) in_a_row: u32,
    pub(super) suspended: bool,
    pub(super) failing: Option<Failing>,
}

/// The notice that could not be delivered so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failing {
    pub(super) event: u64,
    pub(super) attempts: u32,
    pub(super) since_ms: u64,
    pub(super) next_at_ms: Option<u64>,
    pub(super) why: String,
}

impl Stored {
    pub(super) fn new(
        id: HookId,
        (account, key): (AccountId, PublicKey),
        url: String,
        kinds: Vec<String>,
        secret: &HookSecret,
        (now_ms, after): (u64, Option<u64>),
    ) -> Self {
        Self {
            version: VERSION,
            id,
            account,
            key,
            url,
            kinds,
            secret: secret.expose(),
            added_at_ms: now_ms,
            after,
            delivered: 0,
            given_up: 0,
            in_a_row: 0,
            suspended: false,
            failing: None,
        }
    }

    /// Returns the secret; a file's was read before.
    pub(super) fn secret(&self) -> Option<HookSecret> {
        HookSecret::parse(&self.secret)
    }

    pub(super) fn view(&self) -> HookView {
        let time = |ms: u64| Timestamp::from_unix_millis(ms).into();
        HookView {
            id: self.id,
            url: self.url.clone(),
            events: self.kinds.clone(),
            key: self.key,
            added_at: time(self.added_at_ms),
            state: if self.suspended {
                HookState::Suspended
            } else {
                HookState::Active
            },
            delivered: self.delivered,
            given_up: self.given_up,
            last_event: self.after,
            failing: self.failing.as_ref().map(|failing| HookFailureView {
                event: failing.event,
                attempts: failing.attempts,
                since: time(failing.since_ms),
                next_at: failing.next_at_ms.map(time),
                why: failing.why.clone(),
            }),
            secret: None,
        }
    }

    /// Returns the view with the secret, for whoever added it.
    pub(super) fn view_with_secret(&self) -> HookView {
        HookView {
            secret: Some(self.secret.clone()),
            ..self.view()
        }
    }
}

/// Reads a folder's hooks, and removes what an interrupted write left. A file that cannot be read stays where it is.
pub(super) fn read_all(folder: &Path) -> io::Result<Vec<Stored>> {
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700))?;
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(PART) {
            std::fs::remove_file(entry.path())?;
        } else if entry.metadata()?.len() <= FILE_BYTES_MAX {
            let stored = serde_json::from_slice::<Stored>(&std::fs::read(entry.path())?);
            let fit = stored.ok().filter(|stored| {
                stored.version == VERSION
                    && stored.secret().is_some()
                    && path(folder, stored.id) == entry.path()
            });
            if fit.is_none() {
                tracing::warn!(name, "a file among the hooks cannot be read");
            }
            all.extend(fit);
        }
    }
    Ok(all)
}

/// Writes a hook durably, replacing what was there.
pub(super) fn write(folder: &Path, stored: &Stored) -> io::Result<()> {
    let whole = path(folder, stored.id);
    let part = folder.join(format!("{}{PART}", stored.id));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(&serde_json::to_vec(stored)?)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(part, whole)?;
    std::fs::File::open(folder)?.sync_all()
}

/// Removes a hook's file; a missing one is as good.
pub(super) fn remove(folder: &Path, id: HookId) -> io::Result<()> {
    match std::fs::remove_file(path(folder, id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn path(folder: &Path, id: HookId) -> PathBuf {
    folder.join(id.to_string())
}
