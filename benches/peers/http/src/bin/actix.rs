//! The work of `encrypt` over actix-web, with one worker.

use actix_web::http::StatusCode;
use actix_web::rt::System;
use actix_web::web::{Bytes, Data, PayloadConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use quantonium_http_peers::{Outcome, Work, address};

async fn encrypt(request: HttpRequest, work: Data<Work>, body: Bytes) -> HttpResponse {
    match work.encrypt(request.headers().get("x-api-key").map(|value| value.as_bytes()), &body) {
        Ok(json) => HttpResponse::Ok().content_type("application/json").body(json),
        Err(status) => {
            HttpResponse::new(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        }
    }
}

async fn health() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(r#"{"status":"ok"}"#)
}

fn main() -> Outcome<()> {
    let (work, address) = (Data::new(Work::new()?), address()?);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(work.clone())
            .app_data(PayloadConfig::new(2 << 20))
            .route("/api/health", web::get().to(health))
            .route("/api/encrypt", web::post().to(encrypt))
    });
    Ok(System::new().block_on(server.workers(1).bind(address)?.run())?)
}
