//! A small model as a folder of Hugging Face has it, each file of which may be wrong.

use crate::{Document, JsonEdit, scratch, tokenizer_json};
use arbitrary::Arbitrary;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Width of the model: rows of any format, as `convert` writes every level.
const HIDDEN: usize = 64;
const VOCABULARY: usize = 260;

/// What is done to the files.
#[derive(Arbitrary, Debug)]
pub struct Folder {
    config: Document,
    tokenizer: Document,
    modules: Document,
    pooling: Document,
    settings: [Document; 3],
    adapter: Document,
    index: Document,
    weights: Weights,
}

#[derive(Arbitrary, Debug)]
struct Weights {
    /// Index of the type of each tensor in turn.
    types: Vec<u8>,
    prefix: bool,
    header: Vec<JsonEdit>,
    length: Option<u64>,
    /// Bytes repeated over the data.
    data: Vec<u8>,
    overwrite: Option<(u16, Vec<u8>)>,
    cut: Option<u16>,
}

static CONFIG: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": 1, "hidden_size": HIDDEN,
        "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "hidden_act": "silu",
        "max_position_embeddings": 128, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000,
        "rope_scaling": null, "attention_bias": false, "tie_word_embeddings": true, "sliding_window": null,
        "use_sliding_window": false, "max_window_layers": 1, "torch_dtype": "bfloat16",
    })
});

static TOKENIZER: LazyLock<Value> = LazyLock::new(|| {
    let short = fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds/tokenizer_json/whole"));
    let short = short.expect("`scripts/fuzz.sh` makes it");
    let json = short.split(|byte| *byte == 0).next().unwrap_or_default();
    serde_json::from_slice(&tokenizer_json(json)).expect("a file of ours")
});

static MODULES: LazyLock<Value> = LazyLock::new(|| {
    let module = |idx: usize, path: &str, kind: &str| json!({ "idx": idx, "name": idx.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
    json!([module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"), module(2, "2_Normalize", "Normalize")])
});

static POOLING: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": false,
        "pooling_mode_max_tokens": false, "pooling_mode_lasttoken": true, "include_prompt": true,
    })
});

static SENTENCE_TRANSFORMERS: LazyLock<Value> = LazyLock::new(|| {
    let query = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:";
    let prompts = json!({ "query": query, "document": "" });
    json!({ "prompts": prompts, "default_prompt_name": null, "similarity_fn_name": "cosine" })
});

static SENTENCE_BERT: LazyLock<Value> = LazyLock::new(|| json!({ "max_seq_length": 128, "do_lower_case": false }));

static TOKENIZER_CONFIG: LazyLock<Value> = LazyLock::new(|| {
    let end = json!({ "content": "<|endoftext|>", "lstrip": false, "rstrip": false, "special": true });
    json!({
        "add_prefix_space": false, "added_tokens_decoder": { "256": end }, "eos_token": "<|endoftext|>",
        "model_max_length": 128, "pad_token": "<|endoftext|>", "tokenizer_class": "Qwen2Tokenizer",
    })
});

impl Folder {
    /// Writes the files, and only these, to a folder.
    pub fn write(&self) -> PathBuf {
        let folder = scratch().join("folder");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("1_Pooling")).expect("a folder");
        let index = json!({ "weight_map": { "norm.weight": "model.safetensors" } });
        for (name, document, right) in [
            ("config.json", &self.config, Some(&*CONFIG)),
            ("tokenizer.json", &self.tokenizer, Some(&*TOKENIZER)),
            ("modules.json", &self.modules, Some(&*MODULES)),
            ("1_Pooling/config.json", &self.pooling, Some(&*POOLING)),
            ("config_sentence_transformers.json", &self.settings[0], Some(&*SENTENCE_TRANSFORMERS)),
            ("sentence_bert_config.json", &self.settings[1], Some(&*SENTENCE_BERT)),
            ("tokenizer_config.json", &self.settings[2], Some(&*TOKENIZER_CONFIG)),
            ("adapter_config.json", &self.adapter, None),
            ("model.safetensors.index.json", &self.index, Some(&index)),
        ] {
            if let Some(bytes) = document.of(right) {
                fs::write(folder.join(name), bytes).expect("room for a small file");
            }
        }
        fs::write(folder.join("model.safetensors"), self.weights.bytes()).expect("room for a small file");
        folder
    }
}

impl Weights {
    fn bytes(&self) -> Vec<u8> {
        let mut header = Map::new();
        let mut at = 0;
        let layer = [
            ("input_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![32, HIDDEN]),
            ("self_attn.k_proj", vec![16, HIDDEN]),
            ("self_attn.v_proj", vec![16, HIDDEN]),
            ("self_attn.q_norm", vec![16]),
            ("self_attn.k_norm", vec![16]),
            ("self_attn.o_proj", vec![HIDDEN, 32]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("mlp.gate_proj", vec![32, HIDDEN]),
            ("mlp.up_proj", vec![32, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, 32]),
        ];
        let tensors = layer
            .map(|(name, shape)| (format!("layers.0.{name}.weight"), shape))
            .into_iter()
            .chain([("embed_tokens.weight".into(), vec![VOCABULARY, HIDDEN]), ("norm.weight".into(), vec![HIDDEN])]);
        for (i, (name, shape)) in tensors.enumerate() {
            let kind = self.types.get(i % self.types.len().max(1)).map_or(0, |kind| usize::from(*kind % 3));
            let end = at + shape.iter().product::<usize>() * [2, 2, 4][kind];
            let kind = ["BF16", "F16", "F32"][kind];
            let entry = json!({ "dtype": kind, "shape": shape, "data_offsets": [at, end] });
            header.insert(format!("{}{name}", if self.prefix { "model." } else { "" }), entry);
            at = end;
        }
        let mut header = Value::Object(header);
        self.header.iter().for_each(|edit| edit.apply(&mut header));
        let mut text = header.to_string();
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        let mut bytes = self.length.unwrap_or(text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        // 0.0347 in bfloat16.
        let data = if self.data.is_empty() { &[0x0e, 0x3d][..] } else { &self.data };
        let mut data = data.repeat(at.div_ceil(data.len()));
        data.truncate(at);
        bytes.append(&mut data);
        if let Some((at, with)) = &self.overwrite {
            bytes.iter_mut().skip(usize::from(*at)).zip(with).for_each(|(to, from)| *to = *from);
        }
        bytes.truncate(self.cut.map_or(usize::MAX, usize::from));
        bytes
    }
}
