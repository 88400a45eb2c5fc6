//! Labels of jobs: they stay in the home folder of whoever started the job, so that neither the ledger nor a provider
//! learns what one calls one's work.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use market::JobId;

use crate::error::{Failure, Result, io_failure};
use crate::files;

fn path(home: &Path, job: JobId) -> PathBuf {
    home.join("labels").join(format!("{job}.json"))
}

/// Keeps a job's labels; none leave no trace.
pub(crate) fn keep(home: &Path, job: JobId, labels: &BTreeMap<String, String>) -> Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec(labels)
        .map_err(|error| Failure::new("bug", "could not write labels").causes(&error))?;
    files::create_private_folder(&home.join("labels"))?;
    files::write_private(&path(home, job), &text)
}

/// Returns a job's labels; none where it was started elsewhere or without.
pub(crate) fn of(home: &Path, job: JobId) -> Result<BTreeMap<String, String>> {
    let path = path(home, job);
    match fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(io_failure("read", &path)(error)),
    }
}

/// Tells whether labels have every one of `wanted`.
pub(crate) fn have(labels: &BTreeMap<String, String>, wanted: &[(String, String)]) -> bool {
    wanted
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value))
}

/// Writes labels in a cell of a table.
pub(crate) fn show(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
    if labels.is_empty() {
        return "–".to_owned();
    }
    labels.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_kept_and_found() {
        let home = tempfile::tempdir().unwrap();
        let key = market::PublicKey::from_bytes([1; 32]);
        let (one, two) = (JobId::created_by(&key, 1), JobId::created_by(&key, 2));
        let labels = BTreeMap::from([("team".to_owned(), "vision".to_owned())]);
        keep(home.path(), one, &labels).unwrap();
        keep(home.path(), two, &BTreeMap::new()).unwrap();
        assert_eq!(of(home.path(), one).unwrap(), labels);
        assert!(of(home.path(), two).unwrap().is_empty());
        let wanted = [("team".to_owned(), "vision".to_owned())];
        assert!(have(&labels, &wanted) && have(&labels, &[]));
        assert!(!have(&BTreeMap::new(), &wanted));
        assert_eq!(show(&labels), "team=vision");
    }
}
