//! Many texts in, many vectors out: the forms in which people have the one and want the other, in bounded memory.
//!
//! A [`Job`] takes the rows of files ([`read`]) to an output ([`mod@write`]) by way of a journal, so that nothing that was computed is lost.

mod chunks;
mod dtype;
mod finished;
mod frames;
mod job;
mod journal;
mod known;
mod language;
mod lines;
mod merge;
mod model;
mod npy;
mod output;
mod pieces;
pub mod read;
mod record;
mod row;
mod run;
#[cfg(test)]
mod sample;
mod unique;
mod work;
pub mod write;

pub use chunks::{Chunking, ChunkingError, Pool, Structure};
pub use dtype::{Dtype, DtypeError};
pub use finished::{FinishedError, StoredVector, StoredVectors, read_vectors};
pub use job::{DimensionsError, Job, JobControl, JobError, JobProgress, Part, Stage, Summary};
pub use journal::JournalError;
pub use known::UpdateError;
pub use language::Language;
pub use lines::{LineError, Lines};
pub use merge::{MergeError, merge};
pub use model::Model;
pub use npy::NpyWriter;
pub use record::{Chunk, Layout, PART, Record, SHARD, SHARDS};
pub use row::{ColumnType, Columns, Place, Row, Unit, Value};
