//! The small built-in model, carried by the program itself.
//!
//! `models/builtin/README.md` is its card: what it was trained on, how good it is, and how to make it anew.

use crate::gguf::{Gguf, GgufError};
use bytes::Bytes;

/// The GGUF file.
static FILE: &[u8] = include_bytes!("../builtin/qembed-builtin-q8_0.gguf");

/// The small built-in model, read where it lies in the program: nothing is copied.
///
/// # Errors
/// None that a build which passed its tests can have: the file is part of it.
pub fn builtin() -> Result<Gguf, GgufError> {
    Gguf::from_bytes(Bytes::from_static(FILE))
}

/// The same model in F16, from which levels are made to compare them.
///
/// # Errors
/// None that a build which passed its tests can have.
#[cfg(feature = "builtin-master")]
pub fn builtin_master() -> Result<Gguf, GgufError> {
    static MASTER: &[u8] = include_bytes!("../builtin/qembed-builtin-f16.gguf");
    Gguf::from_bytes(Bytes::from_static(MASTER))
}
