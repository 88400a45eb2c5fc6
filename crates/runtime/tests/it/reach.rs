//! Registries that send us where they should not.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use runtime::image::{ImageError, resolve_as};
use runtime::{Blame, Reach, Registries};

/// Serves on a port of its own, and returns that.
async fn serve(router: Router) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

async fn pull(port: u16, allowed: &str) -> ImageError {
    let registries = Registries {
        reach: Reach::PublicAnd(vec![allowed.replace("PORT", &port.to_string())]),
        ..Registries::default()
    };
    let image = format!("127.0.0.1:{port}/demo/app:v1").parse().unwrap();
    resolve_as(&image, &registries, None).await.unwrap_err()
}

#[tokio::test]
async fn neither_redirects_nor_token_servers_lead_to_private_addresses() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = asked.clone();
    let inner = Router::new().fallback(get(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async { "{}" }
    }));
    let inner = serve(inner).await;
    let to = format!("http://127.0.0.1:{inner}/secret");
    let sends_on = Router::new().fallback(get(async move || {
        (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
    }));
    let realm = format!("Bearer realm=\"http://127.0.0.1:{inner}/token\"");
    let wants_token = Router::new().fallback(get(async move || {
        (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, realm)],
        )
            .into_response()
    }));
    for router in [sends_on, wants_token] {
        let port = serve(router).await;
        for allowed in ["127.0.0.1:PORT", "elsewhere"] {
            let refused = pull(port, allowed).await;
            assert!(
                matches!(&refused, ImageError::OutOfReach { host } if host == "127.0.0.1"),
                "{refused:?}"
            );
            assert_eq!(refused.blame(), Blame::Tenant);
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 0);
        // Where the whole host is allowed, they are followed.
        let other = pull(port, "127.0.0.1").await;
        assert!(!matches!(other, ImageError::OutOfReach { .. }), "{other:?}");
        assert_eq!(asked.swap(0, std::sync::atomic::Ordering::SeqCst), 1);
    }
}
