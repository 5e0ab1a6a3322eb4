//! Metadata values as they lie in the file. Nothing is copied: strings and arrays are views of the mapping.

use super::array::ArrayRef;
use super::cursor::Cursor;
use super::error::{GgufProblem, Quoted};
use std::fmt;
use std::path::Path;

/// Arrays of arrays deeper than this are refused (files in the wild use one level).
pub const MAX_ARRAY_DEPTH: usize = 8;

/// The type of a metadata value; the discriminant is its id in the file (ggml `docs/gguf.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Str = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// Every type, in the order of their ids.
    pub const ALL: &[ValueType] = {
        use ValueType::*;
        &[U8, I8, U16, I16, U32, I32, F32, Bool, Str, Array, U64, I64, F64]
    };

    /// The type of an id, `None` for an id that GGUF does not define.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(id as usize).copied()
    }

    /// The id in the file.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// The name used in messages, such as `u32` or `string`.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::Str => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }

    /// Bytes of a value, `None` where they vary (strings and arrays).
    pub(super) fn fixed_size(self) -> Option<u64> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::Str | ValueType::Array => None,
        }
    }

    /// The fewest bytes that a value can take: a string's length, an array's element type and length.
    fn min_size(self) -> u64 {
        match self {
            ValueType::Str => 8,
            ValueType::Array => 12,
            _ => self.fixed_size().unwrap_or(1),
        }
    }

    /// Reads a type id.
    pub(super) fn read(c: &mut Cursor<'_>, key: &str) -> Result<Self, GgufProblem> {
        let id = c.u32(format_args!("{}", Of(key)))?;
        Self::from_id(id).ok_or_else(|| GgufProblem::ValueType { key: Quoted::new(key), id })
    }

    /// Moves past a value of this type, checking that it lies in the buffer.
    pub(super) fn skip(self, c: &mut Cursor<'_>, key: &str) -> Result<(), GgufProblem> {
        self.skip_nested(c, key, 0)
    }

    fn skip_nested(self, c: &mut Cursor<'_>, key: &str, depth: usize) -> Result<(), GgufProblem> {
        let what = Of(key);
        match self {
            ValueType::Bool => match c.take(1, format_args!("{what}"))?[0] {
                0 | 1 => Ok(()),
                value => Err(GgufProblem::Bool { key: Quoted::new(key), value }),
            },
            ValueType::Str => c.string(format_args!("{what}")).map(drop),
            ValueType::Array => {
                if depth == MAX_ARRAY_DEPTH {
                    return Err(GgufProblem::ArrayDepth { key: Quoted::new(key), limit: MAX_ARRAY_DEPTH });
                }
                let elem = Self::read(c, key)?;
                let len = c.u64(format_args!("{what}"))?;
                // Before the walk, so that an absurd count fails at once.
                let least = c.fits(len, elem.min_size(), format_args!("{what}"))?;
                if elem.fixed_size().is_some() {
                    return c.take(least, format_args!("{what}")).map(drop);
                }
                for _ in 0..len {
                    elem.skip_nested(c, key, depth + 1)?;
                }
                Ok(())
            }
            _ => c.take(self.min_size(), format_args!("{what}")).map(drop),
        }
    }
}

/// Formats as "the value of metadata key …".
struct Of<'a>(&'a str);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value of metadata key {}", Quoted::new(self.0))
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A metadata value, borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(&'a str),
    /// A string that is not valid UTF-8. GGUF forbids it, but a mangled author's name must not make a model unreadable.
    BadStr(&'a [u8]),
    Array(ArrayRef<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Decodes the value that `bytes` holds exactly, as measured by [`ValueType::skip`].
    pub(super) fn decode(ty: ValueType, bytes: &'a [u8], path: &'a Path, key: &'a str) -> Result<Self, GgufProblem> {
        let c = &mut Cursor::new(bytes);
        let what = format_args!("{}", Of(key));
        Ok(match ty {
            ValueType::U8 => Value::U8(u8::from_le_bytes(c.array(what)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(c.array(what)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(c.array(what)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(c.array(what)?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(c.array(what)?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(c.array(what)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(c.array(what)?)),
            ValueType::Bool => Value::Bool(c.array(what)? != [0]),
            ValueType::U64 => Value::U64(u64::from_le_bytes(c.array(what)?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(c.array(what)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(c.array(what)?)),
            ValueType::Str => {
                let s = c.string(what)?;
                std::str::from_utf8(s).map_or(Value::BadStr(s), Value::Str)
            }
            ValueType::Array => {
                let elem = ValueType::read(c, key)?;
                let len = c.u64(what)?;
                Value::Array(ArrayRef::new(path, key, elem, len, &bytes[c.pos()..]))
            }
        })
    }

    /// The type of the value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::Str(_) | Value::BadStr(_) => ValueType::Str,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// The value itself, or the one that all elements of an array have, as converters write what is the same in every
    /// layer; `None` for any other array.
    pub fn single(&self) -> Option<Value<'a>> {
        let Value::Array(array) = self else { return Some(*self) };
        let mut elements = array.iter();
        let first = elements.next()?.ok()?;
        elements.all(|element| element.is_ok_and(|element| element == first)).then_some(first)
    }

    /// A value of any integer or float type, `None` for other types. Integers beyond 2⁵³ are rounded.
    pub fn as_number(&self) -> Option<f64> {
        match *self {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => self.as_int().map(|v| v as f64),
        }
    }

    /// The value of any integer type (i128 holds them all), `None` for other types.
    pub fn as_int(&self) -> Option<i128> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::I8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::I16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::I32(v) => Some(v.into()),
            Value::U64(v) => Some(v.into()),
            Value::I64(v) => Some(v.into()),
            _ => None,
        }
    }

    /// The type in words, such as `u32` or `array of 3 strings`.
    pub(super) fn described(&self) -> String {
        match self {
            Value::Array(a) => format!("array of {} × {}", a.len(), a.element_type()),
            Value::BadStr(_) => "string that is not valid UTF-8".into(),
            _ => self.value_type().name().into(),
        }
    }
}

impl fmt::Display for Value<'_> {
    /// On one line, for messages: texts quoted and cut, arrays as their first elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        match self {
            Value::Bool(v) => v.fmt(f),
            Value::F32(v) => v.fmt(f),
            Value::F64(v) => v.fmt(f),
            Value::Str(text) => Quoted::new(text).fmt(f),
            Value::BadStr(bytes) => Quoted::new(&String::from_utf8_lossy(bytes)).fmt(f),
            Value::Array(array) => {
                f.write_str("[")?;
                for (i, element) in array.iter().take(SHOWN).flatten().enumerate() {
                    write!(f, "{}{element}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(if array.len() > SHOWN { ", …]" } else { "]" })
            }
            value => value.as_int().unwrap_or_default().fmt(f),
        }
    }
}
