//! A server without sockets: requests one at a time, for tests and for fuzzing.

use crate::serve::app::App;
use crate::serve::error::ServeError;
use crate::serve::models::Models;
use crate::serve::options::ServeOptions;
use crate::serve::routes::routes;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Answers what a [`Server`](crate::serve::Server) of the same options would.
#[doc(hidden)]
pub struct Offline {
    router: Router,
    runtime: Runtime,
}

impl Offline {
    /// Opens the models of `options`; where to listen is of no consequence.
    ///
    /// # Errors
    /// A model that cannot be opened.
    pub fn new(options: ServeOptions) -> Result<Self, ServeError> {
        let app = Arc::new(App::new(options)?);
        app.loaded(Models::open(&app.options)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { router: routes(&app), runtime })
    }

    /// The answer to a request: its status and body. One that is no request at all has no answer.
    pub fn ask(&self, method: &str, path: &str, body: Vec<u8>) -> Option<(u16, Vec<u8>)> {
        let request = Request::builder().method(method).uri(path).body(Body::from(body)).ok()?;
        let response = self.send(request);
        Some((response.status().as_u16(), response.into_body()))
    }

    pub(crate) fn send(&self, request: Request<Body>) -> Response<Vec<u8>> {
        self.runtime.block_on(async {
            // A router's only answer is a response.
            let (head, body) =
                self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {}).into_parts();
            let bytes = body.collect().await.map(|body| body.to_bytes().into()).unwrap_or_default();
            Response::from_parts(head, bytes)
        })
    }
}
