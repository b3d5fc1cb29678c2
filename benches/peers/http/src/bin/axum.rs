//! The work of `encrypt` over axum, hyper and tokio, on one thread.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use quantonium_http_peers::{Outcome, Work, address};

async fn encrypt(State(work): State<Arc<Work>>, headers: HeaderMap, body: Bytes) -> Response {
    match work.encrypt(headers.get("x-api-key").map(|value| value.as_bytes()), &body) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(status) => {
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }
    }
}

async fn serve() -> Outcome<()> {
    let router = Router::new()
        .route(
            "/api/health",
            get(|| async { ([(header::CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#) }),
        )
        .route("/api/encrypt", post(encrypt))
        .layer(DefaultBodyLimit::max(2 << 20))
        .with_state(Arc::new(Work::new()?));
    let listener = tokio::net::TcpListener::bind(address()?).await?;
    Ok(axum::serve(listener, router).await?)
}

fn main() -> Outcome<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve())
}
