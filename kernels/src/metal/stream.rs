//! The one order of all work: dispatches go into a command buffer until it is enough, then it is committed.
//!
//! A command buffer that takes a second is taken from its process, or makes the screen stand still, so its work is counted in
//! floating-point operations and bounded; at most two are in flight, so that what is called off ends soon.

use super::gpu::{Dispatch, Gpu, GpuError};
use super::kernels::THREADS;
use super::memory::{Arena, Memory};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// The most work of a command buffer: some 150 ms of the slowest GPU that comes into question, of 2.6 TFLOPS, at half of its peak.
pub(super) const WORK: u64 = 200_000_000_000;
/// Command buffers that are committed and not known to have completed.
const IN_FLIGHT: usize = 2;
/// The part of [`WORK`] from which on it is worth it to commit, so that the GPU begins.
const PART: u64 = 40;

/// What a kernel sees of memory: its buffer, from this byte on; and whose it is, if it ever comes to be used again.
pub(super) type View<'a, D> = (&'a <D as Gpu>::Buffer, usize, Option<&'a Memory<D>>);

/// A dispatch to be queued.
pub(super) struct Job<'a, D: Gpu> {
    pub(super) pipeline: &'a D::Pipeline,
    pub(super) views: &'a [View<'a, D>],
    pub(super) params: &'a [u32],
    pub(super) threadgroup_bytes: usize,
    /// Along x and y; without a group, nothing is to do.
    pub(super) grid: [usize; 2],
    /// Floating-point operations.
    pub(super) work: u64,
}

pub(super) struct Stream<D: Gpu> {
    gpu: Arc<D>,
    arena: Arc<Arena<D>>,
    /// The most work of a command buffer.
    most: u64,
    state: Mutex<State<D>>,
}

struct State<D: Gpu> {
    /// What is being filled, and its work so far.
    open: Option<(D::Commands, u64)>,
    /// The number of what is being filled, or will be; counted from 1.
    number: u64,
    flying: VecDeque<(u64, D::Submitted)>,
    /// How often something failed, and how the last time.
    failures: u64,
    error: Option<GpuError>,
}

impl<D: Gpu> State<D> {
    fn fail(&mut self, error: GpuError) {
        self.failures += 1;
        self.error = Some(error);
    }
}

impl<D: Gpu> Stream<D> {
    pub(super) fn new(gpu: Arc<D>, arena: Arc<Arena<D>>, most: u64) -> Self {
        let state = State { open: None, number: 1, flying: VecDeque::new(), failures: 0, error: None };
        Self { gpu, arena, most, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State<D>> {
        // A panic leaves a queue of whole dispatches.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The most work of a command buffer: more of a dispatch is to be split, where it can be.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// How often something has failed so far: of what was begun then, what fails later spoils the result.
    pub(super) fn failures(&self) -> u64 {
        self.lock().failures
    }

    /// Takes note of what failed outside of a command buffer.
    pub(super) fn fail(&self, error: GpuError) {
        self.lock().fail(error);
    }

    /// Takes note of what cannot be computed for want of something that failed before, however long ago.
    pub(super) fn fail_again(&self) {
        self.lock().failures += 1;
    }

    /// Puts a dispatch after all others.
    ///
    /// # Safety
    /// As [`Gpu::dispatch`].
    pub(super) unsafe fn push(&self, job: Job<'_, D>) {
        let Job { pipeline, views, params, threadgroup_bytes, grid: [x, y], work } = job;
        if x == 0 || y == 0 {
            return;
        }
        let state = &mut *self.lock();
        if state.open.as_ref().is_some_and(|(_, so_far)| so_far + work > self.most) {
            self.commit(state);
        }
        if state.open.is_none() {
            match self.gpu.commands() {
                Ok(commands) => state.open = Some((commands, 0)),
                Err(error) => return state.fail(error),
            }
        }
        let Some((commands, so_far)) = &mut state.open else { return };
        let buffers: Vec<_> = views.iter().map(|(buffer, offset, _)| (*buffer, *offset)).collect();
        let params: Vec<u8> = params.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let (buffers, params) = (&buffers[..], &params[..]);
        let dispatch = Dispatch { pipeline, buffers, params, threadgroup_bytes, grid: [x, y, 1], threads: THREADS };
        // SAFETY: by the caller's promise; the host touches only memory that is at rest.
        unsafe { self.gpu.dispatch(commands, dispatch) };
        *so_far += work;
        views.iter().filter_map(|(_, _, memory)| *memory).for_each(|memory| memory.used_by(state.number));
    }

    /// Commits what there is, once it is worth it.
    pub(super) fn checkpoint(&self) {
        let state = &mut *self.lock();
        if state.open.as_ref().is_some_and(|(_, work)| *work >= self.most / PART) {
            self.commit(state);
        }
    }

    fn commit(&self, state: &mut State<D>) {
        let Some((commands, _)) = state.open.take() else { return };
        while state.flying.len() >= IN_FLIGHT {
            self.wait(state);
        }
        state.flying.push_back((state.number, self.gpu.commit(commands)));
        state.number += 1;
    }

    /// Waits for the oldest.
    fn wait(&self, state: &mut State<D>) {
        let Some((number, submitted)) = state.flying.pop_front() else { return };
        if let Err(error) = self.gpu.wait(submitted) {
            state.fail(error);
        }
        self.arena.complete(number);
    }

    /// Waits for all.
    ///
    /// # Errors
    /// When something failed since there were so many failures.
    pub(super) fn finish(&self, since: u64) -> Result<(), GpuError> {
        let state = &mut *self.lock();
        self.commit(state);
        while !state.flying.is_empty() {
            self.wait(state);
        }
        match &state.error {
            Some(error) if state.failures > since => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

impl<D: Gpu> Drop for Stream<D> {
    /// What is in flight may read memory of whoever drops this.
    fn drop(&mut self) {
        let mut state = self.lock();
        while !state.flying.is_empty() {
            self.wait(&mut state);
        }
    }
}
