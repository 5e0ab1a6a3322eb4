//! What an embedder tells of its tokens: their text, and where they stand in one.

use crate::embedder::Embedder;
use crate::error::Error;
use qembed_models::tokenizer::{Cl100kError, SpecialTokens, TokenSpan, UnknownToken};

impl Embedder {
    /// The text of tokens, by their ids. Bytes that are no UTF-8, such as those of half a character, become U+FFFD.
    /// `skip_special` leaves out control tokens, the end token among them.
    ///
    /// # Errors
    /// An id beyond the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, UnknownToken> {
        let lossy = |error: std::string::FromUtf8Error| String::from_utf8_lossy(error.as_bytes()).into_owned();
        Ok(String::from_utf8(self.decode_bytes(ids, skip_special)?).unwrap_or_else(lossy))
    }

    /// [`Embedder::decode`] as bytes. One token need not be UTF-8, all tokens of a text together are: the text in NFC.
    ///
    /// # Errors
    /// As [`Embedder::decode`].
    pub fn decode_bytes(&self, ids: &[u32], skip_special: bool) -> Result<Vec<u8>, UnknownToken> {
        self.tokenizer.decode(ids, skip_special)
    }

    /// The text of ids of cl100k_base, the vocabulary of OpenAI's embedding models, in which clients written for those send
    /// texts. A character that was cut at the start or the end of the list is left out.
    ///
    /// # Errors
    /// The model has another vocabulary than Qwen's, an id stands for no text, or the bytes are no UTF-8.
    pub fn decode_cl100k(&self, ids: &[u32]) -> Result<String, Cl100kError> {
        self.tokenizer.decode_cl100k(ids)
    }

    /// The tokens of a text and where each stands in it, without an instruction and without the end token.
    ///
    /// # Errors
    /// A text that cannot be tokenized.
    pub fn token_spans(&self, text: &str) -> Result<Vec<TokenSpan>, Error> {
        let spans = self.tokenizer.spans(text, SpecialTokens::AsText);
        spans.map_err(|source| Error::Tokenize { text: 0, source })
    }

    /// The token that ends every text, of which the model's vector is taken.
    pub fn end_token(&self) -> u32 {
        self.tokenizer.eos()
    }

    /// Whether a token is no text: a control token, such as the end token. Their text is a name (`<|endoftext|>`).
    pub fn is_special(&self, id: u32) -> bool {
        self.tokenizer.is_special(id)
    }
}
