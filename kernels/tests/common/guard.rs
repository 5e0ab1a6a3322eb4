//! An allocator that puts a page without access behind each larger piece of memory, when `QEMBED_GUARD` is set: whatever reads or
//! writes beyond the end ends the test program. Also where no sanitizer looks: in assembly.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU8, Ordering};

#[global_allocator]
static ALLOCATOR: Guard = Guard;

struct Guard;

/// What is smaller is the system's: it is none of the kernels' operands.
const SMALLEST: usize = 256;
const PAGE: usize = 4096;

/// Whether it was asked for: 0 unknown, 1 no, 2 yes.
static ASKED: AtomicU8 = AtomicU8::new(0);

fn guards(layout: Layout) -> bool {
    if ASKED.load(Ordering::Relaxed) == 0 {
        // SAFETY: a string of C; nothing changes the environment so early.
        let asked = !unsafe { libc::getenv(c"QEMBED_GUARD".as_ptr()) }.is_null();
        ASKED.store(1 + u8::from(asked), Ordering::Relaxed);
    }
    ASKED.load(Ordering::Relaxed) == 2 && layout.size() >= SMALLEST && layout.align() <= PAGE
}

/// Bytes of the pages for `layout`, without the one behind them.
fn pages(layout: Layout) -> usize {
    layout.size().next_multiple_of(PAGE)
}

// SAFETY: the memory is the system allocator's, or pages of their own that hold the layout.
unsafe impl GlobalAlloc for Guard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !guards(layout) {
            // SAFETY: the caller's promise about `layout`.
            return unsafe { System.alloc(layout) };
        }
        let (pages, flags) = (pages(layout), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new pages, of which the last one loses its access; the start stays within them.
        unsafe {
            let start =
                libc::mmap(std::ptr::null_mut(), pages + PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if start == libc::MAP_FAILED || libc::mprotect(start.byte_add(pages), PAGE, libc::PROT_NONE) != 0 {
                return std::ptr::null_mut();
            }
            // Up to the end, but for what the alignment takes.
            start.cast::<u8>().add((pages - layout.size()) / layout.align() * layout.align())
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if !guards(layout) {
            // SAFETY: it came from there.
            return unsafe { System.dealloc(at, layout) };
        }
        let start = at.map_addr(|at| at / PAGE * PAGE);
        // SAFETY: the pages of `alloc`: the memory starts in the first of them, since it is longer than all but one.
        unsafe { libc::munmap(start.cast(), pages(layout) + PAGE) };
    }
}
