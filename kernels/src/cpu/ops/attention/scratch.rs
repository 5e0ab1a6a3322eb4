//! Working memory of attention.

use super::softmax::Softmax;
use crate::buffer::Buffer;
use crate::cpu::own::Own;

/// Working memory of one task.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) q: Buffer<f32>,
    pub(crate) scores: Buffer<f32>,
    pub(crate) out: Buffer<f32>,
    pub(crate) softmax: Softmax,
    /// What is needed besides by those who fill it.
    pub(crate) own: Own,
}
