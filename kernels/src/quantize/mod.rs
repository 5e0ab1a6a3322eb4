//! Values to blocks: the way back of [`crate::formats`], for every format but IQ4.
//!
//! A block is found by search for the least squared error, then packed (`pack`). The search is one for all formats:
//!
//! 1. Each group gets the scale and min that fit it best by itself: for several code ranges around the plain one, codes
//!    are rounded and the line through them fitted by least squares.
//! 2. The block's f16 scales follow from the largest of them; each group then takes, of the neighbouring scale and
//!    min codes, those with the least error in truth, all roundings included.
//! 3. With all codes at hand the f16 scales are fitted anew, and 2 is repeated as long as that helps.
//!
//! Rounding is to nearest and no operation is fused, so the bytes are the same on every instruction set.

mod pack;

use crate::formats::Format;
use half::{bf16, f16};
use pack::Pack;

/// The most groups and values of a block.
const GROUPS: usize = 16;
const VALUES: usize = 256;
/// How far code ranges are varied around the plain one, to either side, and how many of them there are.
const VARIATION: f32 = 1.0;
const VARIATIONS: i32 = 8;
/// How often the f16 scales of a block are fitted anew at most.
const ROUNDS: usize = 3;

/// A block before its bits are packed: `value = d * scale * code - dmin * min`.
#[derive(Clone)]
struct Found {
    d: f16,
    dmin: f16,
    scales: [i8; GROUPS],
    mins: [u8; GROUPS],
    codes: [i8; VALUES],
    /// The sum of squared differences.
    error: f32,
}

impl Format {
    /// Whether [`quantize`](Self::quantize) can write this format.
    pub fn can_quantize(self) -> bool {
        !matches!(self, Format::IQ4_NL | Format::IQ4_XS)
    }

    /// Writes finite values as blocks of this format with little squared error, the same bytes on every machine. Scales
    /// beyond the range of f16 become its largest number.
    ///
    /// # Panics
    /// When `bytes` does not hold exactly [`row_bytes`](Self::row_bytes) of `values.len()` values, or when the format
    /// [cannot be written](Self::can_quantize).
    pub fn quantize(self, values: &[f32], bytes: &mut [u8]) {
        assert_eq!(self.row_bytes(values.len()), Some(bytes.len()), "{self}: bytes for {} values", values.len());
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has AVX2, and the operating system keeps its registers.
            return unsafe { avx2(self, values, bytes) };
        }
        any(self, values, bytes);
    }
}

/// The same code, compiled for eight lanes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(format: Format, values: &[f32], bytes: &mut [u8]) {
    any(format, values, bytes);
}

#[inline(always)]
fn any(format: Format, values: &[f32], bytes: &mut [u8]) {
    match format {
        Format::F32 => store(values, bytes, f32::to_le_bytes),
        Format::F16 => store(values, bytes, |x| f16::from_f32(x).to_le_bytes()),
        Format::BF16 => store(values, bytes, |x| bf16::from_f32(x).to_le_bytes()),
        Format::Q4_0 => blocks::<pack::Q4_0>(values, bytes),
        Format::Q4_1 => blocks::<pack::Q4_1>(values, bytes),
        Format::Q5_0 => blocks::<pack::Q5_0>(values, bytes),
        Format::Q5_1 => blocks::<pack::Q5_1>(values, bytes),
        Format::Q8_0 => blocks::<pack::Q8_0>(values, bytes),
        Format::Q2_K => blocks::<pack::Q2_K>(values, bytes),
        Format::Q3_K => blocks::<pack::Q3_K>(values, bytes),
        Format::Q4_K => blocks::<pack::Q4_K>(values, bytes),
        Format::Q5_K => blocks::<pack::Q5_K>(values, bytes),
        Format::Q6_K => blocks::<pack::Q6_K>(values, bytes),
        Format::IQ4_NL | Format::IQ4_XS => panic!("{format} cannot be written, only read"),
    }
}

#[inline(always)]
fn store<const N: usize>(values: &[f32], bytes: &mut [u8], to_bytes: impl Fn(f32) -> [u8; N]) {
    for (value, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
        *bytes = to_bytes(*value);
    }
}

#[inline(always)]
fn blocks<P: Pack>(values: &[f32], bytes: &mut [u8]) {
    for (values, block) in values.chunks_exact(P::LEN).zip(bytes.chunks_exact_mut(P::BYTES)) {
        block.fill(0);
        P::pack(&search::<P>(values), block);
    }
}

/// The scale and the min (what is subtracted) of a group, as real numbers.
#[derive(Clone, Copy, Default)]
struct Line {
    scale: f32,
    min: f32,
}

#[inline(always)]
fn search<P: Pack>(values: &[f32]) -> Found {
    let (mut plain, mut fitted) = ([Line::default(); GROUPS], [Line::default(); GROUPS]);
    for (g, group) in values.chunks_exact(P::GROUP).enumerate() {
        (plain[g], fitted[g]) = if P::HAS_MIN { with_min::<P>(group) } else { without_min::<P>(group) };
    }
    let mut best = settle::<P>(values, &fitted, shared::<P>(&fitted));
    // The plain line is the better start for rows of a few large values, and the usual choice for large code ranges.
    let other = settle::<P>(values, &plain, shared::<P>(&plain));
    if other.error < best.error {
        best = other;
    }
    for _ in 0..ROUNDS {
        let (d, dmin) = refit::<P>(values, &best);
        let mut lines = [Line::default(); GROUPS];
        for (g, line) in lines.iter_mut().enumerate().take(P::LEN / P::GROUP) {
            *line =
                Line { scale: d.to_f32() * f32::from(best.scales[g]), min: dmin.to_f32() * f32::from(best.mins[g]) };
        }
        let next = settle::<P>(values, &lines, (d, dmin));
        if next.error >= best.error {
            break;
        }
        best = next;
    }
    best
}

/// The plain and the fitted line of a group whose codes lie around zero.
#[inline(always)]
fn without_min<P: Pack>(group: &[f32]) -> (Line, Line) {
    let largest = group.iter().fold(0f32, |largest, x| if x.abs() > largest.abs() { *x } else { largest });
    if largest == 0.0 {
        return Default::default();
    }
    let (low, high) = P::RANGE;
    let plain = Line { scale: largest / low, min: 0.0 };
    let (mut best, mut scale) = (f32::NEG_INFINITY, plain.scale);
    for step in -VARIATIONS..=VARIATIONS {
        let inverse = (low - VARIATION * step as f32 / VARIATIONS as f32) / largest;
        let (mut xl, mut ll) = ([0f32; 8], [0f32; 8]);
        for x in group.as_chunks::<8>().0 {
            for i in 0..8 {
                let code = round(x[i] * inverse, low, high);
                xl[i] += x[i] * code;
                ll[i] += code * code;
            }
        }
        let (xl, ll) = (sum(xl), sum(ll));
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
fn with_min<P: Pack>(group: &[f32]) -> (Line, Line) {
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
        let (mut y1, mut yl, mut l1, mut l2, mut y2) = ([0f32; 8], [0f32; 8], [0f32; 8], [0f32; 8], [0f32; 8]);
        for x in group.as_chunks::<8>().0 {
            for i in 0..8 {
                let y = x[i] - least;
                let code = round(y * inverse, 0.0, high);
                y1[i] += y;
                y2[i] += y * y;
                yl[i] += y * code;
                l1[i] += code;
                l2[i] += code * code;
            }
        }
        let (y1, y2, yl, l1, l2) = (sum(y1), sum(y2), sum(yl), sum(l1), sum(l2));
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

/// The f16 scales of a block with which the largest line has the largest code.
#[inline(always)]
fn shared<P: Pack>(lines: &[Line; GROUPS]) -> (f16, f16) {
    let largest = |of: fn(&Line) -> f32| {
        lines[..P::LEN / P::GROUP]
            .iter()
            .map(of)
            .fold(0f32, |largest, x| if x.abs() > largest.abs() { x } else { largest })
    };
    // A range around zero reaches one further below.
    let (low, high) = P::SCALES;
    let end = if low < 0 { low } else { high };
    (to_f16(largest(|line| line.scale) / end as f32), to_f16(largest(|line| line.min) / P::MINS.max(1) as f32))
}

/// The codes with the least error for given f16 scales, near the given lines.
#[inline(always)]
fn settle<P: Pack>(values: &[f32], lines: &[Line; GROUPS], (d, dmin): (f16, f16)) -> Found {
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
            // The min that suits the codes of this scale: rounding the scale moves it.
            let suited = lines[g].min + P::MINS.min(1) as f32 * drift::<P>(group, d * scale as f32, lines[g].min);
            // Where the f16 is the min itself, its code is 1 always.
            for min in near(suited, dmin, (i32::from(P::MINS == 1), P::MINS)) {
                let error = encode::<P>(group, d * scale as f32, dmin * min as f32, None);
                if error < best.0 {
                    best = (error, scale, min);
                }
            }
        }
        let (_, scale, min) = best;
        found.scales[g] = scale as i8;
        found.mins[g] = min as u8;
        let codes = &mut found.codes[g * P::GROUP..][..P::GROUP];
        found.error += encode::<P>(group, d * scale as f32, dmin * min as f32, Some(codes));
    }
    found
}

/// The nearest codes of a group, and the sum of squared differences.
#[inline(always)]
fn encode<P: Pack>(group: &[f32], scale: f32, min: f32, codes: Option<&mut [i8]>) -> f32 {
    let (low, high) = P::RANGE;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    if let Some(codes) = codes {
        for (x, code) in group.iter().zip(codes) {
            *code = round((x + min) * inverse, low, high) as i8;
        }
    }
    let mut errors = [0f32; 8];
    for x in group.as_chunks::<8>().0 {
        for i in 0..8 {
            let error = round((x[i] + min) * inverse, low, high) * scale - min - x[i];
            errors[i] += error * error;
        }
    }
    sum(errors)
}

/// By how much the values that come back are too large on average.
#[inline(always)]
fn drift<P: Pack>(group: &[f32], scale: f32, min: f32) -> f32 {
    let (low, high) = P::RANGE;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut drifts = [0f32; 8];
    for x in group.as_chunks::<8>().0 {
        for i in 0..8 {
            drifts[i] += round((x[i] + min) * inverse, low, high) * scale - min - x[i];
        }
    }
    sum(drifts) / group.len() as f32
}

/// The f16 scales that fit the codes of a block best.
#[inline(always)]
fn refit<P: Pack>(values: &[f32], found: &Found) -> (f16, f16) {
    // Least squares for x = d p - dmin q.
    let (mut pp, mut qq, mut pq, mut xp, mut xq) = (0f32, 0f32, 0f32, 0f32, 0f32);
    for (g, group) in values.chunks_exact(P::GROUP).enumerate() {
        let (scale, q) = (f32::from(found.scales[g]), f32::from(found.mins[g]));
        let (mut x1, mut xl, mut l1, mut l2) = (0f32, 0f32, 0f32, 0f32);
        for (x, code) in group.iter().zip(&found.codes[g * P::GROUP..]) {
            let code = f32::from(*code);
            x1 += x;
            xl += x * code;
            l1 += code;
            l2 += code * code;
        }
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

/// The nearest whole number within a range, halves to even; `low` for NaN. The range lies within ±2^22.
#[inline(always)]
fn round(x: f32, low: f32, high: f32) -> f32 {
    const ONES: f32 = 12_582_912.0; // 1.5 * 2^23: a float of this size has no fraction
    (x.max(low).min(high) + ONES) - ONES
}

#[inline(always)]
fn sum(lanes: [f32; 8]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[inline(always)]
fn to_f16(x: f32) -> f16 {
    f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}
