//! Cohere's API: `/v2/embed`, and `/v1/embed` of its older client.

use crate::options::Empty;
use crate::serve::answer::json;
use crate::serve::app::{App, Context};
use crate::serve::ask::{Ask, Manners, OutputType};
use crate::serve::body;
use crate::serve::embed::{Answer, embed};
use crate::serve::fields::{Fields, Item};
use crate::serve::refusal::Refusal;
use crate::serve::vectors::{Values, values};
use crate::serve::words::TooLong;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is too long is cut at its end; an empty text is an error.
const MANNERS: Manners =
    Manners { too_long: TooLong::Right, lenient_length: true, token_ids: false, empty: Empty::Refuse };

#[derive(Serialize)]
struct Embedded {
    id: String,
    response_type: &'static str,
    embeddings: Embeddings,
    texts: Vec<String>,
    meta: Value,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embeddings {
    Floats(Vec<Values>),
    ByType(BTreeMap<&'static str, Vec<Values>>),
}

/// `POST /v2/embed`: a list of vectors by each type that is wanted.
pub(crate) async fn embed_v2(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    answer(app, context, request, "2").await
}

/// `POST /v1/embed`: the same, but a list of vectors alone where no type is named.
pub(crate) async fn embed_v1(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    request: Request,
) -> Result<Response, Refusal> {
    answer(app, context, request, "1").await
}

async fn answer(app: Arc<App>, context: Context, request: Request, version: &'static str) -> Result<Response, Refusal> {
    let body = body::read(&app, request.into_body()).await?;
    let (ask, by_type) = {
        let fields = Fields::parse(&body.bytes)?;
        if fields.has("images") {
            return Err(Refusal::field("images", "cannot be embedded: only texts can"));
        }
        (Ask::new(&fields, MANNERS, app.options.max_items)?, version == "2" || fields.has("embedding_types"))
    };
    drop(body);
    let outputs = ask.outputs.clone();
    let text = |item: &Item| match item {
        Item::Text(text) => Some(text.clone()),
        Item::Ids(_) => None,
    };
    let texts = ask.items.iter().filter_map(text).collect();
    let Answer { vectors, record, .. } = embed(&app, &context, ask).await?;
    let input_tokens = record.tokens;
    json(record, move || {
        let list = |output| -> Vec<Values> { vectors.iter().map(|vector| values(vector.clone(), output)).collect() };
        let (response_type, embeddings) = match by_type {
            true => {
                let lists = outputs.iter().map(|output| (output.name(), list(*output)));
                ("embeddings_by_type", Embeddings::ByType(lists.collect()))
            }
            false => ("embeddings_floats", Embeddings::Floats(list(OutputType::Float))),
        };
        let count = json!({ "input_tokens": input_tokens });
        let meta = json!({ "api_version": { "version": version }, "billed_units": count, "tokens": count });
        Embedded { id: context.id, response_type, embeddings, texts, meta }
    })
    .await
}

/// `{"message": …}`
pub(crate) fn refuse(refusal: &Refusal) -> (u16, Value) {
    (refusal.kind.status(), json!({ "message": refusal.message }))
}

#[cfg(test)]
mod tests {
    use crate::serve::tests::{Fixture, floats};

    #[test]
    fn tokens_are_no_texts() {
        let fixture = Fixture::new();
        let inputs = r#""inputs": [{"content": [{"type": "text", "text": "a"}]}]"#;
        for (body, status) in [
            (format!("{{{inputs}}}"), 200),
            (format!(r#"{{{inputs}, "texts": ["a"]}}"#), 200),
            (format!(r#"{{{inputs}, "texts": [0]}}"#), 400),
            (r#"{"texts": [0]}"#.to_owned(), 400),
            (r#"{"inputs": [[0]]}"#.to_owned(), 400),
        ] {
            let (got, answer) = fixture.post("/v2/embed", &body);
            assert_eq!(got, status, "{body}: {answer}");
        }
    }

    #[test]
    fn a_list_by_each_type() {
        let fixture = Fixture::new();
        let body = r#"{"model": "embed-v4.0", "input_type": "search_query", "texts": ["a", "b"],
            "embedding_types": ["float", "int8", "uint8", "binary", "ubinary", "base64"]}"#;
        let (status, answer) = fixture.post("/v2/embed", body);
        assert_eq!(status, 200, "{answer}");
        let lists = &answer["embeddings"];
        assert_eq!(floats(&lists["float"][1]).len(), 32);
        for (name, range, length) in
            [("int8", -127..=127, 32), ("uint8", 1..=255, 32), ("binary", -128..=127, 4), ("ubinary", 0..=255, 4)]
        {
            let values = lists[name][0].as_array().unwrap();
            assert_eq!(values.len(), length, "{name}");
            assert!(values.iter().all(|x| range.contains(&x.as_i64().unwrap())), "{name}: {values:?}");
        }
        assert!(lists["base64"][0].is_string());
        assert_eq!(answer["texts"], serde_json::json!(["a", "b"]));
        assert_eq!(answer["response_type"], "embeddings_by_type");
        assert_eq!(answer["meta"]["api_version"]["version"], "2");
        assert!(answer["meta"]["tokens"]["input_tokens"].as_u64() > Some(4), "with the instruction");
        let content = r#"{"inputs": [{"content": [{"type": "text", "text": "a"}]}], "input_type": "search_query"}"#;
        let (_, same) = fixture.post("/v2/embed", content);
        assert_eq!(same["embeddings"]["float"][0], lists["float"][0]);
    }

    #[test]
    fn max_tokens_are_those_of_the_text_alone() {
        // Every byte is a token of this model.
        let fixture = Fixture::new();
        let vector = |text: &str, fields: &str| {
            let body = format!(r#"{{"texts": ["{text}"], "input_type": "search_query" {fields}}}"#);
            let (status, answer) = fixture.post("/v2/embed", &body);
            assert_eq!(status, 200, "{body}: {answer}");
            floats(&answer["embeddings"]["float"][0])
        };
        assert_eq!(vector("abcdef", r#", "max_tokens": 3"#), vector("abc", ""));
        assert_eq!(vector("abcdef", r#", "max_tokens": 3, "truncate": "START""#), vector("def", ""));
        assert_eq!(vector("abc", r#", "max_tokens": 3, "truncate": "NONE""#), vector("abc", ""));
        // However short pieces are, they overlap by less.
        for most in 1..=5 {
            vector("abcdef", &format!(r#", "max_tokens": {most}, "truncate": "mean""#));
        }
        let instruction = "x".repeat(230);
        vector(&"a".repeat(300), &format!(r#", "instruction": "{instruction}", "truncate": "mean""#));
    }

    #[test]
    fn the_older_version_has_a_list_alone_unless_types_are_named() {
        let fixture = Fixture::new();
        let (_, answer) = fixture.post("/v1/embed", r#"{"texts": ["a"], "input_type": "search_document"}"#);
        assert_eq!(
            (answer["response_type"].as_str(), floats(&answer["embeddings"][0]).len()),
            (Some("embeddings_floats"), 32)
        );
        let (_, answer) = fixture.post("/v1/embed", r#"{"texts": ["a"], "embedding_types": ["int8"]}"#);
        assert_eq!(answer["response_type"], "embeddings_by_type");
        assert!(answer["embeddings"]["int8"][0].is_array() && answer["embeddings"].get("float").is_none());
    }

    #[test]
    fn what_is_too_long_is_cut_unless_that_is_not_wanted() {
        let fixture = Fixture::new();
        let body = |truncate: &str| format!(r#"{{"texts": ["{}"]{truncate}}}"#, "x".repeat(300));
        let vector = |truncate: &str| fixture.post("/v2/embed", &body(truncate)).1["embeddings"]["float"][0].clone();
        assert!(vector("").is_array());
        assert_eq!(vector(""), vector(r#", "truncate": "END""#));
        let (status, answer) = fixture.post("/v2/embed", &body(r#", "truncate": "NONE""#));
        assert_eq!(status, 400);
        assert!(answer["message"].as_str().unwrap().starts_with("texts[0]"), "{answer}");
    }

    #[test]
    fn refusals() {
        let fixture = Fixture::new();
        for (body, word) in [
            (r#"{"texts": []}"#, "texts"),
            (r#"{"texts": ["a", ""]}"#, "texts[1]"),
            (r#"{"images": ["data:"], "input_type": "image"}"#, "images"),
            (r#"{"texts": ["a"], "embedding_types": ["int4"]}"#, "int4"),
            ("{}", "input"),
        ] {
            let (status, answer) = fixture.post("/v2/embed", body);
            assert_eq!(status, 400, "{body}");
            assert!(answer["message"].as_str().unwrap().contains(word), "{answer}");
        }
    }
}
