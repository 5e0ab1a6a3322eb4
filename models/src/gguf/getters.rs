//! Metadata of an open file by key. A key that is not there is `None`; one of the wrong type is an error.
//!
//! Converters differ in the types that they choose, so a type is taken for another wherever the meaning is the same: whole
//! numbers of every type, 0 and 1 for a bool, and arrays in which each layer has the same value.

use super::error::GgufError;
use super::{ArrayRef, Gguf, Value};

/// A getter and its `require_` twin.
macro_rules! getter {
    ($name:ident, $require:ident, $ty:ty, $doc:literal, |$meta:ident, $key:ident| $read:expr) => {
        #[doc = $doc]
        pub fn $name(&self, key: &str) -> Result<Option<$ty>, GgufError> {
            let ($meta, $key) = (self.meta(), key);
            $read
        }

        #[doc = concat!("[`Self::", stringify!($name), "`], where a missing key is an error which names it.")]
        pub fn $require(&self, key: &str) -> Result<$ty, GgufError> {
            self.$name(key)?.ok_or_else(|| self.meta().missing(key))
        }
    };
}

impl Gguf {
    /// The value of a key, whatever its type.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.meta().get(key)
    }

    /// All keys and values, in file order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.meta().iter()
    }

    /// The number of metadata keys.
    pub fn metadata_len(&self) -> usize {
        self.meta().len()
    }

    getter!(u32, require_u32, u32, "A whole number of any type, if it fits a `u32`.", |m, k| m.int(k, "a u32"));
    getter!(u64, require_u64, u64, "A whole number of any type, if it fits a `u64`.", |m, k| m.int(k, "a u64"));
    getter!(i64, require_i64, i64, "A whole number of any type, if it fits an `i64`.", |m, k| m.int(k, "an i64"));
    getter!(usize, require_usize, usize, "A whole number of any type, if it fits a `usize`.", |m, k| m
        .int(k, "a usize"));
    getter!(f32, require_f32, f32, "A number of any type, rounded to an `f32`. Not checked to be finite.", |m, k| m
        .typed(k, "a number", |v| match v.single()? {
            Value::F32(v) => Some(v),
            v => v.as_number().map(|v| v as f32),
        }));
    getter!(bool, require_bool, bool, "A bool, or 0 or 1 of any integer type.", |m, k| m.typed(k, "bool", |v| {
        match v.single()? {
            Value::Bool(v) => Some(v),
            v => v.as_int().filter(|v| (0..=1).contains(v)).map(|v| v == 1),
        }
    }));
    getter!(str, require_str, &str, "A string, as a view of the file.", |m, k| m.typed(k, "string", |v| match v {
        Value::Str(v) => Some(v),
        _ => None,
    }));
    getter!(array, require_array, ArrayRef<'_>, "An array of any element type.", |m, k| m.typed(k, "array", |v| {
        match v {
            Value::Array(v) => Some(v),
            _ => None,
        }
    }));
}
