//! OpenAI's API: `/v1/embeddings`, `/v1/models`.

use crate::options::Empty;
use crate::serve::answer;
use crate::serve::app::{App, Context};
use crate::serve::ask::Manners;
use crate::serve::embed::{Answer, embed, read};
use crate::serve::refusal::{Kind, Refusal};
use crate::serve::vectors::{Values, values};
use crate::serve::words::TooLong;
use crate::tasks::Task;
use axum::Json;
use axum::extract::{Extension, Path, Request, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Too long is an error, whatever fields of others a request has.
const MANNERS: Manners =
    Manners { too_long: TooLong::Error, lenient_length: false, token_ids: true, empty: Empty::Refuse };

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Values,
}

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// `POST /v1/embeddings`
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let ask = read(&app, request, MANNERS).await?;
    let output = ask.output()?;
    let Answer { model, vectors, record } = embed(&app, &context, ask).await?;
    let usage = Usage { prompt_tokens: record.tokens, total_tokens: record.tokens };
    answer::json(record, move || {
        let embedding = |(index, vector)| Embedding { object: "embedding", index, embedding: values(vector, output) };
        let data = vectors.into_iter().enumerate().map(embedding).collect();
        List { object: "list", data, model, usage }
    })
    .await
}

/// `GET /v1/models`: each model by its name, and by those that stand for a kind of text.
pub(crate) async fn models(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    let named = app.ready()?.names().iter();
    let kinds = ["", ":query", ":document"];
    let names = named.flat_map(|named| kinds.iter().map(move |kind| format!("{}{kind}", named.name)));
    let data: Vec<Value> = names.map(|name| model_card(&app, &name)).collect::<Result<_, _>>()?;
    Ok(Json(json!({ "object": "list", "data": data })))
}

/// `GET /v1/models/{id}`
pub(crate) async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let known = |name: &str| {
        let base = name.strip_suffix(":query").or(name.strip_suffix(":document")).or(name.strip_suffix(":latest"));
        app.models()
            .is_some_and(|models| models.names().iter().any(|named| named.name == name || Some(&*named.name) == base))
    };
    if !known(&id) {
        let message = format!("the model {id:?} is not served here");
        return Err(Refusal::new(Kind::NotFound, message).code("model_not_found"));
    }
    model_card(&app, &id).map(Json)
}

fn model_card(app: &App, name: &str) -> Result<Value, Refusal> {
    let chosen = app.ready()?.choose(Some(name))?;
    let (loaded, embedder) = (&chosen.loaded, &chosen.loaded.embedder);
    let created = loaded.opened.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    Ok(json!({
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "qembed-q",
        "qembed": {
            "level": loaded.level,
            "dimensions": embedder.dimensions(),
            "default_dimensions": chosen.defaults.dimensions.unwrap_or(embedder.dimensions()),
            "max_tokens": embedder.max_tokens(),
            "instruction": chosen.defaults.prompt.map(|prompt| prompt.prefix()).unwrap_or_default(),
            "tasks": Task::ALL.iter().map(|task| task.name).collect::<Vec<_>>(),
        },
    }))
}

/// `{"error": {"message", "type", "param", "code"}}`
pub(crate) fn refuse(refusal: &Refusal) -> (u16, Value) {
    let kind = match refusal.kind {
        Kind::Unauthorized => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::NotFound => "not_found_error",
        Kind::Overloaded => "rate_limit_error",
        Kind::Timeout | Kind::Slow => "timeout_error",
        Kind::Internal | Kind::Unavailable | Kind::NotImplemented => "server_error",
        Kind::Invalid | Kind::Empty | Kind::TooLarge | Kind::Method => "invalid_request_error",
    };
    let error = json!({ "message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code });
    (refusal.kind.status(), json!({ "error": error }))
}
