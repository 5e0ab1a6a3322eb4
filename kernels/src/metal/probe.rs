//! A small kernel that a GPU must compute rightly before it gets any work: what it can do is tried, not read off its family, which
//! virtual machines do not tell truly.

use super::gpu::{Dispatch, Gpu, GpuError};
use half::f16;

/// Its source, a library by itself.
pub const PROBE: &str = include_str!("probe.metal");

/// Runs the kernel of [`PROBE`], with which `gpu` was made. Its inputs, of up to 2 · 10⁶, and so its sums are exact, but not in half
/// precision.
///
/// # Errors
/// When it does not run, and [`GpuError::Wrong`].
pub fn probe<G: Gpu>(gpu: &G) -> Result<(), GpuError> {
    let a: Vec<f32> = (0..64).map(|i| (i % 7) as f32 - 3.0).collect();
    let b: Vec<f32> = (0..64).map(|i| ((i % 5) as f32 - 2.0) * 1e6).collect();
    let product = |i: usize| (0..8).map(|k| a[i / 8 * 8 + k] * b[k * 8 + i % 8]).sum::<f32>();
    let expected: Vec<f32> = (0..64).map(product).chain([(0..32).sum::<u32>() as f32]).collect();

    let upload = |bytes: Vec<u8>| -> Result<G::Buffer, GpuError> {
        let buffer = gpu.buffer(bytes.len())?;
        // SAFETY: so many bytes are there, and no work knows of them yet.
        unsafe { gpu.contents(&buffer).as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(buffer)
    };
    let halves = upload(a.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect())?;
    let floats = upload(b.iter().flat_map(|x| x.to_le_bytes()).collect())?;
    let out = upload(vec![0xff; 4 * expected.len()])?;
    let pipeline = gpu.pipeline("probe")?;
    let mut commands = gpu.commands()?;
    let dispatch = Dispatch {
        pipeline: &pipeline,
        buffers: &[(&halves, 0), (&floats, 0), (&out, 0)],
        params: &[],
        threadgroup_bytes: 0,
        grid: [1, 1, 1],
        threads: 32,
    };
    // SAFETY: the kernel takes these three buffers, of 64 halves, 64 floats and 65 floats; nobody else has them.
    unsafe { gpu.dispatch(&mut commands, dispatch) };
    gpu.wait(gpu.commit(commands))?;
    // SAFETY: the work has completed; so many floats are there, and a buffer's start is aligned to a page.
    let got = unsafe { std::slice::from_raw_parts(gpu.contents(&out).as_ptr().cast::<f32>(), expected.len()) };
    match got.iter().zip(&expected).find(|(got, want)| got != want) {
        None => Ok(()),
        Some((got, want)) => Err(GpuError::Wrong { got: *got, want: *want }),
    }
}
