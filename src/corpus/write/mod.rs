//! Outputs: what is written, byte for byte a function of its records, and in bounded memory.

mod arrays;
mod batch;
mod csv;
mod error;
mod format;
pub(crate) mod json;
mod open;
mod parquet;
mod raw;
mod shards;
mod sink;
mod sqlite;
#[cfg(test)]
mod tests;
mod value;

pub use error::WriteError;
pub use format::{OutputFormat, OutputFormatError};
pub use open::create;
pub(crate) use parquet::KINDS as PARQUET_KINDS;
pub use shards::create_shards;
pub(crate) use shards::{shard, shards};
pub use sink::{Sink, Written};
pub(crate) use sqlite::SqliteSink;
