//! The API of Text Embeddings Inference, which Hugging Face's clients speak.

use crate::digest::hex;
use crate::options::Empty;
use crate::serve::answer::json;
use crate::serve::app::{App, Context};
use crate::serve::ask::{Ask, Manners, OutputType};
use crate::serve::body;
use crate::serve::embed::{Answer, embed, read};
use crate::serve::fields::{Field, Fields, Item, items};
use crate::serve::refusal::{Kind, Refusal};
use crate::serve::vectors::{Values, values};
use crate::serve::words::TooLong;
use crate::tasks::Task;
use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

/// What is too long is cut, and an empty text has a vector.
const MANNERS: Manners =
    Manners { too_long: TooLong::Right, lenient_length: true, token_ids: true, empty: Empty::EndToken };
/// Where the texts of a comparison are.
const SENTENCES: &str = "inputs.sentences";

/// `POST /embed`
pub(crate) async fn embed_texts(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let ask = read(&app, request, MANNERS).await?;
    answer(&app, &context, ask).await
}

/// `POST /similarity`
pub(crate) async fn similarity(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let body = body::read(&app, request.into_body()).await?;
    let ask = comparison(&Fields::parse(&body.bytes)?, app.options.max_items)?;
    drop(body);
    compare(&app, &context, ask).await
}

/// `POST /`, where Hugging Face's clients send what they would send to a model's own page: either of these.
pub(crate) async fn root(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    let body = body::read(&app, request.into_body()).await?;
    let (ask, compares) = {
        let fields = Fields::parse(&body.bytes)?;
        let inputs = fields.raw(Field::Texts).map_or("", |(_, value)| value.get());
        let compares = inputs.starts_with('{') && inputs.contains("source_sentence");
        let most = app.options.max_items;
        (if compares { comparison(&fields, most)? } else { Ask::new(&fields, MANNERS, most)? }, compares)
    };
    drop(body);
    if compares { compare(&app, &context, ask).await } else { answer(&app, &context, ask).await }
}

/// A list of vectors.
async fn answer(app: &Arc<App>, context: &Context, ask: Ask) -> Result<Response, Refusal> {
    let output = ask.output()?;
    let Answer { vectors, record, .. } = embed(app, context, ask).await?;
    json(record, move || vectors.into_iter().map(|vector| values(vector, output)).collect::<Vec<Values>>()).await
}

/// The texts of a comparison: the one that all others are compared with comes last.
fn comparison(fields: &Fields, most: usize) -> Result<Ask, Refusal> {
    #[derive(Deserialize)]
    struct Inputs<'a> {
        source_sentence: String,
        #[serde(borrow)]
        sentences: &'a RawValue,
    }
    let missing = || Refusal::field("inputs", "is missing: an object of `source_sentence` and `sentences`");
    let Inputs { source_sentence, sentences } = fields.own("inputs")?.ok_or_else(missing)?;
    let (mut sentences, lone) = items(SENTENCES, sentences, most)?;
    if lone {
        return Err(Refusal::field(SENTENCES, "has to be a list of texts"));
    }
    if sentences.is_empty() {
        return Err(Refusal::empty_list(SENTENCES));
    }
    sentences.push(Item::Text(source_sentence));
    let parameters = fields.own::<Fields>("parameters")?;
    let ask = Ask::of(SENTENCES, sentences, false, parameters.as_ref().unwrap_or(fields), MANNERS)?;
    let model = fields.get::<String>(Field::Model)?.map(|(_, model)| model);
    Ok(Ask { model, normalize: true, outputs: vec![OutputType::Float], ..ask })
}

/// A list of cosines.
async fn compare(app: &Arc<App>, context: &Context, ask: Ask) -> Result<Response, Refusal> {
    let source = format!("{SENTENCES}[{}]", ask.items.len() - 1);
    let named = |refusal: Refusal| match refusal.param == Some(source.clone()) {
        true => {
            let name = "inputs.source_sentence";
            Refusal { message: refusal.message.replace(&source, name), param: Some(name.into()), ..refusal }
        }
        false => refusal,
    };
    let Answer { mut vectors, record, .. } = embed(app, context, ask).await.map_err(named)?;
    json(record, move || {
        let source = vectors.pop().unwrap_or_default();
        let cosine = |vector: &Vec<f32>| {
            vector.iter().zip(&source).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
        };
        vectors.iter().map(cosine).collect::<Vec<f32>>()
    })
    .await
}

/// `POST /embed_all`
pub(crate) async fn embed_all() -> Refusal {
    let message =
        "vectors of single tokens are not to be had: the model was trained for the last one alone, which is /embed";
    Refusal::new(Kind::NotImplemented, message)
}

/// `POST /embed_sparse`
pub(crate) async fn embed_sparse() -> Refusal {
    Refusal::new(Kind::NotImplemented, "the model has no sparse vectors: /embed has dense ones")
}

/// `GET /info`, about the first model
pub(crate) async fn info(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    let models = app.ready()?;
    let chosen = models.choose(None)?;
    let (loaded, embedder) = (&chosen.loaded, &chosen.loaded.embedder);
    let names: Vec<&str> = models.names().iter().map(|named| named.name.as_str()).collect();
    Ok(Json(json!({
        "model_id": chosen.name,
        "model_sha": loaded.digest().map(|digest| hex(digest)),
        "model_dtype": loaded.level.to_lowercase(),
        "served_model_name": chosen.name,
        "model_type": { "embedding": { "pooling": "last_token" } },
        "max_concurrent_requests": app.options.max_queue,
        "max_input_length": embedder.max_tokens(),
        "max_batch_tokens": embedder.pass_tokens(),
        "max_batch_requests": null,
        "max_client_batch_size": app.options.max_items,
        "auto_truncate": !app.options.strict_length,
        "tokenization_workers": embedder.threads(),
        "version": env!("CARGO_PKG_VERSION"),
        "sha": null,
        "docker_label": null,
        "qembed": {
            "batch_invariant": true,
            "models": names,
            "level": loaded.level,
            "dimensions": embedder.dimensions(),
            "default_dimensions": chosen.defaults.dimensions.unwrap_or(embedder.dimensions()),
            "device": embedder.device(),
            "isa": embedder.isa(),
            "threads": embedder.threads(),
            "tasks": Task::ALL.iter().map(|task| task.name).collect::<Vec<_>>(),
        },
    })))
}

/// `{"error", "error_type"}`, with the statuses that Text Embeddings Inference has.
pub(crate) fn refuse(refusal: &Refusal) -> (u16, Value) {
    let (status, kind) = match refusal.kind {
        Kind::Empty => (400, "Empty"),
        Kind::Invalid => (422, "Validation"),
        Kind::Internal => (424, "Backend"),
        Kind::Overloaded => (429, "Overloaded"),
        Kind::Unavailable => (503, "Unhealthy"),
        Kind::NotImplemented | Kind::Timeout => (refusal.kind.status(), "Backend"),
        Kind::Unauthorized | Kind::Forbidden | Kind::NotFound | Kind::Method | Kind::TooLarge | Kind::Slow => {
            (refusal.kind.status(), "Validation")
        }
    };
    (status, json!({ "error": refusal.message, "error_type": kind }))
}

#[cfg(test)]
mod tests {
    use crate::serve::options::ServeOptions;
    use crate::serve::tests::{Fixture, floats};

    #[test]
    fn a_list_of_vectors_at_both_routes() {
        let fixture = Fixture::new();
        let body =
            r#"{"inputs": ["a", ""], "normalize": true, "prompt_name": "query", "truncation_direction": "Left"}"#;
        let (status, answer) = fixture.post("/embed", body);
        assert_eq!((status, answer.as_array().map(Vec::len)), (200, Some(2)), "{answer}");
        assert_eq!(floats(&answer[0]).len(), 32);
        assert_eq!(fixture.post("/", body).1, answer);
        let (_, lone) = fixture.post("/embed", r#"{"inputs": "a", "prompt_name": "query"}"#);
        assert_eq!(lone[0], answer[0]);
    }

    #[test]
    fn what_is_too_long_is_cut_on_the_side_that_is_named() {
        let fixture = Fixture::new();
        let body = |more: &str| format!(r#"{{"inputs": "{}b"{more}}}"#, "a".repeat(300));
        let vector = |more: &str| fixture.post("/embed", &body(more)).1[0].clone();
        assert_eq!(vector(""), vector(r#", "truncate": true, "truncation_direction": "Right""#));
        assert_ne!(vector(""), vector(r#", "truncate": true, "truncation_direction": "Left""#));
        let (status, answer) = fixture.post("/embed", &body(r#", "truncate": false"#));
        assert_eq!((status, answer["error_type"].as_str()), (422, Some("Validation")), "{answer}");
    }

    #[test]
    fn cosines_with_the_source() {
        let fixture = Fixture::new();
        let body =
            r#"{"inputs": {"source_sentence": "a", "sentences": ["a", "b"]}, "parameters": {"prompt_name": "sts"}}"#;
        let (status, answer) = fixture.post("/similarity", &body.replace("sts", "query"));
        let cosines = floats(&answer);
        assert_eq!((status, cosines.len()), (200, 2));
        assert!((cosines[0] - 1.0).abs() < 1e-6 && cosines[1] < cosines[0], "{cosines:?}");
        assert_eq!(fixture.post("/", &body.replace("sts", "query")).1, answer);
        let long = format!(
            r#"{{"inputs": {{"source_sentence": "{}", "sentences": ["a"]}}, "truncate": false}}"#,
            "x".repeat(300)
        );
        let (_, answer) = fixture.post("/similarity", &long);
        assert!(answer["error"].as_str().unwrap().starts_with("inputs.source_sentence has"), "{answer}");
    }

    #[test]
    fn what_the_server_says_of_itself() {
        let (_, info) = Fixture::with(ServeOptions::default().max_items(77)).get("/info");
        assert_eq!((info["max_client_batch_size"].as_u64(), info["max_input_length"].as_u64()), (Some(77), Some(256)));
        assert_eq!(info["model_type"]["embedding"]["pooling"], "last_token");
        assert_eq!((&info["qembed"]["batch_invariant"], &info["model_id"]), (&true.into(), &"tiny".into()));
    }

    #[test]
    fn refusals() {
        let fixture = Fixture::with(ServeOptions::default().max_items(2).max_queue(1).max_body(500));
        let large = " ".repeat(600);
        for (path, body, status, kind) in [
            ("/embed", r#"{"inputs": []}"#, 400, "Empty"),
            ("/embed", r#"{"inputs": 7}"#, 422, "Validation"),
            ("/embed", r#"{"inputs": ["a", "b", "c"]}"#, 422, "Validation"),
            ("/embed", "no JSON", 422, "Validation"),
            ("/embed", r#"{"inputs": ["a", "b"]}"#, 429, "Overloaded"),
            ("/embed", large.as_str(), 413, "Validation"),
            ("/similarity", r#"{"inputs": {"source_sentence": "a", "sentences": []}}"#, 400, "Empty"),
            ("/similarity", r#"{"inputs": {"source_sentence": "a", "sentences": "b"}}"#, 422, "Validation"),
            ("/similarity", r#"{"inputs": "a"}"#, 422, "Validation"),
            ("/embed_all", r#"{"inputs": "a"}"#, 501, "Backend"),
            ("/embed_sparse", r#"{"inputs": "a"}"#, 501, "Backend"),
            ("/info", "", 405, "Validation"),
        ] {
            let (found, answer) = fixture.post(path, body);
            assert_eq!((found, answer["error_type"].as_str()), (status, Some(kind)), "{path} {body}: {answer}");
            assert!(answer["error"].as_str().is_some_and(|text| text.len() > 9), "{answer}");
        }
    }
}
