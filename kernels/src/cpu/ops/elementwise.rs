//! Row-wise float operations: RMSNorm, per-head norm with rotary embedding, the SwiGLU product.

use crate::cpu::simd::Simd;

/// Calls `full(offset)` for each whole vector of a row of `len` floats and `tail(offset, n)` for what remains.
#[inline(always)]
fn sweep<S: Simd>(_: S, len: usize, mut full: impl FnMut(usize), tail: impl FnOnce(usize, usize)) {
    let whole = len / S::LANES * S::LANES;
    let mut i = 0;
    while i < whole {
        full(i);
        i += S::LANES;
    }
    if whole < len {
        tail(whole, len - whole);
    }
}

/// 1 / sqrt(mean(x²) + eps); NaN when the squares overflow, as the zero that follows from it would hide that.
#[inline(always)]
fn inverse_rms<S: Simd>(s: S, x: &[f32], eps: f32) -> f32 {
    let p = x.as_ptr();
    let mut acc = s.splat(0.0);
    let mut rest = s.splat(0.0);
    sweep(
        s,
        x.len(),
        |i| {
            // SAFETY: `sweep` gives offsets of whole vectors inside x.
            let v = unsafe { s.load(p.add(i)) };
            acc = s.fma(v, v, acc);
        },
        |i, n| {
            // SAFETY: `sweep` gives the n floats after the last whole vector of x.
            rest = unsafe { s.load_tail(p.add(i), n) };
        },
    );
    acc = s.fma(rest, rest, acc);
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
    let (px, pw, po) = (x.as_ptr(), weight.as_ptr(), out.as_mut_ptr());
    sweep(
        s,
        x.len(),
        // SAFETY: `sweep` gives offsets of whole vectors inside the three slices of equal length.
        |i| unsafe { s.store(po.add(i), s.mul(s.mul(s.load(px.add(i)), scale), s.load(pw.add(i)))) },
        // SAFETY: likewise, the n floats after the last whole vector.
        |i, n| unsafe {
            let v = s.mul(s.mul(s.load_tail(px.add(i), n), scale), s.load_tail(pw.add(i), n));
            s.store_tail(po.add(i), n, v);
        },
    );
}

/// RMSNorm of one head, then NeoX rotary embedding, in place: the halves `a`, `b` of the normed head become
/// `a·cos − b·sin` and `b·cos + a·sin`. `cos` and `sin` hold head_dim / 2 values of the token's position.
#[inline(always)]
pub(crate) fn norm_rope<S: Simd>(s: S, head: &mut [f32], weight: &[f32], eps: f32, cos: &[f32], sin: &[f32]) {
    let half = head.len() / 2;
    assert!(head.len() == 2 * half && weight.len() == head.len() && cos.len() == half && sin.len() == half);
    let scale = s.splat(inverse_rms(s, head, eps));
    let (ph, pw, pc, ps) = (head.as_mut_ptr(), weight.as_ptr(), cos.as_ptr(), sin.as_ptr());
    let rotate = |a, b, wa, wb, c, sn| {
        let a = s.mul(s.mul(a, scale), wa);
        let b = s.mul(s.mul(b, scale), wb);
        (s.sub(s.mul(a, c), s.mul(b, sn)), s.fma(b, c, s.mul(a, sn)))
    };
    sweep(
        s,
        half,
        // SAFETY: whole vectors inside each half of head and weight, and inside cos and sin.
        |i| unsafe {
            let (a, b) = rotate(
                s.load(ph.add(i)),
                s.load(ph.add(half + i)),
                s.load(pw.add(i)),
                s.load(pw.add(half + i)),
                s.load(pc.add(i)),
                s.load(ps.add(i)),
            );
            s.store(ph.add(i), a);
            s.store(ph.add(half + i), b);
        },
        // SAFETY: likewise, the n floats after the last whole vector of each half.
        |i, n| unsafe {
            let (a, b) = rotate(
                s.load_tail(ph.add(i), n),
                s.load_tail(ph.add(half + i), n),
                s.load_tail(pw.add(i), n),
                s.load_tail(pw.add(half + i), n),
                s.load_tail(pc.add(i), n),
                s.load_tail(ps.add(i), n),
            );
            s.store_tail(ph.add(i), n, a);
            s.store_tail(ph.add(half + i), n, b);
        },
    );
}

/// `out = silu(gate) * up` with silu(g) = g / (1 + e^−g), all of one length.
#[inline(always)]
pub(crate) fn silu_mul<S: Simd>(s: S, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len());
    let (pg, pu, po) = (gate.as_ptr(), up.as_ptr(), out.as_mut_ptr());
    let one = s.splat(1.0);
    let minus_log2e = s.splat(-std::f32::consts::LOG2_E);
    let f = |g, u| s.mul(s.div(g, s.add(one, s.exp2(s.mul(g, minus_log2e)))), u);
    sweep(
        s,
        gate.len(),
        // SAFETY: whole vectors inside the three slices of equal length.
        |i| unsafe { s.store(po.add(i), f(s.load(pg.add(i)), s.load(pu.add(i)))) },
        // SAFETY: likewise, the n floats after the last whole vector.
        |i, n| unsafe {
            let v = f(s.load_tail(pg.add(i), n), s.load_tail(pu.add(i), n));
            s.store_tail(po.add(i), n, v);
        },
    );
}
