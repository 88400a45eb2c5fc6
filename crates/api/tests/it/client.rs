//! The client against a scripted server on a real socket.

use std::{sync::Arc, time::Duration};

use api::{Client, ClientError, Code, EventFilter, OfferFilter, Problem};
use market::JobId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Mutex,
    task::JoinHandle,
    time::timeout,
};

/// Answers one request per connection with the next scripted text, and keeps the requests.
struct Server {
    client: Client,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn server(script: Vec<String>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&listener.local_addr().unwrap().to_string()).unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    let task = tokio::spawn(async move {
        for answer in script {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut buffer = [0; 1_024];
                match socket.read(&mut buffer).await.unwrap() {
                    0 => break,
                    n => request.extend_from_slice(&buffer[..n]),
                }
            }
            seen.lock()
                .await
                .push(String::from_utf8_lossy(&request).into_owned());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    Server {
        client,
        requests,
        task,
    }
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn stream(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}")
}

fn problem(code: Code) -> String {
    serde_json::to_string(&Problem::new(code, "for the test")).unwrap()
}

fn event(seq: u64) -> String {
    let lease = market::LeaseId::from_bytes([1; 16]);
    let provider = market::AccountId::of(market::PublicKey::from_bytes([5; 32]));
    format!(
        "id: {seq}\nevent: lease-paid\ndata: {{\"seq\":{seq},\"height\":1,\"time\":\"2026-01-01T00:00:00.000Z\",\
         \"tx\":null,\"kind\":\"lease-paid\",\"lease\":\"{lease}\",\"provider\":\"{provider}\",\
         \"amount\":{{\"micros\":\"1\"}}}}\n\n"
    )
}

#[tokio::test]
async fn a_busy_gateway_is_asked_again() {
    let page = r#"{"items":[],"next":null}"#;
    let busy = answer(
        "503 Busy",
        "application/problem+json",
        &problem(Code::Overloaded),
    );
    let server = server(vec![busy, answer("200 OK", "application/json", page)]).await;
    let offers = server
        .client
        .offers(&OfferFilter {
            available: true,
            ..OfferFilter::default()
        })
        .await
        .unwrap();
    assert!(offers.items.is_empty());
    let requests = server.requests.lock().await;
    assert_eq!(requests.len(), 2);
    assert!(
        requests[0].starts_with("GET /api/v1/offers?available=true HTTP/1.1\r\n"),
        "{}",
        requests[0]
    );
}

#[tokio::test]
async fn a_refusal_is_not_asked_again() {
    let no = answer(
        "404 Not Found",
        "application/problem+json",
        &problem(Code::NoJob),
    );
    let server = server(vec![no]).await;
    let error = server.client.job("job_7k").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NoJob));
    assert_eq!(server.requests.lock().await.len(), 1);
}

#[tokio::test]
async fn foreign_answers_are_named_so() {
    let server = server(vec![answer("200 OK", "text/html", "<html>hello</html>")]).await;
    let error = server.client.status().await.unwrap_err();
    assert!(
        matches!(&error, ClientError::BadReply { why, .. } if why.contains("<html>")),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&listener.local_addr().unwrap().to_string()).unwrap();
    drop(listener);
    let error = client.status().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unreachable));
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_cut_stream_resumes_by_number_without_repeats() {
    let first = stream(&format!("retry: 1000\n\n{}{}id: 6\nda", event(3), event(4)));
    // The second connection repeats an event, and says that everything up to 9 was looked at.
    let second = stream(&format!("{}{}: beat\nid: 9\n\n", event(4), event(5)));
    let third = stream(&event(12));
    let server = server(vec![first, second, third]).await;
    let mut events = server
        .client
        .events(Some(2), EventFilter::job(JobId::from_bytes([1; 16])));
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let event = timeout(Duration::from_secs(10), events.next())
            .await
            .unwrap()
            .unwrap();
        seen.push(event.seq);
    }
    assert_eq!(seen, [3, 4, 5, 12]);
    assert_eq!(events.position(), Some(12));
    let requests = server.requests.lock().await;
    let job = JobId::from_bytes([1; 16]);
    for (request, after) in requests.iter().zip([2, 4, 9]) {
        assert!(
            request.starts_with(&format!("GET /api/v1/events?after={after}&job={job} ")),
            "{request}"
        );
    }
}

#[tokio::test]
async fn a_refused_stream_says_why_at_once() {
    let no = answer(
        "410 Gone",
        "application/problem+json",
        &problem(Code::EventsGone),
    );
    let server = server(vec![no]).await;
    let mut events = server.client.events(None, EventFilter::default());
    let error = timeout(Duration::from_secs(5), events.next())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::EventsGone));
}
