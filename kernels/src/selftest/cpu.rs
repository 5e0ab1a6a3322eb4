//! What the CPU rounds, by the form in which a product takes its input.

use super::subject::{Rounding, Share, Subject};
use crate::backend::{Backend, Precision};
use crate::cpu::{CpuBackend, Form, Weight};
use crate::formats::{Block, Format, with_block};

impl Subject for CpuBackend {
    fn rounding(&self, weight: &Weight, format: Format, _: Precision) -> Rounding {
        let share = |run, by| Share { run, by };
        match self.form(weight) {
            // Half a step, of which there are 127 to the largest of 32.
            Form { i8: true, .. } => Rounding { input: share(32, 0.5 / 127.0), ..Rounding::NONE },
            // One scale for as many weights and no min: their codes are taken as they are.
            Form { i8_uniform: true, .. } if with_block!(format, B => B::GROUP == 32 && !B::HAS_MIN, float => false) => {
                Rounding { input: share(32, 0.5 / 127.0), ..Rounding::NONE }
            }
            // The same for weights, recoded from up to 6 bits: half a step and, for factors of 8 binary places, at most an eighth; twice
            // that, since no code need reach the end of its range.
            // What recoding leaves of a min meets the mean of a group: it is no more than half a step of a code of 4 bits or more,
            // 1/15 of the largest, so that 32 times the mean's error is that of 5 more values.
            Form { i8_uniform: true, .. } => {
                Rounding { input: share(32, 0.5 / 127.0 * 1.16), weights: share(512, 1.25 / 127.0) }
            }
            Form { i16: true, .. } => Rounding { input: share(32, 0.5 / 32767.0), ..Rounding::NONE },
            // What two of bfloat16 leave of a value, of which one product of three is left out.
            Form { bf16_residual: true, .. } => {
                Rounding { input: share(1, 1.5 / 65536.0), weights: share(1, 1.6 / 65536.0) }
            }
            Form { bf16: true, .. } => Rounding { input: share(1, 1.0 / 256.0), weights: share(1, 1.0 / 256.0) },
            Form { .. } => Rounding::NONE,
        }
    }
}
