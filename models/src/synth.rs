//! Random-weight models with the shapes and metadata of real files, for tests, benches and measurements.
//!
//! Deterministic by seed on every platform: the generator uses exact arithmetic only. Quantizing billions of values
//! would take minutes, so each tensor draws its blocks at random from a pool that was quantized once; what a kernel
//! does with them, and what they weigh, is that of a real file.

use crate::config::ARCHITECTURE;
use crate::gguf::{AtomicFile, Gguf, GgufBuilder, GgufWriteError};
use crate::level::{Level, Place};
use qembed_kernels::formats::Format;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;

/// Values in the pool from which tensors draw.
const POOL: usize = 1 << 20;
/// Standard deviation of the weights: the initializer range of Qwen3.
const STD: f32 = 0.02;
/// The text that ends every input.
const END_OF_TEXT: &str = "<|endoftext|>";

/// An error of the generator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum SynthError {
    #[error("{0}")]
    Argument(String),
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Gguf(#[from] crate::gguf::GgufError),
}

/// The dimensions of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Dims {
    pub layers: usize,
    pub hidden: usize,
    pub ffn: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
    pub context: usize,
}

impl FromStr for Dims {
    type Err = SynthError;

    /// `0.6b`, `4b`, `8b` or `tiny`, then any overrides: `tiny,layers=3,head_dim=32`.
    fn from_str(text: &str) -> Result<Self, SynthError> {
        let mut parts = text.split(',');
        let real = |layers, hidden, ffn, heads, vocab, context| Dims {
            layers,
            hidden,
            ffn,
            heads,
            kv_heads: 8,
            head_dim: 128,
            vocab,
            context,
        };
        let mut dims = match parts.next().unwrap_or("").to_ascii_lowercase().as_str() {
            "0.6b" => real(28, 1024, 3072, 16, 151669, 32768),
            "4b" => real(36, 2560, 9728, 32, 151665, 40960),
            "8b" => real(36, 4096, 12288, 32, 151665, 40960),
            "tiny" => Dims { kv_heads: 2, head_dim: 64, ..real(2, 256, 512, 4, 512, 2048) },
            other => return Err(SynthError::Argument(format!("unknown shape {other:?}: 0.6b, 4b, 8b or tiny"))),
        };
        for part in parts {
            let number = |value: &str| value.parse::<usize>().ok().filter(|n| *n > 0);
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let field = match key {
                "layers" => &mut dims.layers,
                "hidden" => &mut dims.hidden,
                "ffn" => &mut dims.ffn,
                "heads" => &mut dims.heads,
                "kv_heads" => &mut dims.kv_heads,
                "head_dim" => &mut dims.head_dim,
                "vocab" => &mut dims.vocab,
                "context" => &mut dims.context,
                _ => return Err(SynthError::Argument(format!("unknown dimension {key:?} of a shape"))),
            };
            *field = number(value).ok_or_else(|| SynthError::Argument(format!("{part:?}: expected {key}=NUMBER")))?;
        }
        Ok(dims)
    }
}

/// What to write.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    /// Dimensions of the model.
    pub dims: Dims,
    /// Quantization level.
    pub level: Level,
    /// Seed of the weights.
    pub seed: u64,
    /// A GGUF file whose tokenizer to take, cut or padded to the vocabulary's size; without one, every byte is a token.
    pub vocabulary: Option<&'a Gguf>,
}

/// Writes a model to `path`.
///
/// # Errors
/// An unwritable path, or dimensions that no format can store.
pub fn write(spec: &Spec, path: &Path) -> Result<(), SynthError> {
    let Spec { dims, level, seed, .. } = spec;
    let mut builder = GgufBuilder::new();
    metadata(spec, &mut builder);
    tokenizer(spec, &mut builder)?;

    let Dims { hidden, ffn, head_dim, .. } = *dims;
    let (q, kv) = (dims.heads * head_dim, dims.kv_heads * head_dim);
    let mut tensors: Vec<(String, Vec<usize>, Format)> = Vec::new();
    let mut matrix = |name: String, kind: &str, layer, k, n| {
        let place = Place { layer, layers: dims.layers, group: dims.heads / dims.kv_heads, tied: true };
        tensors.push((name, vec![k, n], level.format(kind, place, k)));
    };
    matrix("token_embd.weight".into(), "token_embd", 0, hidden, dims.vocab);
    for i in 0..dims.layers {
        for (kind, k, n) in [
            ("attn_q", hidden, q),
            ("attn_k", hidden, kv),
            ("attn_v", hidden, kv),
            ("attn_output", q, hidden),
            ("ffn_gate", hidden, ffn),
            ("ffn_up", hidden, ffn),
            ("ffn_down", ffn, hidden),
        ] {
            matrix(format!("blk.{i}.{kind}.weight"), kind, i, k, n);
        }
    }
    let mut vector = |name: String, len| tensors.push((name, vec![len], Format::F32));
    for i in 0..dims.layers {
        for (kind, len) in
            [("attn_norm", hidden), ("attn_q_norm", head_dim), ("attn_k_norm", head_dim), ("ffn_norm", hidden)]
        {
            vector(format!("blk.{i}.{kind}.weight"), len);
        }
    }
    vector("output_norm.weight".into(), hidden);

    for (name, shape, format) in &tensors {
        builder.add_tensor(name, shape, *format)?;
    }
    let mut writer = builder.begin(AtomicFile::create(path)?)?;
    let mut random = Random(*seed);
    let mut pools = HashMap::new();
    for (name, shape, format) in &tensors {
        if shape.len() == 1 {
            let values = (0..shape[0]).flat_map(|_| (1.0 + 0.1 * random.normal()).to_le_bytes()).collect::<Vec<_>>();
            writer.write_tensor(name, &values)?;
            continue;
        }
        let pool = match pools.entry(*format) {
            std::collections::hash_map::Entry::Occupied(pool) => pool.into_mut(),
            std::collections::hash_map::Entry::Vacant(slot) => slot.insert(pool(*format, &mut random)?),
        };
        let block = format.block_bytes();
        let blocks = pool.len() / block;
        let mut chunk = Vec::with_capacity(1 << 20);
        let mut left = shape.iter().product::<usize>() / format.block_len();
        while left > 0 {
            let now = left.min((1 << 20) / block);
            chunk.clear();
            for _ in 0..now {
                let from = random.below(blocks) * block;
                chunk.extend_from_slice(&pool[from..from + block]);
            }
            writer.write(name, &chunk)?;
            left -= now;
        }
    }
    let mut file = writer.finish()?;
    file.flush()?;
    file.commit()?;
    Ok(())
}

/// Metadata as converters write it for Qwen3-Embedding.
fn metadata(spec: &Spec, builder: &mut GgufBuilder) {
    let Dims { layers, hidden, ffn, heads, kv_heads, head_dim, context, .. } = spec.dims;
    builder.set("general.architecture", ARCHITECTURE);
    builder.set("general.type", "model");
    builder.set("general.name", format!("random weights {hidden}x{layers}, seed {}", spec.seed));
    builder.set("general.file_type", spec.level.file_type());
    builder.set("general.quantization_version", 2u32);
    let mut set = |name: &str, value: usize| {
        builder.set(&format!("{ARCHITECTURE}.{name}"), value as u32);
    };
    set("block_count", layers);
    set("context_length", context);
    set("embedding_length", hidden);
    set("feed_forward_length", ffn);
    set("attention.head_count", heads);
    set("attention.head_count_kv", kv_heads);
    set("attention.key_length", head_dim);
    set("attention.value_length", head_dim);
    set("pooling_type", 3);
    builder.set(&format!("{ARCHITECTURE}.rope.freq_base"), 1_000_000f32);
    builder.set(&format!("{ARCHITECTURE}.attention.layer_norm_rms_epsilon"), 1e-6f32);
}

/// The tokenizer of `spec.vocabulary`, or one token for every byte.
fn tokenizer(spec: &Spec, builder: &mut GgufBuilder) -> Result<(), SynthError> {
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    const UNUSED: i32 = 5;
    let (mut tokens, mut types, mut merges) = (Vec::new(), Vec::new(), Vec::new());
    match spec.vocabulary {
        Some(gguf) => {
            for token in gguf.require_array("tokenizer.ggml.tokens")?.iter_str()? {
                tokens.push(token?.to_owned());
            }
            types.extend(gguf.require_array("tokenizer.ggml.token_type")?.iter_i32()?);
            for merge in gguf.require_array("tokenizer.ggml.merges")?.iter_str()? {
                merges.push(merge?.to_owned());
            }
        }
        None => {
            tokens.extend((0..=255u8).map(|byte| byte_char(byte).to_string()));
            types.extend([NORMAL; 256]);
            tokens.extend([END_OF_TEXT.to_owned(), "<|im_start|>".to_owned(), "<|im_end|>".to_owned()]);
            types.extend([CONTROL; 3]);
        }
    }
    tokens.truncate(spec.dims.vocab);
    types.truncate(spec.dims.vocab);
    for i in tokens.len()..spec.dims.vocab {
        tokens.push(format!("[PAD{i}]"));
        types.push(UNUSED);
    }
    let Some(eos) = tokens.iter().position(|token| token == END_OF_TEXT) else {
        return Err(SynthError::Argument(format!("a vocabulary of {} tokens has no {END_OF_TEXT}", spec.dims.vocab)));
    };
    builder.set("tokenizer.ggml.model", "gpt2");
    builder.set("tokenizer.ggml.pre", "qwen2");
    builder.set("tokenizer.ggml.tokens", tokens);
    builder.set("tokenizer.ggml.token_type", types);
    builder.set("tokenizer.ggml.merges", merges);
    builder.set("tokenizer.ggml.eos_token_id", eos as u32);
    builder.set("tokenizer.ggml.padding_token_id", eos as u32);
    builder.set("tokenizer.ggml.add_bos_token", false);
    builder.set("tokenizer.ggml.add_eos_token", true);
    Ok(())
}

/// How byte-level BPE writes a byte: printable Latin-1 characters stand for themselves, the others for U+0100 and on.
fn byte_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        char::from(byte)
    } else {
        let before = (0..byte).filter(|b| !printable(*b)).count();
        char::from_u32(256 + before as u32).expect("a code point below 0x200")
    }
}

/// [`POOL`] random weights in a format.
fn pool(format: Format, random: &mut Random) -> Result<Vec<u8>, SynthError> {
    if !format.can_quantize() {
        return Err(SynthError::Argument(format!("{format} can be read but not written")));
    }
    let values: Vec<f32> = (0..POOL).map(|_| STD * random.normal()).collect();
    let mut blocks = vec![0; format.row_bytes(POOL).expect("the pool is whole blocks of every format")];
    format.quantize(&values, &mut blocks);
    Ok(blocks)
}

/// SplitMix64 (Steele, Lea and Flood 2014), from any seed: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..n, up to a bias of n / 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Nearly normal, mean 0 and variance 1: the sum of twelve uniform numbers (Irwin–Hall), each of 16 bits. No
    /// function of the platform's mathematics library, so the same bits everywhere.
    pub fn normal(&mut self) -> f32 {
        let sum: u64 =
            (0..3).map(|_| self.next_u64()).map(|x| (0..4).map(|i| x >> (16 * i) & 0xffff).sum::<u64>()).sum();
        (sum as f32 + 6.0) / 65536.0 - 6.0
    }
}
