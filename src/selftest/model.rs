//! The built-in model on a device, beside the same in plain code.

use super::result::{Pace, SelftestCheck};
use crate::error::Error;
use crate::options::{Device, EmbedOptions, LoadOptions, Prompt};
use crate::{Embedder, Embeddings};
use qembed_kernels::selftest::{Rounding, Share};
use std::time::Instant;

/// Tests the model on the device that `options` name, which rounds so much, and gives its pace there and on the processor. What fails
/// on the way is a failed check.
pub(crate) fn test(options: &LoadOptions, rounding: Rounding, tell: &mut dyn FnMut(SelftestCheck)) -> Vec<Pace> {
    let mut paces = Vec::new();
    if let Err(error) = try_all(options, rounding, tell, &mut paces) {
        tell(SelftestCheck::new("built-in model", Err(error.to_string())));
    }
    paces
}

fn try_all(
    options: &LoadOptions,
    rounding: Rounding,
    tell: &mut dyn FnMut(SelftestCheck),
    paces: &mut Vec<Pace>,
) -> Result<(), Error> {
    let gguf = qembed_models::builtin()?;
    let layers = qembed_models::Config::read(&gguf)?.layers;
    let plain = Embedder::from_gguf(&gguf, &LoadOptions::default().isa("scalar".to_owned()))?;
    let tested = Embedder::from_gguf(&gguf, options)?;
    tell(SelftestCheck::new("built-in model, vectors", vectors(&tested, &plain, bound(layers, rounding))));
    tell(SelftestCheck::new("built-in model, bits", bits(&tested)));
    if options.device == Device::Metal {
        pace(&Embedder::from_gguf(&gguf, &options.clone().device(Device::Cpu))?, paces)?;
    }
    pace(&tested, paces)
}

/// How far the cosine of a vector to that in plain code may be from 1. A value is off by less than the bound of its rounding, which has a
/// mean square of a third of its own, and is relative to the largest of a run, four times as large as its mean. Each of the seven
/// products of a layer adds as much of its output, which is no more than all of what it goes into; errors of so many roundings are
/// independent, and two vectors of length 1 whose distance is r have a cosine of 1 − r² / 2. Twice that, and what f32 leaves.
fn bound(layers: usize, rounding: Rounding) -> f64 {
    let of = |share: Share| share.by.powi(2) / 3.0 * if share.run > 1 { 16.0 } else { 1.0 };
    2.0 * (7 * layers) as f64 * (of(rounding.input) + of(rounding.weights)) / 2.0 + 1e-6
}

/// In several scripts and of all lengths.
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

fn vectors(tested: &Embedder, plain: &Embedder, bound: f64) -> Result<String, String> {
    let (texts, mut worst) = (texts(), 0f64);
    for prompt in [Prompt::Document, Prompt::Query] {
        let options = EmbedOptions::default().prompt(prompt);
        let (ours, expected) = (embed(tested, &texts, &options)?, embed(plain, &texts, &options)?);
        for (i, (ours, expected)) in ours.iter().zip(expected.iter()).enumerate() {
            let cosine: f64 = ours.iter().zip(expected).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let off = 1.0 - cosine;
            if off.is_nan() || off > bound {
                return Err(format!("text {}: 1 − cosine is {off:.1e}; rounding explains {bound:.1e}", i + 1));
            }
            worst = worst.max(off);
        }
    }
    Ok(format!("1 − cosine to plain code at most {worst:.1e}, of {bound:.1e}"))
}

fn bits(tested: &Embedder) -> Result<String, String> {
    let (texts, options) = (texts(), EmbedOptions::default());
    let together = embed(tested, &texts, &options)?;
    for (i, text) in texts.iter().enumerate() {
        let alone = embed(tested, std::slice::from_ref(text), &options)?;
        if alone[0].iter().zip(&together[i]).any(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(format!("text {} has another vector alone than among others", i + 1));
        }
    }
    Ok(format!("{} texts, each the bits that it has alone", texts.len()))
}

fn embed(embedder: &Embedder, texts: &[String], options: &EmbedOptions) -> Result<Embeddings, String> {
    embedder.embed(texts, options).map_err(|error| error.to_string())
}

/// Single texts and many, short and long.
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
