//! Memory for the kernels: cache-line aligned buffers, and a way for threads to write disjoint parts of one slice.

use memmap2::MmapMut;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes of a cache line.
pub(crate) const CACHE_LINE: usize = 64;
/// f32 of a cache line.
pub(crate) const FLOATS_PER_LINE: usize = CACHE_LINE / size_of::<f32>();

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; CACHE_LINE]);

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

/// Memory that large buffers leave behind for the next ones: fresh pages cost a fault each.
pub(crate) struct Arena {
    free: Mutex<Vec<Lines>>,
}

impl Arena {
    /// The most that is held back, and the most of one buffer, in bytes: usual passes of a small model, one between the layers of another, none of
    /// a long text.
    const HELD: usize = 192 << 20;
    const LARGEST: usize = 32 << 20;

    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(Vec::new()) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Lines>> {
        // A panic leaves a list of whole buffers.
        self.free.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// At least so many lines, of any content: the smallest that fits, if it is not far too large.
    ///
    /// Large ones come in four sizes between a power of two and the next: passes of nearly as many tokens then take the same memory. What
    /// nobody writes to is no memory yet.
    fn take(&self, lines: usize) -> Lines {
        let lines = if lines < Lines::LARGE / CACHE_LINE {
            lines
        } else {
            lines.next_multiple_of(lines.next_power_of_two() / 8)
        };
        let mut free = self.lock();
        let fits = |i: &usize| (lines..=4 * lines).contains(&free[*i].len());
        match (0..free.len()).filter(fits).min_by_key(|i| free[*i].len()) {
            Some(i) => free.swap_remove(i),
            None => {
                Self::make_room(&mut free, lines);
                drop(free);
                Lines::zeroed(lines)
            }
        }
    }

    /// Gives back what is too small for so many lines, the largest first, until there is room for them: what is held and what
    /// is used are together no more than was ever used at once.
    fn make_room(free: &mut Vec<Lines>, lines: usize) {
        let large = Lines::LARGE / CACHE_LINE..lines;
        let mut missing = lines;
        while missing > 0
            && let Some(i) = (0..free.len()).filter(|&i| large.contains(&free[i].len())).max_by_key(|&i| free[i].len())
        {
            missing = missing.saturating_sub(free.swap_remove(i).len());
        }
    }

    fn give(&self, lines: Lines) {
        let mut free = self.lock();
        let held: usize = free.iter().map(|lines| lines.len()).sum();
        if lines.len() * CACHE_LINE <= Self::LARGEST && (held + lines.len()) * CACHE_LINE <= Self::HELD {
            free.push(lines);
        }
    }
}

/// Cache lines in a row.
enum Lines {
    Heap(Vec<Line>),
    /// Pages of the operating system, which has them back at once. An allocator that has seen large pieces come and go keeps
    /// them, in places between which others do not fit: a server grew by them for minutes.
    Pages(MmapMut),
}

impl Default for Lines {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Lines {
    /// Bytes of a piece that is worth pages of its own; `tests/lean.rs`, which counts what allocators give, has none.
    const LARGE: usize = 4 << 20;

    /// So many lines of zeros.
    fn zeroed(lines: usize) -> Self {
        let bytes = lines * CACHE_LINE;
        if bytes >= Self::LARGE
            && let Ok(pages) = MmapMut::map_anon(bytes)
        {
            // A tile of a product touches a page of every row. A hint, which may fail.
            #[cfg(target_os = "linux")]
            let _ = pages.advise(memmap2::Advice::HugePage);
            return Self::Pages(pages);
        }
        Self::Heap(vec![Line([0; CACHE_LINE]); lines])
    }

    /// Adds lines of zeros until there are so many.
    fn grow(&mut self, lines: usize) {
        match self {
            Self::Heap(heap) if heap.is_empty() => *heap = vec![Line([0; CACHE_LINE]); lines],
            Self::Heap(heap) => heap.resize(lines, Line([0; CACHE_LINE])),
            Self::Pages(_) => {
                let mut more = Self::zeroed(lines);
                more[..self.len()].copy_from_slice(self);
                *self = more;
            }
        }
    }
}

impl Deref for Lines {
    type Target = [Line];
    fn deref(&self) -> &[Line] {
        match self {
            Self::Heap(heap) => heap,
            // SAFETY: pages are aligned to more than a line, and any bytes are one.
            Self::Pages(pages) => unsafe {
                std::slice::from_raw_parts(pages.as_ptr().cast(), pages.len() / CACHE_LINE)
            },
        }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        match self {
            Self::Heap(heap) => heap,
            // SAFETY: as above, and `self` is borrowed mutably.
            Self::Pages(pages) => unsafe {
                std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), pages.len() / CACHE_LINE)
            },
        }
    }
}

/// A buffer of `T` that starts on a cache line.
pub(crate) struct Buffer<T> {
    lines: Lines,
    len: usize,
    /// Where its memory came from and goes back to.
    arena: Option<Arc<Arena>>,
    of: PhantomData<T>,
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        if let Some(arena) = &self.arena {
            arena.give(std::mem::take(&mut self.lines));
        }
    }
}

impl<T: Plain> Default for Buffer<T> {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl<T: Plain> Buffer<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// As [`Self::resize`].
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut buffer = Self { lines: Lines::default(), len: 0, arena: None, of: PhantomData };
        buffer.resize(len);
        buffer
    }

    /// `len` elements, which hold what their last user left.
    ///
    /// # Panics
    /// As [`Self::resize`].
    pub(crate) fn of_arena(arena: &Arc<Arena>, len: usize) -> Self {
        Self { lines: arena.take(Self::lines_of(len)), len, arena: Some(arena.clone()), of: PhantomData }
    }

    fn lines_of(len: usize) -> usize {
        len.checked_mul(size_of::<T>()).expect("a buffer fits the address space").div_ceil(CACHE_LINE)
    }

    /// Changes the length; what was there stays, new elements are zero or left over from an earlier, longer use.
    ///
    /// # Panics
    /// When that many elements have no size in bytes.
    pub(crate) fn resize(&mut self, len: usize) {
        let lines = Self::lines_of(len);
        if lines > self.lines.len() {
            self.lines.grow(lines);
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

    /// The first element. Not a promise of anything: for hints.
    pub(crate) fn as_ptr(&self) -> *const T {
        self.start
    }

    /// Where `range` starts, of which a caller uses only what no other task does.
    ///
    /// # Panics
    /// As [`Self::part`].
    pub(crate) fn start_of(&self, range: Range<usize>) -> *mut T {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of a slice of {}", self.len);
        self.start.wrapping_add(range.start)
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

/// Asks for the cache line of an address, which need not exist.
#[inline(always)]
pub(crate) fn prefetch<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, for any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(p.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// [`prefetch`] into the L2 cache.
#[inline(always)]
pub(crate) fn prefetch_later<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, for any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(p.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}
