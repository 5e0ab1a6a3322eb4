//! A small model as a GGUF file, each part of which may be wrong.

use crate::gguf_file::{Entry, METADATA, Tensor, data, put, repeated, weights, write};
use arbitrary::Arbitrary;
use qembed_models::gguf::{Element, Gguf, ValueType};
use qembed_models::{Config, tensor_shapes};
use qembed_q::Format;
use std::path::Path;
use std::sync::LazyLock;

/// Keys that a file of ours has not, and that some reader gives a meaning to.
const OTHER_KEYS: &[&str] = &[
    "general.alignment",
    "general.type",
    "split.count",
    "split.no",
    "split.tensors.count",
    "qwen3.rope.scaling.type",
    "qwen3.rope.scaling.factor",
    "qwen3.rope.scaling.original_context_length",
    "qwen3.rope.scale_linear",
    "qwen3.rope.dimension_count",
    "qwen3.rope.dimension_sections",
    "qwen3.attention.causal",
    "qwen3.attention.sliding_window",
    "qwen3.attention.layer_norm_epsilon",
    "qwen3.attention.scale",
    "qwen3.embedding_length_out",
    "qwen3.expert_count",
    "qwen3.vocab_size",
    "qwen3.classifier.output_labels",
    "qwen3.leading_dense_block_count",
    "adapter.type",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.normalizer.lowercase",
];

/// Names of tensors that files may have besides those of the model.
const OTHER_TENSORS: &[&str] = &[
    "output.weight",
    "rope_freqs.weight",
    "cls.weight",
    "blk.0.attn_q.bias",
    "blk.0.attn_q.scale",
    "blk.7.attn_q.weight",
];

/// A model and what is done to its file.
#[derive(Arbitrary, Debug)]
pub struct ModelFile {
    dims: Dims,
    /// Index of the format of each matrix in turn, from the start again where there are more matrices.
    formats: Vec<u8>,
    edits: Vec<Edit>,
}

#[derive(Arbitrary, Debug)]
struct Dims {
    layers: u8,
    hidden: Width,
    ffn: Width,
    head_dim: u8,
    kv_heads: u8,
    group: u8,
}

/// A size, as a rule one that block formats can have.
#[derive(Arbitrary, Debug)]
struct Width(u8);

impl Width {
    fn values(&self) -> usize {
        match self.0 {
            0..112 => [32, 64, 96][usize::from(self.0) % 3],
            112..128 => 256,
            odd => usize::from(odd) - 127,
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Edit {
    Set(Key, Typed),
    Remove(u8),
    Repeat(u8),
    RemoveTensor(u8),
    AddTensor {
        name: Name,
        dims: Vec<Size>,
        kind: u8,
    },
    Rename(u8, Name),
    Dims(u8, Vec<Size>),
    /// Another type for the same bytes.
    Kind(u8, u32),
    Offset(u8, u64),
    /// Repeats bytes over all data of a tensor.
    Fill(u8, Vec<u8>),
    Poke {
        tensor: u8,
        at: u32,
        bytes: [u8; 4],
    },
    Version(u32),
    Tensors(u64),
    Keys(u64),
    /// Of the whole file, written before.
    Overwrite {
        at: u16,
        bytes: Vec<u8>,
    },
    Cut(u16),
}

#[derive(Arbitrary, Debug)]
enum Key {
    Own(u8),
    Other(u8),
    Any(String),
}

#[derive(Arbitrary, Debug)]
enum Name {
    Other(u8),
    Any(String),
}

impl Name {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Name::Other(i) => pick(OTHER_TENSORS, *i).as_bytes().to_vec(),
            Name::Any(name) => name.as_bytes().to_vec(),
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Size {
    Small(u8),
    Word(u32),
    Any(u64),
}

impl Size {
    fn value(&self) -> u64 {
        match self {
            Size::Small(n) => u64::from(*n),
            Size::Word(n) => u64::from(*n),
            Size::Any(n) => *n,
        }
    }
}

/// A value with its type.
#[derive(Arbitrary, Debug)]
enum Typed {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(String),
    U64(u64),
    I64(i64),
    F64(f64),
    Numbers(Vec<u32>),
    Signed(Vec<i32>),
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
    Strings(Vec<String>),
    Flags(Vec<bool>),
    /// The first elements of an array of the file, without the rest, or all but the last.
    Shorter(bool),
    /// Bytes that need not be a value of this type.
    Raw(u32, Vec<u8>),
}

fn pick<T: Copy>(all: &[T], i: u8) -> T {
    all[usize::from(i) % all.len()]
}

impl ModelFile {
    /// The bytes of the file.
    ///
    /// `rows` are those of the token matrix, which an [`Edit`] may change: [`VOCABULARY`] of a model that is to run.
    pub fn bytes(&self, rows: usize) -> Vec<u8> {
        let (mut entries, mut tensors) = self.parts(rows);
        let (mut version, mut counts) = (3u32, (None, None));
        for edit in &self.edits {
            let at = |i: u8, len: usize| usize::from(i).checked_rem(len);
            let entry = |i: u8| at(i, entries.len());
            let tensor = |i: u8| at(i, tensors.len());
            match edit {
                Edit::Set(key, value) => set(&mut entries, key, value),
                Edit::Remove(i) => drop(entry(*i).map(|i| entries.remove(i))),
                Edit::Repeat(i) => {
                    if let Some(i) = entry(*i) {
                        entries.push(entries[i].clone());
                    }
                }
                Edit::RemoveTensor(i) => drop(tensor(*i).map(|i| tensors.remove(i))),
                Edit::AddTensor { name, dims, kind } => {
                    let dims: Vec<u64> = dims.iter().map(Size::value).collect();
                    let kind = u32::from(*kind);
                    let data = data(kind, &dims).map_or(Vec::new(), |(format, bytes)| weights(format, bytes));
                    tensors.push(Tensor { name: name.bytes(), dims, kind, offset: None, data });
                }
                Edit::Rename(i, name) => drop(tensor(*i).map(|i| tensors[i].name = name.bytes())),
                Edit::Dims(i, dims) => {
                    if let Some(i) = tensor(*i) {
                        let it = &mut tensors[i];
                        it.dims = dims.iter().map(Size::value).collect();
                        if let Some((format, bytes)) = data(it.kind, &it.dims) {
                            it.data = weights(format, bytes);
                        }
                    }
                }
                Edit::Kind(i, kind) => drop(tensor(*i).map(|i| tensors[i].kind = *kind)),
                Edit::Offset(i, offset) => drop(tensor(*i).map(|i| tensors[i].offset = Some(*offset))),
                Edit::Fill(i, bytes) if !bytes.is_empty() => {
                    if let Some(i) = tensor(*i) {
                        let data = &mut tensors[i].data;
                        *data = repeated(bytes, data.len());
                    }
                }
                Edit::Poke { tensor: i, at, bytes } => {
                    if let Some(i) = tensor(*i) {
                        overwrite(&mut tensors[i].data, *at as usize, bytes);
                    }
                }
                Edit::Version(n) => version = *n,
                Edit::Tensors(n) => counts.0 = Some(*n),
                Edit::Keys(n) => counts.1 = Some(*n),
                Edit::Fill(..) | Edit::Overwrite { .. } | Edit::Cut(_) => {}
            }
        }
        let mut file = write(version, counts, &entries, &tensors);
        for edit in &self.edits {
            match edit {
                Edit::Overwrite { at, bytes } => overwrite(&mut file, usize::from(*at), bytes),
                Edit::Cut(at) => file.truncate(usize::from(*at)),
                _ => {}
            }
        }
        file
    }

    /// A file that is right.
    fn parts(&self, rows: usize) -> (Vec<Entry>, Vec<Tensor>) {
        let mut entries = METADATA.clone();
        let config = self.config();
        let mut number = |key: &str, value: usize| {
            put(&mut entries, format!("qwen3.{key}").as_bytes(), ValueType::U32.id(), &(value as u32).to_le_bytes());
        };
        number("block_count", config.layers);
        number("embedding_length", config.hidden);
        number("feed_forward_length", config.ffn);
        number("attention.head_count", config.heads.heads);
        number("attention.head_count_kv", config.heads.kv_heads);
        number("attention.key_length", config.heads.head_dim);
        number("attention.value_length", config.heads.head_dim);
        let mut matrices = 0;
        let tensor = |(name, mut dims): (String, Vec<usize>)| {
            if name == "token_embd.weight" {
                dims[1] = rows;
            }
            let mut format = Format::F32;
            if dims.len() > 1 && !self.formats.is_empty() {
                format = pick(Format::ALL, self.formats[matrices % self.formats.len()]);
                matrices += 1;
                if format.row_bytes(dims[0]).is_none() {
                    format = Format::F16;
                }
            }
            let dims: Vec<u64> = dims.into_iter().map(|dim| dim as u64).collect();
            let bytes = data(format.id(), &dims).map_or(0, |(_, bytes)| bytes);
            Tensor { name: name.into_bytes(), dims, kind: format.id(), offset: None, data: weights(format, bytes) }
        };
        let tensors = tensor_shapes(&config).into_iter().map(tensor).collect();
        (entries, tensors)
    }

    fn config(&self) -> Config {
        let dims = &self.dims;
        let mut config = CONFIG.clone();
        config.layers = 1 + usize::from(dims.layers % 2);
        config.hidden = dims.hidden.values();
        config.ffn = dims.ffn.values();
        config.heads.kv_heads = 1 + usize::from(dims.kv_heads % 2);
        config.heads.heads = config.heads.kv_heads * (1 + usize::from(dims.group % 3));
        config.heads.head_dim = match dims.head_dim {
            0..128 => [16, 32, 64][usize::from(dims.head_dim) % 3],
            odd => 2 * (usize::from(odd) - 127).min(48),
        };
        config
    }
}

/// Tokens of `seeds/model.gguf`.
pub const VOCABULARY: usize = 259;

/// The hyperparameters of `seeds/model.gguf`.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/model.gguf");
    Config::read(&Gguf::open(path).expect("read before")).expect("our own file")
});

fn overwrite(to: &mut [u8], at: usize, bytes: &[u8]) {
    to.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
}

fn set(entries: &mut Vec<Entry>, key: &Key, value: &Typed) {
    let key = match key {
        Key::Own(i) if entries.is_empty() => vec![*i],
        Key::Own(i) => entries[usize::from(*i) % entries.len()].key.clone(),
        Key::Other(i) => pick(OTHER_KEYS, *i).as_bytes().to_vec(),
        Key::Any(key) => key.as_bytes().to_vec(),
    };
    fn of<T: Element + ?Sized>(value: &T) -> (u32, Vec<u8>) {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        (T::TYPE.id(), bytes)
    }
    let (kind, value) = match value {
        Typed::U8(x) => of(x),
        Typed::I8(x) => of(x),
        Typed::U16(x) => of(x),
        Typed::I16(x) => of(x),
        Typed::U32(x) => of(x),
        Typed::I32(x) => of(x),
        Typed::F32(x) => of(x),
        Typed::Bool(x) => of(x),
        Typed::Str(x) => of(&x[..]),
        Typed::U64(x) => of(x),
        Typed::I64(x) => of(x),
        Typed::F64(x) => of(x),
        Typed::Numbers(x) => of(&x[..]),
        Typed::Signed(x) => of(&x[..]),
        Typed::Bytes(x) => of(&x[..]),
        Typed::Floats(x) => of(&x[..]),
        Typed::Strings(x) => of(&x[..]),
        Typed::Flags(x) => of(&x[..]),
        Typed::Shorter(one) => match entries.iter().find(|entry| entry.key == key) {
            // An array: its type, its length, and then the elements.
            Some(Entry { kind: 9, value, .. }) if value.len() >= 12 => {
                let mut value = value.clone();
                let len = u64::from_le_bytes(value[4..12].try_into().expect("eight bytes"));
                let len = if *one { len.saturating_sub(1) } else { 1 };
                value[4..12].copy_from_slice(&len.to_le_bytes());
                // What is left over would be taken for the next key.
                let element = u32::from_le_bytes(value[..4].try_into().expect("four bytes"));
                value.truncate(12 + size_of_elements(&value[12..], element, len));
                (9, value)
            }
            _ => return,
        },
        Typed::Raw(kind, bytes) => (*kind, bytes.clone()),
    };
    put(entries, &key, kind, &value);
}

/// Bytes of the first `len` elements of an array of strings or of numbers of four bytes.
fn size_of_elements(bytes: &[u8], element: u32, len: u64) -> usize {
    if element != ValueType::Str.id() {
        return bytes.len().min(len as usize * 4);
    }
    let mut at = 0;
    for _ in 0..len {
        let Some(length) = bytes.get(at..at + 8) else { break };
        at += 8 + u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
    }
    at.min(bytes.len())
}
