//! What llama-server has besides OpenAI's API: `/embedding`, `/props`.

use crate::options::Empty;
use crate::serve::answer::json;
use crate::serve::app::{App, Context};
use crate::serve::ask::Manners;
use crate::serve::embed::{Answer, embed, read};
use crate::serve::refusal::{Kind, Refusal};
use crate::serve::vectors::{Values, values};
use crate::serve::words::TooLong;
use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Too long is an error, as it is there, and so is an empty text.
const MANNERS: Manners =
    Manners { too_long: TooLong::Error, lenient_length: false, token_ids: true, empty: Empty::Refuse };

#[derive(Serialize)]
struct Embedding {
    index: usize,
    /// One vector, or several where there is no pooling, which is not to be had here.
    embedding: [Values; 1],
}

/// `POST /embedding`
pub(crate) async fn embedding(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let ask = read(&app, request, MANNERS).await?;
    let output = ask.output()?;
    let Answer { vectors, record, .. } = embed(&app, &context, ask).await?;
    json(record, move || {
        let embedding = |(index, vector)| Embedding { index, embedding: [values(vector, output)] };
        vectors.into_iter().enumerate().map(embedding).collect::<Vec<_>>()
    })
    .await
}

/// `GET /props`: what clients read of it, the length that a text may have, and the name of the model's file.
pub(crate) async fn props(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    let chosen = app.ready()?.choose(None)?;
    let embedder = &chosen.loaded.embedder;
    let file = chosen.loaded.path.as_deref().and_then(Path::file_name).unwrap_or_default();
    Ok(Json(json!({
        "default_generation_settings": { "n_ctx": embedder.max_tokens() },
        "total_slots": 1,
        "model_alias": chosen.name,
        "model_path": file.to_string_lossy(),
        "modalities": { "vision": false, "audio": false },
        "build_info": concat!("qembed-q ", env!("CARGO_PKG_VERSION")),
    })))
}

/// `{"error": {"code", "message", "type"}}`
pub(crate) fn refuse(refusal: &Refusal) -> (u16, Value) {
    let kind = match refusal.kind {
        Kind::Unauthorized => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::NotFound => "not_found_error",
        Kind::NotImplemented => "not_supported_error",
        Kind::Unavailable | Kind::Overloaded => "unavailable_error",
        Kind::Internal | Kind::Timeout => "server_error",
        Kind::Invalid | Kind::Empty | Kind::TooLarge | Kind::Method | Kind::Slow => "invalid_request_error",
    };
    let status = refusal.kind.status();
    (status, json!({ "error": { "code": status, "message": refusal.message, "type": kind } }))
}

#[cfg(test)]
mod tests {
    use crate::serve::tests::{Fixture, floats};

    #[test]
    fn each_text_has_a_list_of_one_vector() {
        let fixture = Fixture::new();
        let (status, answer) = fixture.post("/embedding", r#"{"content": ["a", "b"]}"#);
        assert_eq!(status, 200, "{answer}");
        assert_eq!((answer[1]["index"].as_u64(), answer.as_array().map(Vec::len)), (Some(1), Some(2)));
        let unit = floats(&answer[0]["embedding"][0]);
        let length = |vector: &[f32]| vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert_eq!(unit.len(), 32);
        assert!((length(&unit) - 1.0).abs() < 1e-5, "{}", length(&unit));
        let (_, answer) = fixture.post("/embedding", r#"{"content": "a", "embd_normalize": -1}"#);
        assert!((length(&floats(&answer[0]["embedding"][0])) - 1.0).abs() > 1e-3);
    }

    #[test]
    fn refusals() {
        let fixture = Fixture::new();
        let long = format!(r#"{{"content": "{}"}}"#, "x".repeat(300));
        let (status, answer) = fixture.post("/embedding", &long);
        assert_eq!((status, answer["error"]["code"].as_u64()), (400, Some(400)), "{answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        assert!(answer["error"]["message"].as_str().unwrap().contains("256"), "{answer}");
        assert_eq!(fixture.get("/embedding").1["error"]["code"], 405);
        for body in [r#"{"content": []}"#, r#"{"content": ""}"#, r#"{"content": {}}"#] {
            assert_eq!(fixture.post("/embedding", body).0, 400, "{body}");
        }
    }

    #[test]
    fn properties() {
        let (_, answer) = Fixture::new().get("/props");
        assert_eq!(answer["default_generation_settings"]["n_ctx"], 256);
        assert_eq!(answer["model_path"], "tiny.gguf");
    }
}
