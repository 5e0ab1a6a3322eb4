//! Requests to every route of the server, from its router to a pass of a small model and back.
#![no_main]

use qembed_q::LoadOptions;
use qembed_q::gguf::Access;
use qembed_q::serve::{ModelSpec, Offline, ServeOptions};
use std::sync::LazyLock;

/// Routes that read a body.
const ROUTES: [&str; 13] = [
    "/v1/embeddings",
    "/api/embed",
    "/api/embeddings",
    "/api/show",
    "/embed",
    "/",
    "/similarity",
    "/tokenize",
    "/decode",
    "/detokenize",
    "/v2/embed",
    "/embedding",
    "/api/generate",
];

static SERVER: LazyLock<Offline> = LazyLock::new(|| {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/model.gguf");
    let models = vec![ModelSpec::parse(file).expect("a path")];
    let load = LoadOptions::default().access(Access::Read).threads(1);
    Offline::new(ServeOptions::default().models(models).load(load).cache_size(1 << 20)).expect("a server")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [route, body @ ..] = bytes else { return };
    let route = ROUTES[usize::from(*route) % ROUTES.len()];
    let (status, answer) = SERVER.ask("POST", route, body.to_vec()).expect("an answer");
    // A fault of the server is none of a client's doing; what is not there is 501.
    assert!(status < 500 || status == 501, "{route}: {status} {}", String::from_utf8_lossy(&answer));
    let value: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    if status >= 400 {
        let said = [&value["error"]["message"], &value["error"], &value["message"]];
        assert!(said.iter().any(|text| text.as_str().is_some_and(|text| !text.is_empty())), "{route}: {value}");
    }
});
