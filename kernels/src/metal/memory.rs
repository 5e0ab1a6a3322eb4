//! Memory of the GPU, which goes from pass to pass.
//!
//! The GPU's own work is ordered, so what it alone writes may be used again at once. What the host writes may not, until the last work
//! that was queued on that memory has completed: [`Arena::for_host`] gives no other.

use super::gpu::{Gpu, GpuError};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Memory that is given back to its arena when it is dropped.
pub(super) struct Memory<D: Gpu> {
    /// There until it is dropped.
    buffer: Option<D::Buffer>,
    bytes: usize,
    /// The last command buffer that was to use it.
    last: AtomicU64,
    /// None of what is to last: it is freed.
    arena: Option<Arc<Arena<D>>>,
}

impl<D: Gpu> Memory<D> {
    pub(super) fn buffer(&self) -> &D::Buffer {
        self.buffer.as_ref().expect("memory has its buffer until it is dropped")
    }

    /// Is told that the command buffer of this number uses it.
    pub(super) fn used_by(&self, number: u64) {
        self.last.fetch_max(number, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }
}

impl<D: Gpu> Drop for Memory<D> {
    fn drop(&mut self) {
        if let (Some(arena), Some(buffer)) = (&self.arena, self.buffer.take()) {
            arena.give(Free { buffer, bytes: self.bytes, last: self.last() });
        }
    }
}

struct Free<D: Gpu> {
    buffer: D::Buffer,
    bytes: usize,
    last: u64,
}

/// Where memory comes from, and what is held back for later.
pub(super) struct Arena<D: Gpu> {
    gpu: Arc<D>,
    free: Mutex<Vec<Free<D>>>,
    /// Command buffers up to this number have completed.
    completed: AtomicU64,
}

impl<D: Gpu> Arena<D> {
    /// The most that is held back, and the most of one buffer, in bytes: as on the CPU.
    const HELD: usize = 192 << 20;
    const LARGEST: usize = 32 << 20;
    /// What buffers are made of, at least.
    const STEP: usize = 256;

    pub(super) fn new(gpu: Arc<D>) -> Arc<Self> {
        Arc::new(Self { gpu, free: Mutex::default(), completed: AtomicU64::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Free<D>>> {
        // A panic leaves a list of whole buffers.
        self.free.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Is told that command buffers up to this number have completed.
    pub(super) fn complete(&self, number: u64) {
        self.completed.fetch_max(number, Ordering::Relaxed);
    }

    /// Whether the host may read and write it: no queued work uses it.
    pub(super) fn is_at_rest(&self, memory: &Memory<D>) -> bool {
        memory.last() <= self.completed.load(Ordering::Relaxed)
    }

    /// Memory of so many bytes, of any content, that the GPU alone will write.
    pub(super) fn for_gpu(self: &Arc<Self>, bytes: usize) -> Result<Memory<D>, GpuError> {
        self.take(bytes, |_| true)
    }

    /// Memory that the host may write at once.
    pub(super) fn for_host(self: &Arc<Self>, bytes: usize) -> Result<Memory<D>, GpuError> {
        let completed = self.completed.load(Ordering::Relaxed);
        self.take(bytes, |free| free.last <= completed)
    }

    /// Memory that is kept beyond a pass: it takes no more than it holds.
    pub(super) fn lasting(&self, bytes: usize) -> Result<Memory<D>, GpuError> {
        let bytes = bytes.next_multiple_of(Self::STEP).max(Self::STEP);
        Ok(Memory { buffer: Some(self.make(bytes)?), bytes, last: AtomicU64::new(0), arena: None })
    }

    /// The smallest that fits, if it is not far too large; or a new one, in four sizes between a power of two and the next.
    fn take(self: &Arc<Self>, bytes: usize, may: impl Fn(&Free<D>) -> bool) -> Result<Memory<D>, GpuError> {
        let bytes = bytes.max(Self::STEP);
        let bytes = bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(Self::STEP));
        let mut free = self.lock();
        let fits = |(_, of): &(usize, &Free<D>)| (bytes..=2 * bytes).contains(&of.bytes) && may(of);
        let found = free.iter().enumerate().filter(fits).min_by_key(|(_, of)| of.bytes).map(|(i, _)| i);
        let found = found.map(|i| free.swap_remove(i));
        drop(free);
        let arena = Some(self.clone());
        Ok(match found {
            Some(Free { buffer, bytes, last }) => {
                Memory { buffer: Some(buffer), bytes, last: AtomicU64::new(last), arena }
            }
            None => Memory { buffer: Some(self.make(bytes)?), bytes, last: AtomicU64::new(0), arena },
        })
    }

    /// A new buffer. When none is to be had, what is held back is let go of first.
    fn make(&self, bytes: usize) -> Result<D::Buffer, GpuError> {
        self.gpu.buffer(bytes).or_else(|_| {
            self.lock().clear();
            self.gpu.buffer(bytes)
        })
    }

    fn give(&self, memory: Free<D>) {
        let mut free = self.lock();
        let held: usize = free.iter().map(|of| of.bytes).sum();
        if memory.bytes <= Self::LARGEST && held + memory.bytes <= Self::HELD {
            free.push(memory);
        }
    }

    /// Copies values to the start of memory that [`Arena::is_at_rest`] and holds them.
    pub(super) fn write<T: Copy>(&self, memory: &mut Memory<D>, at: usize, values: &[T]) {
        let (start, len) = (at * size_of::<T>(), size_of_val(values));
        assert!(self.is_at_rest(memory) && start + len <= memory.bytes, "a write within memory that nobody uses");
        let to: NonNull<u8> = self.gpu.contents(memory.buffer());
        // SAFETY: so many bytes from there on are this memory's, which nothing else touches: no work does, and `memory` is borrowed.
        unsafe { to.as_ptr().add(start).copy_from_nonoverlapping(values.as_ptr().cast(), len) };
    }

    /// The first `len` floats of memory that [`Arena::is_at_rest`].
    pub(super) fn read(&self, memory: &Memory<D>, len: usize) -> Vec<f32> {
        assert!(self.is_at_rest(memory) && len * size_of::<f32>() <= memory.bytes, "memory that nobody writes to");
        // SAFETY: so many bytes are this memory's, aligned for whatever a GPU reads, written by work or arbitrary; nothing writes now.
        unsafe { std::slice::from_raw_parts(self.gpu.contents(memory.buffer()).cast::<f32>().as_ptr(), len) }.to_vec()
    }
}
