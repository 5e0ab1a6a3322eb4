//! GGUF block formats: their ids, names and sizes here, and one file each that defines what the bytes mean.
//!
//! A format is a way to store a row of weights as blocks of [`Format::block_len`] values in [`Format::block_bytes`]
//! bytes. Ids, names and layouts are those of ggml (`ggml/include/ggml.h`, `ggml/src/ggml-common.h`).

/// The storage format of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, missing_docs)]
pub enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

/// One row per format: ggml id, name, values per block, bytes per block.
const TABLE: [(Format, u32, &str, usize, usize); 15] = [
    (Format::F32, 0, "F32", 1, 4),
    (Format::F16, 1, "F16", 1, 2),
    (Format::BF16, 30, "BF16", 1, 2),
    (Format::Q4_0, 2, "Q4_0", 32, 18),
    (Format::Q4_1, 3, "Q4_1", 32, 20),
    (Format::Q5_0, 6, "Q5_0", 32, 22),
    (Format::Q5_1, 7, "Q5_1", 32, 24),
    (Format::Q8_0, 8, "Q8_0", 32, 34),
    (Format::Q2_K, 10, "Q2_K", 256, 84),
    (Format::Q3_K, 11, "Q3_K", 256, 110),
    (Format::Q4_K, 12, "Q4_K", 256, 144),
    (Format::Q5_K, 13, "Q5_K", 256, 176),
    (Format::Q6_K, 14, "Q6_K", 256, 210),
    (Format::IQ4_NL, 20, "IQ4_NL", 32, 18),
    (Format::IQ4_XS, 23, "IQ4_XS", 256, 136),
];

impl Format {
    /// Every format that this crate can read.
    pub const ALL: [Format; 15] = {
        let mut all = [Format::F32; 15];
        let mut i = 0;
        while i < 15 {
            all[i] = TABLE[i].0;
            i += 1;
        }
        all
    };

    fn row(self) -> &'static (Format, u32, &'static str, usize, usize) {
        TABLE.iter().find(|r| r.0 == self).expect("every format has a row")
    }

    /// The format of a ggml type id, `None` for an id that this crate cannot read.
    pub fn from_id(id: u32) -> Option<Self> {
        TABLE.iter().find(|r| r.1 == id).map(|r| r.0)
    }

    /// The ggml type id.
    pub fn id(self) -> u32 {
        self.row().1
    }

    /// The ggml name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Values per block.
    pub fn block_len(self) -> usize {
        self.row().3
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// Bytes of a row of `len` values; `None` when `len` is not a whole number of blocks or the size overflows.
    pub fn row_bytes(self, len: usize) -> Option<usize> {
        if len % self.block_len() != 0 {
            return None;
        }
        (len / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
