//! What a value of a vector is in an output.

use half::f16;
use std::fmt;
use std::str::FromStr;

/// What a value of a vector is in an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    /// 32-bit floating point, little-endian.
    #[default]
    F32,
    /// 16-bit floating point, little-endian.
    F16,
    /// Whole numbers from -128 to 127: which of 256 equal steps between -4/√d and 4/√d a value lies on, d the dimensions.
    /// What lies beyond is on the outermost. A value of a unit vector has a standard deviation of 1/√d.
    Int8,
    /// A bit for each value that is above zero, eight in a byte, the first in the highest.
    Ubinary,
}

/// No type has this name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no type of vectors; there are f32, f16, int8 and ubinary")]
pub struct DtypeError(String);

impl Dtype {
    /// All of them.
    pub const ALL: [Dtype; 4] = [Dtype::F32, Dtype::F16, Dtype::Int8, Dtype::Ubinary];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Int8 => "int8",
            Dtype::Ubinary => "ubinary",
        }
    }

    /// Bytes of one number as it is stored; eight values of a `ubinary` vector are one number.
    pub fn number_bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 => 2,
            Dtype::Int8 | Dtype::Ubinary => 1,
        }
    }

    /// Numbers of a stored vector of so many dimensions. Bits that are left over in the last one are zero.
    pub fn numbers(self, dimensions: usize) -> usize {
        if self == Dtype::Ubinary { dimensions.div_ceil(8) } else { dimensions }
    }

    /// Bytes of a stored vector of so many dimensions.
    pub fn vector_bytes(self, dimensions: usize) -> usize {
        self.numbers(dimensions) * self.number_bytes()
    }

    /// Appends a vector as it is stored.
    ///
    /// `int8` and `ubinary` are, bit for bit, what `quantize_embeddings` of sentence-transformers 6 computes, for `int8` with
    /// [`int8_range`](Self::int8_range) as its ranges.
    pub fn encode(self, vector: &[f32], out: &mut Vec<u8>) {
        match self {
            Dtype::F32 => vector.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
            Dtype::F16 => vector.iter().for_each(|x| out.extend_from_slice(&f16::from_f32(*x).to_le_bytes())),
            Dtype::Int8 => {
                // Every operation in float32, as NumPy has it.
                let [low, high] = Self::int8_range(vector.len());
                let step = (high - low) / 255.0;
                let level = |x: &f32| ((x - low) / step).floor().clamp(0.0, 255.0) - 128.0;
                out.extend(vector.iter().map(|x| (level(x) as i8).cast_unsigned()));
            }
            Dtype::Ubinary => {
                let byte = |eight: &[f32]| {
                    eight.iter().enumerate().fold(0, |byte, (i, x)| byte | u8::from(*x > 0.0) << (7 - i))
                };
                out.extend(vector.chunks(8).map(byte));
            }
        }
    }

    /// The values of a stored vector; `None` for types that keep less of a value than its size.
    pub fn decode(self, bytes: &[u8]) -> Option<Vec<f32>> {
        match self {
            Dtype::F32 => Some(bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect()),
            Dtype::F16 => Some(bytes.as_chunks().0.iter().map(|x| f16::from_le_bytes(*x).to_f32()).collect()),
            Dtype::Int8 | Dtype::Ubinary => None,
        }
    }

    /// The first and the last value of the range of `int8`.
    pub fn int8_range(dimensions: usize) -> [f32; 2] {
        let end = (4.0 / (dimensions as f64).sqrt()) as f32;
        [-end, end]
    }

    /// What a reader of vectors of so many dimensions must know: names and values.
    pub fn metadata(self, dimensions: usize) -> Vec<(String, String)> {
        let mut metadata = vec![("dtype", self.name().to_owned()), ("dimensions", dimensions.to_string())];
        if self == Dtype::Int8 {
            let [low, high] = Self::int8_range(dimensions);
            metadata.push(("int8_range", format!("{low},{high}")));
        }
        metadata.into_iter().map(|(name, value)| (format!("qembed.{name}"), value)).collect()
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dtype {
    type Err = DtypeError;

    fn from_str(name: &str) -> Result<Self, DtypeError> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name).ok_or_else(|| DtypeError(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(dtype: Dtype, vector: &[f32]) -> Vec<u8> {
        let mut out = Vec::new();
        dtype.encode(vector, &mut out);
        assert_eq!(out.len(), dtype.vector_bytes(vector.len()), "{dtype}");
        out
    }

    /// Expected numbers are those of sentence-transformers 6.2: `quantize_embeddings(x, "int8", ranges=…)` and `"ubinary"`.
    #[test]
    fn numbers_are_those_of_sentence_transformers() {
        // √9 gives ranges of ±4/3.
        let vector = [0.5, -0.5, 0.0, -0.0, 1e-9, -1e-9, 1.34, -1.34, 9.0];
        let int8: Vec<i8> = encoded(Dtype::Int8, &vector).into_iter().map(u8::cast_signed).collect();
        assert_eq!(int8, [47, -49, -1, -1, -1, -1, 127, -128, 127]);
        assert_eq!(encoded(Dtype::Ubinary, &vector), [0b1000_1010, 0b1000_0000]);
    }

    #[test]
    fn floats_come_back() {
        let vector = [0.1, -0.0, f32::MIN_POSITIVE, 65504.0];
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let back = |dtype: Dtype| dtype.decode(&encoded(dtype, &vector)).map(bits);
        assert_eq!(back(Dtype::F32), Some(bits(vector.to_vec())));
        // The nearest of 11 bits; what is too small is zero.
        assert_eq!(back(Dtype::F16), Some(bits(vec![0.099_975_586, -0.0, 0.0, 65504.0])));
        assert_eq!(back(Dtype::Int8), None);
    }

    #[test]
    fn names() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.name().parse::<Dtype>().unwrap(), dtype);
        }
        assert!("float".parse::<Dtype>().unwrap_err().to_string().starts_with("\"float\" is no type"));
        let metadata = Dtype::Int8.metadata(1024);
        assert_eq!(metadata[2], ("qembed.int8_range".into(), "-0.125,0.125".into()));
        assert_eq!(Dtype::F16.metadata(64)[1], ("qembed.dimensions".into(), "64".into()));
    }
}
