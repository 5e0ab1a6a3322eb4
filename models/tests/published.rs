//! Files that people have: the metadata and tensors of published Qwen3-Embedding files still load.
//!
//! `data/published.txt` has their keys, types and values. A file is made of each list with its own layers, tensor types and
//! vocabulary size, but narrow: the widths are those of [`NARROW`], weights are zero and tokens have made-up names.

use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::formats::Format;
use qembed_models::gguf::{Gguf, GgufBuilder};
use qembed_models::tokenizer::Tokenizer;
use qembed_models::{Level, Place, Qwen3};
use std::collections::BTreeMap;

/// Widths in place of the real ones: the least of which all formats have whole blocks.
const NARROW: [(&str, u32); 6] = [
    ("qwen3.embedding_length", 256),
    ("qwen3.feed_forward_length", 256),
    ("qwen3.attention.head_count", 4),
    ("qwen3.attention.head_count_kv", 2),
    ("qwen3.attention.key_length", 64),
    ("qwen3.attention.value_length", 64),
];

const END_OF_TEXT: usize = 151_643;

/// One published file.
struct Published {
    name: &'static str,
    /// Whether its keys were seen in a log, or concluded.
    seen: bool,
    level: Level,
    /// `F32 113 Q8_0 197`
    types: &'static str,
    /// Key, type and value.
    keys: Vec<[&'static str; 3]>,
}

fn lists() -> Vec<Published> {
    let lists = include_str!("data/published.txt").split("\n\n").skip(1);
    let list = |text: &'static str| {
        let mut lines = text.lines();
        let mut field = |name: &str| {
            let (key, value) = lines.next().and_then(|line| line.split_once(' ')).expect("a field and its value");
            assert!(name.split('|').any(|name| name == key), "{key} instead of {name}");
            (key, value)
        };
        let name = field("file").1;
        let seen = field("seen|derived").0 == "seen";
        let level = field("level").1.parse().unwrap();
        let types = field("types").1;
        let entry = |line: &'static str| {
            let mut fields = line.splitn(3, ' ');
            [(); 3].map(|()| fields.next().expect("a key, a type and a value"))
        };
        Published { name, seen, level, types, keys: lines.map(entry).collect() }
    };
    lists.map(list).collect()
}

impl Published {
    fn get(&self, key: &str) -> Option<&'static str> {
        self.keys.iter().find(|entry| entry[0] == key).map(|entry| entry[2])
    }

    fn number(&self, key: &str) -> usize {
        self.get(key).expect(key).parse().unwrap()
    }

    /// Names, shapes (the length of a row first) and formats of the tensors.
    fn tensors(&self) -> Vec<(String, Vec<usize>, Format)> {
        let [hidden, ffn, heads, kv_heads, head_dim, _] = NARROW.map(|(_, width)| width as usize);
        let (q, kv, layers) = (heads * head_dim, kv_heads * head_dim, self.number("qwen3.block_count"));
        let mut tensors = vec![("output_norm.weight".to_owned(), vec![hidden], Format::F32)];
        let mut matrix = |name: String, kind, layer, shape: [usize; 2]| {
            let place = Place { layer, layers, group: heads / kv_heads, tied: true };
            tensors.push((name, shape.to_vec(), self.level.format(kind, place, shape[0])));
        };
        matrix("token_embd.weight".into(), "token_embd", 0, [hidden, self.number("tokenizer.ggml.tokens")]);
        for layer in 0..layers {
            for (kind, shape) in [
                ("attn_q", [hidden, q]),
                ("attn_k", [hidden, kv]),
                ("attn_v", [hidden, kv]),
                ("attn_output", [q, hidden]),
                ("ffn_gate", [hidden, ffn]),
                ("ffn_up", [hidden, ffn]),
                ("ffn_down", [ffn, hidden]),
            ] {
                matrix(format!("blk.{layer}.{kind}.weight"), kind, layer, shape);
            }
        }
        for layer in 0..layers {
            for (kind, len) in
                [("attn_norm", hidden), ("attn_q_norm", head_dim), ("attn_k_norm", head_dim), ("ffn_norm", hidden)]
            {
                tensors.push((format!("blk.{layer}.{kind}.weight"), vec![len], Format::F32));
            }
        }
        tensors
    }

    fn build(&self) -> Gguf {
        let mut builder = GgufBuilder::new();
        for &[key, ty, value] in &self.keys {
            let narrow = NARROW.iter().find(|(name, _)| *name == key);
            match (ty, narrow) {
                ("u32", Some((_, width))) => builder.set(key, *width),
                ("u32", None) => builder.set(key, value.parse::<u32>().unwrap()),
                ("i32", _) => builder.set(key, value.parse::<i32>().unwrap()),
                ("u64", _) => builder.set(key, value.parse::<u64>().unwrap()),
                ("f32", _) => builder.set(key, value.parse::<f32>().unwrap()),
                ("bool", _) => builder.set(key, value.parse::<bool>().unwrap()),
                ("str", _) => builder.set(key, value),
                (array, _) => set_array(&mut builder, key, array, value.parse().unwrap()),
            };
        }
        let tensors = self.tensors();
        for (name, shape, format) in &tensors {
            builder.add_tensor(name, shape, *format).unwrap();
        }
        let mut writer = builder.begin(Vec::new()).unwrap();
        while let Some((name, bytes)) = writer.due() {
            let name = name.to_owned();
            writer.write(&name, &vec![0; bytes as usize]).unwrap();
        }
        Gguf::from_bytes(writer.finish().unwrap().into()).unwrap()
    }
}

/// An array of that length, but of no merges: none would fit the made-up tokens.
fn set_array<'a>(builder: &'a mut GgufBuilder, key: &str, ty: &str, len: usize) -> &'a mut GgufBuilder {
    match (key, ty) {
        ("tokenizer.ggml.tokens", "[str]") => builder.set(key, tokens(len)),
        ("tokenizer.ggml.token_type", "[i32]") => {
            builder.set(key, (0..len).map(|id| if id < END_OF_TEXT { 1 } else { 3 }).collect::<Vec<i32>>())
        }
        ("tokenizer.ggml.merges", "[str]") => builder.set(key, Vec::<String>::new()),
        (_, "[str]") => builder.set(key, (0..len).map(|i| format!("{i}")).collect::<Vec<_>>()),
        (_, "[i32]") => builder.set(key, (0..len as i32).collect::<Vec<_>>()),
        (_, "[f32]") => builder.set(key, (0..len).map(|i| i as f32).collect::<Vec<_>>()),
        _ => panic!("{key} is {ty}"),
    }
}

/// The bytes, the tokens that texts and turns end with, and names for the others.
fn tokens(len: usize) -> Vec<String> {
    let mut others = '\u{100}'..;
    let bytes = (0..=u8::MAX).map(|byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae.. => char::from(byte).to_string(),
        _ => others.next().unwrap().to_string(),
    });
    let mut tokens: Vec<String> = bytes.collect();
    tokens.extend((tokens.len()..len).map(|id| format!("token {id}")));
    tokens[END_OF_TEXT] = "<|endoftext|>".into();
    tokens[END_OF_TEXT + 2] = "<|im_end|>".into();
    tokens
}

#[test]
fn published_files_load() {
    for list in lists() {
        let gguf = list.build();
        let isa = Isa::all().next().unwrap();
        let model = Qwen3::load(&gguf, CpuBackend::new(isa, 1), &[]);
        let model = model.unwrap_or_else(|error| panic!("{}: {error}", list.name));
        let config = model.config();
        assert_eq!(config.layers, list.number("qwen3.block_count"), "{}", list.name);
        assert_eq!(config.context, list.number("qwen3.context_length"), "{}", list.name);
        assert!(model.allowed().is_empty(), "{}", list.name);
        assert_eq!(model.vocabulary(), list.number("tokenizer.ggml.tokens"), "{}", list.name);

        let tokenizer = Tokenizer::from_gguf(&gguf).unwrap_or_else(|error| panic!("{}: {error}", list.name));
        assert_eq!(tokenizer.encode_for_embedding("a").unwrap(), [97, END_OF_TEXT as u32], "{}", list.name);
        // Early files end texts as chats do; that is told, and not done.
        let differs = list.number("tokenizer.ggml.eos_token_id") != END_OF_TEXT;
        assert_eq!(tokenizer.warnings().len(), usize::from(differs), "{}: {:?}", list.name, tokenizer.warnings());
    }
}

#[test]
fn tensors_are_of_the_types_that_were_printed() {
    for list in lists() {
        let mut counts = BTreeMap::new();
        for (_, _, format) in list.tensors() {
            *counts.entry(format.name()).or_insert(0) += 1;
        }
        let printed: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        assert_eq!(printed.join(" "), list.types, "{}", list.name);
    }
}

#[test]
fn most_lists_were_seen_and_are_whole() {
    let lists = lists();
    assert!(lists.iter().filter(|list| list.seen).count() >= 6);
    for list in lists {
        for (key, _) in NARROW {
            assert!(list.get(key).is_some(), "{}: {key}", list.name);
        }
    }
}
