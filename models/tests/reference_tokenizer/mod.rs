//! The tokenizer of a vocabulary as the reference implementation's crate makes it, to compare ours with.

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

/// That tokenizer; every added token is parsed.
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
    tokenizer.with_decoder(Some(ByteLevel::new(false, false, false)));
    let added = vocabulary.tokens.iter().zip(&vocabulary.token_types).filter(|&(_, &kind)| kind == 3 || kind == 4);
    // Only a conversion to GGUF makes these, to fill the vocabulary up.
    let added = added.filter(|(token, _)| !token.starts_with("[PAD"));
    let added = added.map(|(&token, &kind)| AddedToken::from(token, kind == 3).normalized(false));
    tokenizer.add_tokens(added).unwrap();
    tokenizer
}
