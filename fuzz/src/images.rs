//! Images, archives and device descriptions: what a registry, a folder or a tenant's file may hold.

use runtime::{cdi, image::foreign};

pub(crate) fn manifest(bytes: &[u8]) {
    drop(foreign::manifest(bytes));
    drop(foreign::archive_manifest(bytes));
    drop(foreign::config(bytes, 1));
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let layer = r#""mediaType":"application/vnd.oci.image.layer.v1.tar+gzip""#;
    let texts = [
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":7}},"layers":[{{{layer},"digest":"{digest}","size":9}}]}}"#
        ),
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":7,"platform":{{"architecture":"amd64","os":"linux"}}}}]}}"#
        ),
        format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["A=1"],"Cmd":["/x"]}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
        ),
        r#"[{"Config":"c.json","RepoTags":["a:b"],"Layers":["l.tar"]}]"#.to_owned(),
    ];
    texts.map(String::into_bytes).into()
}

pub(crate) fn layer(bytes: &[u8]) {
    drop(foreign::layer(bytes));
    drop(foreign::archive(bytes));
}

/// A tar of one file and a link, written by hand: name, size, kind and checksum are all that matters.
pub(crate) fn layers() -> Vec<Vec<u8>> {
    let entry = |name: &str, kind: u8, link: &str, body: &[u8]| {
        let mut head = [0_u8; 512];
        let put = |head: &mut [u8; 512], at: usize, text: &[u8]| {
            head[at..at + text.len()].copy_from_slice(text);
        };
        put(&mut head, 0, name.as_bytes());
        put(&mut head, 100, b"0000644\0");
        put(&mut head, 124, format!("{:011o}\0", body.len()).as_bytes());
        put(&mut head, 148, b"        ");
        head[156] = kind;
        put(&mut head, 157, link.as_bytes());
        put(&mut head, 257, b"ustar\x0000");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut head, 148, format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = head.to_vec();
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    let tar = [
        entry("bin/app", b'0', "", b"#!/bin/sh\n"),
        entry("bin/link", b'2', "../app", b""),
        entry("etc/.wh.old", b'0', "", b""),
        vec![0; 1_024],
    ];
    vec![tar.concat()]
}

pub(crate) fn registry(bytes: &[u8]) {
    foreign::credentials(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        foreign::headers(text);
    }
}

pub(crate) fn registries() -> Vec<Vec<u8>> {
    let texts = [
        r#"Bearer realm="https://auth.example.org/token",service="r",scope="repository:a:pull""#,
        "bytes 10-19/100",
        r#"{"token":"t","expires_in":300}"#,
        r#"{"auths":{"example.org":{"auth":"dTpw"}}}"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

pub(crate) fn devices(bytes: &[u8]) {
    drop(cdi::check(bytes));
}

pub(crate) fn device_specs() -> Vec<Vec<u8>> {
    let yaml = "cdiVersion: 0.6.0\nkind: example.org/gpu\ndevices:\n- name: '0'\n  containerEdits:\n    env: [A=1]\n    deviceNodes:\n    - path: /dev/null\n";
    vec![yaml.as_bytes().to_vec()]
}
