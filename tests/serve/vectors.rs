//! What is answered: the library's vectors, to the bit, whatever a request looks like.

use crate::server::{Answer, Server, floats, model};
use qembed_q::{EmbedOptions, Embedder, Empty, LoadOptions, Prompt, Truncate};
use serde_json::{Value, json};

fn library(path: &str) -> Embedder {
    Embedder::open_with(path, &LoadOptions::default().threads(2)).unwrap()
}

fn embed(embedder: &Embedder, texts: &[&str], options: &EmbedOptions) -> Vec<Vec<f32>> {
    let vectors = embedder.embed(texts, options).unwrap();
    (0..texts.len()).map(|i| vectors[i].to_vec()).collect()
}

#[test]
fn vectors_are_the_librarys_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path(), "small.gguf", 1, 200);
    let (server, embedder) = (Server::start(&["--gguf", &path]), library(&path));
    let texts = ["one", "another, longer text", "one", "  ", "重力 🎈"];
    let plain = EmbedOptions::default();
    let expected = embed(&embedder, &texts, &plain);
    assert_eq!(server.vectors(&json!({ "input": texts })), expected);
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(server.vectors(&json!({ "input": text, "model": "whatever" })), [expected[i].clone()], "alone");
    }
    let cut = embed(&embedder, &texts, &plain.clone().dimensions(40));
    assert_eq!(server.vectors(&json!({ "input": texts, "dimensions": 40 })), cut);
    let bytes = |answer: Value| -> Vec<u8> {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.decode(answer["data"][1]["embedding"].as_str().unwrap()).unwrap()
    };
    let answer =
        server.post("/v1/embeddings", &json!({ "input": texts, "dimensions": 40, "encoding_format": "base64" }));
    assert_eq!(bytes(answer.json()), cut[1].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());

    let instructed = |task: &str| embed(&embedder, &texts, &plain.clone().prompt(Prompt::Instruct(task.into())));
    assert_eq!(server.vectors(&json!({ "input": texts, "instruction": "Find it" })), instructed("Find it"));
    let query = embed(&embedder, &texts, &plain.clone().prompt(Prompt::Query));
    assert_eq!(server.vectors(&json!({ "input": texts, "input_type": "query" })), query);
    assert_eq!(server.vectors(&json!({ "input": texts, "model": "small:query" })), query);
    assert_eq!(server.vectors(&json!({ "input": texts, "model": "small:document" })), expected);
    let answer = server.post("/v1/embeddings", &json!({ "input": texts, "model": "small:latest" })).json();
    let tokens: usize = embedder.tokenize(&texts, &plain).unwrap().iter().map(|tokens| tokens.len()).sum();
    assert_eq!(answer["usage"], json!({ "prompt_tokens": tokens, "total_tokens": tokens }));
    assert_eq!(answer["model"], "small");

    let raw = server.vectors(&json!({ "input": "one", "normalize": false, "dimensions": 40 })).remove(0);
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!((length - 1.0).abs() > 0.01, "not of length 1, but {length}");
    // A division each, in f32.
    assert!(raw.iter().zip(&cut[0]).all(|(a, b)| (a / length - b).abs() <= 1e-6 * b.abs() + 1e-7));
}

#[test]
fn integers_are_of_each_value_alone() {
    let server = Server::start(&[]);
    let floats = server.vectors(&json!({ "input": "a text", "dimensions": 64 })).remove(0);
    let of = |output: &str| -> Vec<i64> {
        let body = json!({ "input": ["a text", "another"], "dimensions": 64, "output_dtype": output });
        let answer = server.post("/v1/embeddings", &body).json();
        answer["data"][0]["embedding"].as_array().unwrap().iter().map(|x| x.as_i64().unwrap()).collect()
    };
    let int8: Vec<i64> = floats.iter().map(|x| (x * 8.0 * 127.0 / 4.0).round().clamp(-127.0, 127.0) as i64).collect();
    assert_eq!(of("int8"), int8);
    assert_eq!(of("uint8"), int8.iter().map(|x| x + 128).collect::<Vec<_>>());
    let bit = |eight: &[f32]| eight.iter().fold(0, |byte, x| byte << 1 | i64::from(*x > 0.0));
    let bytes: Vec<i64> = floats.chunks(8).map(bit).collect();
    assert_eq!(of("ubinary"), bytes);
    assert_eq!(of("binary"), bytes.iter().map(|byte| byte - 128).collect::<Vec<_>>());
    let answer = server.post("/v1/embeddings", &json!({ "input": "a", "dimensions": 36, "output_dtype": "binary" }));
    assert_eq!((answer.status, answer.json()["error"]["param"].as_str()), (400, Some("dimensions")));
}

#[test]
fn too_long_is_an_error_or_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path(), "small.gguf", 1, 40);
    let (server, embedder) = (Server::start(&["--gguf", &path]), library(&path));
    let long = "abcdefghijklmnopqrstuvwxyz".repeat(4);
    let answer = server.post("/v1/embeddings", &json!({ "input": ["short", long, "short"] }));
    let error = &answer.json()["error"];
    assert_eq!(
        (answer.status, &error["param"], &error["code"]),
        (400, &json!("input[1]"), &json!("context_length_exceeded"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("input[1] has 105 tokens") && message.contains("40"), "{message}");
    // Fields of others do not cut it.
    assert_eq!(server.post("/v1/embeddings", &json!({ "input": long, "truncation": true })).status, 400);
    for (name, side) in [("left", Truncate::Left), ("right", Truncate::Right)] {
        let answer = server.post("/v1/embeddings", &json!({ "input": ["short", long], "truncate": name }));
        assert_eq!(answer.headers["x-truncated-inputs"], "1");
        let options = EmbedOptions::default().truncate(side);
        assert_eq!(floats(&answer.json()), embed(&embedder, &["short", &long], &options));
    }
    // The mean of the vectors of its pieces.
    let mean = server.vectors(&json!({ "input": long, "truncate": "mean" })).remove(0);
    let pieces = embedder.tokenize_chunks(&long, &EmbedOptions::default(), 40 / 8).unwrap();
    assert!(pieces.len() > 2);
    let vectors = embedder.embed_tokens(pieces, &EmbedOptions::default(), &qembed_q::Control::default()).unwrap();
    let sum = |i: usize| (0..vectors.len()).map(|v| f64::from(vectors[v][i])).sum::<f64>();
    let sums: Vec<f64> = (0..64).map(sum).collect();
    let length = sums.iter().map(|x| x * x).sum::<f64>().sqrt();
    // The mean is rounded to f32, then its quotient by the length.
    assert!(mean.iter().zip(&sums).all(|(a, b)| (f64::from(*a) - b / length).abs() <= 2.0 * f64::from(f32::EPSILON)));

    let strict = Server::start(&["--gguf", &path, "--strict-length"]);
    assert_eq!(strict.post("/v1/embeddings", &json!({ "input": long, "truncate": "left" })).status, 400);
}

#[test]
fn names_have_defaults_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (model(folder.path(), "one.gguf", 1, 100), model(folder.path(), "two.gguf", 2, 100));
    let (first, second) = (format!("first={one},input_type=query,dimensions=32"), format!("other={one}"));
    let server = Server::start(&["--gguf", &first, "--gguf", &second, "--gguf", &two, "--empty", "end-token"]);
    let (one, two) = (library(&one), library(&two));
    let options = EmbedOptions::default();
    let query = options.clone().prompt(Prompt::Query).dimensions(32);
    for (body, expected) in [
        (json!({ "input": "a" }), embed(&one, &["a"], &query)),
        (json!({ "input": "a", "model": "first" }), embed(&one, &["a"], &query)),
        (
            json!({ "input": "a", "model": "first", "input_type": "document", "dimensions": 64 }),
            embed(&one, &["a"], &options),
        ),
        (json!({ "input": "a", "model": "first:document" }), embed(&one, &["a"], &options.clone().dimensions(32))),
        (json!({ "input": "a", "model": "other" }), embed(&one, &["a"], &options)),
        (json!({ "input": "a", "model": "two" }), embed(&two, &["a"], &options)),
        (json!({ "input": "", "model": "two" }), embed(&two, &[""], &options.clone().empty(Empty::EndToken))),
    ] {
        assert_eq!(server.vectors(&body), expected, "{body}");
    }
    let answer = server.post("/v1/embeddings", &json!({ "input": "a", "model": "three" }));
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (404, Some("model_not_found")));
    let names = server.get("/v1/models").json();
    let names: Vec<&str> = names["data"].as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 9);
    assert!(names.contains(&"other:query"));
    assert_eq!(server.get("/v1/models/other:query").json()["id"], "other:query");
    assert_eq!(server.get("/v1/models/none").status, 404);
}

#[test]
fn the_first_model_may_be_given_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (model(folder.path(), "one.gguf", 1, 100), model(folder.path(), "two.gguf", 2, 100));
    let (first, second) = (format!("first={one}"), format!("second={two}"));
    let expected = [&one, &two].map(|path| embed(&library(path), &["a"], &EmbedOptions::default()));
    // In the place of its file's name, and of one that it has been given.
    for (gguf, before) in [(&one, "one"), (&first, "first")] {
        let server = Server::start(&["--gguf", gguf, "--gguf", &second, "--served-model-name", "mine"]);
        for (name, called, expected) in [
            ("mine", "mine", &expected[0]),
            ("MINE:document", "mine", &expected[0]),
            ("second", "second", &expected[1]),
        ] {
            let answer = server.post("/v1/embeddings", &json!({ "input": "a", "model": name })).json();
            assert_eq!((&floats(&answer), answer["model"].as_str()), (expected, Some(called)), "{name}");
        }
        assert_eq!(server.vectors(&json!({ "input": "a" })), expected[0], "the first one, unnamed");
        let answer = server.post("/v1/embeddings", &json!({ "input": "a", "model": before }));
        let error = answer.json()["error"].clone();
        let message = error["message"].as_str().unwrap();
        assert_eq!((answer.status, error["code"].as_str()), (404, Some("model_not_found")));
        assert!(message.contains(&format!("{before:?}")) && message.contains("mine, second"), "{message}");
    }
    let (status, lines) =
        Server::try_start(&["--gguf", &one, "--gguf", &second, "--served-model-name", "second"]).err().unwrap();
    let said = lines.join("\n");
    assert!(status.code() == Some(1) && said.contains("two models are called \"second\""), "{said}");
    // The built-in one too; alone it answers to every name, and says its own.
    let server = Server::start(&["--served-model-name", "mine"]);
    let answer = server.post("/v1/embeddings", &json!({ "input": "a", "model": "builtin" }));
    assert_eq!((answer.status, answer.json()["model"].as_str()), (200, Some("mine")));
    assert_eq!(server.get("/v1/models").json()["data"][0]["id"], "mine");
}

#[test]
fn two_models_that_are_asked_at_once_give_each_its_own_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [1, 2].map(|seed| model(folder.path(), &format!("{seed}.gguf"), seed, 4000));
    let [one, two] = [format!("one={}", paths[0]), format!("two={}", paths[1])];
    // Nothing is found among results: every text is in a pass.
    let server = Server::start(&["--gguf", &one, "--gguf", &two, "--cache-size", "0"]);
    let texts: Vec<String> = [3000, 10, 900, 1, 30, 3500, 20].iter().map(|n| "x".repeat(*n)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let expected = paths.each_ref().map(|path| embed(&library(path), &texts, &EmbedOptions::default()));
    let mut waiting = Vec::new();
    for _ in 0..3 {
        for (i, text) in texts.iter().enumerate() {
            for (name, expected) in [("one", &expected[0][i]), ("two", &expected[1][i])] {
                let body = json!({ "input": text, "model": name }).to_string();
                waiting.push((name, expected, server.send("POST", "/v1/embeddings", &[], body.as_bytes())));
            }
        }
    }
    for (name, expected, stream) in waiting {
        assert_eq!(&floats(&Answer::read(stream).expect("an answer").json())[0], expected, "{name}");
    }
}

#[test]
fn results_are_kept_for_every_number_of_dimensions() {
    let server = Server::start(&[]);
    let hits = |body: &Value, headers: &[(&str, &str)]| {
        let answer = server.ask("POST", "/v1/embeddings", headers, body.to_string().as_bytes());
        (answer.headers["x-cache-hits"].parse::<usize>().unwrap(), floats(&answer.json()))
    };
    let body = json!({ "input": ["a", "b"] });
    let (none, first) = hits(&body, &[]);
    let (two, again) = hits(&body, &[]);
    assert_eq!((none, two, &first), (0, 2, &again));
    let (one, cut) = hits(&json!({ "input": ["b", "c"], "dimensions": 32 }), &[]);
    assert_eq!(one, 1);
    assert_eq!(hits(&body, &[("cache-control", "no-store")]), (0, first));
    let fresh = Server::start(&["--cache-size", "0"]);
    assert_eq!(fresh.vectors(&json!({ "input": ["b", "c"], "dimensions": 32 })), cut);
    assert_eq!((server.metric("qembed_cache_hits_total"), fresh.metric("qembed_cache_hits_total")), (3.0, 0.0));
}

#[test]
fn token_arrays_are_the_models_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path(), "small.gguf", 1, 100);
    let (server, embedder) = (Server::start(&["--gguf", &path]), library(&path));
    let ids = embedder.tokenize(&["some text"], &EmbedOptions::default()).unwrap().remove(0).ids().to_vec();
    let expected = embed(&embedder, &["some text"], &EmbedOptions::default());
    // With its end token and without.
    for ids in [&ids[..], &ids[..ids.len() - 1]] {
        let answer = server.post("/v1/embeddings", &json!({ "input": ids, "token_ids": "model" }));
        assert_eq!((answer.status, answer.headers["x-qembed-token-ids"].as_str()), (200, "model"));
        assert_eq!(floats(&answer.json()), expected);
        assert_eq!(server.vectors(&json!({ "input": [ids, ids], "token_ids": "model" }))[1], expected[0]);
    }
    let wrong = |body: Value| {
        let answer = server.post("/v1/embeddings", &body);
        assert_eq!(answer.status, 400, "{body}");
        answer.json()["error"]["message"].as_str().unwrap().to_owned()
    };
    assert!(wrong(json!({ "input": [[1], [300]], "token_ids": "model" })).contains("input[1]"));
    // This model has another vocabulary than OpenAI's arrays can be read with.
    let message = wrong(json!({ "input": ids }));
    assert!(message.contains("check_embedding_ctx_length"), "{message}");
    assert!(wrong(json!({ "input": ids, "token_ids": "reject" })).contains("refuse"));
}

#[test]
fn whose_token_arrays_are_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path(), "small.gguf", 1, 100);
    let embedder = library(&path);
    let ids = embedder.tokenize(&["some text"], &EmbedOptions::default()).unwrap().remove(0).ids().to_vec();
    let expected = embed(&embedder, &["some text"], &EmbedOptions::default());
    let refused = |server: &Server, body: Value| {
        let answer = server.post("/v1/embeddings", &body);
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, error["type"].as_str()), (400, Some("invalid_request_error")), "{body}: {error}");
        (error["param"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    };
    let server = Server::start(&["--gguf", &path, "--token-ids", "model"]);
    let answer = server.post("/v1/embeddings", &json!({ "input": ids }));
    assert_eq!((answer.status, answer.headers["x-qembed-token-ids"].as_str()), (200, "model"));
    assert_eq!(floats(&answer.json()), expected);
    assert_eq!(server.vectors(&json!({ "input": ["some text", "a"] }))[0], expected[0], "texts are texts");
    let (param, message) = refused(&server, json!({ "input": [ids, [300]] }));
    assert!(param == "input[1]" && message.starts_with("input[1] "), "{message}");
    // What the request says goes before.
    let (_, message) = refused(&server, json!({ "input": ids, "token_ids": "cl100k" }));
    assert!(message.contains("check_embedding_ctx_length"), "{message}");

    let server = Server::start(&["--gguf", &path, "--token-ids", "reject"]);
    for (input, place) in [(json!(ids), "input"), (json!(["some text", ids]), "input[1]"), (json!([ids]), "input[0]")] {
        let (param, message) = refused(&server, json!({ "input": input }));
        let expected = format!("{place}: is a token array, which this server refuses: send the text itself");
        assert_eq!((param.as_str(), message), (place, expected), "{input}");
    }
    let answer = server.post("/v1/embeddings", &json!({ "input": "some text" }));
    assert!(!answer.headers.contains_key("x-qembed-token-ids"));
    assert_eq!(floats(&answer.json()), expected);
}
