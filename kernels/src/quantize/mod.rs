//! Values to blocks: the way back of [`crate::formats`], for every format that says how it is packed.
//!
//! A block is found by search for the least squared error, then packed. The search is one for all formats:
//!
//! 1. Each group gets the scale and min that fit it best by itself: for several code ranges around the plain one, codes
//!    are rounded and the line through them fitted by least squares.
//! 2. The block's f16 scales follow from the largest of them; each group then takes, of the neighbouring scale and
//!    min codes, those with the least error in truth, all roundings included.
//! 3. With all codes at hand the f16 scales are fitted anew, and 2 is repeated as long as that helps.
//!
//! Rounding is to nearest and no operation is fused, so the bytes are the same on every instruction set.

mod lanes;
mod range;

use crate::formats::float::Float;
use crate::formats::pack::{Found, GROUPS, Pack, VALUES};
use crate::formats::{Format, with_pack};
use crate::rounding::MAGIC;
use half::f16;
use lanes::{Lanes, Vector};

/// How far code ranges are varied around the plain one, to either side, and how many of them there are.
const VARIATION: f32 = 1.0;
const VARIATIONS: i32 = 8;
/// How often the f16 scales of a block are fitted anew at most.
const ROUNDS: usize = 3;

impl Format {
    /// Whether [`quantize`](Self::quantize) can write this format.
    pub fn can_quantize(self) -> bool {
        with_pack!(self, _P => true, float _F => true, only read => false)
    }

    /// Writes finite values as blocks of this format with little squared error, the same bytes on every machine. What is
    /// [too large](Self::too_large) comes back as something else: infinite from a float, smaller from a block, whose scales
    /// are always finite.
    ///
    /// # Panics
    /// When `bytes` does not hold exactly [`row_bytes`](Self::row_bytes) of `values.len()` values, or when the format
    /// [cannot be written](Self::can_quantize).
    pub fn quantize(self, values: &[f32], bytes: &mut [u8]) {
        assert_eq!(self.row_bytes(values.len()), Some(bytes.len()), "{self}: bytes for {} values", values.len());
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = lanes::Avx2::detect() {
            // SAFETY: the token is the proof of the instructions.
            return unsafe { with_avx2(avx2, self, values, bytes) };
        }
        any(lanes::Portable, self, values, bytes);
    }
}

/// The same code, compiled for eight lanes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(avx2: lanes::Avx2, format: Format, values: &[f32], bytes: &mut [u8]) {
    any(avx2, format, values, bytes);
}

#[inline(always)]
fn any<L: Lanes>(l: L, format: Format, values: &[f32], bytes: &mut [u8]) {
    with_pack!(
        format,
        P => blocks::<P, L>(l, values, bytes),
        float F => F::quantize(values, bytes),
        only read => panic!("{format} cannot be written, only read"),
    )
}

#[inline(always)]
fn blocks<P: Pack, L: Lanes>(l: L, values: &[f32], bytes: &mut [u8]) {
    for (values, block) in values.chunks_exact(P::LEN).zip(bytes.chunks_exact_mut(P::BYTES)) {
        block.fill(0);
        P::pack(&search::<P, L>(l, values), block);
    }
}

/// The scale and the min (what is subtracted) of a group, as real numbers.
#[derive(Clone, Copy, Default)]
struct Line {
    scale: f32,
    min: f32,
}

#[inline(always)]
fn search<P: Pack, L: Lanes>(l: L, values: &[f32]) -> Found {
    let (mut plain, mut fitted) = ([Line::default(); GROUPS], [Line::default(); GROUPS]);
    for (g, group) in values.chunks_exact(P::GROUP).enumerate() {
        (plain[g], fitted[g]) = if P::HAS_MIN { with_min::<P, L>(l, group) } else { without_min::<P, L>(l, group) };
    }
    let scales = |lines| {
        let (d, dmin) = shared::<P>(lines);
        (to_f16(d), to_f16(dmin))
    };
    let mut best = settle::<P, L>(l, values, &fitted, scales(&fitted));
    // The plain line is the better start for rows of a few large values, and the usual choice for large code ranges.
    let other = settle::<P, L>(l, values, &plain, scales(&plain));
    if other.error < best.error {
        best = other;
    }
    for _ in 0..ROUNDS {
        let (d, dmin) = refit::<P, L>(l, values, &best);
        let mut lines = [Line::default(); GROUPS];
        for (g, line) in lines.iter_mut().enumerate().take(P::LEN / P::GROUP) {
            *line =
                Line { scale: d.to_f32() * f32::from(best.scales[g]), min: dmin.to_f32() * f32::from(best.mins[g]) };
        }
        let next = settle::<P, L>(l, values, &lines, (d, dmin));
        if next.error < best.error {
            best = next;
        } else {
            break;
        }
    }
    best
}

/// The plain and the fitted line of a group whose codes lie around zero.
#[inline(always)]
fn without_min<P: Pack, L: Lanes>(l: L, group: &[f32]) -> (Line, Line) {
    let largest = group.iter().fold(0f32, |largest, x| if x.abs() > largest.abs() { *x } else { largest });
    if largest == 0.0 {
        return Default::default();
    }
    let (low, high) = P::RANGE;
    let plain = Line { scale: largest / low, min: 0.0 };
    let (mut best, mut scale) = (f32::NEG_INFINITY, plain.scale);
    for step in -VARIATIONS..=VARIATIONS {
        let inverse = (low - VARIATION * step as f32 / VARIATIONS as f32) / largest;
        let (mut xl, mut ll) = (l.splat(0.0), l.splat(0.0));
        for x in group.as_chunks().0 {
            let x = l.load(x);
            let code = round(l, x.mul(l.splat(inverse)), low, high);
            xl = xl.add(x.mul(code));
            ll = ll.add(code.mul(code));
        }
        let (xl, ll) = (xl.sum(), ll.sum());
        // The fit takes this much off the sum of squares.
        let gain = xl * xl / ll;
        if gain > best {
            (best, scale) = (gain, xl / ll);
        }
    }
    (plain, Line { scale, min: 0.0 })
}

/// The plain and the fitted line of a group whose codes start at zero.
#[inline(always)]
fn with_min<P: Pack, L: Lanes>(l: L, group: &[f32]) -> (Line, Line) {
    let least = group.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Min codes have no sign where they are codes.
    let least = if P::MINS > 1 { least.min(0.0) } else { least };
    let high = P::RANGE.1;
    let plain = Line { scale: (largest - least) / high, min: -least };
    if plain.scale <= 0.0 {
        return (Line { scale: 0.0, ..plain }, Line { scale: 0.0, ..plain });
    }
    let (mut best, mut line) = (f32::INFINITY, plain);
    let n = group.len() as f32;
    for step in -VARIATIONS..=VARIATIONS {
        let inverse = (high + VARIATION * step as f32 / VARIATIONS as f32) / (largest - least);
        // Counted from the least value, so that sums cancel little.
        let [mut y1, mut y2, mut yl, mut l1, mut l2] = [l.splat(0.0); 5];
        for x in group.as_chunks().0 {
            let y = l.load(x).sub(l.splat(least));
            let code = round(l, y.mul(l.splat(inverse)), 0.0, high);
            y1 = y1.add(y);
            y2 = y2.add(y.mul(y));
            yl = yl.add(y.mul(code));
            l1 = l1.add(code);
            l2 = l2.add(code.mul(code));
        }
        let [y1, y2, yl, l1, l2] = [y1, y2, yl, l1, l2].map(Vector::sum);
        let determinant = n * l2 - l1 * l1;
        if determinant <= 0.0 {
            continue;
        }
        let mut scale = (n * yl - y1 * l1) / determinant;
        let mut above = (l2 * y1 - l1 * yl) / determinant;
        if P::MINS > 1 && least + above > 0.0 {
            above = -least;
            scale = (yl - above * l1) / l2;
        }
        let error = y2 + scale * scale * l2 + n * above * above + 2.0 * (scale * above * l1 - scale * yl - above * y1);
        if error < best {
            (best, line) = (error, Line { scale, min: -(least + above) });
        }
    }
    (plain, line)
}

/// The scales of a block with which the largest line has the largest code.
#[inline(always)]
fn shared<P: Pack>(lines: &[Line; GROUPS]) -> (f32, f32) {
    let largest = |of: fn(&Line) -> f32| {
        lines[..P::LEN / P::GROUP]
            .iter()
            .map(of)
            .fold(0f32, |largest, x| if x.abs() > largest.abs() { x } else { largest })
    };
    // A range around zero reaches one further below.
    let (low, high) = P::SCALES;
    let end = if low < 0 { low } else { high };
    (largest(|line| line.scale) / end as f32, largest(|line| line.min) / P::MINS.max(1) as f32)
}

/// The codes with the least error for given f16 scales, near the given lines.
#[inline(always)]
fn settle<P: Pack, L: Lanes>(l: L, values: &[f32], lines: &[Line; GROUPS], (d, dmin): (f16, f16)) -> Found {
    let mut found = Found { d, dmin, scales: [0; GROUPS], mins: [0; GROUPS], codes: [0; VALUES], error: 0.0 };
    let (d, dmin) = (d.to_f32(), dmin.to_f32());
    let near = |value: f32, unit: f32, (low, high): (i32, i32)| {
        let code = if unit == 0.0 { low.max(0) } else { (value / unit).round_ties_even() as i32 };
        let code = code.clamp(low, high);
        (code - 1).max(low)..=(code + 1).min(high)
    };
    for (g, group) in values.chunks_exact(P::GROUP).enumerate() {
        let mut best = (f32::INFINITY, 0, 0);
        for scale in near(lines[g].scale, d, P::SCALES) {
            let unit = d * scale as f32;
            // Rounding the scale moves the min that suits: by how much the values come back too large on average.
            let suited = match P::MINS {
                0 => 0.0,
                _ => lines[g].min + misfit::<P, L>(l, group, unit, lines[g].min).1 / group.len() as f32,
            };
            // Where the f16 is the min itself, its code is 1 always.
            for min in near(suited, dmin, (i32::from(P::MINS == 1), P::MINS)) {
                let (error, _) = misfit::<P, L>(l, group, unit, dmin * min as f32);
                if error < best.0 {
                    best = (error, scale, min);
                }
            }
        }
        let (error, scale, min) = best;
        found.scales[g] = scale as i8;
        found.mins[g] = min as u8;
        found.error += error;
        encode::<P, L>(l, group, d * scale as f32, dmin * min as f32, &mut found.codes[g * P::GROUP..][..P::GROUP]);
    }
    found
}

/// How a group comes back from its nearest codes: the sum of squared differences and the sum of differences.
#[inline(always)]
fn misfit<P: Pack, L: Lanes>(l: L, group: &[f32], scale: f32, min: f32) -> (f32, f32) {
    let (low, high) = P::RANGE;
    let (inverse, scale, min) = (l.splat(inverse(scale)), l.splat(scale), l.splat(min));
    let (mut squares, mut sum) = (l.splat(0.0), l.splat(0.0));
    for x in group.as_chunks().0 {
        let x = l.load(x);
        let difference = round(l, x.add(min).mul(inverse), low, high).mul(scale).sub(min).sub(x);
        squares = squares.add(difference.mul(difference));
        sum = sum.add(difference);
    }
    (squares.sum(), sum.sum())
}

/// The nearest codes of a group.
#[inline(always)]
fn encode<P: Pack, L: Lanes>(l: L, group: &[f32], scale: f32, min: f32, codes: &mut [i8]) {
    let (low, high) = P::RANGE;
    let inverse = l.splat(inverse(scale));
    for (x, codes) in group.as_chunks().0.iter().zip(codes.as_chunks_mut::<8>().0) {
        *codes = round(l, l.load(x).add(l.splat(min)).mul(inverse), low, high).store().map(|code| code as i8);
    }
}

#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The f16 scales that fit the codes of a block best.
#[inline(always)]
fn refit<P: Pack, L: Lanes>(l: L, values: &[f32], found: &Found) -> (f16, f16) {
    // Least squares for x = d p - dmin q.
    let (mut pp, mut qq, mut pq, mut xp, mut xq) = (0f32, 0f32, 0f32, 0f32, 0f32);
    for (g, group) in values.chunks_exact(P::GROUP).enumerate() {
        let (scale, q) = (f32::from(found.scales[g]), f32::from(found.mins[g]));
        let [mut x1, mut xl, mut l1, mut l2] = [l.splat(0.0); 4];
        for (x, codes) in group.as_chunks().0.iter().zip(found.codes[g * P::GROUP..].as_chunks::<8>().0) {
            let (x, code) = (l.load(x), l.load(&codes.map(f32::from)));
            x1 = x1.add(x);
            xl = xl.add(x.mul(code));
            l1 = l1.add(code);
            l2 = l2.add(code.mul(code));
        }
        let [x1, xl, l1, l2] = [x1, xl, l1, l2].map(Vector::sum);
        pp += scale * scale * l2;
        xp += scale * xl;
        pq += scale * q * l1;
        qq += q * q * group.len() as f32;
        xq += q * x1;
    }
    let determinant = pp * qq - pq * pq;
    if determinant > 0.0 {
        (to_f16((xp * qq - xq * pq) / determinant), to_f16((xp * pq - xq * pp) / determinant))
    } else if pp > 0.0 {
        (to_f16(xp / pp), found.dmin)
    } else {
        (found.d, found.dmin)
    }
}

/// The nearest whole numbers within a range, halves to even; `low` for NaN. The range lies within ±2^22.
#[inline(always)]
fn round<L: Lanes>(l: L, x: L::V, low: f32, high: f32) -> L::V {
    x.max(l.splat(low)).min(l.splat(high)).add(l.splat(MAGIC)).sub(l.splat(MAGIC))
}

#[inline(always)]
fn to_f16(x: f32) -> f16 {
    f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// A file does not depend on the machine that wrote it.
    #[test]
    fn lanes_of_every_kind_give_the_same_bytes() {
        let mut random = Random(1);
        let values: Vec<f32> = (0..4096)
            .map(|i| {
                // Blocks of different sizes and offsets.
                ((random.next() >> 40) as f32 / 16_777_216.0 - (i / 512) as f32 / 8.0) * 10f32.powi(i / 700 - 3)
            })
            .collect();
        for format in Format::ALL.iter().copied().filter(|format| format.can_quantize()) {
            let mut bytes = vec![0; format.row_bytes(values.len()).expect("whole blocks")];
            any(lanes::Portable, format, &values, &mut bytes);
            let mut dispatched = vec![0xff; bytes.len()];
            format.quantize(&values, &mut dispatched);
            assert!(bytes == dispatched, "{format}");
        }
    }
}
