//! Which dialect a route speaks, and what a refusal looks like in it.

use crate::serve::refusal::Refusal;
use crate::serve::{cohere, llama_server, ollama, openai, tei};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// The manners of a client's own server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Ollama,
    Tei,
    Cohere,
    LlamaServer,
}

impl Dialect {
    /// By the path of a request.
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/" | "/embed" | "/embed_all" | "/embed_sparse" | "/info" | "/similarity" | "/decode" => Self::Tei,
            "/embedding" | "/tokenize" | "/detokenize" | "/props" => Self::LlamaServer,
            "/v1/embed" | "/v2/embed" => Self::Cohere,
            _ if path.starts_with("/api/") => Self::Ollama,
            _ => Self::OpenAi,
        }
    }

    /// A refusal in its words.
    pub(crate) fn refuse(self, refusal: &Refusal) -> Response {
        let (status, body): (u16, Value) = match self {
            Self::OpenAi => openai::refuse(refusal),
            Self::Ollama => ollama::refuse(refusal),
            Self::Tei => tei::refuse(refusal),
            Self::Cohere => cohere::refuse(refusal),
            Self::LlamaServer => llama_server::refuse(refusal),
        };
        (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(body)).into_response()
    }
}
