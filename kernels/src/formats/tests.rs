use super::f16::f16_to_f32;
use super::*;
use crate::random::Random;

#[test]
fn f16_is_exact_for_every_input() {
    for bits in 0..=u16::MAX {
        let (ours, theirs) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32_const());
        assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:#06x}");
    }
}

#[test]
fn blocks_are_what_products_take() {
    for &format in Format::ALL {
        with_block!(format, B => {
            assert!(matches!(B::LEN, 32 | 256) && matches!(B::GROUP, 16 | 32), "{format}");
            assert!(B::CODES.0 <= 0 && B::CODES.1 > 0 && (!B::HAS_MIN || B::CODES.0 == 0), "{format}");
        }, float => assert!(format.is_float()));
    }
}

/// Bytes that make f16 fields zero, subnormal, largest, infinite and NaN, and codes and packed scales extreme.
const EXTREMES: [u8; 6] = [0x00, 0x80, 0x01, 0xff, 0x7b, 0x7c];

/// `dequantize` and `unpack` do the same float operations, only that `unpack` negates a min that `dequantize` subtracts,
/// and negation is exact. So the tolerance is none: every bit agrees, for any bytes at all but those of an infinite scale.
///
/// Gives the largest finite scale or min that was met.
fn unpack_agrees<B: Block>(format: Format) -> f32 {
    let mut random = Random(B::BYTES as u64);
    let groups = B::LEN / B::GROUP;
    let mut largest = 0f32;
    for round in 0..20_000 {
        let extreme = round % 4 == 0;
        let mut byte = || random.next() as u8;
        let block: Vec<u8> =
            (0..B::BYTES).map(|_| if extreme { EXTREMES[usize::from(byte() % 6)] } else { byte() }).collect();
        let mut values = vec![0f32; B::LEN];
        let (mut codes, mut scales) = (vec![0i8; B::LEN], vec![0f32; groups]);
        let mut mins = if B::HAS_MIN { vec![0f32; groups] } else { Vec::new() };
        B::dequantize(&block, &mut values);
        B::unpack(&block, &mut codes, &mut scales, &mut mins);
        if let Some(at) = B::HALF_SCALE {
            let half = f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]));
            assert!(groups == 1 && half.to_bits() == scales[0].to_bits(), "{format}: {half} {scales:?}");
        }
        if let Some(planes) = B::PLANES {
            planes_agree::<B>(&planes, &block, &codes, &scales, &mins);
        }
        let is_short = |scale: &f32| scale.is_nan() || scale.to_bits() & 3 == 0;
        assert!(scales.iter().chain(&mins).all(is_short), "{format}: 22 significant bits at most: {scales:?}");
        let is_small = |scale: &f32| !scale.is_finite() || scale.abs() <= LARGEST_SCALE;
        assert!(scales.iter().chain(&mins).all(is_small), "{format}: {scales:?} {mins:?}");
        largest = scales.iter().chain(&mins).copied().filter(|x| x.is_finite()).fold(largest, |m, x| m.max(x.abs()));
        for i in 0..B::LEN {
            assert!(!B::HAS_MIN || (0..32).contains(&codes[i]), "{format} code {}", codes[i]);
            let product = scales[i / B::GROUP] * f32::from(codes[i]);
            if scales[i / B::GROUP].is_infinite() {
                // Whatever the value, what is made of it is no result.
                assert!(!product.is_finite());
                continue;
            }
            let value = if B::HAS_MIN { product + mins[i / B::GROUP] } else { product };
            assert!(
                value.to_bits() == values[i].to_bits() || value.is_nan() && values[i].is_nan(),
                "{format} round {round} value {i}: unpack {value:e}, dequantize {:e}",
                values[i]
            );
        }
    }
    largest
}

/// What [`Planes`] says of a block is what `unpack` does, with the same float operations: the same bits.
fn planes_agree<B: Block>(planes: &Planes, block: &[u8], codes: &[i8], scales: &[f32], mins: &[f32]) {
    let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
    for (k, &code) in codes.iter().enumerate() {
        let (half, run, within) = (k / 128, k / 32 % 4, k % 32);
        let bits = |from: usize, (first, shift): (usize, u32), bits: u32| {
            let byte = word(from + 4 * (first + within / 4)) >> (8 * (within % 4)) & 0xff;
            byte >> shift & ((1 << bits) - 1)
        };
        let low = bits(planes.low[half], planes.runs[run], planes.low_bits);
        let high = bits(planes.high, planes.high_runs[half][run], planes.high_bits);
        assert_eq!((low | high << planes.low_bits) as i32, i32::from(code) - i32::from(B::CODES.0), "code {k}");
    }
    // Beside another block, so that rows are told apart.
    let other = vec![0; B::BYTES];
    let words = std::array::from_fn(|i| {
        [&other, block].map(|block| u32::from_le_bytes(block[planes.scales + 4 * i..][..4].try_into().expect("four")))
    });
    let d = [&other, block].map(|block| planes.d.map_or(0, |d| u16::from_le_bytes([block[d], block[d + 1]])));
    let mut seen = Vec::new();
    B::unpack_scales::<2>(&words, &d, |group, [other_scale, scale], [_, min]| {
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(other_scale == 0.0 && same(scale, scales[group]), "scale {group}: {scale:e} {:e}", scales[group]);
        assert!(same(min, mins.get(group).copied().unwrap_or(0.0)), "min {group}: {min:e}");
        seen.push(group);
    });
    assert_eq!(seen, (0..scales.len()).collect::<Vec<_>>(), "each group once");
}

#[test]
fn unpack_agrees_with_dequantize() {
    let largest = |format| with_block!(format, B => unpack_agrees::<B>(format), float => 0.0);
    let largest = Format::ALL.iter().copied().map(largest).fold(0.0, f32::max);
    assert_eq!(largest, LARGEST_SCALE, "the bound is no larger than it has to be");
}
