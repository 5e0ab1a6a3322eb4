//! How fast the kernels of each instruction-set tier are, on one thread.
//!
//! `cargo bench -p qembed-kernels --bench kernels -- <filter>`; `unpack/` is a product with a single row of activations,
//! so that unpacking weights is most of the work, in bytes of weights a second; `gemm/` is in operations (two for each
//! multiply-add) a second, beside the f32 product of the `gemm` crate, and so is `attention/`, where a causal mask halves the
//! products that count.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qembed_kernels::cpu::{CpuBackend, isa::Isa};
use qembed_kernels::formats::Format;
use qembed_kernels::{Backend, Heads, Node, Precision};
use random::Random;
use std::hint::black_box;
use std::time::Duration;

#[path = "../src/random.rs"]
mod random;

type Weight = <CpuBackend as Backend>::Weight;
type Tensor = <CpuBackend as Backend>::Tensor;

impl Random {
    /// A weight matrix: random blocks whose values are finite and neither tiny nor huge, repeated from a few.
    fn weight(&mut self, backend: &CpuBackend, format: Format, n: usize, k: usize) -> Weight {
        let mut values = vec![0.0; format.block_len()];
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        while blocks.len() < 61 {
            let block: Vec<u8> = (0..format.block_bytes()).map(|_| self.next() as u8).collect();
            format.dequantize(&block, &mut values);
            let largest = values.iter().fold(0f32, |m, x| if x.is_finite() { m.max(x.abs()) } else { f32::INFINITY });
            if (1.0 / 256.0..=8.0).contains(&largest) {
                blocks.push(block);
            }
        }
        let bytes: Vec<u8> = blocks.iter().cycle().take(n * k / format.block_len()).flatten().copied().collect();
        backend.weight(format, Bytes::from(bytes), n, k, Precision::Standard).expect("a whole matrix")
    }

    /// Random values [rows × cols]: rows of a table of floats, looked up.
    fn tensor(&mut self, backend: &CpuBackend, rows: usize, cols: usize) -> Tensor {
        let values: Vec<u8> = (0..128 * cols).flat_map(|_| self.normal().to_le_bytes()).collect();
        let table = backend.weight(Format::F32, values.into(), 128, cols, Precision::Standard).expect("a whole matrix");
        let tokens: Vec<u32> = (0..rows as u32).map(|i| i % 128).collect();
        let mut tensor = backend.tensor(rows, cols);
        backend.embed(&table, &tokens, &mut tensor);
        tensor
    }
}

fn backends() -> Vec<CpuBackend> {
    Isa::all().map(|isa| CpuBackend::new(isa, 1)).collect()
}

/// `rows` rows through a [n × k] weight of every format.
fn products(c: &mut Criterion, what: &str, rows: usize, throughput: impl Fn(Format, usize, usize) -> Throughput) {
    let (n, k) = (1024, 1024);
    for backend in backends() {
        let mut group = c.benchmark_group(format!("{what}/{}", backend.isa().name));
        for &format in Format::ALL {
            if rows > 64 && backend.isa().name == "scalar" && format != Format::Q4_K {
                continue;
            }
            let mut random = Random(1);
            let weight = random.weight(&backend, format, n, k);
            let mut input = backend.activations(rows, k, backend.form(&weight));
            backend.rms_norm(&random.tensor(&backend, rows, k), &backend.vector(&vec![1.0; k]), 1e-6, &mut input);
            let mut out = backend.tensor(rows, n);
            group.throughput(throughput(format, n, k));
            group.bench_function(format.name(), |b| {
                b.iter(|| backend.matmul(black_box(&input), &mut [(&weight, &mut out)]));
            });
        }
    }
}

fn unpack(c: &mut Criterion) {
    let bytes = |format: Format, n, k| Throughput::Bytes((n * format.row_bytes(k).expect("whole blocks")) as u64);
    products(c, "unpack", 1, bytes);
}

fn gemm(c: &mut Criterion) {
    for rows in [8, 512] {
        let operations = |_: Format, n, k| Throughput::Elements((2 * rows * n * k) as u64);
        products(c, &format!("gemm/{rows}"), rows, operations);
        yardstick(c, rows);
    }
}

/// The same product of f32 by the `gemm` crate, on one thread.
fn yardstick(c: &mut Criterion, rows: usize) {
    let (n, k) = (1024, 1024);
    let mut random = Random(4);
    let mut normals = |len| (0..len).map(|_| random.normal()).collect::<Vec<f32>>();
    let (x, w, mut out) = (normals(rows * k), normals(n * k), vec![0f32; rows * n]);
    let mut group = c.benchmark_group(format!("gemm/{rows}/crate gemm"));
    group.throughput(Throughput::Elements((2 * rows * n * k) as u64));
    group.bench_function("F32", |b| {
        b.iter(|| {
            let (n_stride, k_stride) = (n as isize, k as isize);
            // SAFETY: out is [rows × n], x [rows × k] and w [n × k], all row-major.
            unsafe {
                gemm::gemm(
                    rows,
                    n,
                    k,
                    out.as_mut_ptr(),
                    1,
                    n_stride,
                    false,
                    black_box(&x).as_ptr(),
                    1,
                    k_stride,
                    w.as_ptr(),
                    k_stride,
                    1,
                    0f32,
                    1f32,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                )
            }
        });
    });
}

fn attention(c: &mut Criterion) {
    let heads = Heads { heads: 16, kv_heads: 8, head_dim: 128 };
    let (q_cols, kv_cols) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
    for backend in backends() {
        let mut group = c.benchmark_group(format!("attention/{}", backend.isa().name));
        for rows in [64, 512] {
            let mut random = Random(2);
            let (q, k) = (random.tensor(&backend, rows, q_cols), random.tensor(&backend, rows, kv_cols));
            let v = random.tensor(&backend, rows, kv_cols);
            let form = backend.form(&random.weight(&backend, Format::Q8_0, 1, q_cols));
            let mut out = backend.activations(rows, q_cols, form);
            let text = [Node { parent: None, rows: 0..rows, queries: 0..rows }];
            // Two products over the rows · (rows + 1) / 2 pairs that the mask leaves.
            group.throughput(Throughput::Elements((2 * q_cols * rows * (rows + 1)) as u64));
            group.bench_function(format!("{rows} tokens"), |b| {
                b.iter(|| backend.attention(heads, &text, black_box(&q), &k, &v, &mut out));
            });
        }
    }
}

fn row_wise(c: &mut Criterion) {
    let (rows, cols) = (512, 3072);
    for backend in backends() {
        let mut random = Random(3);
        let form = backend.form(&random.weight(&backend, Format::Q8_0, 1, 32));
        let x = random.tensor(&backend, rows, cols);
        let (ones, mut out) = (backend.vector(&vec![1.0; cols]), backend.activations(rows, cols, form));
        let mut group = c.benchmark_group(format!("rows/{}", backend.isa().name));
        group.throughput(Throughput::Elements((rows * cols) as u64));
        group.bench_function("rms_norm and quantize", |b| {
            b.iter(|| backend.rms_norm(black_box(&x), &ones, 1e-6, &mut out))
        });
        let positions: Vec<u32> = (0..rows as u32).collect();
        let rope = backend.rope(&positions, 128, 1e6);
        let (mut z, weight) = (random.tensor(&backend, rows, cols), backend.vector(&[1.0; 128]));
        group.bench_function("norm_rope", |b| b.iter(|| backend.norm_rope(black_box(&mut z), &weight, 1e-6, &rope)));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .without_plots();
    targets = unpack, gemm, attention, row_wise
}
criterion_main!(benches);
