//! Which path goes where.

use crate::serve::app::App;
use crate::serve::guard::{guard, origin_may_ask, worth_compressing};
use crate::serve::refusal::{Kind, Refusal};
use crate::serve::{cohere, llama_server, ollama, openai, page, tei, tokenize};
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{HOST, HeaderName};
use axum::http::{HeaderValue, Method, request};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::decompression::RequestDecompressionLayer;

/// Wherever a client would look for a reranker.
const RERANK: [&str; 7] = ["/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/score", "/v1/score"];

/// All routes, behind all that every request passes.
pub(crate) fn routes(app: &Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/", get(page::root).post(tei::root))
        .route("/docs", get(page::docs))
        .route("/openapi.json", get(page::openapi))
        .route("/health", get(page::health))
        .route("/ping", get(page::health))
        .route("/ready", get(page::ready))
        .route("/metrics", get(page::metrics))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/embeddings", post(openai::embeddings))
        .route("/openai/deployments/{deployment}/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/models", get(openai::models))
        .route("/v1/models/{*id}", get(openai::model))
        .route("/api/embed", post(ollama::embed_texts))
        .route("/api/embeddings", post(ollama::embed_one))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::ps))
        .route("/api/show", post(ollama::show))
        .route("/api/version", get(ollama::version))
        .route("/api/{*rest}", get(ollama::other).post(ollama::other).delete(ollama::other))
        .route("/embed", post(tei::embed_texts))
        .route("/embed_all", post(tei::embed_all))
        .route("/embed_sparse", post(tei::embed_sparse))
        .route("/similarity", post(tei::similarity))
        .route("/info", get(tei::info))
        .route("/v2/embed", post(cohere::embed_v2))
        .route("/v1/embed", post(cohere::embed_v1))
        .route("/embedding", post(llama_server::embedding))
        .route("/props", get(llama_server::props))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/decode", post(tokenize::decode));
    for path in RERANK {
        router = router.route(path, post(rerank));
    }
    let origins = app.options.allow_origins.clone();
    let origin = move |origin: &HeaderValue, request: &request::Parts| {
        let host = request.headers.get(HOST).and_then(|value| value.to_str().ok());
        origin.to_str().is_ok_and(|origin| origin_may_ask(origin, host, &origins))
    };
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(origin))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(
            ["x-request-id", "x-truncated-inputs", "x-cache-hits", "retry-after-ms"].map(HeaderName::from_static),
        )
        .max_age(Duration::from_secs(3600));
    router
        .fallback(async || Refusal::new(Kind::NotFound, "there is no such route: /openapi.json has all there are"))
        .method_not_allowed_fallback(async || Refusal::new(Kind::Method, "the route is there, but not for this method"))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::disable())
        .layer(RequestDecompressionLayer::new())
        .layer(from_fn_with_state(app.clone(), guard))
        .layer(cors)
        .layer(CompressionLayer::new().compress_when(worth_compressing))
        .with_state(app.clone())
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    Refusal::new(Kind::Internal, "a fault in the program; please report it").into_response()
}

async fn rerank(State(_): State<Arc<App>>) -> Refusal {
    Refusal::new(
        Kind::NotImplemented,
        "there is no reranker yet: embed the query (input_type=query) and the documents, and compare their vectors",
    )
}
