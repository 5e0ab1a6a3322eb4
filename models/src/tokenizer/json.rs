//! The override: a `tokenizer.json` beside the GGUF file, for files whose metadata is broken.
//!
//! It is read for its vocabulary alone. Its pipeline must be the one that this module implements; any other is refused
//! by name, because encoding with the wrong one would give wrong vectors without a sign.

use std::path::Path;

use serde_json::Value;

use super::split::PATTERN;
use super::{TokenType, TokenizerError, Vocabulary};
use crate::json::{self, JsonError};

/// What is wrong with a `tokenizer.json`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerJsonError {
    /// It holds no JSON.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// It is inconsistent, or describes another kind of tokenizer; what it says, and what that is held against.
    #[error("{0}")]
    Content(String),
}

impl From<String> for TokenizerJsonError {
    fn from(said: String) -> Self {
        Self::Content(said)
    }
}

impl From<&str> for TokenizerJsonError {
    fn from(said: &str) -> Self {
        Self::Content(said.into())
    }
}

/// The strings of a `tokenizer.json`, which a [`Vocabulary`] borrows.
pub(crate) struct TokenizerJson {
    pub(crate) tokens: Vec<String>,
    pub(crate) token_types: Vec<i32>,
    pub(crate) merges: Vec<String>,
    /// What its post-processor makes of a text, `None` for the text: the text alone, or tokens around it.
    #[cfg(feature = "convert")]
    pub(crate) template: Vec<Option<String>>,
}

impl TokenizerJson {
    pub(crate) fn read(path: &Path) -> Result<Self, TokenizerError> {
        let bytes = std::fs::read(path).map_err(|source| TokenizerError::Read { path: path.to_path_buf(), source })?;
        Self::parse(&bytes).map_err(|source| TokenizerError::Json { path: path.to_path_buf(), source })
    }

    pub(super) fn vocabulary(&self) -> Vocabulary<'_> {
        Vocabulary {
            model: "gpt2",
            pre: "qwen2",
            tokens: self.tokens.iter().map(String::as_str).collect(),
            token_types: self.token_types.clone(),
            merges: self.merges.iter().map(String::as_str).collect(),
            eos: None,
            add_eos: None,
            add_bos: None,
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TokenizerJsonError> {
        let json = json::parse(bytes)?;
        check_pipeline(&json)?;
        let model = &json["model"];
        let vocab = model["vocab"].as_object().ok_or("`model.vocab` is missing")?;
        let added = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);

        let mut tokens: Vec<Option<String>> = vec![None; vocab.len() + added.len()];
        let limit = tokens.len();
        let mut token_types = vec![TokenType::NORMAL; limit];
        let mut put = |token: &str, id: &Value| {
            let place = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|&id| id < limit);
            let id = place.ok_or_else(|| format!("token {token:?} has id {id}, beyond the number of tokens"))?;
            match &tokens[id] {
                Some(other) if other != token => Err(format!("tokens {other:?} and {token:?} have the same id {id}")),
                _ => {
                    tokens[id] = Some(token.to_owned());
                    Ok(id)
                }
            }
        };
        for (token, id) in vocab {
            put(token, id)?;
        }
        for entry in added {
            let content = entry["content"].as_str().ok_or("an entry of `added_tokens` has no `content`")?;
            if let Some(flag) = ["lstrip", "rstrip", "single_word"].iter().find(|&&flag| entry[flag] == true) {
                return Err(format!("added token {content:?} has `{flag}`, which is not supported").into());
            }
            let id = put(content, &entry["id"])?;
            token_types[id] = if entry["special"] == true { TokenType::CONTROL } else { TokenType::USER_DEFINED };
        }
        let count = tokens.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        token_types.truncate(count);
        let tokens = tokens.into_iter().take(count).enumerate();
        let tokens: Vec<_> =
            tokens.map(|(id, token)| token.ok_or(format!("no token has id {id}"))).collect::<Result<_, _>>()?;

        let merges = model["merges"].as_array().ok_or("`model.merges` is missing")?;
        let merges = merges.iter().enumerate().map(|(i, merge)| match merge {
            Value::String(merge) => Ok(merge.clone()),
            _ => match merge.as_array().map(Vec::as_slice) {
                Some([Value::String(left), Value::String(right)]) => Ok(format!("{left} {right}")),
                _ => Err(format!("merge {i} is {merge}, not two tokens: [\"a\", \"b\"] or \"a b\"")),
            },
        });
        let merges = merges.collect::<Result<_, _>>()?;
        #[cfg(feature = "convert")]
        let template = template(&json["post_processor"], &tokens);
        Ok(Self {
            tokens,
            token_types,
            merges,
            #[cfg(feature = "convert")]
            template,
        })
    }
}

/// What a post-processor makes of one text: for byte-level BPE only a template changes it.
#[cfg(feature = "convert")]
fn template(processor: &Value, tokens: &[String]) -> Vec<Option<String>> {
    let steps = processor["processors"].as_array().map_or(std::slice::from_ref(processor), Vec::as_slice);
    let mut result = vec![None];
    for step in steps {
        let parts = match step["type"].as_str() {
            None | Some("ByteLevel") => continue,
            Some("TemplateProcessing") => step["single"].as_array().map_or(&[][..], Vec::as_slice),
            Some(other) => return vec![Some(other.to_owned())],
        };
        let part = |part: &Value| {
            let Some(id) = part["SpecialToken"]["id"].as_str() else { return vec![None] };
            let ids = step["special_tokens"][id]["ids"].as_array().map_or(&[][..], Vec::as_slice);
            let token = |id: &Value| Some(tokens.get(usize::try_from(id.as_u64()?).ok()?)?.clone());
            ids.iter().map(|id| Some(token(id).unwrap_or_else(|| id.to_string()))).collect()
        };
        let made: Vec<_> = parts.iter().flat_map(part).collect();
        // A template around what the steps before made.
        result = made.into_iter().flat_map(|part| if part.is_none() { result.clone() } else { vec![part] }).collect();
    }
    result
}

/// The `tokenizer.json` of Qwen3-Embedding in all that changes ids.
fn check_pipeline(json: &Value) -> Result<(), String> {
    let expect = |what: &str, ok: bool, found: &Value| {
        if ok { Ok(()) } else { Err(format!("`{what}` is {found}, which is not supported")) }
    };
    let model = &json["model"];
    expect("model.type", model["type"] == "BPE", &model["type"])?;
    for option in ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"] {
        expect(&format!("model.{option}"), model[option].is_null() || model[option] == "", &model[option])?;
    }
    for option in ["byte_fallback", "ignore_merges"] {
        expect(&format!("model.{option}"), model[option] != true, &model[option])?;
    }
    let normalizer = &json["normalizer"];
    expect("normalizer", normalizer["type"] == "NFC", normalizer)?;

    let pre = &json["pre_tokenizer"];
    let steps = pre["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice);
    let supported = match steps {
        [split, bytes] => {
            split["type"] == "Split"
                && split["pattern"]["Regex"] == PATTERN
                && split["behavior"] == "Isolated"
                && split["invert"] != true
                && bytes["type"] == "ByteLevel"
                && bytes["add_prefix_space"] == false
                && bytes["use_regex"] == false
        }
        _ => false,
    };
    expect("pre_tokenizer", supported, pre)
}
