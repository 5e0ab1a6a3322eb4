//! Row-wise float operations: RMSNorm, per-head norm with rotary embedding, the SwiGLU product.

use crate::cpu::simd::Simd;

/// Runs the body for each vector of a row of `len` floats, with `$i` its offset: whole vectors first, then what remains.
/// `$load(p)` and `$store(p, x)` read and write at `p + $i`.
///
/// A macro because a closure is a function of its own, compiled without the instruction set of its caller: whatever the
/// compiler then fails to inline calls every intrinsic as a function.
///
/// Expands to unsafe code: every slice that is loaded from or stored to must hold `len` floats.
macro_rules! sweep {
    ($s:expr, $len:expr, |$i:ident, $load:ident, $store:ident| $body:block) => {{
        let (s, len) = ($s, $len);
        let whole = len / S::LANES * S::LANES;
        let mut $i = 0;
        while $i < whole {
            #[allow(unused_macros)]
            macro_rules! $load {
                ($p:expr) => {
                    s.load($p.as_ptr().add($i))
                };
            }
            #[allow(unused_macros)]
            macro_rules! $store {
                ($p:expr, $x:expr) => {{
                    let x = $x;
                    s.store($p.as_mut_ptr().add($i), x)
                }};
            }
            $body
            $i += S::LANES;
        }
        if whole < len {
            let rest = len - whole;
            #[allow(unused_macros)]
            macro_rules! $load {
                ($p:expr) => {
                    s.load_tail($p.as_ptr().add($i), rest)
                };
            }
            #[allow(unused_macros)]
            macro_rules! $store {
                ($p:expr, $x:expr) => {{
                    let x = $x;
                    s.store_tail($p.as_mut_ptr().add($i), rest, x)
                }};
            }
            $body
        }
    }};
}

/// 1 / sqrt(mean(x²) + eps); NaN when the squares overflow, as the zero that follows from it would hide that.
#[inline(always)]
fn inverse_rms<S: Simd>(s: S, x: &[f32], eps: f32) -> f32 {
    let mut acc = s.splat(0.0);
    // SAFETY: x is as long as it is.
    unsafe {
        sweep!(s, x.len(), |i, load, store| {
            let v = load!(x);
            acc = s.fma(v, v, acc);
        });
    }
    let sum = s.sum(acc);
    if sum == f32::INFINITY {
        return f32::NAN;
    }
    1.0 / (sum / x.len() as f32 + eps).sqrt()
}

/// `out = x / rms(x) * weight`, all of one length.
#[inline(always)]
pub(crate) fn rms_norm<S: Simd>(s: S, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len());
    let scale = s.splat(inverse_rms(s, x, eps));
    // SAFETY: three slices of one length, by the assertion.
    unsafe {
        sweep!(s, x.len(), |i, load, store| { store!(out, s.mul(s.mul(load!(x), scale), load!(weight))) });
    }
}

/// RMSNorm of one head, then NeoX rotary embedding, in place: the halves `a`, `b` of the normed head become
/// `a·cos − b·sin` and `b·cos + a·sin`. `cos` and `sin` hold head_dim / 2 values of the token's position.
#[inline(always)]
pub(crate) fn norm_rope<S: Simd>(s: S, head: &mut [f32], weight: &[f32], eps: f32, cos: &[f32], sin: &[f32]) {
    let half = head.len() / 2;
    assert!(head.len() == 2 * half && weight.len() == head.len() && cos.len() == half && sin.len() == half);
    let scale = s.splat(inverse_rms(s, head, eps));
    let (first, second) = head.split_at_mut(half);
    let (first_weight, second_weight) = weight.split_at(half);
    // SAFETY: six slices of `half` floats, by the assertion.
    unsafe {
        sweep!(s, half, |i, load, store| {
            let a = s.mul(s.mul(load!(first), scale), load!(first_weight));
            let b = s.mul(s.mul(load!(second), scale), load!(second_weight));
            let (c, sn) = (load!(cos), load!(sin));
            store!(first, s.sub(s.mul(a, c), s.mul(b, sn)));
            store!(second, s.fma(b, c, s.mul(a, sn)));
        });
    }
}

/// `out = silu(gate) * up` with silu(g) = g / (1 + e^−g), all of one length.
#[inline(always)]
pub(crate) fn silu_mul<S: Simd>(s: S, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len());
    let one = s.splat(1.0);
    let minus_log2e = s.splat(-std::f32::consts::LOG2_E);
    // SAFETY: three slices of one length, by the assertion.
    unsafe {
        sweep!(s, gate.len(), |i, load, store| {
            let g = load!(gate);
            let silu = s.div(g, s.add(one, s.exp2(s.mul(g, minus_log2e))));
            store!(out, s.mul(silu, load!(up)));
        });
    }
}
