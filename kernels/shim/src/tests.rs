//! What the shim refuses, and what it sees.

use super::*;

const HEAD: &str = "#include <metal_stdlib>\n#include <metal_simdgroup_matrix>\nusing namespace metal;\n";

/// A kernel of one buffer and threadgroup memory with this body.
fn source(body: &str) -> String {
    format!(
        "{HEAD}kernel void tried(\n    device float *x [[buffer(0)]],\n    constant uint &p [[buffer(1)]],\n    \
         threadgroup float *memory [[threadgroup(0)]],\n    uint3 group [[threadgroup_position_in_grid]],\n    \
         ushort t [[thread_index_in_threadgroup]],\n    ushort simdgroup [[simdgroup_index_in_threadgroup]]\n) {{\n{body}\n}}\n"
    )
}

/// What the body leaves in 128 floats, given two threadgroups.
fn run(body: &str, order: Order) -> Result<Vec<f32>, GpuError> {
    let shim = Shim::new(&source(body), order)?;
    let pipeline = shim.pipeline("tried")?;
    let x = shim.buffer(4 * 128)?;
    let mut commands = shim.commands()?;
    let (threadgroup_bytes, grid, threads) = (512, [2, 1, 1], 128);
    let params = &7_u32.to_ne_bytes();
    let dispatch = Dispatch { pipeline: &pipeline, buffers: &[(&x, 0)], params, threadgroup_bytes, grid, threads };
    // SAFETY: a kernel that takes one buffer of 128 floats and a number.
    unsafe { shim.dispatch(&mut commands, dispatch) };
    shim.wait(shim.commit(commands))?;
    // SAFETY: 128 floats, which nothing writes to any more.
    Ok(unsafe { std::slice::from_raw_parts(shim.contents(&x).cast().as_ptr(), 128) }.to_vec())
}

#[test]
fn a_kernel_runs_in_every_order() {
    let body = "memory[t] = t;\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nx[t] = memory[127 - t] + p;";
    for order in Order::ALL {
        let got = run(body, order).unwrap();
        assert!(got.iter().enumerate().all(|(t, x)| *x == (127 - t + 7) as f32), "{order:?}: {got:?}");
    }
}

#[test]
fn a_missing_barrier_is_seen() {
    for order in Order::ALL {
        let got = run("memory[t] = t;\nx[t] = memory[127 - t] + p;", order).unwrap();
        assert!(got.iter().any(|x| x.is_nan()), "{order:?}");
    }
}

#[test]
fn threads_that_do_not_meet_are_an_error() {
    for body in [
        "if (t < 64) threadgroup_barrier(mem_flags::mem_threadgroup);",
        "if (t % 2 == 0) simdgroup_barrier(mem_flags::mem_threadgroup);",
        "if (simdgroup == 1) return;\nthreadgroup_barrier(mem_flags::mem_threadgroup);",
        "x[t] = t % 2 ? simd_sum(1.0f) :\nsimd_sum(2.0f);",
    ] {
        let error = run(body, Order::Shuffled).unwrap_err().to_string();
        assert!(error.contains("wait at line"), "{body}: {error}");
    }
}

#[test]
fn what_metal_does_not_have_does_not_compile() {
    let product = |a: &str, b: &str, d: &str| {
        format!(
            "simdgroup_matrix<{a}, 8, 8> a;\nsimdgroup_matrix<{b}, 8, 8> b;\nsimdgroup_matrix<{d}, 8, 8> d;\n\
             simdgroup_multiply_accumulate(d, a, b, d);"
        )
    };
    for right in [product("half", "float", "float"), product("float", "float", "float"), "device float *y = x;".into()]
    {
        run(&right, Order::Forward).unwrap();
    }
    for wrong in [
        product("half", "half", "half"),
        product("float", "half", "half"),
        product("int", "float", "float"),
        "threadgroup float *y = x;".into(),
        "device float *y = memory;".into(),
        "x[t] = erf(1.0f);".into(),
        "simdgroup_matrix<half, 8, 8> a;\nsimdgroup_load(a, memory, 8);".into(),
    ] {
        assert!(matches!(run(&wrong, Order::Forward), Err(GpuError::Source { .. })), "{wrong}");
    }
}
