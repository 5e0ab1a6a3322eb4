//! Ollama's API: `/api/embed` and what its clients ask before they use it.

use crate::digest::hex;
use crate::options::Empty;
use crate::serve::answer::json;
use crate::serve::app::{App, Context};
use crate::serve::ask::{Ask, Manners};
use crate::serve::body;
use crate::serve::embed::{Answer, check_dimensions, embed};
use crate::serve::fields::{Field, Fields};
use crate::serve::models::{Loaded, Named};
use crate::serve::refusal::{Kind, Refusal};
use crate::serve::vectors::{Values, values};
use crate::serve::words::TooLong;
use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is too long is cut, and an empty text has a vector.
const MANNERS: Manners =
    Manners { too_long: TooLong::Right, lenient_length: true, token_ids: true, empty: Empty::EndToken };

/// The version of Ollama whose answers these are like. Clients compare it, number by number, with the oldest that they can
/// use (VS Code with 0.6.4), and some can read nothing but three numbers.
const VERSION: &str = "0.30.0";

#[derive(Serialize)]
struct Embeddings {
    model: String,
    embeddings: Vec<Values>,
    /// Nanoseconds.
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
}

#[derive(Serialize)]
struct Embedding {
    embedding: Option<Values>,
}

/// `POST /api/embed`
pub(crate) async fn embed_texts(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let Asked { model: asked, ask } = read(&app, request).await?;
    let load_duration = nanoseconds(&context);
    if ask.items.is_empty() {
        return Ok(Json(json!({ "model": asked.unwrap_or_default(), "embeddings": [] })).into_response());
    }
    let output = ask.output()?;
    let Answer { model, vectors, record } = embed(&app, &context, ask).await?;
    let (total_duration, prompt_eval_count) = (nanoseconds(&context), record.tokens);
    let model = asked.unwrap_or(model);
    json(record, move || {
        let embeddings = vectors.into_iter().map(|vector| values(vector, output)).collect();
        Embeddings { model, embeddings, total_duration, load_duration, prompt_eval_count }
    })
    .await
}

/// `POST /api/embeddings`, of which newer clients make no use: one text.
pub(crate) async fn embed_one(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let Asked { ask, .. } = read(&app, request).await?;
    if !ask.lone {
        return Err(Refusal::field(ask.input, "is one text here: lists of texts are for /api/embed"));
    }
    if ask.items.is_empty() {
        return Ok(Json(json!({ "embedding": [] })).into_response());
    }
    let output = ask.output()?;
    let Answer { vectors, record, .. } = embed(&app, &context, ask).await?;
    json(record, move || Embedding { embedding: vectors.into_iter().next().map(|vector| values(vector, output)) }).await
}

struct Asked {
    /// The name that the client has for the model, which it gets back.
    model: Option<String>,
    /// Of no text where there is none: clients have a model loaded that way.
    ask: Ask,
}

async fn read(app: &App, request: Request) -> Result<Asked, Refusal> {
    let body = body::read(app, request.into_body()).await?;
    let fields = Fields::parse(&body.bytes)?;
    let model = fields.get::<String>(Field::Model)?.map(|(_, model)| model);
    let ask = match fields.raw(Field::Texts) {
        Some(_) => Ask::new(&fields, MANNERS, app.options.max_items)?,
        None => Ask::of("input", Vec::new(), true, &fields, MANNERS)?,
    };
    if ask.items.is_empty() {
        let chosen = app.ready()?.choose(model.as_deref())?;
        check_dimensions(&chosen.loaded, ask.dimensions)?;
    }
    Ok(Asked { model, ask })
}

fn nanoseconds(context: &Context) -> u64 {
    context.start.elapsed().as_nanos().try_into().unwrap_or(u64::MAX)
}

/// `GET /api/tags`: each model by its names.
pub(crate) async fn tags(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    let models = list(&app, |name, loaded| {
        json!({
            "name": name,
            "model": name,
            "modified_at": rfc3339(loaded.modified()),
            "size": loaded.embedder.file_size(),
            "digest": digest(loaded),
            "details": details(loaded),
            "capabilities": ["embedding"],
        })
    })?;
    Ok(Json(json!({ "models": models })))
}

/// `GET /api/ps`: the same models, for all of them are loaded.
pub(crate) async fn ps(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    let models = list(&app, |name, loaded| {
        json!({
            "name": name,
            "model": name,
            "size": loaded.embedder.file_size(),
            "digest": digest(loaded),
            "details": details(loaded),
            // They stay.
            "expires_at": "9999-12-31T23:59:59Z",
            "size_vram": 0,
            "context_length": loaded.embedder.max_tokens(),
        })
    })?;
    Ok(Json(json!({ "models": models })))
}

fn list(app: &App, card: impl Fn(&str, &Loaded) -> Value) -> Result<Vec<Value>, Refusal> {
    let cards = |named: &Named| {
        let loaded = named.loaded();
        names(&named.name).map(|name| card(&name, &loaded))
    };
    Ok(app.ready()?.names().iter().flat_map(cards).collect())
}

/// The names of a model as Ollama has them, with a tag.
fn names(name: &str) -> [String; 3] {
    let first = if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
    [first, format!("{name}:query"), format!("{name}:document")]
}

/// `POST /api/show`
pub(crate) async fn show(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, Refusal> {
    let body = body::read(&app, request.into_body()).await?;
    let fields = Fields::parse(&body.bytes)?;
    let model = fields.get::<String>(Field::Model)?.map(|(_, model)| model);
    let chosen = app.ready()?.choose(model.as_deref())?;
    let (loaded, config) = (&chosen.loaded, chosen.loaded.embedder.config());
    Ok(Json(json!({
        "modelfile": format!("FROM {}", chosen.name),
        "parameters": "",
        "template": format!("{}{{{{ .Prompt }}}}", chosen.defaults.prompt.map(|prompt| prompt.prefix()).unwrap_or_default()),
        "details": details(loaded),
        "model_info": {
            "general.architecture": "qwen3",
            "general.basename": chosen.name,
            "general.parameter_count": loaded.parameters,
            "qwen3.attention.head_count": config.heads.heads,
            "qwen3.attention.head_count_kv": config.heads.kv_heads,
            "qwen3.attention.key_length": config.heads.head_dim,
            "qwen3.attention.layer_norm_rms_epsilon": config.eps,
            "qwen3.attention.value_length": config.heads.head_dim,
            "qwen3.block_count": config.layers,
            "qwen3.context_length": config.context,
            "qwen3.embedding_length": config.hidden,
            "qwen3.feed_forward_length": config.ffn,
            // The last token's.
            "qwen3.pooling_type": 3,
            "qwen3.rope.freq_base": config.rope_base,
        },
        "capabilities": ["embedding"],
        "modified_at": rfc3339(loaded.modified()),
    })))
}

fn details(loaded: &Loaded) -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": "qwen3",
        "families": ["qwen3"],
        "parameter_size": parameter_size(loaded.parameters),
        "quantization_level": loaded.level,
        "context_length": loaded.embedder.max_tokens(),
        "embedding_length": loaded.embedder.dimensions(),
    })
}

/// A count as Ollama writes it: 595.78M, 4.0B.
fn parameter_size(count: u64) -> String {
    let of = |unit: f64| count as f64 / unit;
    match count {
        1_000_000_000.. => format!("{:.1}B", of(1e9)),
        1_000_000.. => format!("{:.2}M", of(1e6)),
        1_000.. => format!("{:.0}K", of(1e3)),
        _ => count.to_string(),
    }
}

/// Stands for the file: another one has another. Nobody waits until it has been read to the end.
fn digest(loaded: &Loaded) -> String {
    let about = format!("{:?} {:?} {}", loaded.path, loaded.modified(), loaded.embedder.file_size());
    hex(&Sha256::digest(about))
}

/// A time as RFC 3339 has it, by the calendar's rule of 400 years.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let months = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, days + 1)
}

/// `GET /api/version`
pub(crate) async fn version() -> Json<Value> {
    Json(json!({ "version": VERSION }))
}

/// Whatever else Ollama has under `/api`.
pub(crate) async fn other() -> Refusal {
    let message = "only embeddings are to be had here: /api/embed; texts are not generated, and models are chosen when the \
                   server is started";
    Refusal::new(Kind::NotImplemented, message)
}

/// `{"error": …}`
pub(crate) fn refuse(refusal: &Refusal) -> (u16, Value) {
    (refusal.kind.status(), json!({ "error": refusal.message }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::tests::{Fixture, floats};
    use axum::http::Method;
    use std::time::Duration;

    #[test]
    fn vectors_of_one_text_and_of_several() {
        let fixture = Fixture::new();
        let body = r#"{"model": "tiny:latest", "input": ["a", ""], "truncate": true, "keep_alive": "5m", "options": {"num_ctx": 9}}"#;
        let (status, answer) = fixture.post("/api/embed", body);
        assert_eq!((status, answer["model"].as_str()), (200, Some("tiny:latest")), "{answer}");
        assert_eq!(answer["embeddings"].as_array().map(Vec::len), Some(2));
        assert_eq!(answer["prompt_eval_count"], 3, "each has an end token");
        assert!(answer["total_duration"].as_u64() >= answer["load_duration"].as_u64());
        let (_, lone) = fixture.post("/api/embed", r#"{"model": "tiny", "input": "a"}"#);
        assert_eq!(lone["embeddings"][0], answer["embeddings"][0]);
        let (_, older) = fixture.post("/api/embeddings", r#"{"model": "tiny", "prompt": "a"}"#);
        assert_eq!(older["embedding"], answer["embeddings"][0]);
        assert_eq!(floats(&older["embedding"]).len(), 32);
        let (_, query) = fixture.post("/api/embed", r#"{"model": "tiny:query", "input": "a"}"#);
        assert_ne!(query["embeddings"][0], answer["embeddings"][0]);
    }

    #[test]
    fn no_text_has_no_vector() {
        let fixture = Fixture::new();
        for body in [r#"{"model": "tiny", "input": []}"#, r#"{"model": "tiny"}"#] {
            let answer = json!({ "model": "tiny", "embeddings": [] });
            assert_eq!(fixture.post("/api/embed", body), (200, answer));
        }
        assert_eq!(fixture.post("/api/embeddings", r#"{"model": "tiny"}"#), (200, json!({ "embedding": [] })));
        assert_eq!(fixture.post("/api/embeddings", r#"{"prompt": []}"#).0, 400);
        for wrong in [r#"{"dimensions": 9999}"#, r#"{"truncate": -132}"#] {
            assert_eq!(fixture.post("/api/embed", wrong).0, 400, "{wrong}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_unless_that_is_not_wanted() {
        let fixture = Fixture::new();
        let body = |truncate| format!(r#"{{"input": "{}", "truncate": {truncate}}}"#, "x".repeat(300));
        assert_eq!(fixture.post("/api/embed", &body("null")).1["prompt_eval_count"], 256);
        let (status, answer) = fixture.post("/api/embed", &body("false"));
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().contains("301 tokens"), "{answer}");
    }

    #[test]
    fn models_and_what_is_known_of_them() {
        let fixture = Fixture::new();
        let (_, tags) = fixture.get("/api/tags");
        let names: Vec<&str> =
            tags["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["tiny:latest", "tiny:query", "tiny:document"]);
        let model = &tags["models"][0];
        assert_eq!(model["digest"].as_str().map(str::len), Some(64));
        assert!(model["size"].as_u64() > Some(1000));
        assert_eq!(model["details"]["quantization_level"], "F16");
        assert_eq!(model["details"]["families"], json!(["qwen3"]));
        let (_, running) = fixture.get("/api/ps");
        assert_eq!(
            (&running["models"][0]["digest"], &running["models"][0]["context_length"]),
            (&model["digest"], &256.into())
        );
        for field in ["model", "name"] {
            let (_, shown) = fixture.post("/api/show", &format!(r#"{{"{field}": "tiny:latest"}}"#));
            assert_eq!(shown["model_info"]["general.architecture"], "qwen3");
            assert_eq!(shown["model_info"]["qwen3.embedding_length"], 32);
            assert_eq!(shown["model_info"]["qwen3.context_length"], 256);
            assert_eq!((&shown["capabilities"], &shown["details"]), (&json!(["embedding"]), &model["details"]));
        }
    }

    #[test]
    fn the_server_is_known_for_one() {
        let fixture = Fixture::new();
        let (_, answer) = fixture.get("/api/version");
        let numbers: Vec<u32> =
            answer["version"].as_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
        assert!(numbers.len() == 3 && numbers >= vec![0, 6, 4]);
        for method in [Method::HEAD, Method::GET] {
            assert_eq!(fixture.send(method.clone(), "/", "").status(), 200);
            assert_eq!(fixture.send(method, "/api/tags", "").status(), 200);
        }
        assert_eq!(fixture.send(Method::GET, "/", "").body(), "Ollama is running");
    }

    #[test]
    fn refusals() {
        let fixture = Fixture::new();
        for (path, body, status) in [
            ("/api/embed", "", 400),
            ("/api/embed", r#"{"input": 7}"#, 400),
            ("/api/embeddings", r#"{"prompt": ["a", "b"]}"#, 400),
            ("/api/generate", r#"{"model": "tiny", "prompt": "a"}"#, 501),
            ("/api/blobs/sha256:0", "", 501),
            ("/api/tags", "", 405),
        ] {
            let (found, answer) = fixture.post(path, body);
            assert_eq!(found, status, "{path} {body}");
            assert!(answer["error"].as_str().is_some_and(|text| text.len() > 9), "{answer}");
        }
    }

    #[test]
    fn counts_and_times_as_text() {
        let counts = [595_776_512, 4_021_774_336, 12_345, 999].map(parameter_size);
        assert_eq!(counts, ["595.78M", "4.0B", "12K", "999"]);
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (13_574_563_200, "2400-02-29T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
