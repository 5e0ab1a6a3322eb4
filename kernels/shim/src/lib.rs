//! A [`Gpu`] of the host's own memory, on which the shipped Metal kernels run as C++, for tests where there is no Metal.
//!
//! It is stricter than a GPU: memory begins as NaN and ends as NaN, kernels run in an order of one's choice, and what was committed
//! runs as late as it may, when it is waited for, so that memory which is used again too early is seen. It knows nothing of speed,
//! and nothing of what Apple's compiler makes of the same source.

mod compile;
mod source;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use qembed_kernels::metal::{Dispatch, Fault, Gpu, GpuError};
use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// What a compiled kernel is given: its mirror is in `msl/fibers.h`.
#[repr(C)]
pub(crate) struct Launch {
    grid: [u32; 3],
    threads: u32,
    arguments: *const *mut u8,
    memory_bytes: u64,
    order: Order,
    seed: u32,
    error: *mut u8,
    error_bytes: u64,
}

/// In which order threadgroups, simdgroups and lanes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Order {
    /// As they are numbered.
    Forward = 0,
    /// The other way round.
    Reverse = 1,
    /// A new one at each turn.
    Shuffled = 2,
}

impl Order {
    /// All of them.
    pub const ALL: [Order; 3] = [Order::Forward, Order::Reverse, Order::Shuffled];
}

/// What was asked of a [`Shim`] so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Dispatches that ran.
    pub dispatches: usize,
    /// Command buffers committed.
    pub commits: usize,
    /// The most that were committed and not yet waited for.
    pub in_flight: usize,
    /// Bytes of buffers that live.
    pub bytes: usize,
}

/// The GPU that is none.
pub struct Shim {
    kernels: Vec<(source::Kernel, Arc<Library>)>,
    order: Order,
    state: Arc<Mutex<State>>,
    /// The commits that fail, by their number.
    failing: Option<usize>,
    limit: u64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Submitted>,
    counts: Counts,
}

/// Memory that a kernel sees.
pub struct Buffer(Arc<Memory>);

struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    /// Whose memory it is, if not its own.
    owner: Option<Bytes>,
    state: Arc<Mutex<State>>,
}

// SAFETY: an address; who may touch what it points to is the backend's to say.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.owner.is_none() {
            lock(&self.state).counts.bytes -= self.bytes;
            // SAFETY: memory of its own, of which nothing is known any more.
            unsafe {
                self.start.as_ptr().write_bytes(0xff, self.bytes);
                libc::free(self.start.as_ptr().cast());
            }
        }
    }
}

/// A kernel, by its name in a library that is compiled when it first runs.
#[derive(Clone)]
pub struct Pipeline {
    library: Arc<Library>,
    name: String,
}

/// Kernels that are compiled together: to read the source takes longer than to compile a kernel.
struct Library {
    text: String,
    loaded: OnceLock<Result<compile::Library, String>>,
}

/// Dispatches that are written down.
#[derive(Default)]
pub struct Commands(Vec<Recorded>);

struct Recorded {
    pipeline: Pipeline,
    buffers: Vec<(Arc<Memory>, usize)>,
    params: Vec<u32>,
    threadgroup_bytes: usize,
    grid: [usize; 3],
    threads: usize,
}

/// A committed command buffer, by its number.
pub struct Submitted {
    number: usize,
    commands: Vec<Recorded>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|e| e.into_inner())
}

impl Shim {
    /// One that runs `source` in this order.
    ///
    /// # Errors
    /// Source that is no Metal, or that takes one of Metal's memories for another; no clang++.
    pub fn new(source: &str, order: Order) -> Result<Self, GpuError> {
        let refused = |reason| GpuError::Source { reason };
        let (text, kernels) = source::parse(source).map_err(refused)?;
        let instances: String = kernels.iter().map(|kernel| format!("{}\n", kernel.instance)).collect();
        compile::check_address_spaces(&format!("{text}\n{instances}")).map_err(refused)?;
        let mut families: BTreeMap<String, String> = BTreeMap::new();
        for kernel in &kernels {
            let entry = kernel.entry().map_err(refused)?;
            families.entry(kernel.family().to_string()).or_insert(text.clone()).push_str(&entry);
        }
        let library = |text| Arc::new(Library { text, loaded: OnceLock::new() });
        let libraries: BTreeMap<_, _> = families.into_iter().map(|(family, text)| (family, library(text))).collect();
        let of = |kernel: source::Kernel| {
            let library = libraries[kernel.family()].clone();
            (kernel, library)
        };
        let kernels = kernels.into_iter().map(of).collect();
        Ok(Self { kernels, order, state: Arc::default(), failing: None, limit: 1 << 30 })
    }

    /// The same whose commit of this number, counted from 0, fails.
    pub fn failing(self, commit: usize) -> Self {
        Self { failing: Some(commit), ..self }
    }

    /// The same that gives at most so many bytes of memory.
    pub fn with_limit(self, bytes: u64) -> Self {
        Self { limit: bytes, ..self }
    }

    /// The names of all kernels.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(|(kernel, _)| &kernel.name[..])
    }

    /// What was asked of it; of another's, [`Shim::counter`].
    pub fn counts(&self) -> Counts {
        lock(&self.state).counts
    }

    /// What gives [`Shim::counts`] after the device was handed on.
    pub fn counter(&self) -> impl Fn() -> Counts + use<> {
        let state = self.state.clone();
        move || lock(&state).counts
    }

    fn run(&self, submitted: &Submitted) -> Result<(), GpuError> {
        let failed = |fault, reason| Err(GpuError::Failed { fault, reason });
        if self.failing == Some(submitted.number) {
            return failed(Fault::OutOfMemory, "planted".into());
        }
        for (i, recorded) in submitted.commands.iter().enumerate() {
            let params = recorded.params.clone(); // Of just its length, for AddressSanitizer.
            // SAFETY: within the buffer by the promise of whoever dispatched.
            let start = |(memory, offset): &(Arc<Memory>, usize)| unsafe { memory.start.as_ptr().add(*offset) };
            let mut arguments: Vec<*mut u8> = recorded.buffers.iter().map(start).collect();
            arguments.push(params.as_ptr().cast_mut().cast());
            let mut error = [0_u8; 200];
            let mut launch = Launch {
                grid: recorded.grid.map(|groups| groups as u32),
                threads: recorded.threads as u32,
                arguments: arguments.as_ptr(),
                memory_bytes: recorded.threadgroup_bytes as u64,
                order: self.order,
                seed: (submitted.number * 1000 + i) as u32,
                error: error.as_mut_ptr(),
                error_bytes: error.len() as u64,
            };
            let Pipeline { library, name } = &recorded.pipeline;
            let loaded = library.loaded.get_or_init(|| compile::Library::load(&library.text));
            let entry = match loaded.as_ref().map_err(String::clone).and_then(|loaded| loaded.entry(name)) {
                Ok(entry) => entry,
                Err(reason) => return failed(Fault::Other, reason),
            };
            // SAFETY: a compiled kernel with its arguments, all alive, by the promise of whoever dispatched.
            if unsafe { entry(&mut launch) } != 0 {
                let words: Vec<u8> = error.into_iter().take_while(|byte| *byte != 0).collect();
                return failed(Fault::Timeout, String::from_utf8_lossy(&words).into_owned());
            }
            lock(&self.state).counts.dispatches += 1;
        }
        Ok(())
    }
}

// SAFETY: buffers are memory of the allocator until the last of those who hold them lets go, commands hold theirs, and no kernel
// runs but in `wait`.
unsafe impl Gpu for Shim {
    type Buffer = Buffer;
    type Pipeline = Pipeline;
    type Commands = Commands;
    /// The number of its commit.
    type Submitted = usize;

    fn name(&self) -> &str {
        "shim"
    }

    fn limit(&self) -> u64 {
        self.limit
    }

    fn max_buffer(&self) -> usize {
        1 << 30
    }

    fn max_threadgroup_memory(&self) -> usize {
        32 << 10
    }

    fn page(&self) -> usize {
        // SAFETY: always allowed.
        unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
    }

    fn buffer(&self, bytes: usize) -> Result<Buffer, GpuError> {
        assert!(bytes > 0, "a buffer of something");
        let mut state = lock(&self.state);
        if (state.counts.bytes + bytes) as u64 > self.limit {
            return Err(GpuError::Memory { bytes });
        }
        let mut start = std::ptr::null_mut();
        // SAFETY: a power of two, and a place for the address.
        if unsafe { libc::posix_memalign(&mut start, 64, bytes) } != 0 {
            return Err(GpuError::Memory { bytes });
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(GpuError::Memory { bytes })?;
        // SAFETY: just given. NaN, whatever it is read as.
        unsafe { start.as_ptr().write_bytes(0xff, bytes) };
        state.counts.bytes += bytes;
        Ok(Buffer(Arc::new(Memory { start, bytes, owner: None, state: self.state.clone() })))
    }

    unsafe fn over(&self, start: NonNull<u8>, bytes: usize, owner: Bytes) -> Result<Buffer, GpuError> {
        assert!(bytes > 0 && bytes.is_multiple_of(self.page()) && start.addr().get().is_multiple_of(self.page()));
        Ok(Buffer(Arc::new(Memory { start, bytes, owner: Some(owner), state: self.state.clone() })))
    }

    fn contents(&self, buffer: &Buffer) -> NonNull<u8> {
        buffer.0.start
    }

    fn pipeline(&self, kernel: &str) -> Result<Pipeline, GpuError> {
        let found = self.kernels.iter().find(|(known, _)| known.name == kernel);
        let (_, library) =
            found.ok_or_else(|| GpuError::Pipeline { kernel: kernel.to_string(), reason: "no such kernel".into() })?;
        Ok(Pipeline { library: library.clone(), name: kernel.to_string() })
    }

    fn commands(&self) -> Result<Commands, GpuError> {
        Ok(Commands::default())
    }

    unsafe fn dispatch(&self, commands: &mut Commands, dispatch: Dispatch<'_, Self>) {
        let Dispatch { pipeline, buffers, params, threadgroup_bytes, grid, threads } = dispatch;
        assert!(grid.iter().all(|groups| (1..=u32::MAX as usize).contains(groups)), "a grid without groups: {grid:?}");
        assert!(threads.is_multiple_of(32) && (32..=1024).contains(&threads), "{threads} threads");
        assert!(threadgroup_bytes.is_multiple_of(16) && threadgroup_bytes <= self.max_threadgroup_memory());
        assert!(params.len().is_multiple_of(4) && params.len() <= 4096);
        for (buffer, offset) in buffers {
            assert!(
                offset.is_multiple_of(4) && *offset < buffer.0.bytes,
                "an offset of {offset} into {}",
                buffer.0.bytes
            );
        }
        commands.0.push(Recorded {
            pipeline: pipeline.clone(),
            buffers: buffers.iter().map(|(buffer, offset)| (buffer.0.clone(), *offset)).collect(),
            params: params.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word)).collect(),
            threadgroup_bytes,
            grid,
            threads,
        });
    }

    fn commit(&self, commands: Commands) -> usize {
        let mut state = lock(&self.state);
        let number = state.counts.commits;
        state.counts.commits += 1;
        state.queue.push_back(Submitted { number, commands: commands.0 });
        state.counts.in_flight = state.counts.in_flight.max(state.queue.len());
        number
    }

    fn wait(&self, number: usize) -> Result<(), GpuError> {
        loop {
            let mut state = lock(&self.state);
            let Some(submitted) = state.queue.pop_front_if(|first| first.number <= number) else {
                return Ok(());
            };
            drop(state);
            let result = self.run(&submitted);
            if submitted.number == number || result.is_err() {
                return result;
            }
        }
    }
}
