//! What the fuzz targets share: inputs that are nearly right, and what is then asked of the program.
//!
//! Bytes alone seldom get past a header. Here the bytes of the fuzzer say which small model is written and what is done
//! to it: keys, types, shapes, data, bytes of the file. So every execution starts from something that works.
#![forbid(unsafe_code)]

mod folder;
mod json;
mod model_file;
mod passes;
mod scratch;
mod walk;

pub use folder::Folder;
pub use json::{Document, JsonEdit, tokenizer_json};
pub use model_file::{ModelFile, VOCABULARY};
pub use passes::{Ask, pass};
pub use scratch::scratch;
pub use walk::walk;
