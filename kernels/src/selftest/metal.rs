//! What only a GPU can have: memory that is refused, and work that fails.

use super::operands::{Matrix, Rows, begin, place, read, same};
use super::subject::{Check, Rounding, Share, Subject};
use crate::backend::{Backend, Precision};
use crate::formats::Format;
use crate::metal::{Dispatch, Fault, Gpu, GpuError, MetalBackend, Weight};
use crate::random::Random;
use bytes::Bytes;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

impl<G: Gpu> Subject for MetalBackend<G> {
    /// Weights are rounded to halves, unless products shall be fine or halves would cut them; all else is f32.
    fn rounding(&self, _: &Weight<G>, format: Format, precision: Precision) -> Rounding {
        match (format, precision) {
            (Format::F32 | Format::F16 | Format::BF16, _) | (_, Precision::High) => Rounding::NONE,
            _ => Rounding { weights: Share { run: 1, by: 2f64.powi(-11) }, ..Rounding::NONE },
        }
    }
}

/// The words of a fault that was asked for.
const ASKED: &str = "as the self-test would have it";

/// A norm and a product of so many rows.
fn pass<B: Backend>(backend: &B, rows: usize) -> Result<Vec<f32>, String> {
    let mut random = Random(41);
    let matrix = Matrix::random(&mut random, Format::Q8_0, Precision::Standard, 64, 128);
    let x = Rows::normal(&mut random, rows, matrix.k);
    begin(backend)?;
    let weight = matrix.on(backend)?;
    let input = x.normed(backend, &vec![1.0; matrix.k], backend.form(&weight))?;
    let mut out = backend.tensor(rows, matrix.n);
    backend.matmul(&input, &mut [(&weight, &mut out)]);
    read(backend, &out)
}

/// What fails is told, with its reason, and leaves nothing behind.
fn told<B: Backend>(backend: &B, fail: impl Fn() -> Result<Vec<f32>, String>, words: &str) -> Result<String, String> {
    let before = pass(backend, 9)?;
    match fail() {
        Ok(_) => return Err("nobody noticed".into()),
        Err(error) if !error.contains(words) => return Err(format!("it is told as something else: {error}")),
        Err(_) => {}
    }
    let after = pass(backend, 9).map_err(|error| format!("it fails the next pass too: {error}"))?;
    same(&after, &before, place(64)).map_err(|error| format!("the next pass differs: {error}"))?;
    Ok("told, and the next pass is right".into())
}

/// Work that fails, and memory that is not to be had.
pub(super) fn failures<G: Gpu>(backend: &MetalBackend<Trial<G>>, faults: &Faults, each: &mut dyn FnMut(Check)) {
    let mut tell = |name: &str, found| each(Check { name: name.into(), found });
    let injected = || {
        faults.fail_next();
        let result = pass(backend, 9);
        if faults.pending() { Err("nothing was waited for".into()) } else { result }
    };
    tell("a command buffer that fails", told(backend, injected, ASKED));
    let refused = || {
        faults.refuse_above(1 << 20);
        let result = pass(backend, 5000);
        faults.refuse_above(usize::MAX);
        result
    };
    tell("memory that is refused", told(backend, refused, "bytes"));
    let too_large = || {
        let cols = 1024;
        let rows = backend.gpu().max_buffer() / (size_of::<f32>() * cols) + 1;
        begin(backend)?;
        read(backend, &backend.tensor(rows, cols))
    };
    tell("a pass that is too large", told(backend, too_large, "bytes"));
}

/// A GPU whose new memory is full of NaN, and which fails when it is told to.
pub(super) struct Trial<G> {
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
            return Err(GpuError::Failed { fault: Fault::Timeout, reason: ASKED.into() });
        }
        Ok(())
    }
}
