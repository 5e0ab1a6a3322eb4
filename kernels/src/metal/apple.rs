//! [`Gpu`] over Metal itself, by way of `objc2-metal`: the one file that runs on a Mac alone. It calls, and decides nothing.
//!
//! Whatever returns objects that are autoreleased runs in a pool of its own: threads of Rust have none, and would keep them all.

use super::gpu::{Dispatch, Fault, Gpu, GpuError};
use block2::RcBlock;
use bytes::Bytes;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::{NSObjectProtocol, ProtocolObject};
use objc2::sel;
use objc2_foundation::{NSError, NSPageSize, NSString};
use objc2_metal::{
    MTLBuffer, MTLCommandBuffer, MTLCommandBufferError, MTLCommandBufferStatus, MTLCommandEncoder, MTLCommandQueue,
    MTLCompileOptions, MTLComputeCommandEncoder, MTLComputePipelineState, MTLCreateSystemDefaultDevice, MTLDevice,
    MTLLibrary, MTLMathFloatingPointFunctions, MTLMathMode, MTLResourceOptions, MTLSize,
};
use std::ffi::c_void;
use std::ptr::NonNull;

/// The system's GPU, with the kernels compiled for it.
pub struct Apple {
    name: String,
    device: Retained<ProtocolObject<dyn MTLDevice>>,
    queue: Retained<ProtocolObject<dyn MTLCommandQueue>>,
    library: Retained<ProtocolObject<dyn MTLLibrary>>,
}

/// The name of the system's GPU, such as `Apple M2`; nothing of it is started.
///
/// # Errors
/// [`GpuError::None`].
pub fn name() -> Result<String, GpuError> {
    autoreleasepool(|_| Ok(device()?.name().to_string()))
}

/// The GPU that shares its memory with the host, as those of all Macs with processors of Apple do: weights in place are of no
/// use to another.
fn device() -> Result<Retained<ProtocolObject<dyn MTLDevice>>, GpuError> {
    MTLCreateSystemDefaultDevice().filter(|device| device.hasUnifiedMemory()).ok_or(GpuError::None)
}

impl Apple {
    /// The system's GPU with the kernels of `source`, which takes the time of compiling them.
    ///
    /// # Errors
    /// [`GpuError::None`] and [`GpuError::Source`].
    pub fn new(source: &str) -> Result<Self, GpuError> {
        autoreleasepool(|_| {
            let device = device()?;
            let options = MTLCompileOptions::new();
            // Contractions and reassociation change bits, and NaN is looked for: of what macOS before 15 has, this is the same.
            if options.respondsToSelector(sel!(setMathMode:)) {
                options.setMathMode(MTLMathMode::Safe);
                options.setMathFloatingPointFunctions(MTLMathFloatingPointFunctions::Precise);
            } else {
                #[allow(deprecated)]
                options.setFastMathEnabled(false);
            }
            let library = device
                .newLibraryWithSource_options_error(&NSString::from_str(source), Some(&options))
                .map_err(|error| GpuError::Source { reason: words(&error) })?;
            let queue = device.newCommandQueue().ok_or(GpuError::None)?;
            Ok(Self { name: device.name().to_string(), device, queue, library })
        })
    }
}

/// What an error of Metal says.
fn words(error: &NSError) -> String {
    error.localizedDescription().to_string()
}

/// Memory that host and GPU see.
pub struct AppleBuffer(Retained<ProtocolObject<dyn MTLBuffer>>);

// SAFETY: a buffer is a handle of memory, whose methods that are called here (`contents`, being bound) only read the handle; retain
// counts are atomic. The memory itself is guarded as `Gpu` says.
unsafe impl Send for AppleBuffer {}
// SAFETY: as above.
unsafe impl Sync for AppleBuffer {}

/// A kernel, compiled.
pub struct ApplePipeline(Retained<ProtocolObject<dyn MTLComputePipelineState>>);

// SAFETY: Metal's pipeline states never change after they are made, and may be used from any thread (Metal Programming Guide,
// "Command Organization and Execution Model"); retain counts are atomic.
unsafe impl Send for ApplePipeline {}
// SAFETY: as above.
unsafe impl Sync for ApplePipeline {}

/// A command buffer with the one encoder that fills it.
pub struct AppleCommands {
    buffer: Retained<ProtocolObject<dyn MTLCommandBuffer>>,
    encoder: Retained<ProtocolObject<dyn MTLComputeCommandEncoder>>,
}

// SAFETY: one thread at a time may use a command buffer and its encoder, whichever; neither is shared, since this is not `Sync` and
// holds the only references.
unsafe impl Send for AppleCommands {}

impl Drop for AppleCommands {
    /// An encoder that is let go of before its end has Metal abort the process.
    fn drop(&mut self) {
        autoreleasepool(|_| self.encoder.endEncoding());
    }
}

/// A command buffer on its way.
pub struct AppleSubmitted(Retained<ProtocolObject<dyn MTLCommandBuffer>>);

// SAFETY: as of `AppleCommands`; what is called after commit only waits and reads.
unsafe impl Send for AppleSubmitted {}

// SAFETY: `contents` is Metal's own pointer, valid for the buffer's length as long as the buffer is. Command buffers hold strong
// references to buffers and pipelines until they have completed (`commandBuffer`, not the one with unretained references), and
// a serial encoder on one queue with tracked hazards orders the work.
unsafe impl Gpu for Apple {
    type Buffer = AppleBuffer;
    type Pipeline = ApplePipeline;
    type Commands = AppleCommands;
    type Submitted = AppleSubmitted;

    fn name(&self) -> &str {
        &self.name
    }

    fn limit(&self) -> u64 {
        self.device.recommendedMaxWorkingSetSize()
    }

    fn max_buffer(&self) -> usize {
        self.device.maxBufferLength()
    }

    fn max_threadgroup_memory(&self) -> usize {
        self.device.maxThreadgroupMemoryLength()
    }

    fn page(&self) -> usize {
        NSPageSize()
    }

    fn buffer(&self, bytes: usize) -> Result<AppleBuffer, GpuError> {
        let buffer =
            autoreleasepool(|_| self.device.newBufferWithLength_options(bytes, MTLResourceOptions::StorageModeShared));
        buffer.map(AppleBuffer).ok_or(GpuError::Memory { bytes })
    }

    unsafe fn over(&self, start: NonNull<u8>, bytes: usize, owner: Bytes) -> Result<AppleBuffer, GpuError> {
        // Metal calls the block when it has let go of the memory, which may be after the last handle is gone: a command buffer holds
        // one too. Then it lets go of the block, and that of the owner.
        let owned = RcBlock::new(move |_: NonNull<c_void>, _: usize| {
            let _ = &owner;
        });
        // SAFETY: the caller's promise: whole pages, mapped until the owner is dropped; the block may be called on any thread,
        // since `Bytes` is `Send` and `Sync`.
        let buffer = autoreleasepool(|_| unsafe {
            self.device.newBufferWithBytesNoCopy_length_options_deallocator(
                start.cast(),
                bytes,
                MTLResourceOptions::StorageModeShared,
                Some(&owned),
            )
        });
        buffer.map(AppleBuffer).ok_or(GpuError::Memory { bytes })
    }

    fn contents(&self, buffer: &AppleBuffer) -> NonNull<u8> {
        buffer.0.contents().cast()
    }

    fn pipeline(&self, kernel: &str) -> Result<ApplePipeline, GpuError> {
        let failed = |reason: String| GpuError::Pipeline { kernel: kernel.into(), reason };
        autoreleasepool(|_| {
            let function = self.library.newFunctionWithName(&NSString::from_str(kernel));
            let function = function.ok_or_else(|| failed("it is not in the source".into()))?;
            let pipeline = self.device.newComputePipelineStateWithFunction_error(&function);
            Ok(ApplePipeline(pipeline.map_err(|error| failed(words(&error)))?))
        })
    }

    fn commands(&self) -> Result<AppleCommands, GpuError> {
        autoreleasepool(|_| {
            let buffer = self.queue.commandBuffer()?;
            let encoder = buffer.computeCommandEncoder()?;
            Some(AppleCommands { buffer, encoder })
        })
        .ok_or_else(|| GpuError::Failed { fault: Fault::Other, reason: "no command buffer is to be had".into() })
    }

    unsafe fn dispatch(&self, commands: &mut AppleCommands, dispatch: Dispatch<'_, Self>) {
        let Dispatch { pipeline, buffers, params, threadgroup_bytes, grid: [x, y, z], threads } = dispatch;
        let encoder = &commands.encoder;
        autoreleasepool(|_| {
            encoder.setComputePipelineState(&pipeline.0);
            // SAFETY: the caller's promise: the kernel takes these arguments at these places, and stays within them. The
            // parameters are copied before this returns.
            unsafe {
                for (index, (buffer, offset)) in buffers.iter().enumerate() {
                    encoder.setBuffer_offset_atIndex(Some(&buffer.0), *offset, index);
                }
                if !params.is_empty() {
                    encoder.setBytes_length_atIndex(NonNull::from(params).cast(), params.len(), buffers.len());
                }
                if threadgroup_bytes > 0 {
                    encoder.setThreadgroupMemoryLength_atIndex(threadgroup_bytes, 0);
                }
            }
            encoder.dispatchThreadgroups_threadsPerThreadgroup(
                MTLSize { width: x, height: y, depth: z },
                MTLSize { width: threads, height: 1, depth: 1 },
            );
        });
    }

    fn commit(&self, commands: AppleCommands) -> AppleSubmitted {
        let buffer = commands.buffer.clone();
        // Ends the encoder, as has to be before.
        drop(commands);
        autoreleasepool(|_| buffer.commit());
        AppleSubmitted(buffer)
    }

    fn wait(&self, submitted: AppleSubmitted) -> Result<(), GpuError> {
        autoreleasepool(|_| {
            let buffer = &submitted.0;
            buffer.waitUntilCompleted();
            match buffer.error() {
                None if buffer.status() == MTLCommandBufferStatus::Completed => Ok(()),
                None => Err(GpuError::Failed { fault: Fault::Other, reason: "it did not complete".into() }),
                Some(error) => Err(GpuError::Failed { fault: fault(&error), reason: words(&error) }),
            }
        })
    }
}

/// Of what kind an error of a command buffer is.
fn fault(error: &NSError) -> Fault {
    use MTLCommandBufferError as Error;
    match Error(error.code().cast_unsigned()) {
        Error::Timeout => Fault::Timeout,
        Error::OutOfMemory => Fault::OutOfMemory,
        Error::PageFault | Error::StackOverflow => Fault::PageFault,
        Error::AccessRevoked | Error::NotPermitted | Error::DeviceRemoved => Fault::Refused,
        _ => Fault::Other,
    }
}
