//! Register tiles of `vpdpbusd` with 512-bit vectors, in assembly: up to 6 rows × 32 columns.
//!
//! Integer sums of a group are in zmm0 ..= zmm11, the floats in which they end in zmm12 ..= zmm23 over the whole panel. What
//! the compiler made of the same loops took a third longer: it spilled sums, and stored the floats after every group.

use super::Tile;
use crate::rounding::MAGIC;
use std::arch::asm;
use std::arch::x86_64::_mm512_set1_ps;

/// Products of four values of K, which start at `$k`: 32 columns of weights, the activations of each row.
macro_rules! products {
    ($w:literal, $k:literal, [$(($s0:literal $s1:literal $f0:literal $f1:literal $x:literal $a:literal $r:literal $c:literal))*]) => {
        concat!(
            "vmovdqu64 zmm24, [{w} + ", $w, "]\n",
            "vmovdqu64 zmm25, [{w} + ", $w, " + 64]\n",
            $(
                "vpbroadcastd ", $x, ", [", $a, " + ", $k, "]\n",
                "vpdpbusd ", $s0, ", zmm24, ", $x, "\n",
                "vpdpbusd ", $s1, ", zmm25, ", $x, "\n",
            )*
        )
    };
}

/// Sums start from the bias of each row.
macro_rules! start {
    ([$(($s0:literal $s1:literal $f0:literal $f1:literal $x:literal $a:literal $r:literal $c:literal))*]) => {
        concat!($("vpbroadcastd ", $s0, ", [{biases} + 4*", $r, "]\n", "vmovdqa64 ", $s1, ", ", $s0, "\n",)*)
    };
}

/// Sums of a group become floats, get their scales, and join the floats of the panel.
macro_rules! finish {
    ([$(($s0:literal $s1:literal $f0:literal $f1:literal $x:literal $a:literal $r:literal $c:literal))*]) => {
        concat!(
            "vmovups zmm24, [{scales}]\n",
            "vmovups zmm25, [{scales} + 64]\n",
            "vmulps zmm26, zmm24, zmm31\n",
            "vmulps zmm27, zmm25, zmm31\n",
            $("vfmsub213ps ", $s0, ", zmm24, zmm26\n", "vfmsub213ps ", $s1, ", zmm25, zmm27\n",)*
            $(
                "vbroadcastss ", $x, ", [{act_scales} + 4*", $r, "]\n",
                "vfmadd231ps ", $f0, ", ", $s0, ", ", $x, "\n",
                "vfmadd231ps ", $f1, ", ", $s1, ", ", $x, "\n",
            )*
        )
    };
}

macro_rules! floats {
    (zero, [$(($s0:literal $s1:literal $f0:literal $f1:literal $x:literal $a:literal $r:literal $c:literal))*]) => {
        concat!($("vpxord ", $f0, ", ", $f0, ", ", $f0, "\n", "vpxord ", $f1, ", ", $f1, ", ", $f1, "\n",)*)
    };
    (load, [$(($s0:literal $s1:literal $f0:literal $f1:literal $x:literal $a:literal $r:literal $c:literal))*]) => {
        concat!($("vmovups ", $f0, ", [", $c, "]\n", "vmovups ", $f1, ", [", $c, " + 64]\n",)*)
    };
    (store, [$(($s0:literal $s1:literal $f0:literal $f1:literal $x:literal $a:literal $r:literal $c:literal))*]) => {
        concat!($("vmovups [", $c, "], ", $f0, "\n", "vmovups [", $c, " + 64], ", $f1, "\n",)*)
    };
}

macro_rules! tile {
    ($tile:ident, $rows:tt) => {
        asm!(
            "/* small tiles use neither {s} nor {cs} nor {d} */",
            "test {add:e}, {add:e}",
            "jnz 4f",
            floats!(zero, $rows),
            "jmp 2f",
            "4:",
            floats!(load, $rows),
            "2:",
            start!($rows),
            group!(products, $rows),
            "add {w}, 8*128",
            "add {a}, 32",
            "add {b}, 32",
            finish!($rows),
            "sub {scales}, -128",
            "add {biases}, {stride}",
            "add {act_scales}, {stride}",
            "dec {steps}",
            "jnz 2b",
            "test {rests:e}, {rests:e}",
            "je 3f",
            start!($rows),
            half_group!(products, $rows),
            finish!($rows),
            "3:",
            floats!(store, $rows),
            w = inout(reg) $tile.w => _,
            a = inout(reg) $tile.a => _,
            b = inout(reg) $tile.a.wrapping_add(3 * $tile.a_stride) => _,
            s = in(reg) $tile.a_stride,
            scales = inout(reg) $tile.scales => _,
            biases = inout(reg) $tile.biases => _,
            act_scales = inout(reg) $tile.act_scales => _,
            stride = in(reg) $tile.stride,
            steps = inout(reg) $tile.steps => _,
            c = in(reg) $tile.c,
            cs = in(reg) $tile.c_stride,
            d = in(reg) $tile.c.wrapping_byte_add(3 * $tile.c_stride),
            rests = in(reg) u32::from($tile.rests),
            add = in(reg) u32::from($tile.add),
            in("zmm31") _mm512_set1_ps(MAGIC),
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
            out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _,
            out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _, out("zmm28") _, out("zmm29") _,
            out("zmm30") _,
            options(nostack),
        )
    };
}

/// [`add`] may set instead of adding.
pub(in crate::cpu::isa) const SETS: bool = true;

/// Columns of a register tile.
pub(in crate::cpu::isa) const COLUMNS: usize = 32;

/// # Safety
/// As [`Tile`] says; `rows` from 1 to 6.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(in crate::cpu::isa) unsafe fn add(tile: Tile, rows: usize) {
    // SAFETY: reads and writes what the tile describes.
    unsafe {
        by_rows!(
            tile, tile, rows,
            ("zmm0" "zmm1" "zmm12" "zmm13" "zmm26" "{a}" "0" "{c}")
            ("zmm2" "zmm3" "zmm14" "zmm15" "zmm27" "{a} + {s}" "1" "{c} + {cs}")
            ("zmm4" "zmm5" "zmm16" "zmm17" "zmm28" "{a} + 2*{s}" "2" "{c} + 2*{cs}")
            ("zmm6" "zmm7" "zmm18" "zmm19" "zmm29" "{b}" "3" "{d}")
            ("zmm8" "zmm9" "zmm20" "zmm21" "zmm30" "{b} + {s}" "4" "{d} + {cs}")
            ("zmm10" "zmm11" "zmm22" "zmm23" "zmm26" "{b} + 2*{s}" "5" "{d} + 2*{cs}")
        )
    }
}
