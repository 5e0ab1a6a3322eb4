//! The CPU backend: ragged batches over a thread pool, every kernel from one instruction-set tier.

// Register tiles are arrays of arrays; one index walks several of them.
#![allow(clippy::needless_range_loop)]

mod activations;
mod attend;
pub mod isa;
mod ops;
mod output;
mod own;
mod panel;
mod quantize;
mod simd;
mod tensor;
#[cfg(test)]
mod tests;
mod weight;

pub use activations::{Activations, Form};
pub use tensor::Tensor;
pub use weight::Weight;

use crate::backend::{Backend, Device, DeviceError, Heads, Node, Precision, Product, WeightError};
use crate::buffer::{Arena, Buffer, CACHE_LINE, FLOATS_PER_LINE};
use crate::formats::Format;
use crate::pool::Pool;
use crate::rope;
use bytes::Bytes;
use isa::{Attention, Isa, Tier};
use ops::attention::{
    scratch,
    task::{PAD, Shape},
};
use output::Output;
use panel::{CHUNK, Panel, TILE, TileRows};
use quantize::{ActivationParts, RowGroups};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Values of each row of a tile that are unpacked before they are used; their panels stay in the L2 cache.
const SPAN: usize = 4 * CHUNK;
/// Rows that a task of a row-wise operation handles: a cache line of what [`Activations`] store by group.
const ROWS_PER_TASK: usize = activations::ROWS_PER_LINE;

/// The CPU as a [`Backend`].
pub struct CpuBackend {
    isa: &'static Isa,
    pool: Pool,
    /// One per worker, so never contended.
    scratch: Vec<Mutex<Scratch>>,
    /// Of tensors, from pass to pass.
    arena: Arc<Arena>,
}

#[derive(Debug, thiserror::Error)]
#[error("the operating system does not give {threads} threads: {source}; ask for fewer")]
struct NoThreads {
    threads: usize,
    source: std::io::Error,
}

/// What a worker keeps from task to task.
struct Scratch {
    /// For each of two tiles, made when first needed.
    panels: [Vec<Panel>; 2],
    /// Products of two tiles, and what becomes of them, each [rows of a block × width] and a little more.
    products: [Buffer<f32>; 3],
    row: Vec<f32>,
    groups: RowGroups,
    attention: scratch::Scratch,
}

impl CpuBackend {
    /// A backend on `threads` threads (0: one), which are made when the first pass begins.
    pub fn new(isa: &'static Isa, threads: usize) -> Self {
        let pool = Pool::new(threads);
        let scratch = || {
            Mutex::new(Scratch {
                panels: Default::default(),
                products: Default::default(),
                row: Vec::new(),
                groups: RowGroups::default(),
                attention: scratch::Scratch::default(),
            })
        };
        let scratch = (0..pool.threads()).map(|_| scratch()).collect();
        Self { isa, pool, scratch, arena: Arena::new() }
    }

    /// The content of `x`, row after row.
    pub fn read(&self, x: &Tensor) -> Vec<f32> {
        (0..x.rows).flat_map(|row| x.row(row)).copied().collect()
    }

    /// The instruction-set tier in use.
    pub fn isa(&self) -> &'static Isa {
        self.isa
    }

    /// The number of threads that work.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn tier(&self) -> &'static dyn Tier {
        self.isa.tier
    }

    fn scratch(&self, worker: usize) -> std::sync::MutexGuard<'_, Scratch> {
        // A panic leaves nothing half-done in here that the next task would read.
        self.scratch[worker].lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Calls `f(row, scratch)` for every row, a few rows a task.
    fn for_rows(&self, rows: usize, f: impl Fn(usize, &mut Scratch) + Sync) {
        self.pool.run(rows.div_ceil(ROWS_PER_TASK), |task, worker| {
            let scratch = &mut *self.scratch(worker);
            for row in task * ROWS_PER_TASK..rows.min((task + 1) * ROWS_PER_TASK) {
                f(row, scratch);
            }
        });
    }

    /// [`ActivationParts::finish`] of all rows.
    fn finish(&self, of: &mut Activations) {
        let rows = if of.form().i8_uniform { of.rows } else { 0 };
        let parts = ActivationParts::new(of, self.tier());
        self.pool.run(rows.div_ceil(ROWS_PER_TASK), |task, _| {
            // SAFETY: each row belongs to one task.
            unsafe { parts.finish(task * ROWS_PER_TASK..rows.min((task + 1) * ROWS_PER_TASK)) };
        });
    }

    /// One task per tile of every product; `add` to the outputs or set them.
    fn products(&self, input: &Activations, products: &mut [(&Weight, &mut Tensor)], add: bool) {
        let mut tiles = Vec::new();
        let mut outputs = Vec::new();
        for (i, (weight, output)) in products.iter_mut().enumerate() {
            assert!(
                weight.k == input.cols && weight.n == output.cols && input.rows <= output.rows,
                "shapes of a product"
            );
            tiles.extend((0..weight.tiles()).map(|tile| (i, tile)));
            outputs.push((*weight, output.parts()));
        }
        if input.rows == 0 {
            return;
        }
        self.pool.run(tiles.len(), |task, worker| {
            let (i, tile) = tiles[task];
            let (weight, output) = &outputs[i];
            let Scratch { panels, products, .. } = &mut *self.scratch(worker);
            let columns = weight.columns(tile);
            let width = columns.len().next_multiple_of(TILE);
            // The task that this thread will likely take next.
            let next = tiles.get(task + self.pool.threads()).map(|(i, tile)| outputs[*i].0.tile(*tile).bytes);
            // Added to what there is, each product would be rounded as that is, which may be far larger than their sum.
            let in_place = !add && weight.kernel.any_stride && columns.len() == width;
            for span in (0..weight.k).step_by(SPAN) {
                let later = next.filter(|_| weight.one_block(input.rows) && span + SPAN >= weight.k);
                let panels = self.unpack(weight, tile, span..weight.k.min(span + SPAN), &mut panels[0], later);
                for block in weight.blocks(input.rows) {
                    block.clone().for_each(|row| output.prefetch(row, columns.clone()));
                    if in_place {
                        for panel in panels.iter() {
                            // SAFETY: the columns of this tile, which belong to this task alone.
                            let output = unsafe { output.of(block.clone(), columns.clone(), panel.first > 0) };
                            weight.kernel.gemm(panel, input, block.clone(), output);
                        }
                        continue;
                    }
                    let products = &mut products[0];
                    let stride = self.multiply(weight, panels, input, block.clone(), width, products);
                    for (row, products) in block.zip(products.chunks_exact(stride)) {
                        // SAFETY: the columns of this tile in this row, which belong to this task alone.
                        let output = unsafe { output.part(row, columns.clone()) };
                        if add || span > 0 {
                            output.iter_mut().zip(products).for_each(|(x, product)| *x += product);
                        } else {
                            output.copy_from_slice(&products[..output.len()]);
                        }
                    }
                }
            }
        });
    }

    /// Unpacks values `span` of a tile's rows into as many panels as they take. Meanwhile, or while the panels are multiplied, what is
    /// needed `later` is asked for.
    fn unpack<'a>(
        &self,
        weight: &Weight,
        tile: usize,
        span: Range<usize>,
        panels: &'a mut Vec<Panel>,
        later: Option<&[u8]>,
    ) -> &'a mut [Panel] {
        let chunks = span.clone().step_by(CHUNK);
        if panels.len() < chunks.len() {
            panels.resize_with(chunks.len(), Panel::new);
        }
        let panels = &mut panels[..chunks.len()];
        let next = later.unwrap_or_default();
        let mut later = next.chunks(next.len().div_ceil(panels.len()).max(1));
        for (panel, first) in panels.iter_mut().zip(chunks) {
            let len = (span.end - first).min(CHUNK);
            panel.ahead.set(later.next().unwrap_or_default());
            weight.kernel.unpack(panel, TileRows { next, ..weight.tile(tile) }, first, len);
        }
        panels
    }

    /// Products of the rows `block` of the input and a tile [rows × width], whose rows are as far apart as this says.
    fn multiply(
        &self,
        weight: &Weight,
        panels: &[Panel],
        input: &Activations,
        block: Range<usize>,
        width: usize,
        products: &mut Buffer<f32>,
    ) -> usize {
        // Rows of several tiles would all fall into the same few sets of the cache.
        let stride = if width > TILE { width + FLOATS_PER_LINE } else { width };
        products.resize(block.len() * stride);
        for (i, panel) in panels.iter().enumerate() {
            weight.kernel.gemm(panel, input, block.clone(), Output::of(products, block.len(), width, i > 0));
        }
        stride
    }
}

/// Rotary angles: cosines and sines [tokens × head_dim / 2].
pub struct Rope {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Backend for CpuBackend {
    type Tensor = Tensor;
    type Activations = Activations;
    type Weight = Weight;
    type Table = Weight;
    type Vector = Vec<f32>;
    type Form = Form;
    type Rope = Rope;

    fn device(&self) -> Device {
        Device::new("cpu", self.isa.name, self.threads())
    }

    fn begin(&self) -> Result<(), DeviceError> {
        let threads = self.threads();
        self.pool
            .ready()
            .map_err(|source| DeviceError { device: "cpu", source: Box::new(NoThreads { threads, source }) })
    }

    fn table(&self, format: Format, bytes: Bytes, rows: usize, cols: usize) -> Result<Weight, WeightError> {
        self.weight(format, bytes, rows, cols, Precision::Standard)
    }

    fn weight(
        &self,
        format: Format,
        bytes: Bytes,
        n: usize,
        k: usize,
        precision: Precision,
    ) -> Result<Weight, WeightError> {
        match format.row_bytes(k) {
            Some(row_bytes) if row_bytes > 0 && n.checked_mul(row_bytes) == Some(bytes.len()) => {
                let kernel = self.tier().kernel(format, precision);
                // Several tiles at a time, while there are tasks for every thread, and while the panels of two weights
                // (a gate and its up) stay in the L2 cache.
                let most = if k > SPAN { kernel.tiles / 2 } else { kernel.tiles };
                let width = TILE * most.min(n.div_ceil(TILE) / (2 * self.threads())).max(1);
                Ok(Weight { format, bytes, n, k, row_bytes, kernel, width })
            }
            _ => Err(WeightError::Size { format, rows: n, cols: k, bytes: bytes.len() }),
        }
    }

    fn vector(&self, values: &[f32]) -> Vec<f32> {
        values.to_vec()
    }

    fn form(&self, weight: &Weight) -> Form {
        weight.kernel.form
    }

    fn tensor(&self, rows: usize, cols: usize) -> Tensor {
        Tensor::new(rows, cols, |len| Buffer::of_arena(&self.arena, len))
    }

    fn lasting_tensor(&self, rows: usize, cols: usize) -> Tensor {
        Tensor::new(rows, cols, Buffer::zeroed)
    }

    fn activations(&self, rows: usize, cols: usize, form: Form) -> Activations {
        Activations::new(&self.arena, rows, cols, form)
    }

    fn activations_bytes(&self, cols: usize, form: Form) -> usize {
        form.bytes_of_row(cols)
    }

    fn attention_bytes(&self, heads: Heads, tokens: usize, nodes: usize) -> usize {
        let dim = size_of::<f32>() * heads.head_dim.next_multiple_of(PAD);
        // Keys and values are packed in blocks; a node packs the block anew that its parent left unfinished, and pads its last.
        let Attention { keys, pad, .. } = self.tier().attention();
        let keys = tokens + nodes * (keys + pad - 2);
        // And the outputs are gathered as floats.
        dim * (heads.heads * tokens + 2 * heads.kv_heads * keys)
    }

    fn rope(&self, positions: &[u32], head_dim: usize, base: f32) -> Rope {
        let [cos, sin] = rope::angles(positions, head_dim, base);
        Rope { half: head_dim / 2, cos, sin }
    }

    fn embed(&self, table: &Weight, tokens: &[u32], out: &mut Tensor) {
        assert!(out.rows == tokens.len() && out.cols == table.k);
        let parts = out.parts();
        self.for_rows(tokens.len(), |row, _| {
            let start = tokens[row] as usize * table.row_bytes;
            // SAFETY: each row is set by one task.
            let to = unsafe { parts.part(row, 0..table.k) };
            table.format.dequantize(&table.bytes[start..start + table.row_bytes], to);
        });
    }

    fn copy_rows(&self, from: &Tensor, rows: &[usize], to: &mut Tensor, first: usize) {
        assert!(from.cols == to.cols);
        let parts = to.parts();
        self.for_rows(rows.len(), |i, _| {
            // SAFETY: each row is set by one task.
            unsafe { parts.part(first + i, 0..from.cols) }.copy_from_slice(from.row(rows[i]));
        });
    }

    fn rms_norm(&self, x: &Tensor, weight: &Vec<f32>, eps: f32, out: &mut Activations) {
        assert!(out.rows == x.rows && out.cols == x.cols);
        let parts = ActivationParts::new(out, self.tier());
        self.for_rows(x.rows, |row, scratch| {
            scratch.row.resize(x.cols, 0.0);
            self.tier().rms_norm(x.row(row), weight, eps, &mut scratch.row);
            // SAFETY: each row is set by one task.
            unsafe { parts.set(row, 0, &scratch.row, &mut scratch.groups) };
        });
        self.finish(out);
    }

    fn matmul(&self, input: &Activations, products: &mut [Product<'_, Self>]) {
        self.products(input, products, false);
    }

    fn matmul_add(&self, input: &Activations, weight: &Weight, output: &mut Tensor) {
        self.products(input, &mut [(weight, output)], true);
    }

    fn norm_rope(&self, x: &mut Tensor, weight: &Vec<f32>, eps: f32, rope: &Rope) {
        let (cols, rows) = (x.cols, rope.cos.len() / rope.half);
        assert!(cols.is_multiple_of(weight.len()) && weight.len() == 2 * rope.half && rows <= x.rows);
        let parts = x.parts();
        self.for_rows(rows, |row, _| {
            // SAFETY: each row is changed by one task.
            let values = unsafe { parts.part(row, 0..cols) };
            let angles = row * rope.half..(row + 1) * rope.half;
            for head in values.chunks_exact_mut(weight.len()) {
                self.tier().norm_rope(head, weight, eps, &rope.cos[angles.clone()], &rope.sin[angles.clone()]);
            }
        });
    }

    fn attention(&self, heads: Heads, nodes: &[Node], q: &Tensor, k: &Tensor, v: &Tensor, out: &mut Activations) {
        let Heads { heads, kv_heads, head_dim } = heads;
        assert!(heads.is_multiple_of(kv_heads), "whole groups of heads");
        let shape = Shape { group: heads / kv_heads, head_dim, q_stride: q.stride };
        assert!(q.cols == heads * head_dim && k.cols == kv_heads * head_dim && v.cols == k.cols && out.cols == q.cols);
        assert!(q.rows == out.rows && k.rows == v.rows);
        let mut queries = 0;
        for (i, node) in nodes.iter().enumerate() {
            assert!(node.parent.is_none_or(|parent| parent < i), "parents come first");
            assert!(
                node.rows.end <= k.rows && node.queries.len() <= node.rows.len(),
                "queries of tokens that there are"
            );
            assert!(node.queries.start == queries, "queries end to end");
            queries = node.queries.end;
        }
        assert!(queries == q.rows, "all queries");

        // As fine as what comes next.
        let fits = |kernel: &Attention<u16>| out.form().is_part_of(kernel.serves) && kernel.takes(head_dim);
        let context = self.attended(self.tier().coarse_attention().filter(fits), shape, nodes, (q, k, v));
        let parts = ActivationParts::new(out, self.tier());
        // SAFETY: each row is set by one task.
        self.for_rows(q.rows, |row, scratch| unsafe { parts.set(row, 0, context.row(row), &mut scratch.groups) });
        self.finish(out);
    }

    fn gated(&self, input: &Activations, gate: &Weight, up: &Weight, out: &mut Activations) {
        assert!(gate.k == input.cols && gate.n == out.cols && input.rows == out.rows, "shapes of a product");
        assert!(up.k == gate.k && up.n == gate.n, "two weights of one shape");
        // The same rows of both at a time: what the kernels of two formats both take.
        let width = gate.width.min(up.width);
        let [gate, up] = &[gate, up].map(|weight| Weight { width, ..weight.clone() });
        let parts = ActivationParts::new(out, self.tier());
        // Neighbouring columns of activations, a byte each at least, that fill a cache line are one task's work, so that no two
        // threads write to one line.
        let (tiles, step) = (gate.tiles(), CACHE_LINE.div_ceil(gate.width));
        self.pool.run(tiles.div_ceil(step), |task, worker| {
            let Scratch { panels, products, groups, .. } = &mut *self.scratch(worker);
            for tile in task * step..tiles.min((task + 1) * step) {
                let [gate_panels, up_panels] = &mut *panels;
                let next = Some(tile + step * self.pool.threads()).filter(|next| *next < tiles);
                let [gate_later, up_later] = [gate, up]
                    .map(|weight| next.filter(|_| weight.one_block(input.rows)).map(|next| weight.tile(next).bytes));
                let gate_panels = self.unpack(gate, tile, 0..gate.k, gate_panels, gate_later);
                let up_panels = self.unpack(up, tile, 0..up.k, up_panels, up_later);
                let columns = gate.columns(tile);
                let width = columns.len().next_multiple_of(TILE);
                for block in gate.blocks(input.rows) {
                    let [gates, ups, gated] = &mut *products;
                    let stride = self.multiply(gate, gate_panels, input, block.clone(), width, gates);
                    self.multiply(up, up_panels, input, block.clone(), width, ups);
                    gated.resize(gates.len());
                    self.tier().silu_mul(gates, ups, gated);
                    for (row, gated) in block.zip(gated.chunks_exact(stride)) {
                        // SAFETY: the columns of this tile in this row, which belong to this task alone.
                        unsafe { parts.set(row, columns.start, &gated[..columns.len()], groups) };
                    }
                }
            }
        });
        self.finish(out);
    }

    fn rms_norm_rows(&self, x: &Tensor, rows: &[usize], weight: &Vec<f32>, eps: f32, out: &mut Tensor) {
        assert!(out.rows == rows.len() && out.cols == x.cols);
        let parts = out.parts();
        self.for_rows(rows.len(), |row, _| {
            // SAFETY: each row is set by one task.
            let to = unsafe { parts.part(row, 0..x.cols) };
            self.tier().rms_norm(x.row(rows[row]), weight, eps, to);
        });
    }

    fn read(&self, x: &Tensor) -> Result<Vec<f32>, DeviceError> {
        Ok(CpuBackend::read(self, x))
    }
}
