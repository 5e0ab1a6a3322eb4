//! A model folder as Hugging Face has them (config.json, tokenizer.json, safetensors) becomes a GGUF file: the metadata,
//! names and shapes that llama.cpp's `convert_hf_to_gguf.py` gives a Qwen3-Embedding model.
//!
//! A folder says more than a GGUF file can keep. What changes vectors and is not understood is refused (`judge`, `keys`).

mod config;
mod judge;
mod keys;
mod modules;
mod weights;

pub use judge::{JsonKey, JsonTreatment, KnownFile};
pub use keys::CONVERT_KEYS;

use crate::config::{ARCHITECTURE, Config, tensor_shapes};
use crate::gguf::{GgufBuilder, GgufProblem};
use crate::json::{self, GitLfsPointer, JsonError};
use crate::level::Place;
use crate::quantize::{Quantize, QuantizeError, format_at, refuse, write};
use crate::tokenizer::{TokenizerError, TokenizerJson};
use judge::Judge;
use qembed_kernels::formats::Format;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

/// What ends every text.
const END_OF_TEXT: &str = "<|endoftext|>";
/// `token_type` of tokens that fill the vocabulary up to the rows of its matrix.
const UNUSED: i32 = 5;

/// Why a folder could not be converted. Nothing is left of the output then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the message of a variant is its documentation
pub enum ConvertError {
    #[error("{path}: {problem}")]
    File {
        path: PathBuf,
        #[source]
        problem: FileProblem,
    },
    #[error(
        "{}\nIts vectors would not be those of the model. To convert it all the same, allow each of these by its name",
        refused.join("\n")
    )]
    NotUnderstood { refused: Vec<String> },
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Write(#[from] QuantizeError),
}

/// What is wrong with a file of a folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It cannot be mapped, or a tensor of it has a shape that no file can have.
    #[error("{0}")]
    Map(#[from] GgufProblem),
    /// It only stands in for the file.
    #[error("{0}")]
    Pointer(#[from] GitLfsPointer),
    /// It holds no JSON.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// It holds no safetensors.
    #[error("no safetensors: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// It does not say what such a model needs; what it says, and what that is held against.
    #[error("{0}")]
    Content(String),
}

impl From<String> for FileProblem {
    fn from(said: String) -> Self {
        Self::Content(said)
    }
}

impl From<&str> for FileProblem {
    fn from(said: &str) -> Self {
        Self::Content(said.into())
    }
}

/// Something about a folder that is good to know, though it stops nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertNote {
    /// Something is left out of account, as allowed: what would else have been the error.
    #[error("allowed: {0}")]
    Allowed(String),
    /// A name was allowed that nothing has.
    #[error("nothing had to be allowed by the name of {0}")]
    Unused(String),
    /// A setting makes the longest text shorter than the model's own, unless it is allowed by its name.
    #[error("{}: {name} is {limit}, which is the limit of a text's tokens", path.display())]
    Shorter {
        /// The file.
        path: PathBuf,
        /// The setting.
        name: String,
        /// What it says, in tokens.
        limit: usize,
        /// The model's own.
        context: usize,
    },
    /// Texts of a kind have a prompt of their own, which no GGUF file can keep.
    #[error("{}: prompts.{name} is {prompt}: texts of that kind need it before them", path.display())]
    Prompt {
        /// The file.
        path: PathBuf,
        /// The kind of texts.
        name: String,
        /// The prompt, in quotes, shortened.
        prompt: String,
    },
}

/// How to convert.
#[non_exhaustive]
pub struct Convert<'a> {
    /// How the file is written.
    pub quantize: Quantize<'a>,
    /// Names of keys, modules and tensors that are left out of account though they may change the vectors.
    pub allow: &'a [String],
    /// Called for each thing that was allowed, and for settings that are good to know.
    pub note: Option<&'a dyn Fn(&ConvertNote)>,
}

impl<'a> Convert<'a> {
    /// Allows nothing, and notes nothing.
    pub fn new(quantize: Quantize<'a>) -> Self {
        Self { quantize, allow: &[], note: None }
    }
}

/// Writes the model of a folder to `output` at a level. Weights are read as they are written; their memory does not grow
/// with the model.
///
/// # Errors
/// A file that is missing or damaged, another architecture, a tensor too few or one of the wrong shape, weights
/// that are not finite, and all that [`quantize`](crate::quantize()) finds; and a key, module or tensor that is not understood
/// ([`CONVERT_KEYS`] lists what is) and not allowed.
pub fn convert(folder: &Path, output: &Path, options: &Convert) -> Result<(), ConvertError> {
    let mut judge = Judge::new(options.allow, options.note);
    weights::judge_adapter(folder, &mut judge)?;
    let modules = modules::judge(folder, &mut judge)?;
    let root = &modules.transformer;
    if root != folder {
        weights::judge_adapter(root, &mut judge)?;
    }
    let path = root.join("config.json");
    let json = read_json(&path)?;
    config::judge(&path, &json, &mut judge).map_err(fail(&path))?;
    let tokenizer = TokenizerJson::read(&root.join("tokenizer.json"))?;
    judge_tokenizer(root, &tokenizer, &mut judge)?;
    let (mut config, vocabulary) = config::read(&json).map_err(|problem| judge.or(fail(&path)(problem)))?;
    modules.settings(folder, &mut config.context, &mut judge)?;
    judge.verdict()?;
    let mut builder = metadata(folder, &config, &options.quantize);
    let end = end_of_text(&tokenizer, vocabulary).map_err(fail(&root.join("tokenizer.json")))?;

    let files = weights::files(root)?;
    let inputs = ["config.json", "tokenizer.json", "tokenizer_config.json", weights::INDEX].map(|name| root.join(name));
    refuse(inputs.iter().chain(&files), output, options.quantize.force)?;
    let mut shapes = tensor_shapes(&config);
    shapes[0].1[1] = vocabulary;
    let names = shapes.iter().map(|(name, shape)| (name.as_str(), &shape[..])).collect();
    let mut found = weights::read(&files, &names, &mut judge).map_err(|error| judge.or(error))?;
    judge.verdict()?;

    let group = config.heads.heads / config.heads.kv_heads;
    let place = Place { layer: 0, layers: config.layers, group, tied: true };
    let mut tensors = Vec::new();
    for (name, shape) in &shapes {
        let tensor = found.remove(name).ok_or_else(|| fail(root)(format!("tensor {name} is missing")))?;
        let format = match shape.len() {
            1 => Format::F32,
            _ => {
                let own = || format_at(options.quantize.level, name, &tensor, place);
                options.quantize.chosen(name).unwrap_or_else(own)
            }
        };
        tensors.push((tensor, format));
    }
    set_tokenizer(tokenizer, end, vocabulary, &mut builder);
    judge.unused();
    Ok(write(builder, &tensors, output, &options.quantize)?)
}

/// What makes an error of a problem with a file.
fn fail<P: Into<FileProblem>>(path: &Path) -> impl Fn(P) -> ConvertError {
    move |problem| ConvertError::File { path: path.into(), problem: problem.into() }
}

fn read_json(path: &Path) -> Result<Value, ConvertError> {
    let bytes = std::fs::read(path).map_err(fail(path))?;
    json::parse(&bytes).map_err(fail(path))
}

/// Judges what changes token ids beside the vocabulary.
fn judge_tokenizer(root: &Path, tokenizer: &TokenizerJson, judge: &mut Judge) -> Result<(), ConvertError> {
    let plain = [None, Some(END_OF_TEXT.to_owned())];
    if !plain.starts_with(&tokenizer.template) {
        let parts: Vec<_> = tokenizer.template.iter().map(|part| part.as_deref().unwrap_or("the text")).collect();
        let problem =
            format!("post_processor makes {} of a text, where {END_OF_TEXT} after it is run", parts.join(" + "));
        judge.refuse(&root.join("tokenizer.json"), "post_processor", problem);
    }
    let path = root.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(());
    }
    let json = read_json(&path)?;
    judge.keys(&path, "", &json, &keys::TOKENIZER_CONFIG);
    for (id, token) in json["added_tokens_decoder"].as_object().into_iter().flatten() {
        let there = id.parse().ok().and_then(|id: usize| tokenizer.tokens.get(id));
        let odd = ["lstrip", "rstrip", "single_word"].iter().any(|flag| token[flag] == true);
        if there.map(String::as_str) != token["content"].as_str() || odd {
            let name = format!("added_tokens_decoder.{id}");
            judge.refuse_value(&path, &name, token, "there is no such token in tokenizer.json");
        }
    }
    Ok(())
}

fn metadata(folder: &Path, config: &Config, options: &Quantize) -> GgufBuilder {
    let mut builder = GgufBuilder::new();
    let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    builder.set("general.architecture", ARCHITECTURE);
    builder.set("general.type", "model");
    builder.set("general.name", name.unwrap_or_else(|| "model".into()));
    builder.set("general.file_type", options.level.file_type());
    builder.set("general.quantization_version", 2u32);
    let mut set = |name: &str, value: usize| {
        builder.set(&format!("{ARCHITECTURE}.{name}"), value as u32);
    };
    set("block_count", config.layers);
    set("context_length", config.context);
    set("embedding_length", config.hidden);
    set("feed_forward_length", config.ffn);
    set("attention.head_count", config.heads.heads);
    set("attention.head_count_kv", config.heads.kv_heads);
    set("attention.key_length", config.heads.head_dim);
    set("attention.value_length", config.heads.head_dim);
    set("pooling_type", 3);
    builder.set(&format!("{ARCHITECTURE}.rope.freq_base"), config.rope_base);
    builder.set(&format!("{ARCHITECTURE}.attention.layer_norm_rms_epsilon"), config.eps);
    builder
}

/// The place of the token that ends every text, among tokens that all have a row of the matrix.
fn end_of_text(tokenizer: &TokenizerJson, rows: usize) -> Result<usize, String> {
    if tokenizer.tokens.len() > rows {
        return Err(format!("{} tokens, but config.json has a vocab_size of {rows}", tokenizer.tokens.len()));
    }
    let end = tokenizer.tokens.iter().position(|token| token == END_OF_TEXT);
    end.ok_or_else(|| format!("there is no token {END_OF_TEXT}, which ends every text"))
}

/// The tokenizer's strings, with as many tokens as the matrix has rows.
fn set_tokenizer(tokenizer: TokenizerJson, end: usize, rows: usize, builder: &mut GgufBuilder) {
    let TokenizerJson { mut tokens, mut token_types, merges, .. } = tokenizer;
    for i in tokens.len()..rows {
        tokens.push(format!("[PAD{i}]"));
        token_types.push(UNUSED);
    }
    builder.set("tokenizer.ggml.model", "gpt2");
    builder.set("tokenizer.ggml.pre", "qwen2");
    builder.set("tokenizer.ggml.tokens", tokens);
    builder.set("tokenizer.ggml.token_type", token_types);
    builder.set("tokenizer.ggml.merges", merges);
    builder.set("tokenizer.ggml.eos_token_id", end as u32);
    builder.set("tokenizer.ggml.padding_token_id", end as u32);
    builder.set("tokenizer.ggml.add_bos_token", false);
    builder.set("tokenizer.ggml.add_eos_token", true);
}
