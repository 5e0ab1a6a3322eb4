//! JSON files that are nearly right.

use arbitrary::Arbitrary;
use serde_json::{Map, Number, Value};
use std::sync::LazyLock;

/// Names that some writer of model folders gives a meaning to.
const NAMES: &[&str] = &[
    "architectures",
    "attention_bias",
    "attention_dropout",
    "content",
    "dropout",
    "factor",
    "head_dim",
    "hidden_act",
    "id",
    "is_causal",
    "layer_types",
    "lstrip",
    "max_window_layers",
    "mlp_bias",
    "num_labels",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "pooling_mode",
    "pooling_mode_cls_token",
    "pooling_mode_mean_tokens",
    "quantization_config",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "rope_type",
    "sliding_window",
    "special",
    "tie_word_embeddings",
    "type",
    "use_bidirectional_attention",
    "use_sliding_window",
    "weight_map",
    "__metadata__",
    "model.norm.weight",
    "lm_head.weight",
    "layers.0.self_attn.q_proj.bias",
    "layers.9.self_attn.q_proj.weight",
];

/// Values that stand in such files, or paths that a file must not lead to.
const TEXTS: &[&str] = &[
    "",
    ".",
    "..",
    "/dev/zero",
    "1_Pooling",
    "default",
    "yarn",
    "linear",
    "full_attention",
    "sliding_attention",
    "lasttoken",
    "cls",
    "mean",
    "silu",
    "gelu",
    "qwen2",
    "qwen3",
    "BF16",
    "F16",
    "F32",
    "I64",
    "F8_E4M3",
    "sentence_transformers.models.Dense",
    "<|endoftext|>",
    "model.safetensors",
    "other.safetensors",
];

/// The names that a change can bring in.
pub fn json_names() -> Vec<String> {
    NAMES.iter().map(|name| (*name).into()).collect()
}

/// A file of a folder.
#[derive(Arbitrary, Debug)]
pub enum Document {
    /// The file that is right, changed.
    Edited(Vec<JsonEdit>),
    /// The same, and then bytes of its text.
    Damaged { edits: Vec<JsonEdit>, at: u16, bytes: Vec<u8> },
    /// Anything.
    Bytes(Vec<u8>),
    /// The file is not there, or is one that should not be there.
    Other,
}

impl Document {
    /// The file's bytes, `None` where it is not there.
    pub fn of(&self, right: Option<&Value>) -> Option<Vec<u8>> {
        let edited = |edits: &[JsonEdit]| {
            let mut json = right.cloned().unwrap_or_else(|| Value::Object(Map::new()));
            edits.iter().for_each(|edit| edit.apply(&mut json));
            json.to_string().into_bytes()
        };
        match self {
            Document::Edited(edits) if edits.is_empty() && right.is_none() => None,
            Document::Edited(edits) => Some(edited(edits)),
            Document::Damaged { edits, at, bytes } => {
                let mut text = edited(edits);
                text.iter_mut().skip(usize::from(*at)).zip(bytes).for_each(|(to, from)| *to = *from);
                Some(text)
            }
            Document::Bytes(bytes) => Some(bytes.clone()),
            Document::Other => right.is_none().then(|| b"{}".to_vec()),
        }
    }
}

/// A change somewhere in a tree.
#[derive(Arbitrary, Debug)]
pub struct JsonEdit {
    /// Which child at each level; the last level is that of the change.
    path: Vec<u8>,
    change: Change,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Set(Node),
    Remove,
    Insert(Text, Node),
    Rename(Text),
}

#[derive(Arbitrary, Debug)]
enum Node {
    Null,
    Bool(bool),
    Small(u8),
    Word(u32),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Text),
    Array(Vec<Node>),
    Object(Vec<(Text, Node)>),
}

#[derive(Arbitrary, Debug)]
enum Text {
    Name(u8),
    Value(u8),
    Any(String),
}

impl Text {
    fn text(&self) -> String {
        match self {
            Text::Name(i) => NAMES[usize::from(*i) % NAMES.len()].into(),
            Text::Value(i) => TEXTS[usize::from(*i) % TEXTS.len()].into(),
            Text::Any(text) => text.clone(),
        }
    }
}

impl Node {
    fn value(&self) -> Value {
        match self {
            Node::Null => Value::Null,
            Node::Bool(x) => Value::Bool(*x),
            Node::Small(x) => (*x).into(),
            Node::Word(x) => (*x).into(),
            Node::Unsigned(x) => (*x).into(),
            Node::Signed(x) => (*x).into(),
            Node::Float(x) => Number::from_f64(*x).map_or(Value::Null, Value::Number),
            Node::Text(x) => x.text().into(),
            Node::Array(all) => all.iter().map(Node::value).collect(),
            Node::Object(all) => all.iter().map(|(name, value)| (name.text(), value.value())).collect(),
        }
    }
}

impl JsonEdit {
    /// Changes a tree.
    pub fn apply(&self, json: &mut Value) {
        let Some((last, before)) = self.path.split_last() else {
            if let Change::Set(node) = &self.change {
                *json = node.value();
            } else if let (Change::Insert(name, node), Value::Object(all)) = (&self.change, json) {
                all.insert(name.text(), node.value());
            }
            return;
        };
        let mut at = json;
        for step in before {
            let child = match at {
                Value::Object(all) => {
                    let i = usize::from(*step).checked_rem(all.len());
                    i.and_then(|i| all.values_mut().nth(i))
                }
                Value::Array(all) => {
                    let i = usize::from(*step).checked_rem(all.len());
                    i.and_then(|i| all.get_mut(i))
                }
                _ => None,
            };
            match child {
                Some(child) => at = child,
                None => return,
            }
        }
        match at {
            Value::Object(all) => {
                let i = usize::from(*last).checked_rem(all.len());
                let key = i.and_then(|i| all.keys().nth(i).cloned());
                match (&self.change, key) {
                    (Change::Set(node), Some(key)) => drop(all.insert(key, node.value())),
                    (Change::Remove, Some(key)) => drop(all.remove(&key)),
                    (Change::Insert(name, node), _) => drop(all.insert(name.text(), node.value())),
                    (Change::Rename(name), Some(key)) => {
                        if let Some(value) = all.remove(&key) {
                            all.insert(name.text(), value);
                        }
                    }
                    (_, None) => {}
                }
            }
            Value::Array(all) => match (&self.change, usize::from(*last).checked_rem(all.len())) {
                (Change::Set(node), Some(i)) => all[i] = node.value(),
                (Change::Remove, Some(i)) => drop(all.remove(i)),
                (Change::Insert(_, node), _) => all.push(node.value()),
                _ => {}
            },
            leaf => {
                if let Change::Set(node) = &self.change {
                    *leaf = node.value();
                }
            }
        }
    }
}

/// A tokenizer.json in short: `\x01` stands for the tokens of all bytes, `\x02` for the pattern by which text is split, so
/// that what matters about such a file is in reach of mutations.
pub fn tokenizer_json(short: &[u8]) -> Vec<u8> {
    const PATTERN: &[u8] = br"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    static BYTES: LazyLock<String> = LazyLock::new(|| {
        let token = |id: u8| format!("{}:{id}", Value::from(byte_char(id).to_string()));
        (0..=255).map(token).collect::<Vec<_>>().join(",")
    });
    let mut json = Vec::with_capacity(short.len() + BYTES.len());
    for part in short.chunk_by(|before, _| *before > 2).flat_map(|part| part.chunk_by(|_, after| *after > 2)) {
        match part {
            [1] => json.extend_from_slice(BYTES.as_bytes()),
            [2] => json.extend_from_slice(PATTERN),
            text => json.extend_from_slice(text),
        }
    }
    json
}

/// The character by which byte-level vocabularies write a byte.
fn byte_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return byte.into();
    }
    let before = (0..byte).filter(|b| !printable(*b)).count();
    char::from_u32(256 + before as u32).expect("a code point below 0x200")
}
