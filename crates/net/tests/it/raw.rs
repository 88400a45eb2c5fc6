//! Peers that speak QUIC but not our protocols: bare endpoints and hand-made frames.

use iroh::endpoint::{Connection, RecvStream, presets};
use iroh::{EndpointAddr, SecretKey};
use net::Peer;

pub(crate) async fn endpoint(secret: [u8; 32], alpns: &[&[u8]]) -> iroh::Endpoint {
    iroh::Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&secret))
        .alpns(alpns.iter().map(|alpn| alpn.to_vec()).collect())
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap()
}

pub(crate) fn target(peer: &Peer) -> EndpointAddr {
    let id = iroh::PublicKey::from_bytes(peer.key.as_bytes()).unwrap();
    EndpointAddr::new(id).with_ip_addr(peer.addrs[0])
}

pub(crate) fn peer(endpoint: &iroh::Endpoint) -> Peer {
    Peer {
        key: market::PublicKey::from_bytes(*endpoint.id().as_bytes()),
        addrs: endpoint.bound_sockets(),
    }
}

pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// Opens a stream, writes the bytes, ends it, and returns all that comes back.
pub(crate) async fn exchange(connection: &Connection, bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut send, mut recv) = connection.open_bi().await.ok()?;
    // A peer that has seen enough stops the stream; what it answers counts.
    drop(send.write_all(bytes).await);
    drop(send.finish());
    recv.read_to_end(1 << 20).await.ok()
}

/// Reads one frame's body.
pub(crate) async fn read_frame(recv: &mut RecvStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    recv.read_exact(&mut head).await.ok()?;
    let mut body = vec![0; u32::from_le_bytes(head) as usize];
    recv.read_exact(&mut body).await.ok()?;
    Some(body)
}
