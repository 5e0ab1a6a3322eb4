//! Qwen's vocabulary, where `scripts/get_vocabulary.py` puts it.

use qembed_models::gguf::Gguf;
use qembed_models::tokenizer::Vocabulary;
use std::path::{Path, PathBuf};

/// A file of that name; one that is missing is a failure.
pub(crate) fn path(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/qwen-vocabulary").join(name);
    assert!(path.is_file(), "{} is missing: `python3 scripts/get_vocabulary.py` gets it", path.display());
    path
}

/// The vocabulary, a GGUF file without tensors.
pub(crate) fn file() -> Gguf {
    Gguf::open(path("ggml-vocab-qwen2.gguf")).unwrap()
}

/// What the reference implementation needs of it.
pub(crate) fn vocabulary(gguf: &Gguf) -> Vocabulary<'_> {
    let array = |key| gguf.require_array(key).unwrap();
    let strings = |key| array(key).iter_str().unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    Vocabulary {
        tokens: strings("tokenizer.ggml.tokens"),
        token_types: array("tokenizer.ggml.token_type").iter_i32().unwrap().collect(),
        merges: strings("tokenizer.ggml.merges"),
        ..Vocabulary::default()
    }
}
