//! Answers in JSON.

use crate::serve::embed::apart_if;
use crate::serve::record::Record;
use crate::serve::refusal::{Kind, Refusal};
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Vectors that are written at once; more would hold up other requests.
const FEW: usize = 16;

/// An answer that `make` gives for a record of as many vectors.
///
/// # Errors
/// A fault in the program.
pub(crate) async fn json<T: Serialize>(
    record: Record,
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<Response, Refusal> {
    let json = apart_if(record.items > FEW, || serde_json::to_vec(&make())).await?;
    let json = json.map_err(|error| Refusal::new(Kind::Internal, error.to_string()))?;
    let mut response = ([(CONTENT_TYPE, "application/json")], Body::from(json)).into_response();
    response.extensions_mut().insert(record);
    Ok(response)
}
