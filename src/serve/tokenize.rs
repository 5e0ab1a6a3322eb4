//! `/tokenize`, `/detokenize` and `/decode`: from texts to tokens and back, in the forms of three servers.

use crate::embedder::Embedder;
use crate::serve::app::App;
use crate::serve::ask::{prompt, required, texts};
use crate::serve::body;
use crate::serve::dialect::Dialect;
use crate::serve::embed::blocking;
use crate::serve::fields::{Field, Fields, Item, ids as token_array, items};
use crate::serve::refusal::Refusal;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// A token as Text Embeddings Inference has it.
#[derive(Serialize)]
struct Token {
    id: u32,
    text: String,
    special: bool,
    /// Its bytes in the text; one that was added has none.
    start: Option<usize>,
    stop: Option<usize>,
}

/// `POST /tokenize`: of `inputs` as Text Embeddings Inference does it, of a `prompt` as vLLM, of `content` as llama-server.
pub(crate) async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let body = body::read(&app, request.into_body()).await?;
    let answer = move || {
        let fields = Fields::parse(&body.bytes)?;
        if fields.has("inputs") {
            let tokens = tokens_of_inputs(&app, &fields);
            return Ok(
                tokens.map_or_else(|refusal| Dialect::Tei.refuse(&refusal), |tokens| Json(tokens).into_response())
            );
        }
        let answer =
            if fields.has("prompt") { tokens_of_prompt(&app, &fields) } else { tokens_of_content(&app, &fields) };
        answer.map(|answer| Json(answer).into_response())
    };
    blocking(answer).await?
}

/// `POST /detokenize`, as llama-server and vLLM have it.
pub(crate) async fn detokenize(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, Refusal> {
    let body = body::read(&app, request.into_body()).await?;
    let answer = move || {
        let fields = Fields::parse(&body.bytes)?;
        let tokens = token_array("tokens", required(&fields, "tokens")?)?;
        let text = decode_ids(&*embedder(&app, &fields)?, "tokens", &tokens, false)?;
        Ok(Json(json!({ "content": text, "prompt": text })))
    };
    blocking(answer).await?
}

/// `POST /decode`, as Text Embeddings Inference has it.
pub(crate) async fn decode(State(app): State<Arc<App>>, request: Request) -> Result<Json<Vec<String>>, Refusal> {
    let body = body::read(&app, request.into_body()).await?;
    let answer = move || {
        let fields = Fields::parse(&body.bytes)?;
        let (lists, lone) = items("ids", required(&fields, "ids")?, app.options.max_items)?;
        if lists.is_empty() {
            return Err(Refusal::empty_list("ids"));
        }
        let skip = fields.own("skip_special_tokens")?.unwrap_or(true);
        let embedder = embedder(&app, &fields)?;
        let text = |(i, list): (usize, &Item)| {
            let name = if lone { "ids".to_owned() } else { format!("ids[{i}]") };
            match list {
                Item::Ids(ids) => decode_ids(&embedder, &name, ids, skip),
                Item::Text(_) => Err(Refusal::field(name, "has to be a list of tokens")),
            }
        };
        lists.iter().enumerate().map(text).collect::<Result<_, _>>().map(Json)
    };
    blocking(answer).await?
}

fn embedder(app: &App, fields: &Fields) -> Result<Arc<Embedder>, Refusal> {
    let model = fields.get::<String>(Field::Model)?.map(|(_, model)| model);
    Ok(app.ready()?.choose(model.as_deref())?.loaded.embedder.clone())
}

fn decode_ids(embedder: &Embedder, name: &str, ids: &[u32], skip_special: bool) -> Result<String, Refusal> {
    embedder.decode(ids, skip_special).map_err(|error| Refusal::field(name, error.to_string()))
}

fn tokens_of_inputs(app: &App, fields: &Fields) -> Result<Vec<Vec<Token>>, Refusal> {
    let texts = texts("inputs", required(fields, "inputs")?, app.options.max_items)?;
    if texts.is_empty() {
        return Err(Refusal::empty_list("inputs"));
    }
    let add_end = fields.own("add_special_tokens")?.unwrap_or(true);
    let prefix = prompt(fields)?.unwrap_or_default().prefix();
    let embedder = embedder(app, fields)?;
    let tokens = |(i, text): (usize, String)| {
        let text = format!("{prefix}{text}");
        let spans =
            embedder.token_spans(&text).map_err(|error| Refusal::of_error(&error, &format!("inputs[{i}]"), true))?;
        let token = |span: crate::TokenSpan| Token {
            id: span.id,
            text: text[span.bytes.clone()].to_owned(),
            special: embedder.is_special(span.id),
            start: Some(span.bytes.start),
            stop: Some(span.bytes.end),
        };
        let end = add_end.then(|| {
            let id = embedder.end_token();
            decode_ids(&embedder, "inputs", &[id], false).map(|text| Token {
                id,
                text,
                special: true,
                start: None,
                stop: None,
            })
        });
        spans.into_iter().map(token).map(Ok).chain(end).collect()
    };
    texts.into_iter().enumerate().map(tokens).collect()
}

/// The tokens of one text, with the one that ends it if `add_end`.
fn ids(embedder: &Embedder, name: &str, text: &str, add_end: bool) -> Result<Vec<u32>, Refusal> {
    let spans = embedder.token_spans(text).map_err(|error| Refusal::of_error(&error, name, true))?;
    Ok(spans.into_iter().map(|span| span.id).chain(add_end.then(|| embedder.end_token())).collect())
}

fn tokens_of_prompt(app: &App, fields: &Fields) -> Result<Value, Refusal> {
    let text: String = required(fields, "prompt")?;
    let embedder = embedder(app, fields)?;
    let ids = ids(&embedder, "prompt", &text, fields.own("add_special_tokens")?.unwrap_or(true))?;
    let text_of = |id: &u32| decode_ids(&embedder, "prompt", &[*id], false);
    let wanted = fields.own("return_token_strs")?.unwrap_or(false);
    let texts = wanted.then(|| ids.iter().map(text_of).collect::<Result<Vec<_>, _>>()).transpose()?;
    Ok(json!({ "count": ids.len(), "max_model_len": embedder.max_tokens(), "tokens": ids, "token_strs": texts }))
}

fn tokens_of_content(app: &App, fields: &Fields) -> Result<Value, Refusal> {
    let text: String = required(fields, "content")?;
    let embedder = embedder(app, fields)?;
    let ids = ids(&embedder, "content", &text, fields.own("add_special")?.unwrap_or(false))?;
    if !fields.own("with_pieces")?.unwrap_or(false) {
        return Ok(json!({ "tokens": ids }));
    }
    let piece = |id: &u32| {
        let bytes =
            embedder.decode_bytes(&[*id], false).map_err(|error| Refusal::field("content", error.to_string()))?;
        // What is part of a character is a list of bytes.
        let piece = String::from_utf8(bytes).map_or_else(|error| json!(error.into_bytes()), Value::String);
        Ok(json!({ "id": id, "piece": piece }))
    };
    Ok(json!({ "tokens": ids.iter().map(piece).collect::<Result<Vec<_>, Refusal>>()? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::tests::Fixture;

    #[test]
    fn of_inputs_with_places() {
        let fixture = Fixture::new();
        let (status, answer) = fixture.post("/tokenize", r#"{"inputs": ["aé", ""]}"#);
        assert_eq!(status, 200, "{answer}");
        let tokens = answer[0].as_array().unwrap();
        assert_eq!((&tokens[0]["text"], &tokens[0]["start"], &tokens[0]["stop"]), (&json!("a"), &json!(0), &json!(1)));
        let end = tokens.last().unwrap();
        assert_eq!(
            (&end["special"], &end["start"], &end["text"]),
            (&json!(true), &Value::Null, &json!("<|endoftext|>"))
        );
        assert_eq!(answer[1], json!([end]));
        let (_, bare) = fixture.post("/tokenize", r#"{"inputs": "aé", "add_special_tokens": false}"#);
        assert_eq!(bare[0].as_array().unwrap()[..], tokens[..tokens.len() - 1]);
        let (_, query) = fixture.post("/tokenize", r#"{"inputs": "aé", "prompt_name": "query"}"#);
        assert!(query[0].as_array().unwrap().len() > tokens.len());
    }

    #[test]
    fn of_content_and_of_a_prompt() {
        let fixture = Fixture::new();
        let (_, answer) = fixture.post("/tokenize", r#"{"content": "aé"}"#);
        let ids: Vec<u32> = serde_json::from_value(answer["tokens"].clone()).unwrap();
        let (_, pieces) = fixture.post("/tokenize", r#"{"content": "aé", "with_pieces": true, "add_special": true}"#);
        assert_eq!(pieces["tokens"].as_array().unwrap().len(), ids.len() + 1);
        assert_eq!(pieces["tokens"][0], json!({ "id": ids[0], "piece": "a" }));
        // A vocabulary of bytes.
        assert_eq!(pieces["tokens"][1]["piece"], json!([0xc3]));
        let (_, prompt) = fixture.post("/tokenize", r#"{"prompt": "aé", "model": "any", "return_token_strs": true}"#);
        assert_eq!((&prompt["count"], &prompt["max_model_len"]), (&json!(ids.len() + 1), &json!(256)));
        assert_eq!(prompt["token_strs"][0], "a");
    }

    #[test]
    fn there_and_back() {
        let fixture = Fixture::new();
        let (_, answer) = fixture.post("/tokenize", r#"{"content": "aé b", "add_special": true}"#);
        let tokens = &answer["tokens"];
        let (_, text) = fixture.post("/detokenize", &json!({ "tokens": tokens }).to_string());
        assert_eq!(text, json!({ "content": "aé b<|endoftext|>", "prompt": "aé b<|endoftext|>" }));
        assert_eq!(fixture.post("/decode", &json!({ "ids": tokens }).to_string()).1, json!(["aé b"]));
        let (_, texts) =
            fixture.post("/decode", &json!({ "ids": [tokens, []], "skip_special_tokens": false }).to_string());
        assert_eq!(texts, json!(["aé b<|endoftext|>", ""]));
    }

    #[test]
    fn refusals_in_the_words_of_who_is_asked() {
        let fixture = Fixture::new();
        for (path, body, status, pointer) in [
            ("/tokenize", r#"{"inputs": []}"#, 400, "/error_type"),
            ("/tokenize", r#"{"inputs": [[1]]}"#, 422, "/error_type"),
            ("/tokenize", r#"{"content": 7}"#, 400, "/error/message"),
            ("/tokenize", r#"{"prompt": ["a"]}"#, 400, "/error/message"),
            ("/tokenize", "{}", 400, "/error/message"),
            ("/detokenize", r#"{"tokens": [999999]}"#, 400, "/error/message"),
            ("/detokenize", "{}", 400, "/error/message"),
            ("/decode", r#"{"ids": [[1], [999999]]}"#, 422, "/error_type"),
            ("/decode", r#"{"ids": "a"}"#, 422, "/error_type"),
            ("/decode", r#"{"ids": []}"#, 400, "/error_type"),
        ] {
            let (found, answer) = fixture.post(path, body);
            assert_eq!(found, status, "{path} {body}: {answer}");
            assert!(answer.pointer(pointer).is_some_and(Value::is_string), "{path} {body}: {answer}");
        }
    }
}
