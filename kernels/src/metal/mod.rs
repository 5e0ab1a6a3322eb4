//! GPUs of Apple: the same passes as on the CPU, in kernels of Metal Shading Language.
//!
//! Everything is f32 but weights on their way into a product, which are half there unless precision is to be high. Weights are read
//! in place where they are mapped. A text's bits depend on nothing beside it: products sum in one order whatever the number of rows,
//! and attention goes through blocks of keys that count from the text's start. All of it is written over [`Gpu`], and tested without
//! Metal by `kernels/shim`, which runs the very same kernels.

#[cfg(not(target_endian = "little"))]
compile_error!("kernels read the bytes of a file as they are");

#[cfg(target_os = "macos")]
pub mod apple;
mod attend;
mod gpu;
mod kernels;
mod memory;
mod plan;
mod stream;
mod tensor;

pub use gpu::{Dispatch, Fault, Gpu, GpuError};
pub use tensor::{Form, Rope, Table, Tensor, Vector, Weight};

use crate::backend::{Backend, Device, DeviceError, Heads, Node, Precision, Product, WeightError};
use crate::formats::Format;
use crate::rope;
use bytes::Bytes;
use kernels::{Kernels, NARROW, NORM_MEMORY, ROWS, TILE, as_float, product_memory};
use memory::{Arena, Memory};
use plan::{Plan, Planned};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use stream::{Job, Stream, View, WORK};

/// All kernels, as one library of source.
pub const SOURCE: &str = concat!(
    include_str!("common.metal"),
    include_str!("formats.metal"),
    include_str!("product.metal"),
    include_str!("rows.metal"),
    include_str!("attention.metal"),
);

/// What becomes of a product: as in `product.metal`.
#[derive(Clone, Copy)]
enum Epilogue {
    Store = 0,
    Add = 1,
    Gate = 2,
}

/// A GPU as a [`Backend`].
pub struct MetalBackend<D: Gpu> {
    // Dropped first: what is in flight uses the rest.
    stream: Stream<D>,
    kernels: Kernels<D>,
    arena: Arc<Arena<D>>,
    gpu: Arc<D>,
    name: &'static str,
    /// Addresses of the mappings of which weights may be used in place.
    mappings: Mutex<Vec<Range<usize>>>,
    /// Bytes of weights that had to be copied.
    copied: AtomicU64,
    plan: Mutex<Option<Arc<Planned<D>>>>,
}

fn device_error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DeviceError {
    DeviceError { device: "metal", source: source.into() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is set as a whole.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl<D: Gpu> MetalBackend<D> {
    /// A backend on this GPU, after it has computed a product right.
    ///
    /// # Errors
    /// When it does not take the kernels, or computes something else.
    pub fn new(gpu: D) -> Result<Self, GpuError> {
        Self::metered(gpu, WORK)
    }

    /// The same with at most so many floating-point operations in a command buffer, but for single dispatches that need more.
    ///
    /// # Errors
    /// As [`MetalBackend::new`].
    pub fn metered(gpu: D, work: u64) -> Result<Self, GpuError> {
        let gpu = Arc::new(gpu);
        let arena = Arena::new(gpu.clone());
        let backend = Self {
            stream: Stream::new(gpu.clone(), arena.clone(), work),
            kernels: Kernels::new(&*gpu)?,
            // Once for each device that is opened.
            name: String::leak(gpu.name().to_string()),
            arena,
            gpu,
            mappings: Mutex::default(),
            copied: AtomicU64::new(0),
            plan: Mutex::default(),
        };
        backend.probe()?;
        Ok(backend)
    }

    /// Decides by a product of halves and floats whether this GPU will do: families and names of devices say too little.
    fn probe(&self) -> Result<(), GpuError> {
        let (rows, n, k) = (3, 70, 64);
        let small = |i: usize| (i % 13) as f32 - 6.0;
        let weights: Vec<u8> = (0..n * k).flat_map(|i| half::f16::from_f32(small(i * 5)).to_le_bytes()).collect();
        let inputs: Vec<f32> = (0..rows * k).map(small).collect();
        let products = self.kernels.products(&self.gpu, Format::F16, false)?;
        let (buffer, offset) = self.copied(&weights)?;
        let weight = Weight { buffer, offset, n, k, products };
        let mut input = self.tensor(rows, k);
        input.memory = Some(self.upload(&inputs)?);
        let mut output = self.tensor(rows, n);
        self.product(&input, &weight, &mut output, Epilogue::Store);
        self.stream.finish(output.since)?;
        let got = output.memory.as_ref().map(|memory| self.arena.read(memory, rows * n)).unwrap_or_default();
        for (i, got) in got.into_iter().enumerate() {
            let (row, column) = (i / n, i % n);
            let want: f32 = (0..k).map(|j| small(row * k + j) * small((column * k + j) * 5)).sum();
            // All are whole numbers that a float holds.
            if got != want {
                return Err(GpuError::Wrong { got, want });
            }
        }
        Ok(())
    }

    /// The GPU.
    pub fn gpu(&self) -> &D {
        &self.gpu
    }

    /// Bytes of weights that were copied, since they are in no mapping, or where a GPU cannot read them.
    pub fn copied_bytes(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// What is given, or none, with a note of the failure.
    fn note<T>(&self, result: Result<T, GpuError>) -> Option<T> {
        result.map_err(|error| self.stream.fail(error)).ok()
    }

    fn with_memory(&self, rows: usize, cols: usize, lasting: bool) -> Tensor<D> {
        let since = self.stream.failures();
        let bytes = rows * cols * size_of::<f32>();
        let memory = self.note(if lasting { self.arena.lasting(bytes) } else { self.arena.for_gpu(bytes) });
        Tensor { memory, rows, cols, since, lasting }
    }

    /// Values in memory of their own.
    fn upload<T: Copy>(&self, values: &[T]) -> Result<Memory<D>, GpuError> {
        let mut memory = self.arena.for_host(size_of_val(values))?;
        self.arena.write(&mut memory, 0, values);
        Ok(memory)
    }

    /// Where the GPU sees the bytes of a weight, and from which byte on.
    fn placed(&self, bytes: &Bytes) -> Result<(D::Buffer, usize), GpuError> {
        let (first, page) = (bytes.as_ptr().addr(), self.gpu.page());
        let own = first..first + bytes.len();
        let is_mapped = lock(&self.mappings).iter().any(|of| of.start <= own.start && own.end <= of.end);
        let pages = own.start / page * page..own.end.next_multiple_of(page);
        let start = NonNull::new(bytes.as_ptr().cast_mut().map_addr(|_| pages.start));
        // An offset into a buffer is a multiple of 4.
        if let (true, Some(start), true) = (is_mapped, start, own.start.is_multiple_of(4)) {
            // SAFETY: whole pages of a mapping, each with a byte of `bytes` in it, whose owner keeps all of it mapped.
            let buffer = unsafe { self.gpu.over(start, pages.len(), bytes.clone()) }?;
            return Ok((buffer, own.start - pages.start));
        }
        self.copied.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.copied(bytes)
    }

    /// A copy of bytes, and that it begins at its start.
    fn copied(&self, bytes: &[u8]) -> Result<(D::Buffer, usize), GpuError> {
        let buffer = self.gpu.buffer(bytes.len().next_multiple_of(4))?;
        // SAFETY: a buffer of at least so many bytes, which nobody else knows of.
        unsafe { self.gpu.contents(&buffer).as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok((buffer, 0))
    }

    /// Queues a kernel of rows, [rows, groups of a row], if all of its memory is there.
    ///
    /// # Safety
    /// As [`Gpu::dispatch`], when all of it is there.
    unsafe fn rows(
        &self,
        pipeline: &D::Pipeline,
        views: &[Option<View<'_, D>>],
        params: &[u32],
        threadgroup_bytes: usize,
        grid: [usize; 2],
    ) {
        let Some(views) = views.iter().copied().collect::<Option<Vec<_>>>() else {
            return self.stream.fail_again();
        };
        // Little beside products.
        let job = Job { pipeline, views: &views, params, threadgroup_bytes, grid, work: 0 };
        // SAFETY: by the caller's promise.
        unsafe { self.stream.push(job) };
    }

    fn product(&self, input: &Tensor<D>, weight: &Weight<D>, output: &mut Tensor<D>, epilogue: Epilogue) {
        let Weight { n, k, .. } = *weight;
        assert!(k == input.cols && n == output.cols && input.rows <= output.rows, "shapes of a product");
        let (input_rows, narrow) = (input.rows, input.rows <= NARROW);
        let (pipeline, tile) = (&weight.products.pipelines[usize::from(narrow)], ROWS[usize::from(narrow)]);
        let work = |rows: usize| 2 * (rows * n * k) as u64;
        // In parts where all rows are too much for a command buffer.
        let part = ((self.stream.most() / work(tile).max(1)).max(1) as usize).saturating_mul(tile);
        for first in (0..input_rows).step_by(part) {
            let rows = part.min(input_rows - first);
            let (Some(from), Some(to)) = (input.view(first), output.view(first)) else {
                return self.stream.fail_again();
            };
            let job = Job {
                pipeline,
                views: &[from, (&weight.buffer, weight.offset, None), to],
                params: &[rows, n, k, epilogue as usize].map(|x| x as u32),
                threadgroup_bytes: product_memory(weight.products.weight, tile),
                grid: [rows.div_ceil(tile), n.div_ceil(TILE)],
                work: work(rows),
            };
            // SAFETY: the kernel of this format stays within `rows` rows of both matrices, which have them, and within the
            // weight's n rows of k values, which `Backend::weight` has seen to be there.
            unsafe { self.stream.push(job) };
        }
    }
}

fn bits(x: f32) -> u32 {
    x.to_bits()
}

impl<D: Gpu> Backend for MetalBackend<D> {
    type Tensor = Tensor<D>;
    type Activations = Tensor<D>;
    type Weight = Weight<D>;
    type Table = Table;
    type Vector = Vector<D>;
    type Form = Form;
    type Rope = Rope<D>;

    fn device(&self) -> Device {
        Device::new("metal", self.name, 1)
    }

    fn limit(&self) -> Option<u64> {
        Some(self.gpu.limit())
    }

    fn adopt(&self, mapping: &Bytes) -> Result<(), DeviceError> {
        let start = mapping.as_ptr().addr();
        lock(&self.mappings).push(start..start + mapping.len());
        Ok(())
    }

    fn weight(
        &self,
        format: Format,
        bytes: Bytes,
        n: usize,
        k: usize,
        precision: Precision,
    ) -> Result<Weight<D>, WeightError> {
        match format.row_bytes(k) {
            Some(row_bytes) if row_bytes > 0 && n > 0 && n.checked_mul(row_bytes) == Some(bytes.len()) => {
                let products = self.kernels.products(&self.gpu, format, as_float(format, precision));
                let products = products.map_err(device_error)?;
                let (buffer, offset) = self.placed(&bytes).map_err(device_error)?;
                Ok(Weight { buffer, offset, n, k, products })
            }
            _ => Err(WeightError::Size { format, rows: n, cols: k, bytes: bytes.len() }),
        }
    }

    fn table(&self, format: Format, bytes: Bytes, rows: usize, cols: usize) -> Result<Table, WeightError> {
        match format.row_bytes(cols) {
            Some(row_bytes) if row_bytes > 0 && rows.checked_mul(row_bytes) == Some(bytes.len()) => {
                Ok(Table { format, bytes, row_bytes, cols })
            }
            _ => Err(WeightError::Size { format, rows, cols, bytes: bytes.len() }),
        }
    }

    fn vector(&self, values: &[f32]) -> Vector<D> {
        Vector { memory: self.note(self.upload(values)), len: values.len() }
    }

    fn form(&self, _: &Weight<D>) -> Form {
        Form
    }

    fn tensor(&self, rows: usize, cols: usize) -> Tensor<D> {
        self.with_memory(rows, cols, false)
    }

    fn lasting_tensor(&self, rows: usize, cols: usize) -> Tensor<D> {
        self.with_memory(rows, cols, true)
    }

    fn activations(&self, rows: usize, cols: usize, _: Form) -> Tensor<D> {
        self.tensor(rows, cols)
    }

    fn activations_bytes(&self, cols: usize, _: Form) -> usize {
        cols * size_of::<f32>()
    }

    fn attention_bytes(&self, heads: Heads, tokens: usize, nodes: usize) -> usize {
        Plan::bytes(heads.kv_heads * heads.head_dim, tokens, nodes)
    }

    fn rope(&self, positions: &[u32], head_dim: usize, base: f32) -> Rope<D> {
        let angles = rope::angles(positions, head_dim, base).concat();
        Rope { memory: self.note(self.upload(&angles)), rows: positions.len(), half: head_dim / 2 }
    }

    fn embed(&self, table: &Table, tokens: &[u32], out: &mut Tensor<D>) {
        assert!(out.rows == tokens.len() && out.cols == table.cols);
        if out.memory.as_ref().is_none_or(|memory| !self.arena.is_at_rest(memory)) {
            out.memory = self.note(self.arena.for_host(tokens.len() * table.cols * size_of::<f32>()));
        }
        let Some(memory) = &mut out.memory else { return };
        let mut row = vec![0.0; table.cols];
        for (i, token) in tokens.iter().enumerate() {
            let start = *token as usize * table.row_bytes;
            table.format.dequantize(&table.bytes[start..start + table.row_bytes], &mut row);
            self.arena.write(memory, i * table.cols, &row);
        }
    }

    fn rms_norm(&self, x: &Tensor<D>, weight: &Vector<D>, eps: f32, out: &mut Tensor<D>) {
        assert!(out.rows == x.rows && out.cols == x.cols && weight.len == x.cols);
        out.follows(x);
        let params = [x.cols as u32, bits(eps)];
        let views = [x.view(0), weight.memory.as_ref().map(whole), out.view(0)];
        // SAFETY: a group stays within its row of matrices of one shape, and the weight has a value for each column.
        unsafe { self.rows(&self.kernels.rms_norm, &views, &params, NORM_MEMORY, [x.rows, 1]) };
    }

    fn copy_rows(&self, from: &Tensor<D>, rows: &[usize], to: &mut Tensor<D>, first: usize) {
        assert!(from.cols == to.cols && first + rows.len() <= to.rows && rows.iter().all(|row| *row < from.rows));
        to.follows(from);
        if rows.is_empty() {
            return;
        }
        let index: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let Some(index) = self.note(self.upload(&index)) else { return };
        let params = [from.cols as u32, 0];
        let views = [from.view(0), Some(whole(&index)), to.view(first)];
        // SAFETY: rows that both have, and one number for each.
        unsafe { self.rows(&self.kernels.copy_rows, &views, &params, 0, [rows.len(), 1]) };
    }

    fn matmul(&self, input: &Tensor<D>, products: &mut [Product<'_, Self>]) {
        for (weight, output) in products {
            self.product(input, weight, output, Epilogue::Store);
        }
    }

    fn matmul_add(&self, input: &Tensor<D>, weight: &Weight<D>, output: &mut Tensor<D>) {
        self.product(input, weight, output, Epilogue::Add);
    }

    fn norm_rope(&self, x: &mut Tensor<D>, weight: &Vector<D>, eps: f32, rope: &Rope<D>) {
        let head_dim = weight.len;
        assert!(x.cols.is_multiple_of(head_dim) && head_dim == 2 * rope.half && rope.rows <= x.rows);
        let heads = x.cols / head_dim;
        let params = [heads as u32, head_dim as u32, rope.rows as u32, bits(eps)];
        let views = [x.view(0), weight.memory.as_ref().map(whole), rope.memory.as_ref().map(whole)];
        // SAFETY: heads of rows that x has, and angles for each of them.
        unsafe { self.rows(&self.kernels.norm_rope, &views, &params, 0, [rope.rows, heads.div_ceil(4)]) };
    }

    fn attention(
        &self,
        heads: Heads,
        nodes: &[Node],
        q: &Tensor<D>,
        k: &Tensor<D>,
        v: &Tensor<D>,
        out: &mut Tensor<D>,
    ) {
        let Heads { heads, kv_heads, head_dim } = heads;
        assert!(heads.is_multiple_of(kv_heads), "whole groups of heads");
        assert!(q.cols == heads * head_dim && k.cols == kv_heads * head_dim && v.cols == k.cols && out.cols == q.cols);
        assert!(q.rows == out.rows && k.rows == v.rows);
        let mut queries = 0;
        for (i, node) in nodes.iter().enumerate() {
            assert!(node.parent.is_none_or(|parent| parent < i), "parents come first");
            let (rows, of_node) = (&node.rows, &node.queries);
            assert!(rows.end <= k.rows && of_node.len() <= rows.len(), "queries of tokens that there are");
            assert!(of_node.start == queries, "queries end to end");
            queries = of_node.end;
        }
        assert!(queries == q.rows, "all queries");
        self.attend(Heads { heads, kv_heads, head_dim }, nodes, (q, k, v), out);
    }

    fn gated(&self, input: &Tensor<D>, gate: &Weight<D>, up: &Weight<D>, out: &mut Tensor<D>) {
        assert!(up.k == gate.k && up.n == gate.n && input.rows == out.rows, "two weights of one shape");
        self.product(input, gate, out, Epilogue::Store);
        self.product(input, up, out, Epilogue::Gate);
    }

    fn rms_norm_rows(&self, x: &Tensor<D>, rows: &[usize], weight: &Vector<D>, eps: f32, out: &mut Tensor<D>) {
        assert!(out.rows == rows.len() && out.cols == x.cols);
        let mut wanted = self.tensor(rows.len(), x.cols);
        self.copy_rows(x, rows, &mut wanted, 0);
        self.rms_norm(&wanted, weight, eps, out);
    }

    fn checkpoint(&self) {
        self.stream.checkpoint();
    }

    fn read(&self, x: &Tensor<D>) -> Result<Vec<f32>, DeviceError> {
        self.stream.finish(x.since).map_err(device_error)?;
        let len = x.rows * x.cols;
        let memory =
            x.memory.as_ref().ok_or_else(|| device_error(GpuError::Memory { bytes: len * size_of::<f32>() }))?;
        Ok(self.arena.read(memory, len))
    }
}

/// All of it.
fn whole<D: Gpu>(memory: &Memory<D>) -> View<'_, D> {
    (memory.buffer(), 0, Some(memory))
}
