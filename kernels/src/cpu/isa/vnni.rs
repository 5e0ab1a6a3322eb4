//! Products by `vpdpbusd` and `vpdpwssd`, for vectors of either width: AVX-VNNI (256 bits) and AVX-512 VNNI (512 bits).
//!
//! `vpdpbusd` adds four products of an unsigned and a signed byte to each 32-bit lane, without saturation. Weights are
//! its unsigned operand: signed codes get 128 added; the surplus, 128 · Σ activation codes, is what `UniformCodes::biases` holds with
//! its sign turned: a sum starts from there, at no cost.
//!
//! Multipliers, of integers and floats alike, limit the speed: besides the products of a group, each of its sums costs a
//! float instruction to scale it and one to add it, and with a min one more. So all weights become codes with one scale for each
//! 32 values and no min (`panel::uniform`); those of formats that have it so stay as they are. What the codes leave of the mins of 16 groups
//! meets the means of the groups' activations, as one group more of half the size.
//!
//! A conversion would be one instruction more. So sums start at the bits of [`MAGIC`] and end as the bits of the float
//! MAGIC + n, |n| <= 32 · 128 · 127 < 2^22. The fused `scale · (MAGIC + n) − scale · MAGIC` rounds but once, to `scale · n`:
//! its second product is exact, as scales have at most 22 significant bits, and finite, as they are small enough: both by the
//! contract of a `Block`, so no file has to be looked through for it.
//!
//! High precision takes `vpdpwssd` instead, two 16-bit products to a lane at half the speed, in the groups of the formats.
//!
//! Panel layout: for every lane of values, the lanes of the 32 rows side by side: `[len / 4][32][4]` bytes, one tile after
//! the other, or `[len / 2][32][2]` 16-bit integers, whose sums are exact: 32 · 128 · 32767 < 2^27.

/// Runs `$tile!($operands, [rows])` for as many of six rows as there are.
macro_rules! by_rows {
    ($tile:ident, $operands:ident, $rows:expr, $a:tt $b:tt $c:tt $d:tt $e:tt $f:tt) => {
        match $rows {
            1 => $tile!($operands, [$a]),
            2 => $tile!($operands, [$a $b]),
            3 => $tile!($operands, [$a $b $c]),
            4 => $tile!($operands, [$a $b $c $d]),
            5 => $tile!($operands, [$a $b $c $d $e]),
            _ => $tile!($operands, [$a $b $c $d $e $f]),
        }
    };
}

/// 16 values of K: `$products!(offset in weights, offset in activations, rows)` for each four. The means of a part's groups are so many.
macro_rules! half_group {
    ($products:ident, $rows:tt) => {
        concat!(
            $products!("0*128", "0", $rows),
            $products!("1*128", "4", $rows),
            $products!("2*128", "8", $rows),
            $products!("3*128", "12", $rows),
        )
    };
}

/// The same for the 32 values of a group.
macro_rules! group {
    ($products:ident, $rows:tt) => {
        concat!(
            half_group!($products, $rows),
            $products!("4*128", "16", $rows),
            $products!("5*128", "20", $rows),
            $products!("6*128", "24", $rows),
            $products!("7*128", "28", $rows),
        )
    };
}

pub(super) mod i8_256;
pub(super) mod i8_512;

use super::kernel::row_blocks;
use crate::cpu::activations::{Activations, Codes, GROUP, UniformCodes};
use crate::cpu::output::Output;
use crate::cpu::panel::planes::fours;
use crate::cpu::panel::uniform::{Recode, UNIFORM_CODES, UNIFORM_SCALES, Uniform, twice};
use crate::cpu::panel::{CHUNK, GROUPS, Panel, TILE, TileRows};
use crate::cpu::simd::{DotI16, IntLanes, Simd};
use crate::formats::Block;
use std::ops::Range;

/// Of each byte the sign bit: xor with it adds 128 to a signed byte.
const SIGNS: i32 = 0x8080_8080u32 as i32;

/// Takes the codes of a tile, straight from the file, to part `tile` of `panel.codes`, as unsigned bytes: see `uniform::unpack`. For a
/// format with planes.
#[inline(always)]
pub(super) fn interleave_planes<S: IntLanes, B: Block>(
    s: S,
    panel: &mut Panel,
    all: TileRows,
    tile: usize,
    (first, len): (usize, usize),
) {
    let Panel { codes, own, .. } = panel;
    let plan = Plan::new(s, own.get());
    let to = codes[tile * UNIFORM_CODES..][..UNIFORM_CODES].as_mut_ptr().cast::<i32>();
    // SAFETY: `fours` gives groups and rows of a panel.
    let plan = |group: usize, row: usize| unsafe { plan.at(s, group, row) };
    // SAFETY: lane k / 4 of LANES rows, inside of `to`.
    let store = |k: usize, row: usize, four| unsafe { s.store_int(to.add(k / 4 * TILE + row), four) };
    if B::GROUP == GROUP {
        fours::<_, B, _>(s, all, tile, (first, len), plan, |(_, offset), four| s.add_i8(four, offset), store);
    } else {
        fours::<_, B, _>(s, all, tile, (first, len), plan, |plan, four| round(s, plan, four), store);
    }
}

/// Rearranges `panel.rows` into part `tile` of `panel.codes`, as unsigned bytes.
#[inline(always)]
pub(super) fn interleave_i8<S: IntLanes>(s: S, panel: &mut Panel, tile: usize, len: usize, recode: Recode) {
    let Panel { rows, codes, own, group, range, .. } = panel;
    let (plan, group) = (Plan::new(s, own.get()), *group);
    assert!(group * GROUPS >= CHUNK);
    let codes = &mut codes[tile * UNIFORM_CODES..][..UNIFORM_CODES];
    let from_lowest = s.splat_int((-i32::from(range.0)).wrapping_mul(0x0101_0101));
    // SAFETY: `interleave` gives it places where 4 · LANES codes can be read, and groups and rows of a panel.
    let (load, plan) = (|p| unsafe { s.load_int(p) }, |k: usize, row| unsafe { plan.at(s, k / group, row) });
    match recode {
        Recode::Keep => {
            interleave::<_, 4>(s, rows, codes, len, |p| s.xor(load(p), s.splat_int(SIGNS)), |_, _, four| four)
        }
        Recode::Add => interleave::<_, 4>(s, rows, codes, len, load, |k, row, four| s.add_i8(four, plan(k, row).1)),
        Recode::Round => {
            let load = |p| s.add_i8(load(p), from_lowest);
            interleave::<_, 4>(s, rows, codes, len, load, |k, row, four| round(s, plan(k, row), four))
        }
    }
}

/// Where the factors and offsets of a [`Recode`] are.
struct Plan {
    factors: *const i32,
    offsets: *const i32,
}

impl Plan {
    #[inline(always)]
    fn new<S: IntLanes>(_: S, uniform: &Uniform) -> Self {
        let Uniform { factors, offsets, .. } = uniform;
        assert!(factors.len() == TILE * GROUPS && offsets.len() == TILE * GROUPS && TILE.is_multiple_of(S::LANES));
        Self { factors: factors.as_ptr(), offsets: offsets.as_ptr() }
    }

    /// The factor and the offset of a group of each of LANES rows.
    ///
    /// # Safety
    /// `group` is below [`GROUPS`], the rows are those of a tile, and `Uniform` is as it was.
    #[inline(always)]
    unsafe fn at<S: IntLanes>(&self, s: S, group: usize, row: usize) -> (S::I, S::I) {
        let at = group * TILE + row;
        // SAFETY: the caller's promise.
        unsafe { (s.load_int(self.factors.add(at)), s.load_int(self.offsets.add(at))) }
    }
}

/// [`Recode::Round`] of four codes a lane.
#[inline(always)]
fn round<S: IntLanes>(s: S, (factor, offset): (S::I, S::I), four: S::I) -> S::I {
    let new = |codes| s.add_i16(s.mul_i16(codes, factor), offset);
    let (even, odd) = (new(s.and(four, s.splat_int(twice(0xff)))), new(s.upper_bytes(four)));
    s.or(s.upper_bytes(even), s.and(odd, s.splat_int(twice(-256))))
}

/// Rearranges `panel.rows` into `panel.codes`, as 16-bit integers.
#[inline(always)]
pub(super) fn interleave_i16<S: IntLanes>(s: S, panel: &mut Panel, len: usize) {
    // SAFETY: `interleave` gives it places where 2 · LANES codes can be read.
    let load = |p: *const i32| unsafe { s.load_i8_as_i16(p.cast()) };
    interleave::<_, 2>(s, &panel.rows, &mut panel.codes, len, load, |_, _, pair| pair)
}

/// Takes codes of [TILE × CHUNK] bytes to `[len / N][TILE][N]`: transposes LANES rows × LANES lanes of N values at a time.
/// `load` makes a vector of N · LANES codes, `finish(k, row, vector)` what is stored of N values from k on of LANES rows.
#[inline(always)]
fn interleave<S: IntLanes, const N: usize>(
    s: S,
    from: &[i8],
    to: &mut [u8],
    len: usize,
    load: impl Fn(*const i32) -> S::I,
    finish: impl Fn(usize, usize, S::I) -> S::I,
) {
    let lanes = S::LANES;
    assert!(len <= CHUNK && from.len() == TILE * CHUNK && to.len() >= TILE * CHUNK * 4 / N);
    let to = to.as_mut_ptr().cast::<i32>();
    for row in (0..TILE).step_by(lanes) {
        for k in (0..len).step_by(lanes * N) {
            // SAFETY: codes from k on of rows row..row + lanes, as CHUNK is a multiple of 64 (past `len` they are left
            // over from an earlier panel and never used); lanes k / N.. of those rows, inside of `to`.
            unsafe {
                let mut square = [s.splat_int(0); 16];
                for i in 0..lanes {
                    square[i] = load(from.as_ptr().add((row + i) * CHUNK + k).cast());
                }
                s.transpose(&mut square[..lanes]);
                for i in 0..lanes {
                    s.store_int(to.add((k / N + i) * TILE + row), finish(k + i * N, row, square[i]));
                }
            }
        }
    }
}

/// Rows of a register tile, at most: with two vectors of columns each, the sums fill 12 of the 16 registers of AVX.
const ROWS: usize = 6;

/// Tiles of weights at a time, at most: each row of activations comes from the L2 cache once for so many.
pub(super) const TILES: usize = 4;

/// `c += activations · panel` for some rows and two vectors of columns, by `vpdpbusd`.
///
/// Pointers to the first of each, all for one part of a panel: as many steps of 32 values of K as it has.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    steps: usize,
    /// [steps][8][32][4]
    w: *const u8,
    /// [groups][32]
    scales: *const f32,
    /// [rows × a_stride]
    a: *const i8,
    a_stride: usize,
    /// For each group and row, from group to group `stride` bytes: where integer sums start.
    biases: *const i32,
    /// The same for the scales of activations.
    act_scales: *const f32,
    stride: usize,
    /// [rows × c_stride]
    c: *mut f32,
    /// In bytes.
    c_stride: usize,
    /// To what `c` has, instead of setting it, which some cannot.
    add: bool,
    /// Whether another, of [`MEANS`](crate::cpu::activations::MEANS) values, comes after the steps, everywhere.
    rests: bool,
}

/// See `Kernel::gemm`. `add` is one of `i8_256`, `i8_512`, for so many columns; whether it also `sets`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks; `add` may be called.
#[inline(always)]
pub(super) unsafe fn gemm_i8(
    add: unsafe fn(Tile, usize),
    (columns, sets): (usize, bool),
    panel: &Panel,
    activations: &Activations,
    rows: Range<usize>,
    mut output: Output,
) {
    let Panel { first, len, .. } = *panel;
    if !sets || len == 0 {
        output.begin();
    }
    assert!(len.is_multiple_of(GROUP) && first.is_multiple_of(CHUNK), "whole steps of a part");
    if len == 0 || rows.is_empty() {
        return;
    }
    let (uniform, own) = (&activations.i8_uniform, panel.own.get::<Uniform>());
    let group = UniformCodes::group(first);
    for column in (0..output.columns).step_by(columns) {
        let (tile, within) = (column / TILE, column % TILE);
        let codes = &panel.codes[tile * UNIFORM_CODES..][..UNIFORM_CODES];
        let scales = &own.scales[tile * UNIFORM_SCALES..][..UNIFORM_SCALES];
        let blocks_left = (output.columns - column) / columns * rows.len().div_ceil(ROWS);
        for (i, (row, size)) in row_blocks(rows.clone(), ROWS).enumerate() {
            panel.ahead.ask(blocks_left - i);
            // SAFETY: offsets of existing rows, of the panel's values, and inside the panel.
            unsafe {
                let tile = Tile {
                    steps: len / GROUP,
                    w: codes.as_ptr().add(4 * within),
                    scales: scales.as_ptr().add(within),
                    a: uniform.codes.as_ptr().add(row * uniform.row_stride + UniformCodes::place(first)),
                    a_stride: uniform.row_stride,
                    biases: uniform.biases.as_ptr().add(group * activations.stride + row),
                    act_scales: uniform.scales.as_ptr().add(group * activations.stride + row),
                    stride: 4 * activations.stride,
                    c: output.start.add((row - rows.start) * output.stride + column),
                    c_stride: 4 * output.stride,
                    add: output.add,
                    rests: own.rests,
                };
                add(tile, size);
            }
        }
    }
}

/// `c[row][n] += activations · panel`, by `vpdpwssd`; see `Kernel::gemm`.
///
/// # Safety
/// The shapes are those that `Kernel::gemm` checks.
#[inline(always)]
pub(super) unsafe fn gemm_i16<V: DotI16>(
    v: V,
    panel: &Panel,
    activations: &Activations,
    rows: Range<usize>,
    c: &mut [f32],
) {
    // SAFETY: the caller's shapes.
    unsafe {
        if panel.has_min {
            gemm_i16_of::<V, true>(v, panel, activations, rows, c)
        } else {
            gemm_i16_of::<V, false>(v, panel, activations, rows, c)
        }
    }
}

/// # Safety
/// As [`gemm_i16`].
#[inline(always)]
unsafe fn gemm_i16_of<V: DotI16, const MIN: bool>(
    v: V,
    panel: &Panel,
    activations: &Activations,
    rows: Range<usize>,
    c: &mut [f32],
) {
    for (row, size) in row_blocks(rows.clone(), ROWS) {
        let c = c[(row - rows.start) * TILE..].as_mut_ptr();
        for column in (0..TILE).step_by(2 * V::S::LANES) {
            // SAFETY: rows row..row + size of activations and c, two vectors of columns.
            unsafe {
                match size {
                    6 => block::<V, 6, MIN>(v, panel, column, activations, row, c),
                    5 => block::<V, 5, MIN>(v, panel, column, activations, row, c),
                    4 => block::<V, 4, MIN>(v, panel, column, activations, row, c),
                    3 => block::<V, 3, MIN>(v, panel, column, activations, row, c),
                    2 => block::<V, 2, MIN>(v, panel, column, activations, row, c),
                    _ => block::<V, 1, MIN>(v, panel, column, activations, row, c),
                }
            }
        }
    }
}

/// R rows × two vectors of columns.
///
/// # Safety
/// Rows `row..row + R` and columns `column..column + 2 · LANES` exist; the rest as [`gemm_i16`].
#[inline(always)]
unsafe fn block<V: DotI16, const R: usize, const MIN: bool>(
    v: V,
    panel: &Panel,
    column: usize,
    activations: &Activations,
    row: usize,
    c: *mut f32,
) {
    let (s, lanes) = (v.simd(), V::S::LANES);
    let Panel { first, len, group, .. } = *panel;
    let Codes { codes, scales, sums, half_sums, .. } = &activations.i16;
    // SAFETY: offsets of existing rows, of the panel's values, and inside the panel.
    unsafe {
        let mut w = panel.codes.as_ptr().cast::<i32>().add(column);
        let c = c.add(column);
        let per_row = activations.cols / 2;
        let a = codes.as_ptr().cast::<i32>().add(row * per_row + first / 2);
        let sums = if group == 32 { sums.as_ptr() } else { half_sums.as_ptr() };
        let scales = scales.as_ptr().add(first / 32 * activations.stride + row);
        let offset = first / group * activations.stride + row;
        for g in 0..len / group {
            let mut acc = [[s.splat_int(0); 2]; R];
            for lane in 0..group / 2 {
                let (w0, w1) = (s.load_int(w), s.load_int(w.add(lanes)));
                w = w.add(TILE);
                for r in 0..R {
                    let x = s.splat_int(*a.add(r * per_row + g * group / 2 + lane));
                    acc[r][0] = v.dot(acc[r][0], w0, x);
                    acc[r][1] = v.dot(acc[r][1], w1, x);
                }
            }
            for half in 0..2 {
                let n = g * TILE + column + half * lanes;
                let scale = s.load(panel.scales.as_ptr().add(n));
                let min = if MIN { s.load(panel.mins.as_ptr().add(n)) } else { scale };
                for r in 0..R {
                    let mut value = s.mul(s.to_float(acc[r][half]), scale);
                    if MIN {
                        value = s.fma(min, s.splat(*sums.add(offset + g * activations.stride + r)), value);
                    }
                    let act_scale = s.splat(*scales.add(g * group / 32 * activations.stride + r));
                    let c = c.add(r * TILE + half * lanes);
                    s.store(c, s.fma(value, act_scale, s.load(c)));
                }
            }
        }
    }
}

/// Defines `kernel_of`: by 8-bit activations for standard precision, by 16-bit ones for high precision.
macro_rules! kernels {
    ($token:ty, $tile:ident, #[$attribute:meta]) => {
        use crate::cpu::isa::kernel::{Multiply, ROWS_PER_BLOCK};
        use crate::cpu::panel::uniform;
        use crate::cpu::{activations, output, panel as panels};
        use std::marker::PhantomData;
        use std::ops::Range;

        fn kernel_of<B: crate::formats::Block>(token: $token, precision: Precision) -> Kernel {
            match precision {
                Precision::Standard => Kernel {
                    form: activations::Form { i8_uniform: true, ..activations::Form::NONE },
                    tiles: crate::cpu::isa::vnni::TILES,
                    rows: ROWS_PER_BLOCK,
                    any_stride: true,
                    run: keep(Uniform::<B>(token, PhantomData)),
                },
                Precision::High => i16_kernel::<B>(token),
            }
        }
        crate::cpu::isa::kernel::kernel!(fn i16_kernel, $token, i16, #[$attribute], interleave_i16, gemm_i16);

        /// The product of weights in uniform groups.
        struct Uniform<B>($token, PhantomData<fn() -> B>);

        impl<B: crate::formats::Block> Multiply for Uniform<B> {
            fn unpack(&self, panel: &mut panels::Panel, tiles: panels::TileRows, first: usize, len: usize) {
                /// # Safety
                /// The CPU has the instructions that it is compiled for.
                #[$attribute]
                unsafe fn compiled<B: crate::formats::Block>(
                    token: $token,
                    panel: &mut panels::Panel,
                    tiles: panels::TileRows,
                    first: usize,
                    len: usize,
                ) {
                    uniform::unpack::<_, B>(token.simd(), panel, tiles, crate::cpu::isa::vnni::TILES, first, len, |panel, tile, codes| match codes {
                        uniform::Codes::Rows(recode) => interleave_i8(token, panel, tile, len, recode),
                        uniform::Codes::Planes => crate::cpu::isa::vnni::interleave_planes::<_, B>(token.simd(), panel, tiles, tile, (first, len)),
                    })
                }
                // SAFETY: the token is the proof of the instructions.
                unsafe { compiled::<B>(self.0, panel, tiles, first, len) }
            }

            unsafe fn gemm(
                &self,
                panel: &panels::Panel,
                activations: &activations::Activations,
                rows: Range<usize>,
                output: output::Output,
            ) {
                /// # Safety
                /// The CPU has the instructions that it is compiled for; the rest as `Multiply::gemm`.
                #[$attribute]
                unsafe fn compiled(
                    panel: &panels::Panel,
                    activations: &activations::Activations,
                    rows: Range<usize>,
                    output: output::Output,
                ) {
                    // SAFETY: the caller's shapes.
                    unsafe {
                        crate::cpu::isa::vnni::gemm_i8($tile::add, ($tile::COLUMNS, $tile::SETS), panel, activations, rows, output)
                    }
                }
                // SAFETY: the token is the proof of the instructions; the caller's shapes.
                unsafe { compiled(panel, activations, rows, output) }
            }
        }

        #[$attribute]
        fn interleave_i8(token: $token, panel: &mut panels::Panel, tile: usize, len: usize, recode: uniform::Recode) {
            crate::cpu::isa::vnni::interleave_i8(token.simd(), panel, tile, len, recode)
        }

        #[$attribute]
        fn interleave_i16(token: $token, panel: &mut panels::Panel, len: usize) {
            crate::cpu::isa::vnni::interleave_i16(token.simd(), panel, len)
        }

        /// # Safety
        /// The shapes are those that `Kernel::gemm` checks.
        #[$attribute]
        unsafe fn gemm_i16(
            token: $token,
            panel: &panels::Panel,
            activations: &activations::Activations,
            rows: Range<usize>,
            c: &mut [f32],
        ) {
            // SAFETY: the caller's shapes.
            unsafe { crate::cpu::isa::vnni::gemm_i16(token, panel, activations, rows, c) }
        }
    };
}
pub(super) use kernels;
