//! Register tiles of `vpdpbusd` with 256-bit vectors, in assembly: up to 6 rows × 16 columns.
//!
//! Integer sums of a group are in ymm0 ..= ymm11; the floats in which they end stay in the L1 cache, since no registers are
//! left. What the compiler made of the same loops reloaded pointers from the stack in every group.

use super::Tile;
use crate::rounding::MAGIC;
use std::arch::asm;

/// Products of four values of K, which start at `$k`: 16 columns of weights, the activations of each row.
macro_rules! products {
    ($w:literal, $k:literal, [$(($s0:literal $s1:literal $x:literal $a:literal $r:literal $c:literal))*]) => {
        concat!(
            "vmovdqu ymm12, [{w} + ", $w, "]\n",
            "vmovdqu ymm13, [{w} + ", $w, " + 32]\n",
            $(
                "vpbroadcastd ", $x, ", [", $a, " + ", $k, "]\n",
                "{{vex}} vpdpbusd ", $s0, ", ymm12, ", $x, "\n",
                "{{vex}} vpdpbusd ", $s1, ", ymm13, ", $x, "\n",
            )*
        )
    };
}

/// Sums start from the bias of each row.
macro_rules! start {
    ([$(($s0:literal $s1:literal $x:literal $a:literal $r:literal $c:literal))*]) => {
        concat!($("vpbroadcastd ", $s0, ", [{biases} + 4*", $r, "]\n", "vmovdqa ", $s1, ", ", $s0, "\n",)*)
    };
}

/// Sums of a group become floats, get their scales, and join the floats of the panel.
macro_rules! finish {
    ([$(($s0:literal $s1:literal $x:literal $a:literal $r:literal $c:literal))*]) => {
        concat!(
            "vbroadcastss ymm15, [{constants}]\n",
            "vmovups ymm12, [{scales}]\n",
            "vmulps ymm13, ymm12, ymm15\n",
            $("vfmsub213ps ", $s0, ", ymm12, ymm13\n",)*
            "vmovups ymm12, [{scales} + 32]\n",
            "vmulps ymm13, ymm12, ymm15\n",
            $("vfmsub213ps ", $s1, ", ymm12, ymm13\n",)*
            $(
                "vbroadcastss ", $x, ", [{act_scales} + 4*", $r, "]\n",
                "vfmadd213ps ", $s0, ", ", $x, ", [", $c, "]\n",
                "vmovups [", $c, "], ", $s0, "\n",
                "vfmadd213ps ", $s1, ", ", $x, ", [", $c, " + 32]\n",
                "vmovups [", $c, " + 32], ", $s1, "\n",
            )*
        )
    };
}

macro_rules! tile {
    ($tile:ident, $rows:tt) => {
        asm!(
            "/* small tiles use neither {s} nor {cs} nor {d} */",
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
            "cmp dword ptr [{constants} + 4], 0",
            "je 3f",
            start!($rows),
            half_group!(products, $rows),
            finish!($rows),
            "3:",
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
            constants = in(reg) &[MAGIC.to_bits(), u32::from($tile.rests)],
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
            out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        )
    };
}

/// [`add`] only adds: to memory, where its floats are.
pub(in crate::cpu::isa) const SETS: bool = false;

/// Columns of a register tile.
pub(in crate::cpu::isa) const COLUMNS: usize = 16;

/// # Safety
/// As [`Tile`] says; `rows` from 1 to 6.
#[target_feature(enable = "avxvnni,avx2,fma")]
pub(in crate::cpu::isa) unsafe fn add(tile: Tile, rows: usize) {
    // SAFETY: reads and writes what the tile describes.
    unsafe {
        by_rows!(
            tile, tile, rows,
            ("ymm0" "ymm1" "ymm14" "{a}" "0" "{c}")
            ("ymm2" "ymm3" "ymm15" "{a} + {s}" "1" "{c} + {cs}")
            ("ymm4" "ymm5" "ymm14" "{a} + 2*{s}" "2" "{c} + 2*{cs}")
            ("ymm6" "ymm7" "ymm15" "{b}" "3" "{d}")
            ("ymm8" "ymm9" "ymm14" "{b} + {s}" "4" "{d} + {cs}")
            ("ymm10" "ymm11" "ymm15" "{b} + 2*{s}" "5" "{d} + 2*{cs}")
        )
    }
}
