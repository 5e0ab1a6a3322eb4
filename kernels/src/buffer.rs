//! Memory for the kernels: cache-line aligned buffers, and a way for threads to write disjoint parts of one slice.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Types whose every bit pattern is a value, so that zeroed bytes may be viewed as them.
///
/// # Safety
/// No padding, no invalid bit patterns, alignment at most 64.
pub(crate) unsafe trait Plain: Copy + 'static {}
// SAFETY: plain numbers.
unsafe impl Plain for f32 {}
// SAFETY: plain numbers.
unsafe impl Plain for i8 {}
// SAFETY: plain numbers.
unsafe impl Plain for u8 {}
// SAFETY: plain numbers.
unsafe impl Plain for i16 {}
// SAFETY: plain numbers.
unsafe impl Plain for u16 {}
// SAFETY: plain numbers.
unsafe impl Plain for i32 {}

/// A zeroed buffer of `T` that starts on a cache line.
pub(crate) struct Buffer<T> {
    lines: Vec<Line>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Plain> Buffer<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// As [`Self::resize`].
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut buffer = Self { lines: Vec::new(), len: 0, of: PhantomData };
        buffer.resize(len);
        buffer
    }

    /// Changes the length; what was there stays, new elements are zero or left over from an earlier, longer use.
    ///
    /// # Panics
    /// When that many elements have no size in bytes.
    pub(crate) fn resize(&mut self, len: usize) {
        let lines = len.checked_mul(size_of::<T>()).expect("a buffer fits the address space").div_ceil(64);
        if lines > self.lines.len() {
            if self.lines.is_empty() {
                self.lines = vec![Line([0; 64]); lines];
            } else {
                self.lines.resize(lines, Line([0; 64]));
            }
        }
        self.len = len;
    }
}

#[cfg(target_arch = "x86_64")]
impl Buffer<u8> {
    /// The bytes as 16-bit integers, without an odd last one.
    pub(crate) fn as_i16(&self) -> &[i16] {
        // SAFETY: `lines` is aligned to 64 and holds at least `len` initialized bytes; any bits are an i16.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len / 2) }
    }

    /// As [`Buffer::as_i16`].
    pub(crate) fn as_i16_mut(&mut self) -> &mut [i16] {
        // SAFETY: as in `as_i16`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len / 2) }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `lines` owns at least `len * size_of::<T>()` initialized bytes, aligned to 64, and T is plain.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// A mutable slice that the tasks of one parallel loop share, each writing a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `part`, whose callers promise disjoint ranges.
unsafe impl<T: Send> Send for Parts<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T: Copy> Parts<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), of: PhantomData }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets element `i`.
    ///
    /// # Safety
    /// No other task reads or writes it at the same time.
    ///
    /// # Panics
    /// When `i` is not inside the slice.
    pub(crate) unsafe fn set(&self, i: usize, value: T) {
        assert!(i < self.len, "element {i} of a slice of {}", self.len);
        // SAFETY: in bounds by the assertion; exclusive by this function's contract.
        unsafe { self.start.add(i).write(value) }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No other part that is in use at the same time overlaps `range`.
    ///
    /// # Panics
    /// When `range` is not inside the slice.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of a slice of {}", self.len);
        // SAFETY: in bounds by the assertion; exclusive by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}
