//! Whole forward passes: quantization levels × instruction sets × lengths, on random weights with the 0.6B shapes cut to
//! four layers, so that a run stays short. Throughput is in tokens; a full model has seven times the layers.
//!
//! `cargo bench --bench forward`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::default_threads;
use qembed_models::gguf::Gguf;
use qembed_models::synth::{Spec, write};
use qembed_models::{Batch, Qwen3};
use std::time::Duration;

const LENGTHS: [usize; 3] = [8, 32, 512];

fn forward(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for level in ["Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16"] {
        let path = folder.path().join("model.gguf");
        let dims = "0.6b,layers=4,vocab=1024".parse().expect("a shape");
        let spec = Spec { dims, level: level.parse().expect("a level"), seed: 1, vocabulary: None };
        write(&spec, &path).expect("a model file");
        let gguf = Gguf::open(&path).expect("a GGUF file");
        let mut group = c.benchmark_group(format!("forward/{level}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
        for isa in Isa::all().filter(|isa| isa.name != "scalar") {
            let backend = CpuBackend::new(isa, default_threads());
            let model = Qwen3::load(&gguf, backend, &[]).expect("a model");
            for tokens in LENGTHS {
                let batch = Batch::new(&[(0..tokens as u32).map(|i| i * 7 % 1000).collect::<Vec<_>>()]);
                group.throughput(Throughput::Elements(tokens as u64));
                group.bench_function(BenchmarkId::new(isa.name, tokens), |b| b.iter(|| model.forward(&batch)));
            }
        }
        group.finish();
    }
}

criterion_group!(benches, forward);
criterion_main!(benches);
