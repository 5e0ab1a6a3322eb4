//! Pages and answers about the server itself.

use crate::serve::app::App;
use crate::serve::openapi;
use crate::serve::refusal::Refusal;
use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;

/// Nothing from elsewhere; what stands in the page itself may run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn html(text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-cache"),
        (VARY, "accept"),
    ];
    (headers, text).into_response()
}

/// `GET /`: a page for browsers; for all others the words by which clients know Ollama.
pub(crate) async fn root(headers: HeaderMap) -> Response {
    let wants_html =
        headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains("text/html"));
    if wants_html { html(include_str!("page.html")) } else { ([(VARY, "accept")], "Ollama is running").into_response() }
}

/// `GET /docs`: what there is, for people.
pub(crate) async fn docs() -> Response {
    html(include_str!("docs.html"))
}

/// `GET /openapi.json`: what there is, for programs.
pub(crate) async fn openapi(State(app): State<Arc<App>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], openapi::text(&app)).into_response()
}

/// `GET /health`: whether requests are answered.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    match app.health() {
        Ok(_) => Json(json!({ "status": "ok" })).into_response(),
        Err(refusal) => {
            let status = json!({ "status": "unavailable", "reason": refusal.message });
            (StatusCode::SERVICE_UNAVAILABLE, Json(status)).into_response()
        }
    }
}

/// `GET /ready`: the same, for who wants to know how much there is to do.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    app.health()?;
    let load = app.engine.load();
    let ready = json!({ "status": "ok", "queue": { "texts": load.texts, "tokens": load.tokens }, "tokens_per_second": load.rate });
    Ok(Json(ready).into_response())
}

/// `GET /metrics`
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics_text();
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
