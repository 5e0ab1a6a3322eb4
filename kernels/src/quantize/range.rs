//! What a format can hold: f16 numbers, and so the scales of blocks, end at 65504.

use super::lanes::Portable;
use super::{Line, shared, with_min, without_min};
use crate::formats::float::Float;
use crate::formats::pack::{GROUPS, Pack};
use crate::formats::{Format, with_pack};
use half::f16;

/// No format fails to hold values up to this one.
const SAFE: f32 = 65504.0;

impl Format {
    /// The place of the first finite value that is too large for this format: a float that would become infinite, or the
    /// largest value of a block whose scale or min would be beyond f16. `None` when [`quantize`](Self::quantize) holds all.
    ///
    /// # Panics
    /// When the format [cannot be written](Self::can_quantize).
    pub fn too_large(self, values: &[f32]) -> Option<usize> {
        if values.iter().all(|x| x.abs() <= SAFE) {
            return None;
        }
        with_pack!(
            self,
            P => block::<P>(values),
            float F => values.iter().position(|x| F::is_too_large(*x)),
            only read => panic!("{self} cannot be written, only read"),
        )
    }
}

/// The largest value of the first block that needs more than f16 for the line through its extremes.
fn block<P: Pack>(values: &[f32]) -> Option<usize> {
    let start = P::LEN * values.chunks_exact(P::LEN).position(|block| !fits::<P>(block))?;
    let largest = |a: &usize, b: &usize| values[*a].abs().total_cmp(&values[*b].abs());
    (start..start + P::LEN).max_by(largest)
}

fn fits<P: Pack>(block: &[f32]) -> bool {
    let mut plain = [Line::default(); GROUPS];
    for (line, group) in plain.iter_mut().zip(block.chunks_exact(P::GROUP)) {
        *line = if P::HAS_MIN {
            with_min::<P, Portable>(Portable, group).0
        } else {
            without_min::<P, Portable>(Portable, group).0
        };
    }
    let (d, dmin) = shared::<P>(&plain);
    f16::from_f32(d).is_finite() && f16::from_f32(dmin).is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The largest value that a block of zeros and it can hold: 65504, or the next value up that still rounds to it, times
    /// the largest code of a scale and of a value.
    #[test]
    fn the_limit_of_each_format() {
        // Of values above zero: scale codes times codes. Signed ranges reach one further below, on which side the sign of
        // the scale puts the larger.
        for (format, codes) in [
            (Format::F16, 1.0),
            (Format::Q4_0, 8.0),
            (Format::Q4_1, 15.0),
            (Format::Q5_0, 16.0),
            (Format::Q5_1, 31.0),
            (Format::Q8_0, 127.0),
            (Format::Q2_K, 15.0 * 3.0),
            (Format::Q3_K, 32.0 * 4.0),
            (Format::Q4_K, 63.0 * 15.0),
            (Format::Q5_K, 63.0 * 31.0),
            (Format::Q6_K, 128.0 * 32.0),
        ] {
            let mut values = vec![0f32; 512];
            values[300] = 65504.0 * codes;
            assert_eq!(format.too_large(&values), None, "{format}");
            let mut bytes = vec![0; format.row_bytes(512).unwrap()];
            format.quantize(&values, &mut bytes);
            let mut back = vec![0f32; 512];
            format.dequantize(&bytes, &mut back);
            assert!((back[300] - values[300]).abs() <= 1e-3 * values[300], "{format}: {}", back[300]);
            values[300] = 65520.0 * codes * 1.0001;
            assert_eq!(format.too_large(&values), Some(300), "{format}");
        }
    }

    /// Mins are f16 numbers too: alone (Q4_1, Q5_1), or times a code.
    #[test]
    fn the_limit_of_mins() {
        for (format, codes) in [(Format::Q4_1, 1.0), (Format::Q5_1, 1.0), (Format::Q2_K, 15.0), (Format::Q5_K, 63.0)] {
            let mut values = vec![0f32; 512];
            values[300] = -65504.0 * codes;
            assert_eq!(format.too_large(&values), None, "{format}");
            values[300] = -65530.0 * codes;
            assert_eq!(format.too_large(&values), Some(300), "{format}");
        }
        let values = [f32::MAX, f32::MIN, 0.0, 0.0].repeat(64);
        for format in Format::ALL.iter().copied().filter(|format| format.can_quantize() && *format != Format::F32) {
            assert_eq!(format.too_large(&values).map(|at| values[at].abs()), Some(f32::MAX), "{format}");
        }
        assert_eq!(Format::F32.too_large(&values), None);
    }

    /// Whatever finite values come, scales are finite, and so is what comes back of blocks.
    #[test]
    fn no_scale_is_infinite() {
        let mut random = Random(7);
        let mut next = || random.next() as u32;
        let blocks = Format::ALL.iter().copied().filter(|format| format.can_quantize() && !format.is_float());
        for format in blocks {
            for round in 0..200 {
                // All magnitudes at once, or one per block.
                let base = next() % 254;
                let values: Vec<f32> = (0..256)
                    .map(|_| {
                        let bits = next();
                        let exponent = if round % 2 == 0 { base + 1 } else { 1 + (bits >> 23) % 254 };
                        f32::from_bits(bits & 0x807f_ffff | exponent.min(254) << 23)
                    })
                    .collect();
                let mut bytes = vec![0; format.row_bytes(256).unwrap()];
                format.quantize(&values, &mut bytes);
                let mut back = vec![0f32; 256];
                format.dequantize(&bytes, &mut back);
                assert!(back.iter().all(|x| x.is_finite()), "{format}: {values:?}");
            }
        }
    }
}
