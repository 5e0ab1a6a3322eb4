//! Metadata arrays as byte ranges: a vocabulary of 150,000 tokens is walked when it is used, never expanded at open.

use super::cursor::Cursor;
use super::error::{GgufError, GgufProblem, Quoted};
use super::value::{Value, ValueType};
use std::path::Path;

/// A metadata array in the file. Its iterators decode elements as they go.
#[derive(Clone, Copy, Debug)]
pub struct ArrayRef<'a> {
    path: &'a Path,
    key: &'a str,
    elem: ValueType,
    len: u64,
    bytes: &'a [u8],
}

impl PartialEq for ArrayRef<'_> {
    /// Same element type and elements, whatever the key.
    fn eq(&self, other: &Self) -> bool {
        (self.elem, self.len, self.bytes) == (other.elem, other.len, other.bytes)
    }
}

/// An iterator over the numbers of type `$ty` of an array; an array of another element type is an error.
macro_rules! numbers {
    ($($name:ident $ty:ident $elem:ident),*) => {$(
        #[doc = concat!("The elements of an array of `", stringify!($ty), "`; an array of another element type is an error.")]
        pub fn $name(self) -> Result<impl ExactSizeIterator<Item = $ty> + Clone + 'a, GgufError> {
            self.expect(ValueType::$elem, concat!("array of ", stringify!($ty)))?;
            let (chunks, _) = self.bytes.as_chunks::<{ size_of::<$ty>() }>();
            Ok(chunks.iter().map(|b| $ty::from_le_bytes(*b)))
        }
    )*};
}

impl<'a> ArrayRef<'a> {
    /// `bytes` are the elements alone, as measured by [`ValueType::skip`].
    pub(super) fn new(path: &'a Path, key: &'a str, elem: ValueType, len: u64, bytes: &'a [u8]) -> Self {
        ArrayRef { path, key, elem, len, bytes }
    }

    /// The metadata key that the array belongs to.
    pub fn key(self) -> &'a str {
        self.key
    }

    /// The type of the elements.
    pub fn element_type(self) -> ValueType {
        self.elem
    }

    /// The number of elements.
    pub fn len(self) -> usize {
        self.len as usize // each element takes a byte of the mapping, or more
    }

    /// Whether the array has no elements.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The encoded elements.
    pub(super) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    fn expect(self, elem: ValueType, expected: &'static str) -> Result<(), GgufError> {
        if self.elem == elem {
            return Ok(());
        }
        let found = Value::Array(self).described();
        Err(GgufProblem::WrongType { key: Quoted::new(self.key), expected, found }.at(self.path))
    }

    /// The elements of any array, nested arrays included. An error ends the iteration.
    pub fn iter(self) -> impl Iterator<Item = Result<Value<'a>, GgufError>> + Clone + 'a {
        let mut rest = Cursor::new(self.bytes);
        let mut left = self.len;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let start = rest.pos();
            let value = self
                .elem
                .skip(&mut rest, self.key)
                .and_then(|()| Value::decode(self.elem, &self.bytes[start..rest.pos()], self.path, self.key))
                .map_err(|e| e.at(self.path));
            if value.is_err() {
                left = 0;
            }
            Some(value)
        })
    }

    /// The strings of an array of strings, without copying; an element that is not UTF-8 is an error which names its
    /// index, and the iteration goes on after it.
    pub fn iter_str(self) -> Result<impl ExactSizeIterator<Item = Result<&'a str, GgufError>> + Clone + 'a, GgufError> {
        let bytes = self.iter_str_bytes()?;
        Ok(bytes.enumerate().map(move |(i, s)| {
            std::str::from_utf8(s).map_err(|_| {
                let what = format!("element {i} of metadata key {}", Quoted::new(self.key));
                GgufProblem::NotUtf8 { what }.at(self.path)
            })
        }))
    }

    /// The strings of an array of strings as they lie in the file, whether UTF-8 or not.
    pub fn iter_str_bytes(self) -> Result<impl ExactSizeIterator<Item = &'a [u8]> + Clone + 'a, GgufError> {
        self.expect(ValueType::Str, "array of string")?;
        let mut rest = Cursor::new(self.bytes);
        // The open walked these lengths, so the empty default is for a file that was changed since.
        Ok((0..self.len()).map(move |_| rest.string(format_args!("an array")).unwrap_or_default()))
    }

    /// The elements of an array of bools; a byte other than 0 or 1 is an error.
    pub fn iter_bool(self) -> Result<impl ExactSizeIterator<Item = bool> + Clone + 'a, GgufError> {
        self.expect(ValueType::Bool, "array of bool")?;
        if let Some(&value) = self.bytes.iter().find(|&&b| b > 1) {
            return Err(GgufProblem::Bool { key: Quoted::new(self.key), value }.at(self.path));
        }
        Ok(self.bytes.iter().map(|&b| b != 0))
    }

    numbers!(iter_u8 u8 U8, iter_i8 i8 I8, iter_u16 u16 U16, iter_i16 i16 I16, iter_u32 u32 U32, iter_i32 i32 I32,
             iter_u64 u64 U64, iter_i64 i64 I64, iter_f32 f32 F32, iter_f64 f64 F64);

    /// The elements of an array of any integer type.
    pub fn iter_int(self) -> Result<impl ExactSizeIterator<Item = i128> + Clone + 'a, GgufError> {
        use ValueType::*;
        if !matches!(self.elem, U8 | I8 | U16 | I16 | U32 | I32 | U64 | I64) {
            self.expect(I32, "array of an integer type")?;
        }
        let size = self.elem.fixed_size().unwrap_or(1) as usize;
        Ok(self.bytes.chunks_exact(size).map(move |b| {
            Value::decode(self.elem, b, self.path, self.key).ok().and_then(|v| v.as_int()).unwrap_or_default()
        }))
    }
}
