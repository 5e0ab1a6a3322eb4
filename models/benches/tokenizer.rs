//! What the tokenizer costs: building it from the real vocabulary, and encoding English and Chinese text.
//!
//! `python3 scripts/get_vocabulary.py && cargo bench -p qembed-models --features qwen-vocabulary --bench tokenizer`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qembed_models::tokenizer::Tokenizer;

#[path = "../tests/qwen_vocabulary/files.rs"]
mod files;
#[path = "../tests/reference_tokenizer/mod.rs"]
mod reference_tokenizer;

use files::{file, vocabulary};
use reference_tokenizer::reference;

const ENGLISH: &str = "Gravity is a force that attracts two bodies towards each other. It gives weight to physical \
     objects and is responsible for the movement of planets around the sun; Newton's law (1687) says how strongly.\n";
const CHINESE: &str = "万有引力是自然界中物体之间相互吸引的一种力，它使物体具有重量，\
     并使行星围绕太阳运行。牛顿在1687年发表了万有引力定律，两百多年后爱因斯坦用广义相对论重新解释了引力。\n";

fn tokenizer(c: &mut Criterion) {
    let file = file();
    let before = resident_kib();
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    eprintln!("resident after building: +{:.1} MiB", (resident_kib() - before) / 1024.0);

    let mut group = c.benchmark_group("tokenizer");
    group.sample_size(30);
    group.bench_function("build", |b| b.iter(|| Tokenizer::from_gguf(black_box(&file)).unwrap()));
    let vocabulary = vocabulary(&file);
    group.bench_function("build, tokenizers crate", |b| b.iter(|| reference(black_box(&vocabulary))));
    let reference = reference(&vocabulary);
    for (name, text) in [("english", ENGLISH), ("chinese", CHINESE)] {
        let text = text.repeat(100_000 / text.len());
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| b.iter(|| tokenizer.encode(black_box(&text)).unwrap()));
        group.bench_function(format!("{name}, tokenizers crate"), |b| {
            b.iter(|| reference.encode_fast(black_box(&*text), false).unwrap());
        });
    }
    group.finish();
}

/// Resident memory of this process; NaN where there is no `/proc`.
fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

criterion_group!(benches, tokenizer);
criterion_main!(benches);
