//! Is a file what it claims? Its header, tensors, weights, tokenizer and, for the published models, its vectors are
//! held against what is known of Qwen3-Embedding.

use crate::options::{EmbedOptions, LoadOptions, Prompt};
use crate::{Embedder, Error};
use qembed_kernels::default_threads;
use qembed_models::gguf::{Gguf, GgufError, Tensor};
use qembed_models::tokenizer::Tokenizer;
use qembed_models::{ByteProgress, Config, Level, not_understood, plan, tensor_shapes};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Not as it should be.
    Fail,
    /// Not looked at; the detail says why.
    Skip,
}

/// One check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Check {
    /// What was looked at, in a word or two.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, and what was expected where that differs.
    pub detail: String,
}

/// What is known of a published model.
struct Published {
    name: &'static str,
    layers: usize,
    hidden: usize,
    ffn: usize,
    heads: usize,
    /// Similarities of the model card's two queries (rows) with its two documents.
    similarities: [[f32; 2]; 2],
}

/// From the cards of `Qwen/Qwen3-Embedding-{0.6B,4B,8B}` and their `config.json`.
const PUBLISHED: [Published; 3] = [
    Published {
        name: "Qwen3-Embedding-0.6B",
        layers: 28,
        hidden: 1024,
        ffn: 3072,
        heads: 16,
        similarities: [[0.7646, 0.1414], [0.1355, 0.6000]],
    },
    Published {
        name: "Qwen3-Embedding-4B",
        layers: 36,
        hidden: 2560,
        ffn: 9728,
        heads: 32,
        similarities: [[0.7534, 0.1147], [0.0320, 0.6258]],
    },
    Published {
        name: "Qwen3-Embedding-8B",
        layers: 36,
        hidden: 4096,
        ffn: 12288,
        heads: 32,
        similarities: [[0.7493, 0.0751], [0.0880, 0.6318]],
    },
];

const QUERIES: [&str; 2] = ["What is the capital of China?", "Explain gravity"];
const DOCUMENTS: [&str; 2] = [
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other. It gives weight to physical objects and is \
     responsible for the movement of planets around the sun.",
];

/// Of all three models.
const KV_HEADS: usize = 8;
const HEAD_DIM: usize = 128;
const ROPE_BASE: f32 = 1e6;
const EPS: f32 = 1e-6;
const LEAST_CONTEXT: usize = 32_768;
const END_OF_TEXT: u32 = 151_643;
/// SHA-256 of the 151,643 tokens before `<|endoftext|>` and of all merges, each ended by a newline, with one more newline
/// between the two lists. The same in Qwen2, Qwen2.5 and Qwen3: they differ in special tokens only.
const VOCABULARY: &str = "fff25fde4f38b4090915dbb776783d8e865473a92aff15a7c3696b9f4126b466";
const KNOWN_IDS: [(&str, &[u32]); 2] = [("test", &[1944, 151_643]), ("test again", &[1944, 1549, 151_643])];

/// The published similarities have four digits and were computed in 16-bit floats.
const PUBLISHED_ERROR: f32 = 0.005;

type Watcher<'a> = Option<&'a (dyn Fn(ByteProgress) + Sync)>;

/// Checks a file; one check for each thing that is known of it. `progress` is called, by any thread, with the bytes of weights
/// that were read.
pub fn verify(path: &Path, options: &LoadOptions, progress: Option<&(dyn Fn(ByteProgress) + Sync)>) -> Vec<Check> {
    let mut checks = Checks(Vec::new());
    let gguf = match Gguf::open_with(path, options.access) {
        Ok(gguf) => gguf,
        Err(error) => {
            checks.fail("header", error.to_string());
            return checks.0;
        }
    };
    checks.pass("header", format!("GGUF version {}, {} tensors", gguf.version(), gguf.tensors().len()));
    checks.understood(&gguf, &options.allow);
    let config = match Config::read(&gguf) {
        Ok(config) => config,
        Err(error) => {
            checks.fail("metadata", error.to_string());
            return checks.0;
        }
    };
    let published = PUBLISHED
        .iter()
        .find(|model| (model.layers, model.hidden, model.ffn) == (config.layers, config.hidden, config.ffn));
    checks.metadata(&gguf, &config, published);
    checks.tensors(&gguf, &config, published);
    checks.level(&gguf);
    checks.weights(&gguf, options.threads.unwrap_or_else(default_threads), progress);
    checks.tokenizer(&gguf, options.tokenizer.as_deref(), published);
    checks.vectors(&gguf, options, published);
    checks.0
}

struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, name: &'static str, verdict: Verdict, detail: String) {
        self.0.push(Check { name, verdict, detail });
    }

    fn pass(&mut self, name: &'static str, detail: String) {
        self.add(name, Verdict::Pass, detail);
    }

    fn fail(&mut self, name: &'static str, detail: String) {
        self.add(name, Verdict::Fail, detail);
    }

    fn skip(&mut self, name: &'static str, detail: &str) {
        self.add(name, Verdict::Skip, detail.into());
    }

    /// Passes with `good` unless something is wrong.
    fn unless(&mut self, name: &'static str, wrong: Vec<String>, good: String) {
        if wrong.is_empty() { self.pass(name, good) } else { self.fail(name, wrong.join("; ")) }
    }

    /// Nothing stands in the file that could change a vector and is not known, save what the caller allows.
    fn understood(&mut self, gguf: &Gguf, allow: &[String]) {
        const NAME: &str = "understood";
        let (allowed, refused): (Vec<_>, Vec<_>) =
            not_understood(gguf).into_iter().partition(|item| allow.contains(&item.name));
        let lines = |items: Vec<_>| few(items.iter().map(ToString::to_string).collect()).join("; ");
        match (refused.is_empty(), allowed.is_empty()) {
            (false, _) => self.fail(NAME, lines(refused)),
            (true, false) => self.skip(NAME, &format!("allowed: {}", lines(allowed))),
            (true, true) => self.pass(NAME, "every key and tensor that could change a vector".into()),
        }
    }

    fn metadata(&mut self, gguf: &Gguf, config: &Config, published: Option<&Published>) {
        let shape = format!(
            "{} layers, hidden {}, feed-forward {}, {} heads over {} of {}",
            config.layers, config.hidden, config.ffn, config.heads.heads, config.heads.kv_heads, config.heads.head_dim
        );
        let Some(published) = published else {
            self.skip("model", &format!("not of the shape of a published model: {shape}"));
            return;
        };
        let mut wrong = Vec::new();
        let mut expect = |what: &str, found: f64, right: bool, expected: f64| {
            if !right {
                wrong.push(format!("{what} is {found}, {} has {expected}", published.name));
            }
        };
        let equal = |found: usize, expected: usize| (found as f64, found == expected, expected as f64);
        for (what, (found, right, expected)) in [
            ("heads", equal(config.heads.heads, published.heads)),
            ("key-value heads", equal(config.heads.kv_heads, KV_HEADS)),
            ("head width", equal(config.heads.head_dim, HEAD_DIM)),
            ("rope base", (config.rope_base.into(), config.rope_base == ROPE_BASE, ROPE_BASE.into())),
            ("epsilon", (config.eps.into(), config.eps == EPS, EPS.into())),
            ("context", (config.context as f64, config.context >= LEAST_CONTEXT, LEAST_CONTEXT as f64)),
        ] {
            expect(what, found, right, expected);
        }
        match gguf.i64("tokenizer.ggml.eos_token_id") {
            Ok(Some(id)) if id == i64::from(END_OF_TEXT) => {}
            // Known of files in circulation; the right token is appended whatever they say.
            Ok(found) => wrong.push(format!("end token is {found:?}, {} has {END_OF_TEXT}", published.name)),
            Err(error) => wrong.push(error.to_string()),
        }
        self.unless("model", wrong, format!("{}: {shape}", published.name));
    }

    /// The tensors that such a model has, and their shapes.
    fn tensors(&mut self, gguf: &Gguf, config: &Config, published: Option<&Published>) {
        let expected = tensor_shapes(config);
        let mut wrong = Vec::new();
        for (name, shape) in &expected {
            match gguf.tensor_info(name) {
                None => wrong.push(format!("{name} is missing")),
                // The vocabulary is padded differently by file.
                Some(info) if name == "token_embd.weight" && info.shape.row_len() == shape[0] => {}
                Some(info) if info.shape[..] == shape[..] => {}
                Some(info) => wrong.push(format!("{name} is {}, not {shape:?}", info.shape)),
            }
        }
        self.unless("tensors", few(wrong), format!("{} with the right shapes", expected.len()));
        match (gguf.tensor_info("output.weight"), published) {
            (None, _) => self.pass("tied output", "no output.weight".into()),
            (Some(_), Some(_)) => self.fail("tied output", "output.weight is there, published files have none".into()),
            (Some(_), None) => self.skip("tied output", "output.weight is there; embedding does not use it"),
        }
    }

    /// The formats that the level in `general.file_type` stands for.
    fn level(&mut self, gguf: &Gguf) {
        let level = match gguf.u32("general.file_type") {
            Ok(Some(number)) => match Level::ALL.iter().copied().find(|level| level.file_type() == number) {
                Some(level) => level,
                None => return self.skip("level", &format!("general.file_type is {number}, which is not known here")),
            },
            Ok(None) => return self.skip("level", "the file does not say: no general.file_type"),
            Err(error) => return self.fail("level", error.to_string()),
        };
        match plan(gguf, level) {
            Err(error) => self.fail("level", error.to_string()),
            Ok(formats) => {
                let other: Vec<_> = formats
                    .iter()
                    .filter_map(|(name, format)| {
                        let found = gguf.tensor_info(name)?.format?;
                        (found != *format).then(|| format!("{name} is {found}, {level} has {format}"))
                    })
                    .collect();
                // Mixes of other makers are no fault.
                if other.is_empty() {
                    self.pass("level", format!("{level}, as llama.cpp mixes it"));
                } else {
                    self.skip("level", &format!("{level} with a mix of its own: {}", few(other).join("; ")));
                }
            }
        }
    }

    /// Every weight is a number.
    fn weights(&mut self, gguf: &Gguf, threads: usize, progress: Watcher) {
        let tensors: Result<Vec<Tensor>, GgufError> =
            gguf.tensors().map(|info| gguf.require_tensor(&info.name)).collect();
        let tensors = match tensors {
            Ok(tensors) => tensors,
            Err(error) => return self.fail("weights", error.to_string()),
        };
        let wrong = not_finite(&tensors, threads, progress);
        let values: usize = tensors.iter().map(|tensor| tensor.shape.values()).sum();
        self.unless("weights", few(wrong), format!("{values}, all finite"));
    }

    fn tokenizer(&mut self, gguf: &Gguf, instead: Option<&Path>, published: Option<&Published>) {
        let tokenizer = match instead.map_or_else(|| Tokenizer::from_gguf(gguf), Tokenizer::from_file) {
            Ok(tokenizer) => tokenizer,
            Err(error) => return self.fail("tokenizer", error.to_string()),
        };
        let vocabulary = gguf.tensor_info("token_embd.weight").map_or(0, |info| info.shape.rows());
        let mut wrong: Vec<_> = tokenizer.warnings().to_vec();
        if tokenizer.vocab_size() > vocabulary {
            wrong.push(format!("{} tokens, but only {vocabulary} have a vector", tokenizer.vocab_size()));
        }
        let source = match instead {
            Some(path) => format!("of {}, in place of the file's own", path.display()),
            None if gguf.path().with_file_name("tokenizer.json").is_file() => {
                "the file's own; the tokenizer.json beside it is not used".into()
            }
            None => "the file's own".into(),
        };
        self.unless("tokenizer", wrong, format!("{} tokens, {source}", tokenizer.vocab_size()));
        self.vocabulary(gguf, published);
        if self.0.last().is_some_and(|vocabulary| vocabulary.verdict == Verdict::Skip) {
            return self.skip("token ids", "known for Qwen's vocabulary only");
        }
        let mut wrong = Vec::new();
        for (text, expected) in KNOWN_IDS {
            match tokenizer.encode_for_embedding(text) {
                Ok(found) if found == expected => {}
                Ok(found) => wrong.push(format!("{text:?} is {found:?}, not {expected:?}")),
                Err(error) => wrong.push(format!("{text:?}: {error}")),
            }
        }
        self.unless("token ids", wrong, "as known".into());
    }

    fn vocabulary(&mut self, gguf: &Gguf, published: Option<&Published>) {
        match fingerprint(gguf) {
            Ok(Some(found)) if found == VOCABULARY => self.pass("vocabulary", "Qwen's, by its SHA-256".into()),
            Ok(_) if published.is_none() => self.skip("vocabulary", "not Qwen's"),
            Ok(found) => {
                let found = found.unwrap_or_else(|| "fewer tokens".into());
                self.fail("vocabulary", format!("tokens or merges are not Qwen's: {found}, expected {VOCABULARY}"));
            }
            Err(error) => self.fail("vocabulary", error.to_string()),
        }
    }

    /// The model card's example.
    fn vectors(&mut self, gguf: &Gguf, options: &LoadOptions, published: Option<&Published>) {
        let found = match similarities(gguf, options) {
            Ok(found) => found,
            Err(error) => {
                self.fail("vectors", error.to_string());
                return self.skip("similarities", "there are no vectors");
            }
        };
        self.pass("vectors", "finite".into());
        let Some(published) = published else {
            return self.skip("similarities", "published for Qwen3-Embedding 0.6B, 4B and 8B only");
        };
        let allowed = tolerance(gguf, published.hidden);
        let pairs = found.iter().flatten().zip(published.similarities.iter().flatten());
        let apart = pairs.map(|(found, expected)| (found - expected).abs());
        let worst = apart.clone().fold(0.0, f32::max);
        // `max` passes NaN over.
        let close = { apart }.all(|apart| apart <= allowed);
        let detail = format!(
            "{found:.4?}, published {:.4?}: {worst:.4} apart, {allowed:.4} allowed at this level",
            published.similarities
        );
        self.add("similarities", if close { Verdict::Pass } else { Verdict::Fail }, detail);
    }
}

/// The first few of many faults.
fn few(mut wrong: Vec<String>) -> Vec<String> {
    const SHOWN: usize = 3;
    let more = wrong.len().saturating_sub(SHOWN);
    wrong.truncate(SHOWN);
    if more > 0 {
        wrong.push(format!("and {more} more"));
    }
    wrong
}

/// A line for each tensor that has a value which is not finite. The weights are read once, in pieces, by all threads.
fn not_finite(tensors: &[Tensor], threads: usize, progress: Watcher) -> Vec<String> {
    const PIECE: usize = 1 << 18;
    let mut pieces = Vec::new();
    for tensor in tensors {
        let step = (PIECE / tensor.shape.row_len()).max(1);
        pieces.extend((0..tensor.shape.rows()).step_by(step).map(|first| (tensor, first, step)));
    }
    let total: usize = tensors.iter().map(|tensor| tensor.data.len()).sum();
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let found = Mutex::new(HashMap::new());
    let read = || {
        let mut values = Vec::new();
        while let Some((tensor, first, step)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let row_bytes = tensor.data.len() / tensor.shape.rows();
            let rows = (tensor.shape.rows() - first).min(*step);
            let data = &tensor.data[first * row_bytes..][..rows * row_bytes];
            values.resize(rows * tensor.shape.row_len(), 0.0);
            tensor.format.dequantize(data, &mut values);
            let sum = |values: &[f32]| values.iter().filter(|value| !value.is_finite()).count();
            let count = sum(&values);
            if count > 0 {
                *found.lock().expect("no thread panics").entry(&tensor.name).or_insert(0) += count;
            }
            let bytes = data.len() as u64;
            let done = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if let Some(progress) = progress {
                progress(ByteProgress::new(done, total as u64));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(read);
        }
    });
    let found = found.into_inner().expect("no thread panics");
    let of = |tensor: &Tensor| found.get(&tensor.name).map(|n| format!("{}: {n} values are not finite", tensor.name));
    tensors.iter().filter_map(of).collect()
}

/// The hash that [`VOCABULARY`] has for Qwen's; `None` when there are fewer tokens.
fn fingerprint(gguf: &Gguf) -> Result<Option<String>, GgufError> {
    let tokens = gguf.require_array("tokenizer.ggml.tokens")?.iter_str_bytes()?;
    let merges = gguf.require_array("tokenizer.ggml.merges")?.iter_str_bytes()?;
    if tokens.len() < END_OF_TEXT as usize {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    let mut line = |text: &[u8]| {
        hash.update(text);
        hash.update(b"\n");
    };
    tokens.take(END_OF_TEXT as usize).for_each(&mut line);
    line(b"");
    merges.for_each(&mut line);
    Ok(Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Similarities of the card's queries (rows) with its documents.
fn similarities(gguf: &Gguf, options: &LoadOptions) -> Result<[[f32; 2]; 2], Error> {
    let embedder = Embedder::from_gguf(gguf, options)?;
    let queries = embedder.embed(&QUERIES, &EmbedOptions::default().prompt(Prompt::Query))?;
    let documents = embedder.embed(&DOCUMENTS, &EmbedOptions::default())?;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    Ok([0, 1].map(|q| [0, 1].map(|d| dot(&queries[q], &documents[d]))))
}

/// How far a similarity may be from the published one, by the bits of the weights.
///
/// Quantizing turns a vector by some angle: let 1 − cosine be δ, so that it moves by √(2δ). In a direction without
/// preference among `hidden`, this changes the product with another vector by √(2δ / hidden), and both vectors move: √2
/// times that. Eight times as much is allowed, since the directions of two texts are not independent, on top of what the
/// published numbers may be off themselves. The δ are those of the built-in model's levels (its card), doubled, since
/// Qwen3-Embedding has many more layers through which an error passes.
fn tolerance(gguf: &Gguf, hidden: usize) -> f32 {
    let delta = match gguf.bits_per_value() {
        ..4.0 => 0.0242,
        ..5.3 => 0.0068,
        ..6.3 => 0.0044,
        ..8.0 => 0.0038,
        _ => 0.0008,
    };
    PUBLISHED_ERROR + 8.0 * (4.0 * delta / hidden as f32).sqrt()
}

#[cfg(test)]
mod tests;
