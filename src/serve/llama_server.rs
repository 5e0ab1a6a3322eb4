//! Stub.

use crate::serve::openai;
use crate::serve::refusal::Refusal;
use serde_json::Value;

pub(crate) fn refuse(refusal: &Refusal) -> (u16, Value) {
    openai::refuse(refusal)
}
