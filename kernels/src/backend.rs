//! The seam between a model and the device it runs on.
//!
//! A forward pass is written once over [`Backend`]. Operations are queued in order and may run later: nothing but
//! [`Backend::read`] says that a result can be seen by the host, so a device that runs a whole pass as one submission
//! fits behind it. Matrices are row-major; `rows` is the number of tokens of all texts of a batch laid end to end.

use crate::formats::Format;
use bytes::Bytes;
use std::ops::Range;

/// What can go wrong when weights are handed to a backend.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// The bytes do not hold the matrix.
    #[error("{format} [{rows} × {cols}] does not fit {bytes} bytes")]
    Size {
        /// Storage format.
        format: Format,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Bytes given.
        bytes: usize,
    },
    /// The device does not take it.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What a device is, for people and for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// One word, lower case, such as `cpu`.
    pub name: &'static str,
    /// The instruction set or family of which its code is.
    pub isa: &'static str,
    /// Threads of the host that work.
    pub threads: usize,
}

impl Device {
    /// A device of this name.
    pub fn new(name: &'static str, isa: &'static str, threads: usize) -> Self {
        Self { name, isa, threads }
    }
}

/// What a device says when it could not do its work: of memory, of a lost connection, of a failed submission.
#[derive(Debug, thiserror::Error)]
#[error("{device}: {source}")]
pub struct DeviceError {
    /// The device, by its name.
    pub device: &'static str,
    /// Its own words.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Shape of the attention of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Values per head; even.
    pub head_dim: usize,
}

/// How finely a product may round its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 8-bit activations or better.
    Standard,
    /// 16-bit activations or better: their error vanishes beside that of the weights.
    High,
}

/// A run of tokens that continues its parent's: a node of a tree of texts, whose common prefixes are there once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The run before it, an earlier node; none where texts begin.
    pub parent: Option<usize>,
    /// Its rows of keys and values.
    pub rows: Range<usize>,
    /// Rows of the queries of its last so many tokens, and of their outputs. Those of all nodes lie end to end.
    pub queries: Range<usize>,
}

/// One product of a [`Backend::matmul`]: `output = input · weightᵀ`.
pub type Product<'a, B> = (&'a <B as Backend>::Weight, &'a mut <B as Backend>::Tensor);

/// A device: how its memory looks and what it can compute.
pub trait Backend: Send + Sync {
    /// A matrix of f32 [rows × cols].
    type Tensor: Send + Sync;
    /// Rows of activations, prepared as the input of [`Backend::matmul`].
    type Activations: Send;
    /// A weight matrix [n × k] in its storage format.
    type Weight: Send + Sync;
    /// A matrix of which single rows are looked up, in its storage format.
    type Table: Send + Sync;
    /// A vector of f32 parameters.
    type Vector: Send + Sync;
    /// Which forms of an input a set of weights consumes.
    type Form: Copy + Default + PartialEq + std::ops::BitOr<Output = Self::Form> + Send + Sync;
    /// Cosines and sines of the rotary embedding, one row per token of the batch.
    type Rope: Send;

    /// Name, instruction set and threads of the host.
    fn device(&self) -> Device;
    /// The most bytes that the device can hold, weights and a pass together; `None` where only the host's memory bounds it.
    fn limit(&self) -> Option<u64> {
        None
    }
    /// Is told of a mapping of which weights will be handed over, before any of them: a device that reads the host's memory
    /// registers it once, as a whole. Nothing is copied.
    ///
    /// # Errors
    /// When the device cannot read it.
    fn adopt(&self, mapping: &Bytes) -> Result<(), DeviceError> {
        let _ = mapping;
        Ok(())
    }
    /// Takes a weight matrix over, [n × k] with rows of k values; the bytes are used in place, and not looked at: any are a
    /// matrix, though its values, and what is made of them, may not be finite. Its products round their input no more than
    /// `precision` allows.
    ///
    /// # Errors
    /// When the bytes do not hold such a matrix.
    fn weight(
        &self,
        format: Format,
        bytes: Bytes,
        n: usize,
        k: usize,
        precision: Precision,
    ) -> Result<Self::Weight, WeightError>;
    /// Takes a matrix over of which rows are looked up, [rows × cols]; the bytes are used in place. A device may leave it to
    /// the host, since a pass needs few of its rows.
    ///
    /// # Errors
    /// When the bytes do not hold such a matrix.
    fn table(&self, format: Format, bytes: Bytes, rows: usize, cols: usize) -> Result<Self::Table, WeightError>;
    /// A pass begins. What the device needs for any pass, such as threads, it gets at the first.
    ///
    /// # Errors
    /// When it does not get it.
    fn begin(&self) -> Result<(), DeviceError> {
        Ok(())
    }
    /// Copies a parameter vector: of a norm, one value for each column that it will scale.
    fn vector(&self, values: &[f32]) -> Self::Vector;
    /// The form of input that `weight` consumes. Weights of one input, such as those of a product, have theirs joined by `|`.
    fn form(&self, weight: &Self::Weight) -> Self::Form;
    /// A matrix [rows × cols] of unspecified content, for the pass that goes on.
    fn tensor(&self, rows: usize, cols: usize) -> Self::Tensor;
    /// The same, to be kept beyond a pass: it takes no more memory than it holds.
    fn lasting_tensor(&self, rows: usize, cols: usize) -> Self::Tensor;
    /// An input [rows × cols] for the weights whose forms `form` joins, of unspecified content.
    fn activations(&self, rows: usize, cols: usize, form: Self::Form) -> Self::Activations;
    /// What a row of such an input takes, in bytes.
    fn activations_bytes(&self, cols: usize, form: Self::Form) -> usize;
    /// What [`Backend::attention`] needs at most besides its operands, in bytes for so many tokens in so many nodes.
    fn attention_bytes(&self, heads: Heads, tokens: usize, nodes: usize) -> usize;
    /// Rotary angles of tokens at `positions` [tokens × head_dim / 2]: angle i of position p is p · base^(−2i / head_dim), in f32.
    fn rope(&self, positions: &[u32], head_dim: usize, base: f32) -> Self::Rope;

    /// `out[i] = table[tokens[i]]`, dequantized: out [tokens × cols] of a table [vocabulary × cols].
    fn embed(&self, table: &Self::Table, tokens: &[u32], out: &mut Self::Tensor);
    /// `out = x / rms(x) · weight`, row by row: x and out [rows × cols], `rms(x) = √(mean of x² + eps)`.
    fn rms_norm(&self, x: &Self::Tensor, weight: &Self::Vector, eps: f32, out: &mut Self::Activations);
    /// `to[first + i] = from[rows[i]]`, both matrices of the same number of columns.
    fn copy_rows(&self, from: &Self::Tensor, rows: &[usize], to: &mut Self::Tensor, first: usize);
    /// Every product of one input [rows × k]: outputs [rows × n] of weights [n × k]. An output may have more rows, which stay
    /// as they are.
    fn matmul(&self, input: &Self::Activations, products: &mut [Product<'_, Self>])
    where
        Self: Sized;
    /// `output += input · weightᵀ`: input [rows × k], weight [n × k], output [rows × n].
    fn matmul_add(&self, input: &Self::Activations, weight: &Self::Weight, output: &mut Self::Tensor);
    /// RMSNorm of each head of each row that `rope` has angles for, then rotary embedding over split halves, in place:
    /// x [rows × heads · head_dim], weight \[head_dim\].
    fn norm_rope(&self, x: &mut Self::Tensor, weight: &Self::Vector, eps: f32, rope: &Self::Rope);
    /// Causal attention: each query sees the keys of its node up to its own, and all of the nodes before it. Scores are scaled by
    /// 1 / √head_dim. q and out [queries × heads · head_dim], k and v [rows × kv_heads · head_dim].
    #[allow(clippy::too_many_arguments)]
    fn attention(
        &self,
        heads: Heads,
        nodes: &[Node],
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        out: &mut Self::Activations,
    );
    /// `out = silu(input · gateᵀ) · (input · upᵀ)`, value by value: input [rows × k], both weights [n × k], out [rows × n].
    fn gated(&self, input: &Self::Activations, gate: &Self::Weight, up: &Self::Weight, out: &mut Self::Activations);
    /// `out[i] = x[rows[i]] / rms(x[rows[i]]) · weight`: the normed rows that are wanted, in f32.
    fn rms_norm_rows(&self, x: &Self::Tensor, rows: &[usize], weight: &Self::Vector, eps: f32, out: &mut Self::Tensor);
    /// Stands between the layers of a pass: a device that queues work may submit what it has, so that it computes while the
    /// host goes on.
    fn checkpoint(&self) {}
    /// Waits for all that was queued and gives the content of `x`, row after row.
    ///
    /// # Errors
    /// When the device could not do its work; nothing of the pass is of use then.
    fn read(&self, x: &Self::Tensor) -> Result<Vec<f32>, DeviceError>;
}
