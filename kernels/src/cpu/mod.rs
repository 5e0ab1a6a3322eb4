//! The CPU backend: ragged batches over a thread pool, every kernel from one instruction-set tier.

// Register tiles are arrays of arrays; one index walks several of them.
#![allow(clippy::needless_range_loop)]
// What serves integer products only is unused where no tier has them yet: off x86-64 there is the scalar tier alone.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_macros, unused_imports))]

mod acts;
pub mod isa;
mod ops;
mod panel;
mod simd;
#[cfg(test)]
mod tests;

use acts::RowGroups;
pub use acts::{Acts, Form};

use crate::backend::{Backend, Heads, Precision, Product, WeightError};
use crate::buffer::{Buffer, Parts};
use crate::formats::Format;
use crate::pool::Pool;
use bytes::Bytes;
use isa::{AttendTask, Isa, Kernel};
use ops::attention::{self, KEYS, PAD, Shape};
use panel::{CHUNK, Panel, TILE, TileRows};
use std::ops::Range;
use std::sync::Mutex;

/// Activation rows that meet a tile before the next ones do: their sums stay in the L1 cache. Whole register tiles of
/// every tier (4, 6, 8, 16 or 32 rows).
const ROWS_PER_BLOCK: usize = 96;
/// Values of each row of a tile that are unpacked before they are used; their panels stay in the L2 cache.
const SPAN: usize = 4 * CHUNK;
/// Most tiles whose panels a worker has at a time.
const TILES: usize = 4;
/// Neighbouring tiles whose columns of activations, a byte each at least, fill a cache line: one task's work, so that no
/// two threads write to one line.
const TILES_PER_LINE: usize = 64 / TILE;

/// Rows that a task of a row-wise operation handles: a cache line of what [`Acts`] stores by group.
const ROWS_PER_TASK: usize = acts::ROWS_PER_LINE;

/// The CPU as a [`Backend`].
pub struct CpuBackend {
    isa: &'static Isa,
    pool: Pool,
    /// One per worker, so never contended.
    scratch: Vec<Mutex<Scratch>>,
}

/// What a worker keeps from task to task.
struct Scratch {
    /// For each of a few tiles, made when first needed.
    panels: [Vec<Panel>; TILES],
    /// Products of two tiles, and what becomes of them, each [ROWS_PER_BLOCK × TILE].
    products: [Buffer<f32>; 3],
    row: Vec<f32>,
    groups: RowGroups,
    attention: attention::Scratch,
}

impl CpuBackend {
    /// A backend on `threads` threads (0: one).
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn new(isa: &'static Isa, threads: usize) -> std::io::Result<Self> {
        let pool = Pool::new(threads)?;
        let scratch = || {
            Mutex::new(Scratch {
                panels: Default::default(),
                products: std::array::from_fn(|_| Buffer::zeroed(ROWS_PER_BLOCK * TILE)),
                row: Vec::new(),
                groups: RowGroups::default(),
                attention: attention::Scratch::new(),
            })
        };
        Ok(Self { isa, scratch: (0..pool.threads()).map(|_| scratch()).collect(), pool })
    }

    /// The instruction-set tier in use.
    pub fn isa(&self) -> &'static Isa {
        self.isa
    }

    /// The number of threads that work.
    pub fn threads(&self) -> usize {
        self.pool.threads()
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

    /// One task per tile, or a few tiles, of every product; `add` to the outputs or set them.
    fn products(&self, input: &Acts, products: &mut [(&Weight, &mut Tensor)], add: bool) {
        let total: usize = products.iter().map(|(weight, _)| weight.n.div_ceil(TILE)).sum();
        // As many tiles a task as the kernel can take, while there are tasks enough for all threads.
        let most = (total / (2 * self.threads())).max(1);
        let mut tiles = Vec::new();
        let mut outputs = Vec::new();
        for (i, (weight, output)) in products.iter_mut().enumerate() {
            assert!(
                weight.k == input.cols && weight.n == output.cols && input.rows == output.rows,
                "shapes of a product"
            );
            let (count, step) = (weight.n.div_ceil(TILE), weight.kernel.map_or(1, |kernel| kernel.tiles.min(most)));
            tiles.extend((0..count).step_by(step).map(|tile| (i, tile..count.min(tile + step))));
            outputs.push((*weight, output.parts()));
        }
        if input.rows == 0 {
            return;
        }
        self.pool.run(tiles.len(), |task, worker| {
            let (i, tiles) = &tiles[task];
            let (weight, output) = &outputs[*i];
            let Scratch { panels, products, .. } = &mut *self.scratch(worker);
            for span in (0..weight.k).step_by(SPAN) {
                let span = span..weight.k.min(span + SPAN);
                for (panels, tile) in panels.iter_mut().zip(tiles.clone()) {
                    self.unpack(weight, tile, span.clone(), panels);
                }
                for first in (0..input.rows).step_by(ROWS_PER_BLOCK) {
                    let block = first..input.rows.min(first + ROWS_PER_BLOCK);
                    let products = &mut products[0][..block.len() * TILE];
                    for (panels, tile) in panels.iter().zip(tiles.clone()) {
                        self.multiply(weight, &panels[..span.len().div_ceil(CHUNK)], input, block.clone(), products);
                        let columns = weight.columns(tile);
                        for (row, products) in block.clone().zip(products.chunks_exact(TILE)) {
                            // SAFETY: the columns of this tile in this row, which belong to this task alone.
                            let output = unsafe { output.part(row, columns.clone()) };
                            if add || span.start > 0 {
                                output.iter_mut().zip(products).for_each(|(x, product)| *x += product);
                            } else {
                                output.copy_from_slice(&products[..output.len()]);
                            }
                        }
                    }
                }
            }
        });
    }

    /// Unpacks values `span` of a tile's rows into as many panels as they take.
    fn unpack(&self, weight: &Weight, tile: usize, span: Range<usize>, panels: &mut Vec<Panel>) {
        let chunks = span.clone().step_by(CHUNK);
        if panels.len() < chunks.len() {
            panels.resize_with(chunks.len(), Panel::new);
        }
        for (panel, first) in panels.iter_mut().zip(chunks) {
            let len = (span.end - first).min(CHUNK);
            match weight.kernel {
                Some(kernel) => kernel.unpack(panel, weight.tile(tile), first, len),
                None => panel.unpack_floats(weight.tile(tile), first, len),
            }
        }
    }

    /// Products of the rows `block` of the input and a tile [rows × TILE].
    fn multiply(&self, weight: &Weight, panels: &[Panel], input: &Acts, block: Range<usize>, products: &mut [f32]) {
        products.fill(0.0);
        for panel in panels {
            match weight.kernel {
                Some(kernel) => kernel.gemm(panel, input, block.clone(), products),
                None => self.isa.gemm_floats(panel, input, block.clone(), products),
            }
        }
    }
}

/// A matrix of f32 [rows × cols], each row `stride` floats after the one before.
pub struct Tensor {
    rows: usize,
    cols: usize,
    stride: usize,
    data: Buffer<f32>,
}

impl Tensor {
    /// Zeros. Rows are kept off a distance of whole pages: a tile of a product writes a few columns of every row, and
    /// rows a page apart would all fall into the same few sets of the cache.
    fn new(rows: usize, cols: usize) -> Self {
        const LINE: usize = 16;
        let lines = cols.div_ceil(LINE);
        let stride = if lines.is_multiple_of(LINE) { (lines + 1) * LINE } else { cols };
        let len = rows.checked_mul(stride).expect("a matrix fits the address space");
        Self { rows, cols, stride, data: Buffer::zeroed(len) }
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..][..self.cols]
    }

    fn parts(&mut self) -> TensorParts<'_> {
        TensorParts { cols: self.cols, stride: self.stride, data: Parts::new(&mut self.data) }
    }
}

/// A [`Tensor`] that the tasks of one loop write, each a part of its own.
struct TensorParts<'a> {
    cols: usize,
    stride: usize,
    data: Parts<'a, f32>,
}

impl<'a> TensorParts<'a> {
    /// Columns `columns` of row `row`.
    ///
    /// # Safety
    /// No other task uses any of them at the same time.
    unsafe fn part(&self, row: usize, columns: Range<usize>) -> &'a mut [f32] {
        assert!(columns.end <= self.cols);
        let start = row * self.stride;
        // SAFETY: the caller's promise.
        unsafe { self.data.part(start + columns.start..start + columns.end) }
    }
}

/// A weight matrix [n × k], as stored.
pub struct Weight {
    format: Format,
    bytes: Bytes,
    n: usize,
    k: usize,
    row_bytes: usize,
    /// How it is multiplied; `None`: as floats.
    kernel: Option<&'static Kernel>,
}

impl Weight {
    /// The columns of an output that a tile computes.
    fn columns(&self, tile: usize) -> Range<usize> {
        tile * TILE..self.n.min((tile + 1) * TILE)
    }

    fn tile(&self, tile: usize) -> TileRows<'_> {
        let rows = self.columns(tile);
        let bytes = &self.bytes[rows.start * self.row_bytes..rows.end * self.row_bytes];
        TileRows { format: self.format, bytes, row_bytes: self.row_bytes }
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
    type Acts = Acts;
    type Weight = Weight;
    type Vector = Vec<f32>;
    type Form = Form;
    type Rope = Rope;

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
                Ok(Weight { format, bytes, n, k, row_bytes, kernel: self.isa.kernel(format, precision) })
            }
            _ => Err(WeightError::Size { format, rows: n, cols: k, bytes: bytes.len() }),
        }
    }

    fn vector(&self, values: &[f32]) -> Vec<f32> {
        values.to_vec()
    }

    fn form(&self, weight: &Weight) -> Form {
        let floats = Form { floats: true, ..Form::default() };
        weight.kernel.map_or(floats, |kernel| kernel.form)
    }

    fn tensor(&self, rows: usize, cols: usize) -> Tensor {
        Tensor::new(rows, cols)
    }

    fn acts(&self, rows: usize, cols: usize, form: Form) -> Acts {
        Acts::new(rows, cols, form)
    }

    fn rope(&self, positions: &[u32], head_dim: usize, base: f32) -> Rope {
        let half = head_dim / 2;
        let frequencies: Vec<f32> = (0..half).map(|i| 1.0 / base.powf((2 * i) as f32 / head_dim as f32)).collect();
        let (mut cos, mut sin) =
            (Vec::with_capacity(positions.len() * half), Vec::with_capacity(positions.len() * half));
        for position in positions {
            for frequency in &frequencies {
                let (s, c) = (*position as f32 * frequency).sin_cos();
                cos.push(c);
                sin.push(s);
            }
        }
        Rope { half, cos, sin }
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

    fn rms_norm(&self, x: &Tensor, weight: &Vec<f32>, eps: f32, out: &mut Acts) {
        assert!(out.rows == x.rows && out.cols == x.cols);
        let parts = out.parts(self.isa);
        self.for_rows(x.rows, |row, scratch| {
            scratch.row.resize(x.cols, 0.0);
            self.isa.rms_norm(x.row(row), weight, eps, &mut scratch.row);
            // SAFETY: each row is set by one task.
            unsafe { parts.set(row, 0, &scratch.row, &mut scratch.groups) };
        });
    }

    fn matmul(&self, input: &Acts, products: &mut [Product<'_, Self>]) {
        self.products(input, products, false);
    }

    fn matmul_add(&self, input: &Acts, weight: &Weight, output: &mut Tensor) {
        self.products(input, &mut [(weight, output)], true);
    }

    fn norm_rope(&self, x: &mut Tensor, weight: &Vec<f32>, eps: f32, rope: &Rope) {
        let cols = x.cols;
        assert!(
            cols.is_multiple_of(weight.len()) && weight.len() == 2 * rope.half && rope.cos.len() == x.rows * rope.half
        );
        let rows = x.rows;
        let parts = x.parts();
        self.for_rows(rows, |row, _| {
            // SAFETY: each row is changed by one task.
            let values = unsafe { parts.part(row, 0..cols) };
            let angles = row * rope.half..(row + 1) * rope.half;
            for head in values.chunks_exact_mut(weight.len()) {
                self.isa.norm_rope(head, weight, eps, &rope.cos[angles.clone()], &rope.sin[angles.clone()]);
            }
        });
    }

    fn attention(&self, heads: Heads, offsets: &[usize], q: &Tensor, k: &Tensor, v: &Tensor, out: &mut Acts) {
        let Heads { heads, kv_heads, head_dim } = heads;
        assert!(heads.is_multiple_of(kv_heads) && offsets.is_sorted(), "whole groups of heads, texts end to end");
        let shape = Shape { group: heads / kv_heads, head_dim, q_stride: q.stride, kv_stride: k.stride };
        assert!(q.cols == heads * head_dim && k.cols == kv_heads * head_dim && v.cols == k.cols && out.cols == q.cols);
        assert!(q.rows == k.rows && q.rows == v.rows && offsets.last() == Some(&q.rows) && out.rows == q.rows);

        // Where each text starts in the packed keys and values of a head, in tokens.
        let mut packed_starts = vec![0];
        for text in offsets.windows(2) {
            packed_starts.push(packed_starts.last().unwrap() + (text[1] - text[0]).next_multiple_of(PAD));
        }
        let packed = *packed_starts.last().expect("starts with 0");
        let (dim, dim_pad) = (head_dim, shape.padded_dim());
        let mut kt = Buffer::<f32>::zeroed(kv_heads * packed * dim);
        let mut vp = Buffer::<f32>::zeroed(kv_heads * packed * dim_pad);
        let (kt_parts, vp_parts) = (Parts::new(&mut kt), Parts::new(&mut vp));
        let blocks: Vec<(usize, usize)> = offsets
            .windows(2)
            .enumerate()
            .flat_map(|(text, o)| (0..(o[1] - o[0]).div_ceil(KEYS)).map(move |block| (text, block)))
            .collect();
        self.pool.run(blocks.len() * kv_heads, |task, _| {
            let ((text, block), head) = (blocks[task / kv_heads], task % kv_heads);
            let len = offsets[text + 1] - offsets[text];
            let from = offsets[text] * k.stride + head * dim;
            let first = head * packed + packed_starts[text] + block * KEYS;
            let width = (len - block * KEYS).min(KEYS).next_multiple_of(PAD);
            // SAFETY: this block of this head of this text, packed by this task alone.
            let (kt, vp) = unsafe {
                (
                    kt_parts.part(first * dim..(first + width) * dim),
                    vp_parts.part(first * dim_pad..(first + width) * dim_pad),
                )
            };
            attention::pack_block(shape, len, block, &k.data[from..], &v.data[from..], kt, vp);
        });

        let mut context = self.tensor(q.rows, q.cols);
        let parts = context.parts();
        let step = shape.query_block();
        let mut tasks: Vec<(usize, usize)> = offsets
            .windows(2)
            .enumerate()
            .flat_map(|(text, o)| (0..o[1] - o[0]).step_by(step).map(move |first| (text, first)))
            .collect();
        // Long rows first, so that the loop ends with small tasks.
        tasks.sort_by_key(|(_, first)| std::cmp::Reverse(*first));
        self.pool.run(tasks.len() * kv_heads, |task, worker| {
            let ((text, first), head) = (tasks[task / kv_heads], task % kv_heads);
            let len = offsets[text + 1] - offsets[text];
            let packed_start = head * packed + packed_starts[text];
            let column = head * shape.group * dim;
            let task = AttendTask {
                shape,
                first,
                count: step.min(len - first),
                len,
                q: &q.data[offsets[text] * q.stride + column..],
                kt: &kt[packed_start * dim..],
                vp: &vp[packed_start * dim_pad..],
            };
            self.isa.attend(task, &mut self.scratch(worker).attention, &mut |token, in_group, values| {
                let start = column + in_group * dim;
                // SAFETY: each head of each token is computed by one task.
                unsafe { parts.part(offsets[text] + token, start..start + dim) }.copy_from_slice(values);
            });
        });
        let parts = out.parts(self.isa);
        // SAFETY: each row is set by one task.
        self.for_rows(q.rows, |row, scratch| unsafe { parts.set(row, 0, context.row(row), &mut scratch.groups) });
    }

    fn gated(&self, input: &Acts, gate: &Weight, up: &Weight, out: &mut Acts) {
        assert!(gate.k == input.cols && gate.n == out.cols && input.rows == out.rows, "shapes of a product");
        assert!(up.k == gate.k && up.n == gate.n, "two weights of one shape");
        let parts = out.parts(self.isa);
        let (tiles, chunks) = (gate.n.div_ceil(TILE), gate.k.div_ceil(CHUNK));
        // Tiles at a time, of each weight.
        let step = gate.kernel.map_or(1, |kernel| kernel.tiles.div_ceil(2)).min(TILES_PER_LINE);
        self.pool.run(tiles.div_ceil(TILES_PER_LINE), |task, worker| {
            let Scratch { panels, products, groups, .. } = &mut *self.scratch(worker);
            let end = tiles.min((task + 1) * TILES_PER_LINE);
            for start in (task * TILES_PER_LINE..end).step_by(step) {
                let pairs = || (start..end.min(start + step)).enumerate();
                for (i, tile) in pairs() {
                    self.unpack(gate, tile, 0..gate.k, &mut panels[2 * i]);
                    self.unpack(up, tile, 0..up.k, &mut panels[2 * i + 1]);
                }
                for first in (0..input.rows).step_by(ROWS_PER_BLOCK) {
                    let block = first..input.rows.min(first + ROWS_PER_BLOCK);
                    let [gates, ups, gated] = products.each_mut().map(|x| &mut x[..block.len() * TILE]);
                    for (i, tile) in pairs() {
                        self.multiply(gate, &panels[2 * i][..chunks], input, block.clone(), gates);
                        self.multiply(up, &panels[2 * i + 1][..chunks], input, block.clone(), ups);
                        self.isa.silu_mul(gates, ups, gated);
                        let columns = gate.columns(tile);
                        for (row, gated) in block.clone().zip(gated.chunks_exact(TILE)) {
                            // SAFETY: the columns of this tile in this row, which belong to this task alone.
                            unsafe { parts.set(row, columns.start, &gated[..columns.len()], groups) };
                        }
                    }
                }
            }
        });
    }

    fn rms_norm_rows(&self, x: &Tensor, rows: &[usize], weight: &Vec<f32>, eps: f32, out: &mut Tensor) {
        assert!(out.rows == rows.len() && out.cols == x.cols);
        let parts = out.parts();
        self.for_rows(rows.len(), |row, _| {
            // SAFETY: each row is set by one task.
            let to = unsafe { parts.part(row, 0..x.cols) };
            self.isa.rms_norm(x.row(rows[row]), weight, eps, to);
        });
    }

    fn read(&self, x: &Tensor) -> Vec<f32> {
        (0..x.rows).flat_map(|row| x.row(row)).copied().collect()
    }
}
