//! One route over HTTP/1.1, one connection at a time: a scraper asks some times a minute, and nobody else should.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{MEDIA_TYPE, Metrics};

/// For one connection, from its first byte to our last: whoever is slower holds up the next.
const CONNECTION_MAX: Duration = Duration::from_secs(2);
/// Longest head of a request: a scraper's has some hundred bytes.
const HEAD_BYTES_MAX: usize = 4 << 10;
/// After an accept that failed, as for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address} for metrics")]
pub struct ServeError {
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// Listens, and returns where and what answers until it is dropped.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
) -> Result<(SocketAddr, impl Future<Output = ()> + Send + 'static), ServeError> {
    let failed = |source| ServeError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let answers = async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            };
            match tokio::time::timeout(CONNECTION_MAX, answer(stream, &metrics)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a scraper went away"),
                Err(_) => tracing::debug!("a scraper was too slow"),
            }
        }
    };
    Ok((bound, answers))
}

async fn answer(mut stream: TcpStream, metrics: &Metrics) -> io::Result<()> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut piece).await?;
        if read == 0 || head.len() + read > HEAD_BYTES_MAX {
            return reply(&mut stream, "400 Bad Request", "a request is wanted\n").await;
        }
        head.extend(piece.iter().take(read));
    }
    if head.starts_with(b"GET /metrics ") {
        return reply(&mut stream, "200 OK", &metrics.text()).await;
    }
    reply(&mut stream, "404 Not Found", "there is GET /metrics only\n").await
}

async fn reply(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(at: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_are_answered_and_nothing_else() {
        let metrics = Metrics::new();
        metrics.beat();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (at, answers) = serve(any, metrics).await.unwrap();
        let serving = tokio::spawn(answers);
        let good = ask(at, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(good.starts_with("HTTP/1.1 200 OK\r\n"), "{good}");
        assert!(good.contains("\ntradewind_agent_beats_total 1\n"), "{good}");
        assert!(good.ends_with("# EOF\n"), "{good}");
        let other = ask(at, b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(other.starts_with("HTTP/1.1 404 "), "{other}");
        let endless = ask(at, &[b'x'; HEAD_BYTES_MAX + 1]).await;
        assert!(endless.starts_with("HTTP/1.1 400 "), "{endless}");
        // Whoever says nothing is not waited for: the next is served.
        let _silent = TcpStream::connect(at).await.unwrap();
        assert!(
            ask(at, b"GET /metrics HTTP/1.1\r\n\r\n")
                .await
                .contains(" 200 OK")
        );
        serving.abort();
    }
}
