//! What only a GPU can have: memory that is refused, and work that fails.

use crate::metal::{Dispatch, Fault, Gpu, GpuError};
use bytes::Bytes;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// A GPU whose new memory is full of NaN, and which fails when it is told to.
pub struct Trial<G> {
    gpu: G,
    faults: Arc<Faults>,
}

/// What a [`Trial`] has to fail at.
#[derive(Debug)]
pub(super) struct Faults {
    /// The next command buffer that is waited for.
    next: AtomicBool,
    /// Buffers of more bytes.
    above: AtomicUsize,
}

impl Faults {
    pub(super) fn fail_next(&self) {
        self.next.store(true, Relaxed);
    }

    /// Whether the one to fail is still to come.
    pub(super) fn pending(&self) -> bool {
        self.next.load(Relaxed)
    }

    pub(super) fn refuse_above(&self, bytes: usize) {
        self.above.store(bytes, Relaxed);
    }
}

impl<G: Gpu> Trial<G> {
    /// Fails at nothing so far.
    pub(super) fn new(gpu: G) -> (Self, Arc<Faults>) {
        let faults = Arc::new(Faults { next: false.into(), above: usize::MAX.into() });
        (Self { gpu, faults: faults.clone() }, faults)
    }
}

// SAFETY: everything is handed on to a `Gpu`; memory is written to before anybody else has it.
unsafe impl<G: Gpu> Gpu for Trial<G> {
    type Buffer = G::Buffer;
    type Pipeline = G::Pipeline;
    type Commands = G::Commands;
    type Submitted = G::Submitted;

    fn name(&self) -> &str {
        self.gpu.name()
    }

    fn limit(&self) -> u64 {
        self.gpu.limit()
    }

    fn max_buffer(&self) -> usize {
        self.gpu.max_buffer()
    }

    fn max_threadgroup_memory(&self) -> usize {
        self.gpu.max_threadgroup_memory()
    }

    fn page(&self) -> usize {
        self.gpu.page()
    }

    fn buffer(&self, bytes: usize) -> Result<G::Buffer, GpuError> {
        if bytes > self.faults.above.load(Relaxed) {
            return Err(GpuError::Memory { bytes });
        }
        let buffer = self.gpu.buffer(bytes)?;
        // SAFETY: so many bytes are there, and nobody else has them yet. All ones are NaN, of half precision too.
        unsafe { self.gpu.contents(&buffer).as_ptr().write_bytes(0xff, bytes) };
        Ok(buffer)
    }

    unsafe fn over(&self, start: NonNull<u8>, bytes: usize, owner: Bytes) -> Result<G::Buffer, GpuError> {
        // SAFETY: as the caller promised.
        unsafe { self.gpu.over(start, bytes, owner) }
    }

    fn contents(&self, buffer: &G::Buffer) -> NonNull<u8> {
        self.gpu.contents(buffer)
    }

    fn pipeline(&self, kernel: &str) -> Result<G::Pipeline, GpuError> {
        self.gpu.pipeline(kernel)
    }

    fn commands(&self) -> Result<G::Commands, GpuError> {
        self.gpu.commands()
    }

    unsafe fn dispatch(&self, commands: &mut G::Commands, dispatch: Dispatch<'_, Self>) {
        let Dispatch { pipeline, buffers, params, threadgroup_bytes, grid, threads } = dispatch;
        // SAFETY: as the caller promised.
        unsafe {
            self.gpu.dispatch(commands, Dispatch { pipeline, buffers, params, threadgroup_bytes, grid, threads });
        }
    }

    fn commit(&self, commands: G::Commands) -> G::Submitted {
        self.gpu.commit(commands)
    }

    fn wait(&self, submitted: G::Submitted) -> Result<(), GpuError> {
        self.gpu.wait(submitted)?;
        if self.faults.next.swap(false, Relaxed) {
            return Err(GpuError::Failed { fault: Fault::Timeout, reason: "as the self-test would have it".into() });
        }
        Ok(())
    }
}
