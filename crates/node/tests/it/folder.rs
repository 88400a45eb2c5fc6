//! The data folder: one process, one network, one format, keys for their owner only.

use std::{fs, os::unix::fs::PermissionsExt as _};

use node::{Config, FolderError, KeyError, Node, StartError};

use crate::world::{PATIENCE, account, apply, fresh_key, genesis, issue, start};

async fn refused(config: Config) -> StartError {
    match Node::start(config).await {
        Err(why) => why,
        Ok(_) => panic!("the node started"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_node_on_a_folder_is_refused_and_a_stopped_one_frees_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(folder.path()).await;
    let again = Config {
        folder: folder.path().to_owned(),
        genesis: None,
        listen_peers: None,
    };
    let why = refused(again.clone()).await;
    assert!(
        matches!(why, StartError::Folder(FolderError::InUse { .. })),
        "{why}"
    );
    first.stop().await.unwrap();
    Node::start(again).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("format"), "2\n").unwrap();
    let config = Config {
        folder: folder.path().to_owned(),
        genesis: Some(genesis()),
        listen_peers: None,
    };
    let why = refused(config).await;
    assert!(
        matches!(why, StartError::Folder(FolderError::Newer { found: 2, .. })),
        "{why}"
    );
}

#[tokio::test]
async fn damaged_version_genesis_and_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = || Config {
        folder: folder.path().to_owned(),
        genesis: Some(genesis()),
        listen_peers: None,
    };
    fs::write(folder.path().join("format"), "one\n").unwrap();
    let why = refused(config()).await;
    assert!(
        matches!(why, StartError::Folder(FolderError::Damaged { .. })),
        "{why}"
    );
    fs::remove_file(folder.path().join("format")).unwrap();
    fs::write(folder.path().join("genesis"), "not a genesis").unwrap();
    let why = refused(config()).await;
    assert!(
        matches!(why, StartError::Folder(FolderError::Damaged { .. })),
        "{why}"
    );
    fs::remove_file(folder.path().join("genesis")).unwrap();
    let keys = folder.path().join("validator.key");
    fs::write(&keys, "not a key").unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    let why = refused(config()).await;
    assert!(
        matches!(why, StartError::Keys(KeyError::Damaged { .. })),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_their_owners_only_and_refused_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    start(folder.path()).await.stop().await.unwrap();
    let keys = folder.path().join("validator.key");
    assert_eq!(
        fs::metadata(&keys).unwrap().permissions().mode() & 0o777,
        0o600
    );
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o640)).unwrap();
    let why = refused(Config {
        folder: folder.path().to_owned(),
        genesis: None,
        listen_peers: None,
    })
    .await;
    assert!(
        matches!(why, StartError::Keys(KeyError::Exposed { mode: 0o640, .. })),
        "{why}"
    );
}

#[tokio::test]
async fn other_genesis_and_missing_genesis_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let why = refused(Config {
        folder: folder.path().to_owned(),
        genesis: None,
        listen_peers: None,
    })
    .await;
    assert!(
        matches!(why, StartError::Folder(FolderError::NoGenesis { .. })),
        "{why}"
    );
    fs::write(
        folder.path().join("genesis"),
        market::codec::encode(&genesis()),
    )
    .unwrap();
    let mut other = genesis();
    other.treasurers.clear();
    let config = Config {
        folder: folder.path().to_owned(),
        genesis: Some(other),
        listen_peers: None,
    };
    let why = refused(config).await;
    assert!(
        matches!(why, StartError::Folder(FolderError::OtherGenesis { .. })),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_blocks_are_an_error_and_not_a_hang() {
    require_refused_with_damage("-blocks-").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_state_is_an_error_and_not_a_hang() {
    require_refused_with_damage("-state-").await;
}

/// Starts a node whose engine's files of some kind were overwritten.
async fn require_refused_with_damage(kind: &str) {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let alice = fresh_key();
    for nonce in 0..3 {
        apply(&node.handle(), issue(nonce, account(&alice), 10)).await;
    }
    node.stop().await.unwrap();
    let mut damaged = 0;
    for partition in fs::read_dir(folder.path().join("engine"))
        .unwrap()
        .map(Result::unwrap)
    {
        if partition.file_name().to_str().unwrap().contains(kind) {
            for blob in fs::read_dir(partition.path()).unwrap().map(Result::unwrap) {
                let bytes = fs::read(blob.path()).unwrap();
                fs::write(blob.path(), vec![0x5a; bytes.len()]).unwrap();
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0, "the engine keeps its files elsewhere now");
    let config = Config {
        folder: folder.path().to_owned(),
        genesis: None,
        listen_peers: None,
    };
    let why = tokio::time::timeout(PATIENCE, refused(config))
        .await
        .expect("the start hangs");
    assert!(
        matches!(why, StartError::Engine { .. } | StartError::Store(_)),
        "{why}"
    );
}
