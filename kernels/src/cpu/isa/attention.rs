//! Attention as a tier computes it: how keys and values are packed, and the two functions that it takes.

use crate::cpu::activations::Form;
use crate::cpu::ops::attention::scratch::Scratch;
use crate::cpu::ops::attention::task::{AttendTask, KeyValueRows, Shape, WriteRow};

/// Attention over keys and values that are packed as `E`.
#[derive(Clone, Copy)]
pub(crate) struct Attention<E: 'static> {
    /// Keys per block.
    pub(crate) keys: usize,
    /// Padding granularity of packed keys; divides `keys`.
    pub(crate) pad: usize,
    /// What the dimensions of a head must be a multiple of.
    pub(crate) dims: usize,
    /// The most dimensions of a head.
    pub(crate) most_dims: usize,
    /// Elements that a key, or a value, takes besides its dimensions.
    pub(crate) scale_len: usize,
    /// The forms of output that need nothing finer.
    pub(crate) serves: Form,
    pub(super) run: &'static dyn Attend<E>,
}

/// What an [`Attention`] does; its implementations are the proof that the CPU has their instructions.
pub(crate) trait Attend<E>: Send + Sync {
    /// See [`pack_block`](crate::cpu::ops::attention::pack_block).
    fn pack(&self, shape: Shape, keys: usize, rows: KeyValueRows, kt: &mut [E], vp: &mut [E]);
    /// See [`attend`](crate::cpu::ops::attention::attend).
    fn attend(&self, task: AttendTask<E>, scratch: &mut Scratch, write: WriteRow);
}

impl<E> Attention<E> {
    /// Whether it can have heads of so many dimensions.
    pub(crate) fn takes(&self, head_dim: usize) -> bool {
        head_dim.is_multiple_of(self.dims) && head_dim <= self.most_dims
    }

    /// See [`pack_block`](crate::cpu::ops::attention::pack_block).
    pub(crate) fn pack(&self, shape: Shape, keys: usize, rows: KeyValueRows, kt: &mut [E], vp: &mut [E]) {
        self.run.pack(shape, keys, rows, kt, vp);
    }

    /// See [`attend`](crate::cpu::ops::attention::attend).
    pub(crate) fn attend(&self, task: AttendTask<E>, scratch: &mut Scratch, write: WriteRow) {
        self.run.attend(task, scratch, write);
    }
}

/// Attention in 16-bit codes (see [`int16`](crate::cpu::ops::attention::int16)) by a token that is
/// [`DotI16`](crate::cpu::simd::DotI16): implements [`Attend`] for it.
#[cfg(target_arch = "x86_64")]
macro_rules! i16_attention {
    ($token:ty, #[$attribute:meta]) => {
        const _: () = {
            use crate::cpu::isa::attention::Attend;
            use crate::cpu::isa::token::method;
            use crate::cpu::ops::attention::int16;
            use crate::cpu::ops::attention::scratch::Scratch;
            use crate::cpu::ops::attention::task::{AttendTask, KeyValueRows, Shape, WriteRow};

            impl Attend<u16> for $token {
                method!(token: $token, #[$attribute], pack(
                    shape: Shape, keys: usize, rows: KeyValueRows, kt: &mut [u16], vp: &mut [u16]
                ) {
                    int16::pack_block(token, shape, keys, rows, kt, vp)
                });
                method!(token: $token, #[$attribute], attend(
                    task: AttendTask<u16>, scratch: &mut Scratch, write: WriteRow
                ) {
                    int16::attend(token, task, scratch, write)
                });
            }
        };
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use i16_attention;

/// The attention of a token that [`i16_attention`] has made one of.
#[cfg(target_arch = "x86_64")]
pub(super) fn in_i16(run: &'static dyn Attend<u16>) -> Attention<u16> {
    use crate::cpu::ops::attention::{int16, task::PAD};
    Attention {
        keys: int16::KEYS,
        pad: PAD,
        dims: PAD,
        most_dims: int16::ROW,
        scale_len: int16::SCALE,
        serves: Form { i8: true, i8_uniform: true, ..Form::NONE },
        run,
    }
}
