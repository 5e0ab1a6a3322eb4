//! Quantization levels: which format each tensor of a file has at `Q4_K_M` and the like.
//!
//! The choices are those of llama.cpp (`src/llama-quant.cpp`), so that a file has the tensor types that its name
//! promises: K-mixes give more bits to values, to the way down of the feed-forward and to the token embedding, which is
//! the output matrix too. `models/tests/data/levels.txt` holds what `llama-quantize` chooses for the official shapes.

use qembed_kernels::formats::Format;
use std::fmt;
use std::str::FromStr;

/// A quantization level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    name: &'static str,
    file_type: u32,
    base: Format,
}

const fn level(name: &'static str, file_type: u32, base: Format) -> Level {
    Level { name, file_type, base }
}

/// Where in a model a matrix stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The block's number, from 0, and how many there are.
    pub layer: usize,
    #[allow(missing_docs)]
    pub layers: usize,
    /// Query heads for each key-value head.
    pub group: usize,
    /// Whether the token matrix is the output matrix too: the model has no `output.weight`.
    pub tied: bool,
}

/// A name that is no level.
#[derive(Debug, thiserror::Error)]
#[error("unknown type {0:?}: choose one of {names}", names = Level::ALL.iter().map(|level| level.name).collect::<Vec<_>>().join(", "))]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        let level = Level::ALL.iter().copied().find(|level| level.name.eq_ignore_ascii_case(text));
        level.ok_or_else(|| UnknownLevel(text.to_owned()))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Level {
    /// Every level, from the smallest files to the largest.
    pub const ALL: &[Level] = &[
        level("Q2_K", 10, Format::Q2_K),
        level("Q3_K_S", 11, Format::Q3_K),
        level("Q3_K_M", 12, Format::Q3_K),
        level("Q3_K_L", 13, Format::Q3_K),
        level("Q4_0", 2, Format::Q4_0),
        level("Q4_K_S", 14, Format::Q4_K),
        level("Q4_K_M", 15, Format::Q4_K),
        level("Q4_1", 3, Format::Q4_1),
        level("Q5_0", 8, Format::Q5_0),
        level("Q5_K_S", 16, Format::Q5_K),
        level("Q5_K_M", 17, Format::Q5_K),
        level("Q5_1", 9, Format::Q5_1),
        level("Q6_K", 18, Format::Q6_K),
        level("Q8_0", 7, Format::Q8_0),
        level("F16", 1, Format::F16),
        level("BF16", 32, Format::BF16),
        level("F32", 0, Format::F32),
    ];

    /// The level's name, such as `Q4_K_M`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The number in `general.file_type`.
    pub fn file_type(&self) -> u32 {
        self.file_type
    }

    /// The format of a matrix with rows of `row_len` values. `kind` is its name without `blk.N.` and `.weight`.
    pub fn format(&self, kind: &str, place: Place, row_len: usize) -> Format {
        use Format::*;
        if self.base.is_float() {
            return self.base;
        }
        let Place { layer, layers, group, tied } = place;
        let eighth = layers / 8;
        let ends_or_third = layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
        let format = match (kind, self.name) {
            ("token_embd", _) if !tied => self.base,
            ("token_embd" | "output", _) if self.base == Q8_0 || self.base.row_bytes(row_len).is_none() => Q8_0,
            ("token_embd" | "output", _) => Q6_K,
            ("attn_v", "Q2_K") if group >= 4 => Q4_K,
            ("attn_v" | "ffn_down" | "attn_output", "Q2_K") => Q3_K,
            ("attn_v", "Q3_K_M") if layer < 2 => Q5_K,
            ("ffn_down", "Q3_K_M") if layer < layers / 16 => Q5_K,
            ("attn_v" | "ffn_down" | "attn_output", "Q3_K_M") => Q4_K,
            ("attn_v" | "ffn_down" | "attn_output", "Q3_K_L") => Q5_K,
            ("attn_v", "Q4_K_S") if layer < 4 => Q5_K,
            ("ffn_down", "Q4_K_S") if layer < eighth => Q5_K,
            ("attn_v" | "ffn_down", "Q4_K_M" | "Q5_K_M") if ends_or_third => Q6_K,
            _ => self.base,
        };
        fitting(format, row_len)
    }
}

/// The format itself, or the one with small blocks that takes its place for rows that are not whole blocks.
fn fitting(format: Format, row_len: usize) -> Format {
    let fits = |format: Format| format.row_bytes(row_len).is_some();
    if fits(format) {
        return format;
    }
    let small = match format {
        Format::Q2_K | Format::Q3_K => Format::Q4_0,
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        _ => Format::Q8_0,
    };
    if fits(small) { small } else { Format::F16 }
}
