//! A server without sockets over a tiny model, for tests.

use crate::LoadOptions;
use crate::gguf::Access;
use crate::serve::offline::Offline;
use crate::serve::options::{ModelSpec, ServeOptions};
use axum::body::Body;
use axum::http::{Method, Request, Response};
use serde_json::Value;

/// All routes over a model of 32 dimensions and 256 tokens, its name `tiny`.
pub(crate) struct Fixture(Offline);

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(ServeOptions::default())
    }

    pub(crate) fn with(options: ServeOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        crate::tests::write_model(&path, 256);
        let load = LoadOptions::default().access(Access::Read).threads(1);
        let models = vec![ModelSpec { path: Some(path), ..ModelSpec::default() }];
        Self(Offline::new(options.models(models).load(load)).unwrap())
    }

    /// Status, headers and body of an answer.
    pub(crate) fn send(&self, method: Method, path: &str, body: &str) -> Response<String> {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        self.0.send(request).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, Value) {
        Self::json(self.send(Method::POST, path, body))
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        Self::json(self.send(Method::GET, path, ""))
    }

    fn json(response: Response<String>) -> (u16, Value) {
        let text = response.body();
        (response.status().as_u16(), serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }
}

/// The values of a vector.
pub(crate) fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}
