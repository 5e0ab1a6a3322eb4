//! The kernels by name, and what a dispatch of each takes.

use super::gpu::{Gpu, GpuError};
use crate::backend::Precision;
use crate::formats::Format;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What a GPU has at least of threadgroup memory, in bytes.
const MEMORY: usize = 32 << 10;
/// Threads of a threadgroup, of every kernel.
pub(super) const THREADS: usize = 128;
/// Weights of a tile, and its depth: TILE and DEPTH of `product.metal`.
pub(super) const TILE: usize = 64;
const DEPTH: usize = 32;
/// Rows of a tile, and the most rows that are taken eight at a time: weights are unpacked twice then, which is less than what the
/// rows that are not there would cost.
pub(super) const ROWS: [usize; 2] = [32, 8];
pub(super) const NARROW: usize = 16;

/// Of [`super::SOURCE`]'s `rms_norm`: a sum a simdgroup.
pub(super) const NORM_MEMORY: usize = 4 * size_of::<f32>();
/// Of `attention`: of each of four simdgroups, scores of 8 queries and 32 keys, and a square of 8 × 8.
pub(super) const ATTENTION_MEMORY: usize = 4 * (super::plan::QUERIES * super::plan::KEYS + 64) * size_of::<f32>();

/// Of `product`: weights of so many bytes each and activations of a tile, or its sums, which take their place.
pub(super) const fn product_memory(weight: usize, rows: usize) -> usize {
    let (inputs, sums) = (DEPTH * (TILE * weight + rows * size_of::<f32>()), TILE * rows * size_of::<f32>());
    if inputs > sums { inputs } else { sums }
}
const _: () = assert!(product_memory(4, 32) <= MEMORY && ATTENTION_MEMORY <= MEMORY);
const _: () = assert!(THREADS <= 1024 && THREADS.is_multiple_of(32));
// Metal wants multiples of 16.
const _: () = assert!(product_memory(2, 8).is_multiple_of(16) && product_memory(2, 32).is_multiple_of(16));
const _: () = assert!(NORM_MEMORY.is_multiple_of(16) && ATTENTION_MEMORY.is_multiple_of(16));

/// Whether weights become floats, and not halves, on the way into a product: all that are no halves already, where precision is to
/// be high, and those that halves would cut.
pub(super) fn as_float(format: Format, precision: Precision) -> bool {
    match format {
        Format::F32 | Format::BF16 => true,
        Format::F16 => false,
        _ => precision == Precision::High,
    }
}

/// The two kernels of a product, in the order of [`ROWS`].
pub(super) struct Products<D: Gpu> {
    pub(super) pipelines: [D::Pipeline; 2],
    /// Bytes of a weight in them.
    pub(super) weight: usize,
}

/// A format, and whether its weights become floats.
type Kind = (Format, bool);

/// Those that every model needs, and products as they are asked for.
pub(super) struct Kernels<D: Gpu> {
    pub(super) rms_norm: D::Pipeline,
    pub(super) norm_rope: D::Pipeline,
    pub(super) copy_rows: D::Pipeline,
    pub(super) pack_keys: D::Pipeline,
    /// Of heads of 64 and of 128 values.
    attention: [D::Pipeline; 2],
    products: Mutex<HashMap<Kind, Arc<Products<D>>>>,
}

impl<D: Gpu> Kernels<D> {
    pub(super) fn new(gpu: &D) -> Result<Self, GpuError> {
        let (has, needs) = (gpu.max_threadgroup_memory(), product_memory(size_of::<f32>(), ROWS[0]));
        if has < needs {
            let reason = format!("{has} bytes of threadgroup memory, of which it needs {needs}");
            return Err(GpuError::Pipeline { kernel: "product".into(), reason });
        }
        Ok(Self {
            rms_norm: gpu.pipeline("rms_norm")?,
            norm_rope: gpu.pipeline("norm_rope")?,
            copy_rows: gpu.pipeline("copy_rows")?,
            pack_keys: gpu.pipeline("pack_keys")?,
            attention: [gpu.pipeline("attention_64")?, gpu.pipeline("attention_128")?],
            products: Mutex::default(),
        })
    }

    pub(super) fn attention(&self, head_dim: usize) -> Option<&D::Pipeline> {
        match head_dim {
            64 => Some(&self.attention[0]),
            128 => Some(&self.attention[1]),
            _ => None,
        }
    }

    pub(super) fn products(&self, gpu: &D, format: Format, as_float: bool) -> Result<Arc<Products<D>>, GpuError> {
        let mut products = self.products.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(found) = products.get(&(format, as_float)) {
            return Ok(found.clone());
        }
        let (name, weight) = if as_float { ("float", size_of::<f32>()) } else { ("half", size_of::<half::f16>()) };
        let pipeline = |rows| gpu.pipeline(&format!("product_{format}_{name}_{rows}"));
        let made = Arc::new(Products { pipelines: [pipeline(ROWS[0])?, pipeline(ROWS[1])?], weight });
        products.insert((format, as_float), made.clone());
        Ok(made)
    }
}
