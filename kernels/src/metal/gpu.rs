//! What the Metal backend asks of a GPU: memory, kernels by name, and an ordered stream of command buffers.
//!
//! [`super::MetalBackend`] is written over [`Gpu`] alone, so that all of it but the few calls into Metal itself also runs where there
//! is no Metal. Nothing here may know a model, a format or a kernel.
//!
//! Work is ordered: every dispatch sees what those before it wrote, of its own command buffer and of those committed earlier. Metal
//! gives this with one queue, serial encoders and tracked hazards. Nothing else is promised: who frees or overwrites memory that
//! committed work may still read waits for it first.

use bytes::Bytes;
use std::ptr::NonNull;

/// What a GPU says when it cannot do its work.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// There is none, or it is not to be had.
    #[error("there is no GPU that Metal can use: run on the CPU")]
    None,
    /// The kernels' source is refused.
    #[error("this system's Metal does not take the kernels ({reason}): update the system, or run on the CPU")]
    Source {
        /// The compiler's words.
        reason: String,
    },
    /// A kernel is not in the source, or no pipeline can be made of it.
    #[error("Metal makes no pipeline of the kernel {kernel} ({reason}): update the system, or run on the CPU")]
    Pipeline {
        /// Its name.
        kernel: String,
        /// Metal's words.
        reason: String,
    },
    /// Memory that is not given, or not taken over.
    #[error("the GPU does not give {bytes} bytes: take a smaller model or shorter texts, or run on the CPU")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// A command buffer that did not complete.
    #[error("the GPU gave up ({fault}: {reason}): try again, or run on the CPU")]
    Failed {
        /// Of what kind.
        fault: Fault,
        /// Metal's words.
        reason: String,
    },
    /// A shape that no kernel is for.
    #[error("there is no Metal kernel for heads of {head_dim} values, but for 64 and 128: run on the CPU")]
    HeadDim {
        /// Values of a head.
        head_dim: usize,
    },
    /// It computes something else than it should.
    #[error("this GPU computes {got} where it should {want}: run on the CPU")]
    Wrong {
        /// What it said.
        got: f32,
        /// What is right.
        want: f32,
    },
}

/// Why a command buffer did not complete: the kinds of `MTLCommandBufferError` that somebody can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The system took the GPU away from work that took too long (`timeout`).
    Timeout,
    /// Buffers in use do not fit the memory (`outOfMemory`).
    OutOfMemory,
    /// Memory was read or written that nobody has (`pageFault`, `stackOverflow`).
    PageFault,
    /// The process may not use the GPU, or no more (`notPermitted`, `accessRevoked`, `blacklisted`, `deviceRemoved`).
    Refused,
    /// Anything else.
    Other,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fault::Timeout => "the work took too long",
            Fault::OutOfMemory => "out of memory",
            Fault::PageFault => "memory that is not there",
            Fault::Refused => "not permitted",
            Fault::Other => "unknown",
        })
    }
}

/// One kernel over a grid of threadgroups.
///
/// Arguments of a kernel are numbered: buffers are `[[buffer(0)]]`, `[[buffer(1)]]`, … in their order, the parameters are the next
/// (`setBytes`), and the threadgroup memory is `[[threadgroup(0)]]`.
pub struct Dispatch<'a, G: Gpu> {
    /// The kernel.
    pub pipeline: &'a G::Pipeline,
    /// Buffers, and from which byte on each is seen: a multiple of 4.
    pub buffers: &'a [(&'a G::Buffer, usize)],
    /// A `constant` struct's bytes, copied at once: none, or a multiple of 4 and at most 4,096.
    pub params: &'a [u8],
    /// Bytes of threadgroup memory: a multiple of 16, 0 for a kernel without.
    pub threadgroup_bytes: usize,
    /// Threadgroups along x, y and z; none is 0.
    pub grid: [usize; 3],
    /// Threads of a threadgroup, along x: a multiple of 32, at most 1,024.
    pub threads: usize,
}

/// A GPU with the kernels of one library of source. Made by each implementation from that source, [`super::SOURCE`], compiled with
/// safe math.
///
/// # Safety
/// [`Gpu::contents`] points to as many bytes as the buffer was made with, from when it is made until it is dropped, and nothing but
/// committed work and who holds that pointer touches them. Commands keep the buffers and pipelines that they name alive until they
/// have completed or were dropped.
pub unsafe trait Gpu: Send + Sync + 'static {
    /// Memory that both the host and the GPU see (`storageModeShared`).
    type Buffer: Send + Sync;
    /// A kernel, ready to run.
    type Pipeline: Send + Sync;
    /// A command buffer that is being filled; dropped, nothing of it runs.
    type Commands: Send;
    /// A command buffer that was committed.
    type Submitted: Send;

    /// The device's own name, such as `Apple M2`.
    fn name(&self) -> &str;
    /// The most bytes that it should have in use at once (`recommendedMaxWorkingSetSize`).
    fn limit(&self) -> u64;
    /// The largest buffer that it makes, in bytes (`maxBufferLength`).
    fn max_buffer(&self) -> usize;
    /// Bytes of threadgroup memory that a dispatch may have (`maxThreadgroupMemoryLength`).
    fn max_threadgroup_memory(&self) -> usize;
    /// Bytes of a page of the host's memory: what [`Gpu::over`] must be a multiple of.
    fn page(&self) -> usize;

    /// Memory of so many bytes, more than 0, of unspecified content.
    ///
    /// # Errors
    /// [`GpuError::Memory`].
    fn buffer(&self, bytes: usize) -> Result<Self::Buffer, GpuError>;
    /// Memory of the host, seen by the GPU in place (`newBufferWithBytesNoCopy`), which only reads it. The buffer holds `owner` for as
    /// long as it lives and lets go of it last.
    ///
    /// # Errors
    /// [`GpuError::Memory`].
    ///
    /// # Safety
    /// `start` and `bytes` are multiples of [`Gpu::page`], `bytes` is more than 0, and all of these pages are mapped for reading until
    /// `owner` is dropped.
    unsafe fn over(&self, start: NonNull<u8>, bytes: usize, owner: Bytes) -> Result<Self::Buffer, GpuError>;
    /// Where the bytes of a buffer are.
    fn contents(&self, buffer: &Self::Buffer) -> NonNull<u8>;

    /// The kernel of this name.
    ///
    /// # Errors
    /// [`GpuError::Pipeline`].
    fn pipeline(&self, kernel: &str) -> Result<Self::Pipeline, GpuError>;

    /// An empty command buffer.
    ///
    /// # Errors
    /// [`GpuError::Failed`] when none is to be had.
    fn commands(&self) -> Result<Self::Commands, GpuError>;
    /// Adds a dispatch to it, as the last.
    ///
    /// # Safety
    /// The kernel takes these arguments and stays within the buffers, which nobody overwrites or reads as long as the commands run,
    /// but work that was ordered before or after.
    unsafe fn dispatch(&self, commands: &mut Self::Commands, dispatch: Dispatch<'_, Self>)
    where
        Self: Sized;
    /// Has it run, after all that was committed before.
    fn commit(&self, commands: Self::Commands) -> Self::Submitted;
    /// Waits until it has completed.
    ///
    /// # Errors
    /// [`GpuError::Failed`]; what it should have written is of no use then.
    fn wait(&self, submitted: Self::Submitted) -> Result<(), GpuError>;
}
