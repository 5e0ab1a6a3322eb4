//! What the host does with memory and command buffers: nothing is written that queued work still reads, nothing is read that it has
//! not written, failures spoil what was made of them alone, and weights are used where the GPU can read them.

mod common;

use bytes::Bytes;
use common::{Metal, Random, bits, metal, normal, shim, tensor};
use qembed_kernels::formats::Format;
use qembed_kernels::metal::{Gpu, GpuError, SOURCE};
use qembed_kernels::{Backend, Heads, Node, Precision};
use qembed_metal_shim::{Order, Shim};

/// With which every checkpoint commits.
fn hasty() -> Metal {
    Metal::metered(shim(Order::Forward), 1).unwrap()
}

/// A weight [n × k] of F32.
fn weight(be: &Metal, values: &[f32], k: usize) -> qembed_kernels::metal::Weight<Shim> {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    be.weight(Format::F32, Bytes::from(bytes), values.len() / k, k, Precision::Standard).unwrap()
}

/// Lists of rows that the host hands to one copy after the other, of which none has run yet, be they committed or not: the shim runs
/// them when they are waited for, and would find the last list in all of them. The same of angles.
#[test]
fn what_queued_work_reads_is_not_written_again() {
    const ROWS: usize = 12;
    let values = normal(&mut Random(1), ROWS * 64);
    for in_flight in [false, true] {
        let be = hasty();
        let (from, mut to) = (tensor(&be, 64, &values), be.tensor(ROWS, 64));
        let one = be.vector(&[1.0; 64]);
        let turned = |positions: &[u32]| {
            let mut x = tensor(&be, 64, &values[..64]);
            be.norm_rope(&mut x, &one, 0.0, &be.rope(positions, 64, 1e4));
            x
        };
        let mut turns = Vec::new();
        for row in 0..ROWS {
            be.copy_rows(&from, &[row], &mut to, ROWS - 1 - row);
            turns.push(turned(&[row as u32 * 50]));
            if in_flight {
                be.checkpoint();
            }
        }
        let want: Vec<f32> = values.chunks_exact(64).rev().flatten().copied().collect();
        assert!(bits(&be.read(&to).unwrap()) == bits(&want), "in flight: {in_flight}");
        for (row, turn) in turns.iter().enumerate() {
            let alone = bits(&be.read(&turned(&[row as u32 * 50])).unwrap());
            assert!(bits(&be.read(turn).unwrap()) == alone, "in flight: {in_flight}, angles {row}");
        }
    }
}

/// Rows are looked up into a matrix that queued work still reads: it gets other memory, and that work what was there.
#[test]
fn rows_are_not_looked_up_over_what_queued_work_reads() {
    for in_flight in [false, true] {
        let be = hasty();
        let values = normal(&mut Random(2), 2 * 64);
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let table = be.table(Format::F32, Bytes::from(bytes), 2, 64).unwrap();
        let (mut x, mut copies) = (be.tensor(1, 64), be.tensor(6, 64));
        for i in 0..6 {
            be.embed(&table, &[i % 2], &mut x);
            be.copy_rows(&x, &[0], &mut copies, i as usize);
            if in_flight {
                be.checkpoint();
            }
        }
        assert!(bits(&be.read(&copies).unwrap()) == bits(&values.repeat(3)), "in flight: {in_flight}");
    }
}

/// A checkpoint commits what is a fortieth of a command buffer, and no less.
#[test]
fn a_checkpoint_commits_what_is_worth_it() {
    let (n, k) = (70, 64);
    let work = 2 * (n * k) as u64;
    for (most, commits) in [(40 * work, 1), (40 * (work + 1), 0)] {
        let be = Metal::metered(shim(Order::Forward), most).unwrap();
        let (w, x) = (weight(&be, &vec![1.0; n * k], k), tensor(&be, k, &vec![1.0; k]));
        let mut out = be.tensor(1, n);
        be.matmul(&x, &mut [(&w, &mut out)]);
        let before = be.gpu().counts().commits;
        be.checkpoint();
        assert_eq!(be.gpu().counts().commits - before, commits);
        assert_eq!(be.read(&out).unwrap(), vec![k as f32; n]);
    }
}

/// Many short texts are work just as a long one is: their attention is cut into command buffers, of whole blocks of keys.
#[test]
fn attention_of_short_texts_is_metered() {
    let heads = Heads { heads: 4, kv_heads: 4, head_dim: 64 };
    let (texts, tokens) = (12, 8);
    let nodes: Vec<Node> = (0..texts)
        .map(|i| (i * tokens)..(i + 1) * tokens)
        .map(|rows| Node { parent: None, rows: rows.clone(), queries: rows })
        .collect();
    let one_task = 4 * 32 * (tokens * heads.heads * heads.head_dim) as u64;
    let be = Metal::metered(shim(Order::Forward), 2 * one_task).unwrap();
    let rows = texts * tokens;
    let values = normal(&mut Random(4), rows * 256);
    let (zeros, v, mut out) =
        (tensor(&be, 256, &vec![0.0; rows * 256]), tensor(&be, 256, &values), be.tensor(rows, 256));
    let before = be.gpu().counts().commits;
    be.attention(heads, &nodes, &zeros, &zeros, &v, &mut out);
    let got = be.read(&out).unwrap();
    assert_eq!(be.gpu().counts().commits - before, texts / 2);
    // A text's first token sees itself alone.
    for i in (0..texts).map(|i| i * tokens * 256) {
        assert_eq!(got[i..i + 256], values[i..i + 256]);
    }
}

/// Two command buffers are in flight: a third waits for the oldest, and for no other. Who drops the backend waits for them, and nothing
/// is left on the device.
#[test]
fn what_is_in_flight_has_run_when_the_backend_is_gone() {
    let be = hasty();
    let counts = be.gpu().counter();
    let (from, mut to) = (tensor(&be, 64, &[1.0; 64]), be.tensor(1, 64));
    let before = counts().dispatches;
    for ran in [0, 0, 1] {
        be.copy_rows(&from, &[0], &mut to, 0);
        be.checkpoint();
        // The shim runs nothing before it must.
        assert_eq!(counts().dispatches, before + ran);
    }
    drop((from, to));
    drop(be);
    assert_eq!((counts().dispatches, counts().bytes), (before + 3, 0));
}

/// Memory is held back for the next pass, but no single buffer of more than 32 MiB, and no more than 192 MiB in all.
#[test]
fn memory_that_is_held_back_is_bounded() {
    let be = metal(Order::Forward);
    let before = be.gpu().counts().bytes;
    let kept = |mib: usize, count: usize| {
        drop((0..count).map(|_| be.tensor(mib, (1 << 20) / 4)).collect::<Vec<_>>());
        (be.gpu().counts().bytes - before) >> 20
    };
    assert_eq!([kept(40, 1), kept(28, 8)], [0, 6 * 28]);
}

/// A GPU that swaps squares of a product is not used.
#[test]
fn a_gpu_that_computes_something_else_is_found_out() {
    let wrong = SOURCE.replace("sums[j][i], b[j], a[i], sums[j][i]", "sums[j][i], b[j], a[N - 1 - i], sums[j][i]");
    assert!(wrong != SOURCE);
    let refused = Metal::new(Shim::new(&wrong, Order::Forward).unwrap()).err();
    assert!(matches!(refused, Some(GpuError::Wrong { .. })), "{refused:?}");
}

/// What is made of something that was begun before a failure fails with it, and nothing else does, though it read what lasts.
#[test]
fn failures_go_to_what_was_made_of_them() {
    let be = metal(Order::Forward);
    let (old, one) = (tensor(&be, 64, &[2.0; 64]), be.vector(&[1.0; 64]));
    let mut lasting = be.lasting_tensor(1, 64);
    be.copy_rows(&old, &[0], &mut lasting, 0);
    assert!(be.read(&old).is_ok() && be.read(&lasting).is_ok());
    drop(be.tensor(1 << 20, 1 << 10)); // 4 GiB
    let copied = |from| {
        let mut to = be.tensor(1, 64);
        be.copy_rows(from, &[0], &mut to, 0);
        to
    };
    let (mut normed, mut picked) = (be.tensor(1, 64), be.tensor(1, 64));
    be.rms_norm(&old, &one, 0.0, &mut normed);
    be.rms_norm_rows(&old, &[0], &one, 0.0, &mut picked);
    let once = copied(&old);
    for spoiled in [&old, &once, &copied(&once), &normed, &picked] {
        let error = be.read(spoiled).unwrap_err().to_string();
        assert!(error.contains("does not give 4294967296 bytes"), "{error}");
    }
    drop(be.tensor(1 << 20, 1 << 11));
    let error = be.read(&old).unwrap_err().to_string();
    assert!(error.contains("does not give 8589934592 bytes"), "the last failure is told: {error}");
    assert_eq!(be.read(&copied(&lasting)).unwrap(), [2.0; 64]);
    let mut fresh = be.tensor(1, 64);
    be.rms_norm(&copied(&lasting), &one, 0.0, &mut fresh);
    assert_eq!(be.read(&fresh).unwrap(), [1.0; 64]);
}

/// Weights are used in place where all of them is in a mapping and they begin at a multiple of 4; others are copied. Products are
/// the same.
#[test]
fn weights_in_and_beside_a_mapping() {
    let (n, k) = (5, 32);
    let page = metal(Order::Forward).gpu().page();
    let bytes = Format::Q4_0.row_bytes(k).unwrap() * n;
    let mut random = Random(3);
    let block: Vec<u8> = (0..bytes).map(|i| if i % 18 < 2 { 0x24 } else { random.next() as u8 }).collect();
    let x = normal(&mut random, k);
    let mut seen: Option<Vec<u32>> = None;
    // Where the weight begins, how far the mapping goes, and whether it is copied.
    for (at, end, copied) in [
        (page + 64, 3 * page, false),
        (2 * page - 40, 3 * page, false),
        (page + 66, 3 * page, true),
        (2 * page - 40, 2 * page, true),
    ] {
        let be = metal(Order::Forward);
        let mut mapped = memmap2::MmapMut::map_anon(3 * page).unwrap();
        mapped[at..at + bytes].copy_from_slice(&block);
        let all = Bytes::from_owner(mapped);
        be.adopt(&all.slice(..end)).unwrap();
        let weight = be.weight(Format::Q4_0, all.slice(at..at + bytes), n, k, Precision::Standard).unwrap();
        let mut out = be.tensor(1, n);
        be.matmul(&tensor(&be, k, &x), &mut [(&weight, &mut out)]);
        let got = bits(&be.read(&out).unwrap());
        assert!(seen.get_or_insert(got.clone()) == &got, "a weight at {at}");
        assert_eq!(be.copied_bytes(), if copied { bytes as u64 } else { 0 }, "a weight at {at} of a mapping of {end}");
    }
}

#[test]
fn all_of_it_under_address_sanitizer() {
    common::sanitizer::all_again();
}
