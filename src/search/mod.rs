//! What a search looks through: files cut into passages, and the vectors of passages kept from one search to the next.
//!
//! Neither knows a model: who searches embeds the passages whose vectors are not kept.

mod cache;
mod passages;

pub use cache::{Key, VectorCache};
pub use passages::{ObjectError, Passage, Passages, SourceError, chunks, objects};
