//! Text to token ids, as the reference tokenizer of Qwen3-Embedding does it: NFC, the `qwen2` split, byte-level BPE.
//!
//! Built straight from the metadata of a GGUF file, or from a `tokenizer.json` instead. It must never give other ids
//! than the reference, never drop text, and never let text that looks like a special token become one unasked.
//!
//! # Why not the `tokenizers` crate
//! Its regex engine gives up on long blanks and then returns other tokens (see `split.rs`). Building it copies every
//! string several times, and encoding tracks offsets that nobody reads. `cargo bench -p qembed-models --bench
//! tokenizer`, 151,936 tokens, 100 kB of text, on a shared machine of two cores with other work on it (medians; those
//! of the build moved between 57 and 77, and 100 and 171, from run to run):
//!
//! | | here | `tokenizers` 0.23.2 |
//! |---|---|---|
//! | build | 60 ms; 4.3 MiB stay resident, and 1.9 of the tokens' texts, for decoding | 103 ms |
//! | English | 30 MiB/s | 3.6 MiB/s |
//! | Chinese | 15 MiB/s | 8.4 MiB/s |
//!
//! A profile of the build shows string lookups and comparisons, and filling the index of tokens; hardly any
//! allocation.
//!
//! The crate remains in the tests, as the oracle; its NFC tables (Unicode 9) are used here as they are, so that the two
//! agree on characters that Unicode composed later.

mod added;
mod bpe;
mod cl100k;
mod decode;
mod json;
mod metadata;
mod nfc;
mod spans;
mod split;

use std::path::{Path, PathBuf};

pub use cl100k::Cl100kError;
pub use decode::UnknownToken;
pub(crate) use json::TokenizerJson;
pub use json::TokenizerJsonError;
pub use spans::TokenSpan;

use added::{AddedTokens, Segment};
use bpe::{Bpe, Index, Scratch, SeededHash};
use cl100k::IsQwen;
use decode::TokenTexts;
use nfc::nfc;
use spans::Origins;

/// The token appended to every text: Qwen3-Embedding pools the hidden state over it.
const END_OF_TEXT: &str = "<|endoftext|>";
/// The end of a chat turn, which some GGUF files name as their EOS; a vector pooled over it is wrong.
const END_OF_TURN: &str = "<|im_end|>";

/// Longest text in bytes: NFC may triple it, and positions in a piece are 32 bits.
pub const MAX_TEXT_BYTES: usize = 1 << 30;

/// Values of `tokenizer.ggml.token_type` (`llama_token_type` of llama.cpp) that matter here.
struct TokenType;

impl TokenType {
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    const USER_DEFINED: i32 = 4;
}

/// The `tokenizer.ggml.*` metadata of a GGUF file, borrowed from its mapping.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary<'a> {
    /// `model`: must be `gpt2`, which means byte-level BPE.
    pub model: &'a str,
    /// `pre`: how text is split before merging; must be `qwen2`.
    pub pre: &'a str,
    /// `tokens`: by id, bytes written as the characters of byte-level BPE.
    pub tokens: Vec<&'a str>,
    /// `token_type`: one for each token. 3 (control) and 4 (user defined) matter, all others are reached by merges only.
    pub token_types: Vec<i32>,
    /// `merges`: `left right`, best first.
    pub merges: Vec<&'a str>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `add_eos_token`.
    pub add_eos: Option<bool>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
}

/// What to make of text that spells a control token, such as `<|im_start|>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecialTokens {
    /// It is plain text.
    #[default]
    AsText,
    /// It is that token. Only for text that the caller wrote.
    Parse,
}

/// Why there is no tokenizer, or no tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A key of the GGUF file is missing or of the wrong type.
    #[error(transparent)]
    Metadata(#[from] crate::gguf::GgufError),
    /// `tokenizer.ggml.model` names another algorithm.
    #[error("tokenizer model {model:?} is not supported: only \"gpt2\" (byte-level BPE) is")]
    UnsupportedModel {
        /// What the file says.
        model: String,
    },
    /// `tokenizer.ggml.pre` names another split.
    #[error("pre-tokenizer {pre:?} is not supported: only \"qwen2\" is; is this a Qwen3-Embedding file?")]
    UnsupportedPre {
        /// What the file says.
        pre: String,
    },
    /// There are no tokens.
    #[error("the vocabulary is empty")]
    EmptyVocabulary,
    /// There are more tokens than ids.
    #[error("the vocabulary has {tokens} tokens: too many")]
    TooManyTokens {
        /// How many there are.
        tokens: usize,
    },
    /// The tokens are longer than any vocabulary's.
    #[error("the tokens of the vocabulary have {bytes} bytes together: too many")]
    TokensTooLong {
        /// How many bytes.
        bytes: usize,
    },
    /// `tokenizer.ggml.token_type` does not go with the tokens.
    #[error("the vocabulary has {tokens} tokens but {types} token types")]
    TokenTypes {
        /// How many tokens there are.
        tokens: usize,
        /// How many types there are.
        types: usize,
    },
    /// A byte that occurs in UTF-8 has no token, so some text could not be encoded.
    #[error("the vocabulary has no token for byte {byte:#04x}")]
    MissingByte {
        /// The byte.
        byte: u8,
    },
    /// A merge is not two tokens with one space between them.
    #[error("merge {index} is {merge:?}, not two tokens with a space between them")]
    MalformedMerge {
        /// Position in the list of merges.
        index: usize,
        /// What stands there.
        merge: String,
    },
    /// A merge names a token, or makes one, that is not in the vocabulary.
    #[error("merge {index} ({merge:?}) needs token {missing:?}, which is not in the vocabulary")]
    DanglingMerge {
        /// Position in the list of merges.
        index: usize,
        /// What stands there.
        merge: String,
        /// The token.
        missing: String,
    },
    /// No token can be appended to a text.
    #[error(
        "the vocabulary has no \"<|endoftext|>\" and the metadata names no other end-of-text token that could serve"
    )]
    NoEndOfText,
    /// The automaton over control and user-defined tokens could not be built.
    #[error("cannot search for added tokens: {0}")]
    AddedTokens(#[from] aho_corasick::BuildError),
    /// A `tokenizer.json` could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A `tokenizer.json` is malformed, or describes another kind of tokenizer.
    #[error("cannot use {}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TokenizerJsonError,
    },
    /// A text is longer than [`MAX_TEXT_BYTES`].
    #[error("the text has {bytes} bytes, more than the {MAX_TEXT_BYTES} that can be encoded at once")]
    TextTooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Turns text into token ids, and those back into text. It never changes once built: share it between threads by reference or in an `Arc`.
pub struct Tokenizer {
    bpe: Bpe,
    added: AddedTokens,
    texts: TokenTexts,
    is_qwen: IsQwen,
    eos: u32,
    vocab_size: usize,
    warnings: Vec<String>,
}

impl Tokenizer {
    /// Builds the tokenizer of a GGUF file; nothing of `vocab` stays borrowed.
    ///
    /// # Errors
    /// All but the last three of [`TokenizerError`]: the vocabulary is of another kind or inconsistent.
    pub fn new(vocab: &Vocabulary<'_>) -> Result<Self, TokenizerError> {
        if vocab.model != "gpt2" {
            return Err(TokenizerError::UnsupportedModel { model: vocab.model.into() });
        }
        if vocab.pre != "qwen2" {
            return Err(TokenizerError::UnsupportedPre { pre: vocab.pre.into() });
        }
        let tokens = &vocab.tokens[..];
        if tokens.is_empty() {
            return Err(TokenizerError::EmptyVocabulary);
        }
        let Ok(count) = u32::try_from(tokens.len()) else {
            return Err(TokenizerError::TooManyTokens { tokens: tokens.len() });
        };
        if vocab.token_types.len() != tokens.len() {
            return Err(TokenizerError::TokenTypes { tokens: tokens.len(), types: vocab.token_types.len() });
        }
        let mut warnings = Vec::new();
        let mut index = Index::with_capacity_and_hasher(tokens.len(), SeededHash::new());
        let mut repeated = None;
        for (id, &token) in (0..count).zip(tokens) {
            repeated = index.insert(token, id).map(|_| token).or(repeated);
        }
        if let Some(token) = repeated {
            warnings.push(format!(
                "{} tokens of the vocabulary repeat an earlier one ({token:?} for instance); the last of each counts",
                tokens.len() - index.len()
            ));
        }
        let eos = end_of_text(vocab, &index, &mut warnings)?;
        let bpe = Bpe::new(tokens, &index, &vocab.merges, &mut warnings)?;

        let mut control = vec![(tokens[eos as usize], eos)];
        let mut user_defined = Vec::new();
        for ((id, &token), &token_type) in (0..count).zip(tokens).zip(&vocab.token_types) {
            // Few tokens are of these types, and only those are looked up.
            let list = match token_type {
                TokenType::CONTROL => &mut control,
                TokenType::USER_DEFINED if !is_padding(token, id) => &mut user_defined,
                _ => continue,
            };
            if id != eos && index[token] == id {
                list.push((token, id));
            }
        }
        let added = AddedTokens::new(&control, &user_defined)?;
        let texts = TokenTexts::new(vocab, eos)?;
        Ok(Self { bpe, added, texts, is_qwen: IsQwen::default(), eos, vocab_size: tokens.len(), warnings })
    }

    /// Builds the tokenizer of a `tokenizer.json`, which replaces that of the GGUF file beside it.
    ///
    /// # Errors
    /// The file cannot be read, is no `tokenizer.json` of the Qwen2 and Qwen3 kind, or all that [`Tokenizer::new`] finds.
    pub fn from_file(tokenizer_json: &Path) -> Result<Self, TokenizerError> {
        Self::new(&TokenizerJson::read(tokenizer_json)?.vocabulary())
    }

    /// [`Tokenizer::from_file`] of a file's bytes.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`], save that there is nothing to be read.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let bad = |source| TokenizerError::Json { path: "(in memory)".into(), source };
        Self::new(&TokenizerJson::parse(bytes).map_err(bad)?.vocabulary())
    }

    /// The tokens of `text`, without an end-of-text token. Text that spells a control token is plain text.
    ///
    /// # Errors
    /// [`TokenizerError::TextTooLong`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_with(text, SpecialTokens::AsText)
    }

    /// The tokens of `text`, without an end-of-text token unless `text` spells one and `special` says to parse it.
    ///
    /// User-defined tokens of the vocabulary (`<think>`) are recognized either way, as in the reference tokenizer.
    ///
    /// # Errors
    /// [`TokenizerError::TextTooLong`].
    pub fn encode_with(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>, TokenizerError> {
        check_length(text)?;
        let mut ids = Vec::with_capacity(text.len() / 4 + 4);
        let mut scratch = Scratch::default();
        for segment in self.added.segments(text, special) {
            match segment {
                Segment::Token(id) => ids.push(id),
                Segment::Text(text) => self.encode_segment(text, &mut scratch, &mut ids),
            }
        }
        Ok(ids)
    }

    /// [`Tokenizer::encode_with`], and where each token stands in `text`. The spans cover the text without gaps.
    ///
    /// # Errors
    /// [`TokenizerError::TextTooLong`].
    pub fn spans(&self, text: &str, special: SpecialTokens) -> Result<Vec<TokenSpan>, TokenizerError> {
        check_length(text)?;
        let (mut spans, mut ids) = (Vec::new(), Vec::new());
        let mut scratch = Scratch::default();
        let mut start = 0;
        for segment in self.added.segments(text, special) {
            match segment {
                Segment::Token(id) => {
                    let end = start + self.texts.get(id).map_or(0, str::len);
                    spans.push(TokenSpan { id, bytes: start..end });
                    start = end;
                }
                Segment::Text(segment) => {
                    ids.clear();
                    self.encode_segment(segment, &mut scratch, &mut ids);
                    let origins = Origins::new(segment);
                    let mut from = 0;
                    spans.extend(ids.iter().map(|&id| {
                        // Of a token that merges lead to, each character is a byte.
                        let to = from + self.texts.get(id).map_or(0, |token| token.chars().count());
                        let bytes = origins.of(from..to);
                        from = to;
                        TokenSpan { id, bytes: start + bytes.start..start + bytes.end }
                    }));
                    start += segment.len();
                }
            }
        }
        Ok(spans)
    }

    /// Appends the tokens of text without an added token.
    fn encode_segment(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        for piece in split::pieces(&nfc(text)) {
            self.bpe.encode(piece, scratch, ids);
        }
    }

    /// The bytes that tokens stand for: of what [`Tokenizer::encode`] gave, the text in NFC. Control tokens and user-defined
    /// ones stand for their text (`<|im_start|>`); `skip_special` leaves out control tokens, the end of a text included. Not
    /// every list of tokens is UTF-8.
    ///
    /// # Errors
    /// An id beyond the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<Vec<u8>, UnknownToken> {
        self.texts.decode(ids, skip_special)
    }

    /// The text of ids of cl100k_base, the vocabulary of OpenAI's embedding models, which clients written for those send. A
    /// character that was cut at the start or the end of the list is left out.
    ///
    /// # Errors
    /// This tokenizer has another vocabulary than Qwen's, an id stands for no text, or the bytes are no UTF-8.
    pub fn decode_cl100k(&self, ids: &[u32]) -> Result<String, Cl100kError> {
        cl100k::decode(&self.texts, &self.is_qwen, ids)
    }

    /// Whether a token is no text: a control token, or the one that ends a text.
    pub fn is_special(&self, id: u32) -> bool {
        self.texts.is_special(id)
    }

    /// The input of the model for `text`: [`Tokenizer::encode`] and then [`Tokenizer::eos`], which stands nowhere else.
    ///
    /// # Errors
    /// [`TokenizerError::TextTooLong`].
    pub fn encode_for_embedding(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = self.encode(text)?;
        ids.push(self.eos);
        Ok(ids)
    }

    /// Id of the token that ends every text: `<|endoftext|>`, 151643 in Qwen3-Embedding.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// Number of tokens; every id is below it. The model needs an embedding for each.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// What is odd about the vocabulary or its metadata, a sentence each, for the user to read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("eos", &self.eos)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// The id to append, and warnings where the metadata wants something else.
fn end_of_text(vocab: &Vocabulary<'_>, index: &Index<'_>, warnings: &mut Vec<String>) -> Result<u32, TokenizerError> {
    let named = vocab.eos.and_then(|id| Some((id, *vocab.tokens.get(id as usize)?)));
    let eos = match index.get(END_OF_TEXT) {
        Some(&eos) => eos,
        None => match named {
            Some((id, token)) if token != END_OF_TURN => {
                warnings.push(format!(
                    "the vocabulary has no {END_OF_TEXT:?}; texts end with {token:?} ({id}), as the metadata says"
                ));
                id
            }
            _ => return Err(TokenizerError::NoEndOfText),
        },
    };
    if let Some(id) = vocab.eos.filter(|&id| id != eos) {
        let token = named.map_or("no token at all", |(_, token)| token);
        warnings.push(format!(
            "the metadata says that texts end with {id} ({token}); {eos} ({END_OF_TEXT}) is appended all the same"
        ));
    }
    if vocab.add_eos == Some(false) {
        warnings.push(format!("the metadata says that no token ends a text; {eos} is appended all the same"));
    }
    if vocab.add_bos == Some(true) {
        warnings.push("the metadata says that a token starts a text; none is put there all the same".into());
    }
    Ok(eos)
}

/// Whether `token` only fills the vocabulary up to the size of the embedding matrix: `[PAD151665]`.
fn is_padding(token: &str, id: u32) -> bool {
    token.strip_prefix("[PAD").and_then(|rest| rest.strip_suffix(']')).and_then(|n| n.parse().ok()) == Some(id)
}

fn check_length(text: &str) -> Result<(), TokenizerError> {
    match text.len() {
        bytes if bytes > MAX_TEXT_BYTES => Err(TokenizerError::TextTooLong { bytes }),
        _ => Ok(()),
    }
}
