//! The `tokenizer.ggml.*` metadata of a trusted GGUF file, for the tokenizer's tests and benchmark.

use std::collections::HashMap;
use std::path::PathBuf;

use qembed_models::tokenizer::Vocabulary;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

/// `pre_tokenizer.pretokenizers[0].pattern.Regex` of the published `tokenizer.json`.
const PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The folder of shared test data: `QEMBED_SHARED`, or `shared/data` beside the checkout.
///
/// `None` only if `QEMBED_NO_SHARED=1` allows the caller to skip; a missing folder is a failure otherwise.
pub(crate) fn shared_data() -> Option<PathBuf> {
    let folder = std::env::var_os("QEMBED_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")), PathBuf::from);
    if folder.join("ggml-vocab-qwen2.gguf").exists() {
        return Some(folder);
    }
    if std::env::var_os("QEMBED_NO_SHARED").is_some_and(|value| value == "1") {
        eprintln!("skipped: no shared test data");
        return None;
    }
    panic!(
        "{} has no ggml-vocab-qwen2.gguf: set QEMBED_SHARED to the folder of test data, or QEMBED_NO_SHARED=1 to skip",
        folder.display()
    );
}

/// The bytes of the Qwen2 vocabulary, if [`shared_data`] is there.
pub(crate) fn qwen2_file() -> Option<Vec<u8>> {
    Some(std::fs::read(shared_data()?.join("ggml-vocab-qwen2.gguf")).unwrap())
}

pub(crate) fn parse(file: &[u8]) -> Vocabulary<'_> {
    let mut reader = Reader(&file[8..]);
    let (_tensors, entries) = (reader.u64(), reader.u64());
    let mut metadata: HashMap<&str, Value> = (0..entries)
        .map(|_| {
            let key = reader.string();
            let kind = reader.u32();
            (key, reader.value(kind))
        })
        .collect();
    let mut take = |key: &str| metadata.remove(format!("tokenizer.ggml.{key}").as_str());
    Vocabulary {
        model: take("model").map_or("", Value::string),
        pre: take("pre").map_or("", Value::string),
        tokens: take("tokens").map_or(Vec::new(), Value::strings),
        token_types: take("token_type").map_or(Vec::new(), Value::numbers),
        merges: take("merges").map_or(Vec::new(), Value::strings),
        eos: take("eos_token_id").map(|id| id.number() as u32),
        add_eos: take("add_eos_token").map(|flag| flag.number() != 0),
        add_bos: take("add_bos_token").map(|flag| flag.number() != 0),
    }
}

/// The same tokenizer built with the reference implementation's crate, every added token parsed.
pub(crate) fn reference(vocabulary: &Vocabulary<'_>) -> Tokenizer {
    let ids = vocabulary.tokens.iter().map(|&token| token.to_owned()).zip(0..).collect::<Vocab>();
    let split = |merge: &&str| merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned()));
    let merges = vocabulary.merges.iter().map(|merge| split(merge).unwrap()).collect();
    let pattern = SplitPattern::Regex(PATTERN.into());
    let mut tokenizer = Tokenizer::new(BPE::builder().vocab_and_merges(ids, merges).build().unwrap());
    tokenizer.with_normalizer(Some(NFC)).unwrap();
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap().into(),
        ByteLevel::new(false, false, false).into(),
    ])));
    let added = vocabulary.tokens.iter().zip(&vocabulary.token_types).filter(|&(_, &kind)| kind == 3 || kind == 4);
    // Only a conversion to GGUF makes these, to fill the vocabulary up.
    let added = added.filter(|(token, _)| !token.starts_with("[PAD"));
    let added = added.map(|(&token, &kind)| AddedToken::from(token, kind == 3).normalized(false));
    tokenizer.add_tokens(added).unwrap();
    tokenizer
}

enum Value<'a> {
    Number(i64),
    String(&'a str),
    Array(Vec<Value<'a>>),
}

impl<'a> Value<'a> {
    fn number(self) -> i64 {
        let Value::Number(number) = self else { panic!("not a number") };
        number
    }

    fn string(self) -> &'a str {
        let Value::String(string) = self else { panic!("not a string") };
        string
    }

    fn strings(self) -> Vec<&'a str> {
        let Value::Array(values) = self else { panic!("not an array") };
        values.into_iter().map(Value::string).collect()
    }

    fn numbers(self) -> Vec<i32> {
        let Value::Array(values) = self else { panic!("not an array") };
        values.into_iter().map(|value| value.number() as i32).collect()
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }

    fn string(&mut self) -> &'a str {
        let len = self.u64() as usize;
        std::str::from_utf8(self.bytes(len)).unwrap()
    }

    fn value(&mut self, kind: u32) -> Value<'a> {
        match kind {
            4 | 5 => Value::Number(self.u32().into()),
            6 => Value::Number(f32::from_bits(self.u32()) as i64),
            7 => Value::Number(self.bytes(1)[0].into()),
            8 => Value::String(self.string()),
            9 => {
                let (kind, len) = (self.u32(), self.u64());
                Value::Array((0..len).map(|_| self.value(kind)).collect())
            }
            _ => panic!("metadata of kind {kind}"),
        }
    }
}
