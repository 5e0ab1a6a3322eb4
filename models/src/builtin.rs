//! The small built-in model, carried by the program itself.

use crate::gguf::{Gguf, GgufError};
use bytes::Bytes;

/// The small built-in model, read where it lies in the program: nothing is copied.
///
/// # Errors
/// None that a build which passed its tests can have: the file is part of it.
pub fn builtin() -> Result<Gguf, GgufError> {
    Gguf::from_bytes(Bytes::from_static(qembed_builtin::Q8_0))
}
