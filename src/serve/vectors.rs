//! From final hidden states to the values that a client asked for.

use crate::call::normalize;
use crate::serve::ask::OutputType;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

/// The vector of a text: the mean of the vectors of its pieces, of which it most often has one. `dimensions` values, of length
/// 1 if `unit`. Not finite where a state has no length.
pub(crate) fn vector(pieces: &[impl AsRef<[f32]>], dimensions: usize, unit: bool) -> Vec<f32> {
    let cut = |state: &[f32]| {
        let mut vector = state[..dimensions].to_vec();
        if unit {
            normalize(&mut vector);
        }
        vector
    };
    let [first, rest @ ..] = pieces else { return Vec::new() };
    let first = cut(first.as_ref());
    if rest.is_empty() {
        return first;
    }
    let mut sum: Vec<f64> = first.into_iter().map(f64::from).collect();
    for piece in rest {
        sum.iter_mut().zip(cut(piece.as_ref())).for_each(|(sum, x)| *sum += f64::from(x));
    }
    let mut mean: Vec<f32> = sum.into_iter().map(|x| (x / pieces.len() as f64) as f32).collect();
    if unit {
        normalize(&mut mean);
    }
    mean
}

/// Values in one of the forms that clients ask for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    Floats(Vec<f32>),
    Text(String),
    Integers(Vec<i16>),
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Values::Floats(values) => values.serialize(serializer),
            Values::Text(text) => text.serialize(serializer),
            Values::Integers(values) => values.serialize(serializer),
        }
    }
}

/// A vector in the form asked for.
///
/// Integers come from each value by itself, never from what else is in a request: a value of a unit vector of d dimensions has a
/// standard deviation of 1/√d, and four of those are the range. `int8` is `round(x · √d · 127 / 4)`, cut to −127 … 127;
/// `uint8` the same plus 128. `ubinary` has a bit for each value that is above zero, the first one in the highest bit of the
/// first byte; `binary` are those bytes minus 128.
pub(crate) fn values(vector: Vec<f32>, output: OutputType) -> Values {
    let step = (vector.len() as f32).sqrt() * 127.0 / 4.0;
    let int8 = |x: &f32| (x * step).round().clamp(-127.0, 127.0) as i16;
    let bits = |less: i16| {
        let byte =
            |eight: &[f32]| eight.iter().enumerate().fold(0i16, |byte, (i, x)| byte | i16::from(*x > 0.0) << (7 - i));
        Values::Integers(vector.chunks(8).map(|eight| byte(eight) - less).collect())
    };
    match output {
        OutputType::Float => Values::Floats(vector),
        OutputType::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            Values::Text(STANDARD.encode(bytes))
        }
        OutputType::Int8 => Values::Integers(vector.iter().map(int8).collect()),
        OutputType::Uint8 => Values::Integers(vector.iter().map(|x| int8(x) + 128).collect()),
        OutputType::Ubinary => bits(0),
        OutputType::Binary => bits(128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_then_normalized_then_the_mean() {
        let (a, b) = ([3.0, 4.0, 99.0], [4.0, -3.0, 7.0]);
        assert_eq!(vector(&[a], 2, true), [0.6, 0.8]);
        assert_eq!(vector(&[a], 2, false), [3.0, 4.0]);
        assert_eq!(vector(&[a, b], 2, false), [3.5, 0.5]);
        let mean = vector(&[a, b], 2, true);
        let expected = [0.7f32, 0.1].map(|x| x / 0.5f32.sqrt());
        // Two roundings of f32 each.
        assert!(mean.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 4.0 * f32::EPSILON), "{mean:?}");
        assert!(vector(&[[0.0, 0.0]], 2, true)[0].is_nan());
    }

    #[test]
    fn forms() {
        let vector = vec![0.5, -0.5, 0.0, 0.1, -0.1, 0.2, 0.3, 0.4, 0.5];
        // √9 · 127 / 4 = 95.25
        let int8 = [48, -48, 0, 10, -10, 19, 29, 38, 48];
        assert_eq!(values(vector.clone(), OutputType::Int8), Values::Integers(int8.into()));
        assert_eq!(values(vector.clone(), OutputType::Uint8), Values::Integers(int8.map(|x| x + 128).into()));
        assert_eq!(values(vec![2.0, -2.0], OutputType::Int8), Values::Integers(vec![90, -90]));
        assert_eq!(values(vec![9.0, -9.0], OutputType::Int8), Values::Integers(vec![127, -127]));
        assert_eq!(values(vector.clone(), OutputType::Ubinary), Values::Integers(vec![0b1001_0111, 0b1000_0000]));
        assert_eq!(values(vector, OutputType::Binary), Values::Integers(vec![0b1001_0111 - 128, 0]));
        assert_eq!(values(vec![1.0, -2.0], OutputType::Base64), Values::Text("AACAPwAAAMA=".into()));
        assert_eq!(serde_json::to_string(&values(vec![0.1, 1e-10], OutputType::Float)).unwrap(), "[0.1,1e-10]");
    }
}
