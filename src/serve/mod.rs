//! An embedding server over HTTP: the APIs of OpenAI, Ollama, Text Embeddings Inference, Cohere and llama-server, over one
//! queue.
//!
//! A request goes through `guard.rs` (who may ask), its dialect's file (its words), `ask.rs` (what it wants), `embed.rs` (tokens,
//! results that are kept, the queue) and back. Forward passes run on a thread of their own (`engine.rs`); no request blocks
//! another but by the work that it asks for.

mod answer;
mod app;
mod ask;
mod body;
mod check;
mod cohere;
mod dialect;
mod embed;
mod engine;
mod error;
mod fields;
mod guard;
mod listen;
mod llama_server;
mod logs;
mod metrics;
mod models;
mod offline;
mod ollama;
mod openai;
mod openapi;
mod options;
#[cfg(feature = "otel")]
mod otel;
mod page;
mod ping;
mod queue;
mod record;
mod refusal;
mod results;
mod routes;
mod server;
mod store;
mod tei;
#[cfg(test)]
mod tests;
mod tokenize;
mod vectors;
mod words;

pub use check::check;
pub use error::ServeError;
pub use logs::log_to_stderr;
pub use offline::Offline;
pub use options::{Address, Defaults, ModelSpec, ServeOptions, Tls};
pub use ping::ping;
pub use server::{Server, Stop};
pub use words::{TokenIds, TooLong};
