//! What a model file is known by.

use qembed_models::Level;
use qembed_models::gguf::Gguf;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The SHA-256 of the bytes of a model's file, all parts.
pub(crate) fn digest(gguf: &Gguf) -> [u8; 32] {
    gguf.mappings().fold(Sha256::new(), |hash, bytes| hash.chain_update(bytes)).finalize().into()
}

/// The SHA-256 of a model's file, all parts, in hexadecimal: what tells it from all others.
pub fn sha256(gguf: &Gguf) -> String {
    hex(&digest(gguf))
}

/// A digest as text.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a file's level, such as `Q4_K_M`: what its metadata says, else the format in which most of its bytes are.
pub fn level(gguf: &Gguf) -> String {
    let number = gguf.u32("general.file_type").ok().flatten();
    if let Some(level) = Level::ALL.iter().find(|level| Some(level.file_type()) == number) {
        return level.name().to_owned();
    }
    let mut bytes: HashMap<&str, usize> = HashMap::new();
    for tensor in gguf.tensors() {
        if let Some(format) = tensor.format {
            *bytes.entry(format.name()).or_default() += tensor.bytes().unwrap_or(0);
        }
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map_or("unknown".into(), |(name, _)| name.to_owned())
}
