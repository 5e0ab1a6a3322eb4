//! Register tiles of `vpdpbusd` with 256-bit vectors, in assembly: up to 6 rows × 16 columns.
//!
//! Integer sums of a group are in ymm0 ..= ymm11; the floats in which they end stay in the L1 cache, since no registers are
//! left. What the compiler made of the same loops reloaded pointers from the stack in every group.

use super::{Tile, unless_min, when_min};
use crate::cpu::acts::MAGIC;
use std::arch::asm;

/// Products of four values of K, which start at `$k`: 16 columns of weights, the activations of each row.
macro_rules! products {
    ($w:literal, $k:literal, [$(($s0:literal $s1:literal $x:literal $a:literal $r:literal))*]) => {
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

/// Sums start, from the bias of each row or from MAGIC.
macro_rules! start {
    ($min:ident, [$(($s0:literal $s1:literal $x:literal $a:literal $r:literal))*]) => {
        concat!($(
            unless_min!($min, "vpbroadcastd ", $s0, ", [{starts} + 4*", $r, "]\n"),
            when_min!($min, "vpbroadcastd ", $s0, ", [{magic}]\n"),
            "vmovdqa ", $s1, ", ", $s0, "\n",
        )*)
    };
}

/// Sums of a group become floats, get their scales and mins, and join the floats of the panel.
macro_rules! finish {
    ($min:ident, [$(($s0:literal $s1:literal $x:literal $a:literal $r:literal))*]) => {
        concat!(
            "vbroadcastss ymm15, [{magic}]\n",
            "vmovups ymm12, [{scales}]\n",
            "vmulps ymm13, ymm12, ymm15\n",
            $("vfmsub213ps ", $s0, ", ymm12, ymm13\n",)*
            "vmovups ymm12, [{scales} + 32]\n",
            "vmulps ymm13, ymm12, ymm15\n",
            $("vfmsub213ps ", $s1, ", ymm12, ymm13\n",)*
            "sub {scales}, -128\n",
            when_min!($min,
                "vmovups ymm12, [{mins}]\n",
                "vmovups ymm13, [{mins} + 32]\n",
                "sub {mins}, -128\n",
                $(
                    "vbroadcastss ", $x, ", [{starts} + 4*", $r, "]\n",
                    "vfmadd231ps ", $s0, ", ymm12, ", $x, "\n",
                    "vfmadd231ps ", $s1, ", ymm13, ", $x, "\n",
                )*
            ),
            $(
                "vbroadcastss ", $x, ", [{act_scales} + 4*", $r, "]\n",
                "vfmadd213ps ", $s0, ", ", $x, ", [{c} + 128*", $r, "]\n",
                "vmovups [{c} + 128*", $r, "], ", $s0, "\n",
                "vfmadd213ps ", $s1, ", ", $x, ", [{c} + 128*", $r, " + 32]\n",
                "vmovups [{c} + 128*", $r, " + 32], ", $s1, "\n",
            )*
            "add {starts}, {stride}\n",
        )
    };
}

/// 32 values of K, in one group.
macro_rules! whole {
    ($min:ident, $rows:tt) => {
        concat!(
            start!($min, $rows),
            products!("0*128", "0", $rows),
            products!("1*128", "4", $rows),
            products!("2*128", "8", $rows),
            products!("3*128", "12", $rows),
            products!("4*128", "16", $rows),
            products!("5*128", "20", $rows),
            products!("6*128", "24", $rows),
            products!("7*128", "28", $rows),
            finish!($min, $rows),
        )
    };
}

/// 32 values of K, in two groups of 16.
macro_rules! halves {
    ($min:ident, $rows:tt) => {
        concat!(
            start!($min, $rows),
            products!("0*128", "0", $rows),
            products!("1*128", "4", $rows),
            products!("2*128", "8", $rows),
            products!("3*128", "12", $rows),
            finish!($min, $rows),
            start!($min, $rows),
            products!("4*128", "16", $rows),
            products!("5*128", "20", $rows),
            products!("6*128", "24", $rows),
            products!("7*128", "28", $rows),
            finish!($min, $rows),
        )
    };
}

macro_rules! tile {
    ($tile:ident, $groups:ident, $min:ident, $rows:tt) => {
        asm!(
            "/* not all tiles use {s} and {mins} */",
            "2:",
            $groups!($min, $rows),
            "add {w}, 8*128",
            "add {a}, 32",
            "add {b}, 32",
            "add {act_scales}, {stride}",
            "dec {steps}",
            "jnz 2b",
            w = inout(reg) $tile.w => _,
            a = inout(reg) $tile.a => _,
            b = inout(reg) $tile.a.wrapping_add(3 * $tile.a_stride) => _,
            s = in(reg) $tile.a_stride,
            scales = inout(reg) $tile.scales => _,
            mins = inout(reg) $tile.mins => _,
            starts = inout(reg) $tile.starts => _,
            act_scales = inout(reg) $tile.act_scales => _,
            stride = in(reg) $tile.stride,
            steps = inout(reg) $tile.steps => _,
            c = in(reg) $tile.c,
            magic = in(reg) &MAGIC,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
            out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        )
    };
    ($tile:ident, $rows:tt) => {
        match ($tile.group, $tile.has_min) {
            (32, true) => tile!($tile, whole, min, $rows),
            (32, false) => tile!($tile, whole, bias, $rows),
            (_, true) => tile!($tile, halves, min, $rows),
            (_, false) => tile!($tile, halves, bias, $rows),
        }
    };
}

/// Columns of a register tile.
pub(in crate::cpu::isa) const COLUMNS: usize = 16;

/// # Safety
/// As [`Tile`] says; `rows` from 1 to 6.
#[target_feature(enable = "avxvnni,avx2,fma")]
pub(in crate::cpu::isa) unsafe fn add(tile: Tile, rows: usize) {
    // SAFETY: reads and writes what the tile describes.
    unsafe {
        match rows {
            1 => tile!(tile, [
                ("ymm0" "ymm1" "ymm14" "{a}" "0")
            ]),
            2 => tile!(tile, [
                ("ymm0" "ymm1" "ymm14" "{a}" "0")
                ("ymm2" "ymm3" "ymm15" "{a} + {s}" "1")
            ]),
            3 => tile!(tile, [
                ("ymm0" "ymm1" "ymm14" "{a}" "0")
                ("ymm2" "ymm3" "ymm15" "{a} + {s}" "1")
                ("ymm4" "ymm5" "ymm14" "{a} + 2*{s}" "2")
            ]),
            4 => tile!(tile, [
                ("ymm0" "ymm1" "ymm14" "{a}" "0")
                ("ymm2" "ymm3" "ymm15" "{a} + {s}" "1")
                ("ymm4" "ymm5" "ymm14" "{a} + 2*{s}" "2")
                ("ymm6" "ymm7" "ymm15" "{b}" "3")
            ]),
            5 => tile!(tile, [
                ("ymm0" "ymm1" "ymm14" "{a}" "0")
                ("ymm2" "ymm3" "ymm15" "{a} + {s}" "1")
                ("ymm4" "ymm5" "ymm14" "{a} + 2*{s}" "2")
                ("ymm6" "ymm7" "ymm15" "{b}" "3")
                ("ymm8" "ymm9" "ymm14" "{b} + {s}" "4")
            ]),
            _ => tile!(tile, [
                ("ymm0" "ymm1" "ymm14" "{a}" "0")
                ("ymm2" "ymm3" "ymm15" "{a} + {s}" "1")
                ("ymm4" "ymm5" "ymm14" "{a} + 2*{s}" "2")
                ("ymm6" "ymm7" "ymm15" "{b}" "3")
                ("ymm8" "ymm9" "ymm14" "{b} + {s}" "4")
                ("ymm10" "ymm11" "ymm15" "{b} + 2*{s}" "5")
            ]),
        }
    }
}
