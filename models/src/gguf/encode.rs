//! Metadata values as bytes, for the writer.

use super::value::{Value, ValueType};

/// A value that can be stored in metadata: the numbers, `bool`, strings, and slices or vectors of these (arrays, which
/// nest). The type in the file is the Rust type: write `5u32`, since a bare `5` is an `i32`.
pub trait Element: sealed::Sealed {
    /// The type in the file.
    const TYPE: ValueType;

    /// Appends the encoded value.
    #[doc(hidden)]
    fn encode(&self, out: &mut Vec<u8>);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! numbers {
    ($($ty:ty => $name:ident),*) => {$(
        impl sealed::Sealed for $ty {}
        impl Element for $ty {
            const TYPE: ValueType = ValueType::$name;

            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

numbers!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, u64 => U64, i64 => I64, f64 => F64);

impl sealed::Sealed for bool {}
impl Element for bool {
    const TYPE: ValueType = ValueType::Bool;

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl sealed::Sealed for str {}
impl Element for str {
    const TYPE: ValueType = ValueType::Str;

    fn encode(&self, out: &mut Vec<u8>) {
        string(self.as_bytes(), out);
    }
}

impl<T: Element> sealed::Sealed for [T] {}
impl<T: Element> Element for [T] {
    const TYPE: ValueType = ValueType::Array;

    fn encode(&self, out: &mut Vec<u8>) {
        T::TYPE.id().encode(out);
        (self.len() as u64).encode(out);
        for v in self {
            v.encode(out);
        }
    }
}

/// Types that encode as what they dereference to.
macro_rules! as_target {
    ([$($generics:tt)*] $ty:ty => $target:ty) => {
        impl<$($generics)*> sealed::Sealed for $ty {}
        impl<$($generics)*> Element for $ty {
            const TYPE: ValueType = <$target>::TYPE;

            fn encode(&self, out: &mut Vec<u8>) {
                <$target>::encode(self, out);
            }
        }
    };
}

as_target!([] String => str);
as_target!([T: Element] Vec<T> => [T]);
as_target!([T: Element + ?Sized] &T => T);

impl<T: Element, const N: usize> sealed::Sealed for [T; N] {}
impl<T: Element, const N: usize> Element for [T; N] {
    const TYPE: ValueType = ValueType::Array;

    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

/// Encodes a string: its length, then its bytes.
pub(super) fn string(bytes: &[u8], out: &mut Vec<u8>) {
    (bytes.len() as u64).encode(out);
    out.extend_from_slice(bytes);
}

/// Encodes a value out of a file, byte for byte as it was there.
pub(super) fn value(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::U8(v) => v.encode(out),
        Value::I8(v) => v.encode(out),
        Value::U16(v) => v.encode(out),
        Value::I16(v) => v.encode(out),
        Value::U32(v) => v.encode(out),
        Value::I32(v) => v.encode(out),
        Value::F32(v) => v.encode(out),
        Value::Bool(v) => v.encode(out),
        Value::U64(v) => v.encode(out),
        Value::I64(v) => v.encode(out),
        Value::F64(v) => v.encode(out),
        Value::Str(v) => v.encode(out),
        Value::BadStr(v) => string(v, out),
        Value::Array(v) => {
            v.element_type().id().encode(out);
            (v.len() as u64).encode(out);
            out.extend_from_slice(v.bytes());
        }
    }
}
