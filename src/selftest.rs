//! Does a device compute what it should? Its kernels beside plain code, then the built-in model beside the same on plain code.
//!
//! For machines that nobody has tried: Metal is trusted by [`Device::Auto`](crate::Device::Auto) only where this has passed, whole, on
//! the same GPU, system and version of the program.

use crate::device::{forget_selftest, remember_selftest, test_kernels};
use crate::error::Error;
use crate::options::{Device, EmbedOptions, LoadOptions, Prompt};
use crate::{Embedder, Embeddings};
use qembed_kernels::selftest::{Check as KernelCheck, Rounding};
use std::time::Instant;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Not as it should be.
    Failed,
    /// Not looked at; the detail says why. It counts as not passed.
    Skipped,
}

/// One check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SelftestCheck {
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was found, or what is wrong.
    pub detail: String,
}

impl SelftestCheck {
    fn new(name: impl Into<String>, found: Result<String, String>) -> Self {
        let outcome = if found.is_ok() { Outcome::Passed } else { Outcome::Failed };
        let (Ok(detail) | Err(detail)) = found;
        Self { name: name.into(), outcome, detail }
    }

    fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Skipped, detail: why.into() }
    }
}

/// How fast the built-in model is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pace {
    /// Where: the device and its instruction set.
    pub device: String,
    /// Tokens of a text.
    pub tokens: usize,
    /// Texts of a call.
    pub texts: usize,
    /// Of the fastest call.
    pub tokens_per_second: f64,
}

/// What a self-test found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Selftest {
    /// Everything that was looked at.
    pub checks: Vec<SelftestCheck>,
    /// On the processor and, where that is tested, on another device.
    pub paces: Vec<Pace>,
}

impl Selftest {
    /// Whether everything was looked at and is as it should be.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.outcome == Outcome::Passed)
    }
}

/// Tests the device that `options` name, which takes a minute or so; `each` is told of every check when it is done. Where Metal has
/// passed, a stamp in the user's cache folder says so to those who load a model later.
///
/// # Errors
/// When the device cannot be used at all. What it computes wrongly is a failed check.
pub fn selftest(options: &LoadOptions, each: &mut dyn FnMut(&SelftestCheck)) -> Result<Selftest, Error> {
    let mut result = Selftest { checks: Vec::new(), paces: Vec::new() };
    let mut tell = |check: SelftestCheck| {
        each(&check);
        result.checks.push(check);
    };
    // One that is stopped, or that ends the program, has not passed.
    if options.device != Device::Cpu
        && let Err(error) = forget_selftest()
    {
        tell(SelftestCheck::new("stamp", Err(format!("that of an earlier self-test cannot be removed: {error}"))));
    }
    let mut of_kernels = |KernelCheck { name, found, .. }: KernelCheck| tell(SelftestCheck::new(name, found));
    let (device, rounding) = test_kernels(options, &mut of_kernels)?;
    let options = options.clone().device(device);
    match of_model(&options, rounding, &mut tell)? {
        Some(paces) => result.paces = paces,
        None => tell(SelftestCheck::skipped("built-in model", "this program was built without it (feature `builtin`)")),
    }
    if device == Device::Metal && result.passed() {
        let written = remember_selftest().map(|place| place.display().to_string());
        let check = SelftestCheck::new("stamp", written.map_err(|error| format!("cannot be left: {error}")));
        each(&check);
        result.checks.push(check);
    }
    Ok(result)
}

#[cfg(not(feature = "builtin"))]
fn of_model(_: &LoadOptions, _: Rounding, _: &mut dyn FnMut(SelftestCheck)) -> Result<Option<Vec<Pace>>, Error> {
    Ok(None)
}

/// The built-in model on the device that is tested and in plain code: `None` where there is no such model.
#[cfg(feature = "builtin")]
fn of_model(
    options: &LoadOptions,
    rounding: Rounding,
    tell: &mut dyn FnMut(SelftestCheck),
) -> Result<Option<Vec<Pace>>, Error> {
    let gguf = qembed_models::builtin()?;
    let layers = qembed_models::Config::read(&gguf)?.layers;
    let tested = Embedder::new(&gguf, options)?;
    let plain = Embedder::new(&gguf, &LoadOptions::default().isa("scalar".to_owned()))?;
    tell(SelftestCheck::new("built-in model, vectors", vectors(&tested, &plain, bound(layers, rounding))?));
    tell(SelftestCheck::new("built-in model, bits", bits(&tested)?));
    let mut paces = Vec::new();
    if options.device == Device::Metal {
        pace(&Embedder::new(&gguf, &options.clone().device(Device::Cpu))?, &mut paces)?;
    }
    pace(&tested, &mut paces)?;
    Ok(Some(paces))
}

/// How far the cosine of a vector to that in plain code may be from 1. A value is off by less than the bound of its rounding, which has a
/// mean square of a third of its own, and is relative to the largest of a run, four times as large as its mean. Each of the seven
/// products of a layer adds as much of its output, which is no more than all of what it goes into; errors of so many roundings are
/// independent, and two vectors of length 1 whose distance is r have a cosine of 1 − r² / 2. Twice that, and what f32 leaves.
#[cfg(feature = "builtin")]
fn bound(layers: usize, rounding: Rounding) -> f64 {
    let of = |share: qembed_kernels::selftest::Share| share.by.powi(2) / 3.0 * if share.run > 1 { 16.0 } else { 1.0 };
    2.0 * (7 * layers) as f64 * (of(rounding.input) + of(rounding.weights)) / 2.0 + 1e-6
}

/// In several scripts and of all lengths.
#[cfg(feature = "builtin")]
fn texts() -> Vec<String> {
    const SHORT: [&str; 6] = [
        "a",
        "The capital of China is Beijing.",
        "重力是一种使物体相互吸引的力。",
        "fn main() { println!(\"{}\", 1 << 20); }",
        "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich",
        "ما هي عاصمة الصين؟",
    ];
    let long = |words: usize| (0..words).map(|i| format!("word {} of many;", i * i % 97)).collect::<Vec<_>>().join(" ");
    SHORT.iter().map(|text| (*text).to_owned()).chain([7, 20, 60].map(long)).collect()
}

#[cfg(feature = "builtin")]
fn vectors(tested: &Embedder, plain: &Embedder, bound: f64) -> Result<Result<String, String>, Error> {
    let (texts, mut worst) = (texts(), 0f64);
    for prompt in [Prompt::Document, Prompt::Query] {
        let options = EmbedOptions::default().prompt(prompt);
        let (ours, expected) = (embed(tested, &texts, &options), plain.embed(&texts, &options)?);
        let ours = match ours {
            Ok(ours) => ours,
            Err(error) => return Ok(Err(error)),
        };
        for (i, (ours, expected)) in ours.iter().zip(expected.iter()).enumerate() {
            let cosine: f64 = ours.iter().zip(expected).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            if !(1.0 - cosine <= bound) {
                return Ok(Err(format!(
                    "text {}: 1 − cosine is {:.1e}; rounding explains {bound:.1e}",
                    i + 1,
                    1.0 - cosine
                )));
            }
            worst = worst.max(1.0 - cosine);
        }
    }
    Ok(Ok(format!("1 − cosine to plain code at most {worst:.1e}, of {bound:.1e}")))
}

/// What a device says of its failure is a failed check.
#[cfg(feature = "builtin")]
fn embed(embedder: &Embedder, texts: &[String], options: &EmbedOptions) -> Result<Embeddings, String> {
    embedder.embed(texts, options).map_err(|error| error.to_string())
}

#[cfg(feature = "builtin")]
fn bits(tested: &Embedder) -> Result<Result<String, String>, Error> {
    let (texts, options) = (texts(), EmbedOptions::default());
    let compare = || {
        let together = embed(tested, &texts, &options)?;
        for (i, text) in texts.iter().enumerate() {
            let alone = embed(tested, std::slice::from_ref(text), &options)?;
            if alone[0].iter().zip(&together[i]).any(|(a, b)| a.to_bits() != b.to_bits()) {
                return Err(format!("text {} has another vector alone than among others", i + 1));
            }
        }
        Ok(format!("{} texts, each the bits that it has alone", texts.len()))
    };
    Ok(compare())
}

/// Single texts and many, short and long.
#[cfg(feature = "builtin")]
fn pace(embedder: &Embedder, paces: &mut Vec<Pace>) -> Result<(), Error> {
    for (words, count) in [(4, 1), (4, 64), (80, 1), (80, 8)] {
        let text = |i: usize| (0..words).map(|word| format!("number {} and", word + i)).collect::<Vec<_>>().join(" ");
        let texts: Vec<String> = (0..count).map(text).collect();
        let (mut fastest, mut tokens) = (f64::INFINITY, 0);
        for _ in 0..5 {
            let began = Instant::now();
            let embeddings = embedder.embed(&texts, &EmbedOptions::default())?;
            fastest = fastest.min(began.elapsed().as_secs_f64());
            tokens = embeddings.tokens().iter().sum();
        }
        paces.push(Pace {
            device: format!("{} ({})", embedder.device(), embedder.isa()),
            tokens: tokens / count,
            texts: count,
            tokens_per_second: tokens as f64 / fastest,
        });
    }
    Ok(())
}
