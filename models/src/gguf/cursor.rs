//! Reading little-endian fields out of untrusted bytes: every length is checked before a slice is made.

use super::error::GgufProblem;
use std::fmt::Arguments;

/// A read position in a buffer. `what` arguments name the item being read and are only formatted on failure.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, pos: 0 }
    }

    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.pos) as u64
    }

    fn short(&self, need: u64, what: Arguments<'_>) -> GgufProblem {
        GgufProblem::Truncated { what: what.to_string(), at: self.pos as u64, need, left: self.left() }
    }

    pub(super) fn take(&mut self, len: u64, what: Arguments<'_>) -> Result<&'a [u8], GgufProblem> {
        if len > self.left() {
            return Err(self.short(len, what));
        }
        let start = self.pos;
        self.pos += len as usize;
        Ok(&self.bytes[start..self.pos])
    }

    /// The size in bytes of `count` items of `size` bytes each (or more), checked to be no more than what is left.
    pub(super) fn fits(&self, count: u64, size: u64, what: Arguments<'_>) -> Result<u64, GgufProblem> {
        let need = count.saturating_mul(size);
        if need > self.left() { Err(self.short(need, what)) } else { Ok(need) }
    }

    pub(super) fn array<const N: usize>(&mut self, what: Arguments<'_>) -> Result<[u8; N], GgufProblem> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self, what: Arguments<'_>) -> Result<u32, GgufProblem> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: Arguments<'_>) -> Result<u64, GgufProblem> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The bytes of a string: a u64 length, then that many bytes.
    pub(super) fn string(&mut self, what: Arguments<'_>) -> Result<&'a [u8], GgufProblem> {
        let len = self.u64(what)?;
        self.take(len, what)
    }
}
