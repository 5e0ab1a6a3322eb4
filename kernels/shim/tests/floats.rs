//! What is done to rows of floats through the shipped kernels, attention included, against the formulas in f64.

mod common;

use bytes::Bytes;
use common::{Metal, Random, UNIT, bits, metal, normal, tensor};
use qembed_kernels::formats::Format;
use qembed_kernels::{Backend, Heads, Node};
use qembed_metal_shim::Order;
use std::ops::Range;

fn close(got: f32, want: f64, off: f64, what: &str) {
    assert!((f64::from(got) - want).abs() <= off, "{what}: {got}, {want} ± {off:e}");
}

/// RMSNorm, and how far it may be off: the sum of squares is of so many roundings, of which the root takes half, and five more follow.
fn normed(x: &[f32], weight: &[f32], eps: f32) -> Vec<(f64, f64)> {
    let mean = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (mean + f64::from(eps)).sqrt();
    let roundings = x.len() as f64 / 2.0 + 6.0;
    let value = |(x, w): (&f32, &f32)| f64::from(*x) * scale * f64::from(*w);
    x.iter().zip(weight).map(value).map(|value| (value, value.abs() * UNIT * roundings)).collect()
}

#[test]
fn rms_norm() {
    for order in Order::ALL {
        let (be, random) = (metal(order), &mut Random(1));
        for (rows, cols) in [(1, 20), (5, 128), (3, 1000)] {
            let (values, weight) = (normal(random, rows * cols), normal(random, cols));
            let (x, w) = (tensor(&be, cols, &values), be.vector(&weight));
            let mut out = be.tensor(rows, cols);
            be.rms_norm(&x, &w, 1e-3, &mut out);
            let wanted_rows = [rows - 1, 0];
            let mut some = be.tensor(2, cols);
            be.rms_norm_rows(&x, &wanted_rows, &w, 1e-3, &mut some);
            let (got, some) = (be.read(&out).unwrap(), be.read(&some).unwrap());
            for (row, (got, x)) in got.chunks_exact(cols).zip(values.chunks_exact(cols)).enumerate() {
                for (got, (want, off)) in got.iter().zip(normed(x, &weight, 1e-3)) {
                    close(*got, want, off, &format!("row {row} of {rows} × {cols} {order:?}"));
                }
            }
            for (some, row) in some.chunks_exact(cols).zip(wanted_rows) {
                assert_eq!(bits(some), bits(&got[row * cols..(row + 1) * cols]), "row {row} by itself");
            }
        }
    }
}

#[test]
fn norm_rope() {
    for order in Order::ALL {
        let (be, random) = (metal(order), &mut Random(2));
        for (heads, dim) in [(1, 64), (3, 64), (6, 128), (5, 40)] {
            let positions = [0, 1, 77, 30_000];
            let (rows, cols) = (positions.len() + 2, heads * dim);
            let (values, weight) = (normal(random, rows * cols), normal(random, dim));
            let mut x = tensor(&be, cols, &values);
            be.norm_rope(&mut x, &be.vector(&weight), 1e-6, &be.rope(&positions, dim, 1e6));
            let got = be.read(&x).unwrap();
            for (row, position) in positions.iter().enumerate() {
                for head in 0..heads {
                    let own = row * cols + head * dim..row * cols + (head + 1) * dim;
                    let normed = normed(&values[own.clone()], &weight, 1e-6);
                    for i in 0..dim / 2 {
                        // The angle is defined in f32.
                        let frequency = 1.0 / 1e6_f64.powf(f64::from((2 * i) as f32 / dim as f32)) as f32;
                        let (sin, cos) = f64::from(*position as f32 * frequency).sin_cos();
                        let ((a, a_off), (b, b_off)) = (normed[i], normed[i + dim / 2]);
                        // Cosines and sines of their own are a unit off, and three operations round.
                        let off = a_off + b_off + (a.abs() + b.abs()) * 5.0 * UNIT;
                        let what = format!("{heads} × {dim}, position {position}, head {head}, {i} {order:?}");
                        close(got[own.start + i], a * cos - b * sin, off, &what);
                        close(got[own.start + i + dim / 2], b * cos + a * sin, off, &what);
                    }
                }
            }
            let rest = positions.len() * cols;
            assert_eq!(bits(&got[rest..]), bits(&values[rest..]), "rows without angles stay");
        }
    }
}

#[test]
fn rows_are_looked_up_and_copied() {
    for order in Order::ALL {
        let (be, random) = (metal(order), &mut Random(3));
        let (rows, cols) = (9, 150);
        let values = normal(random, rows * cols);
        let before = normal(random, 6 * cols);
        let (from, mut to) = (tensor(&be, cols, &values), tensor(&be, cols, &before));
        be.copy_rows(&from, &[8, 0, 8], &mut to, 2);
        be.copy_rows(&from, &[], &mut to, 0);
        let row = |from: &[f32], row: usize| from[row * cols..(row + 1) * cols].to_vec();
        let want: Vec<f32> =
            [row(&before, 0), row(&before, 1), row(&values, 8), row(&values, 0), row(&values, 8), row(&before, 5)]
                .concat();
        assert_eq!(bits(&be.read(&to).unwrap()), bits(&want), "{order:?}");
    }
    let be = metal(Order::Forward);
    let bytes: Vec<u8> = (0..3 * 34).map(|i| if i % 34 < 2 { 0x24 } else { i as u8 }).collect();
    let mut want = [0.0; 96];
    Format::Q8_0.dequantize(&bytes, &mut want);
    let table = be.table(Format::Q8_0, Bytes::from(bytes), 3, 32).unwrap();
    let mut out = be.tensor(2, 32);
    be.embed(&table, &[2, 0], &mut out);
    assert_eq!(be.read(&out).unwrap(), [&want[64..], &want[..32]].concat());
}

/// A tree of texts: each node's parent, its tokens, and the queries at its end.
fn tree(of: &[(Option<usize>, usize, usize)]) -> (Vec<Node>, usize, usize) {
    let (mut nodes, mut rows, mut queries) = (Vec::new(), 0, 0);
    for (parent, tokens, wanted) in of {
        nodes.push(Node { parent: *parent, rows: rows..rows + tokens, queries: queries..queries + wanted });
        (rows, queries) = (rows + tokens, queries + wanted);
    }
    (nodes, rows, queries)
}

struct Inputs {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

fn attended(be: &Metal, heads: Heads, nodes: &[Node], of: &Inputs) -> Vec<f32> {
    let (q_dim, kv_dim) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
    let [q, k, v] = [(&of.q, q_dim), (&of.k, kv_dim), (&of.v, kv_dim)].map(|(x, cols)| tensor(be, cols, x));
    let mut out = be.tensor(q.rows(), q_dim);
    be.attention(heads, nodes, &q, &k, &v, &mut out);
    be.read(&out).unwrap()
}

/// The rows of the keys that the last query of a node sees.
fn path(nodes: &[Node], node: usize) -> Vec<usize> {
    let mut rows: Vec<Range<usize>> = vec![nodes[node].rows.clone()];
    let mut parent = nodes[node].parent;
    while let Some(i) = parent {
        rows.insert(0, nodes[i].rows.clone());
        parent = nodes[i].parent;
    }
    rows.into_iter().flatten().collect()
}

fn check(be: &Metal, heads: Heads, nodes: &[Node], of: &Inputs, what: &str) {
    let Heads { heads: q_heads, kv_heads, head_dim } = heads;
    let got = attended(be, heads, nodes, of);
    let scale = 1.0 / (head_dim as f64).sqrt();
    for (i, node) in nodes.iter().enumerate() {
        let path = path(nodes, i);
        for (j, query) in node.queries.clone().enumerate() {
            let seen = &path[..path.len() - node.queries.len() + j + 1];
            for head in 0..q_heads {
                let own = (query * q_heads + head) * head_dim..(query * q_heads + head + 1) * head_dim;
                let of_key = |row: usize| (row * kv_heads + head / (q_heads / kv_heads)) * head_dim;
                let (mut scores, mut largest) = (Vec::new(), 0.0_f64);
                for row in seen {
                    let products =
                        of.q[own.clone()].iter().zip(&of.k[of_key(*row)..]).map(|(q, k)| f64::from(*q) * f64::from(*k));
                    let (sum, size) = products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                    scores.push(sum * scale);
                    largest = largest.max(size * scale);
                }
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
                let total: f64 = weights.iter().sum();
                // A score is of head_dim products, sums and the scale; a weight is off by twice as much as scores (its own and the
                // largest), by the exponential function, and by a factor for each block of keys, each with two roundings more; a
                // sum of weights or of weighted values is of as many roundings as there are keys.
                let score_off = largest * UNIT * (head_dim + 3) as f64;
                let off = 4.0 * score_off + UNIT * (10.0 + 2.0 * seen.len() as f64 + 8.0 * (seen.len() / 32) as f64);
                for d in 0..head_dim {
                    let value = |(row, weight): (&usize, &f64)| f64::from(of.v[of_key(*row) + d]) * weight / total;
                    let parts: Vec<f64> = seen.iter().zip(&weights).map(value).collect();
                    let size: f64 = parts.iter().map(|x| x.abs()).sum();
                    let what = format!("{what}: query {query}, head {head}, {d}");
                    close(got[own.start + d], parts.iter().sum(), size * off, &what);
                }
            }
        }
    }
}

fn inputs(random: &mut Random, heads: Heads, rows: usize, queries: usize) -> Inputs {
    let (q_dim, kv_dim) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
    // Scores of some size, so that weights differ.
    let q = normal(random, queries * q_dim).into_iter().map(|x| 2.0 * x).collect();
    Inputs { q, k: normal(random, rows * kv_dim), v: normal(random, rows * kv_dim) }
}

/// Heads, heads of keys and values, and values of each: groups of 1 to 6.
const SHAPES: [(usize, usize, usize); 6] = [(6, 3, 64), (1, 1, 128), (6, 1, 64), (5, 1, 128), (3, 1, 64), (4, 1, 64)];
/// Prefixes that end within and at the end of a block, texts shorter and longer than one, queries of all tokens, of some, of none.
const TREE: [(Option<usize>, usize, usize); 8] = [
    (None, 40, 40),
    (Some(0), 3, 3),
    (Some(0), 9, 1),
    (Some(2), 33, 17),
    (None, 32, 0),
    (Some(4), 1, 1),
    (None, 1, 1),
    (None, 70, 70),
];

#[test]
fn attention_over_a_tree() {
    for order in Order::ALL {
        let (be, random) = (metal(order), &mut Random(4));
        for (heads, kv_heads, head_dim) in SHAPES {
            let heads = Heads { heads, kv_heads, head_dim };
            let (nodes, rows, queries) = tree(&TREE);
            check(&be, heads, &nodes, &inputs(random, heads, rows, queries), &format!("{heads:?} {order:?}"));
        }
    }
}

/// The smallest that shows most faults.
#[test]
fn one_text() {
    let heads = Heads { heads: 2, kv_heads: 1, head_dim: 64 };
    for order in Order::ALL {
        let (nodes, rows, queries) = tree(&[(None, 75, 44)]);
        check(&metal(order), heads, &nodes, &inputs(&mut Random(5), heads, rows, queries), &format!("{order:?}"));
    }
}

/// The bits of a text are those that it has alone, in whatever order threads run.
#[test]
fn attention_does_not_depend_on_the_other_texts() {
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 64 };
    let (nodes, rows, queries) = tree(&TREE);
    let of = inputs(&mut Random(6), heads, rows, queries);
    let together = attended(&metal(Order::Forward), heads, &nodes, &of);
    assert_eq!(bits(&together), bits(&attended(&metal(Order::Shuffled), heads, &nodes, &of)));
    for (i, node) in nodes.iter().enumerate() {
        let path = path(&nodes, i);
        let pick = |from: &[f32], rows: &[usize], cols: usize| -> Vec<f32> {
            rows.iter().flat_map(|row| from[row * cols..(row + 1) * cols].to_vec()).collect()
        };
        let own: Vec<usize> = node.queries.clone().collect();
        let alone = Inputs { q: pick(&of.q, &own, 256), k: pick(&of.k, &path, 128), v: pick(&of.v, &path, 128) };
        let (nodes, ..) = tree(&[(None, path.len(), own.len())]);
        let got = attended(&metal(Order::Forward), heads, &nodes, &alone);
        assert_eq!(bits(&got), bits(&pick(&together, &own, 256)), "node {i}");
    }
}

/// Too much for one command buffer, attention is computed in parts, with the same bits.
#[test]
fn attention_in_parts_is_the_same() {
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 64 };
    let (nodes, rows, queries) = tree(&TREE);
    let of = inputs(&mut Random(7), heads, rows, queries);
    let run = |work| {
        let be = Metal::metered(common::shim(Order::Forward), work).unwrap();
        (bits(&attended(&be, heads, &nodes, &of)), be.gpu().counts())
    };
    let (whole, counts) = run(1 << 40);
    let (parts, counts_of_parts) = run(4 * 96 * 8 * 256);
    assert!(whole == parts);
    assert!(counts_of_parts.commits > counts.commits + 5 && counts_of_parts.in_flight == 2, "{counts_of_parts:?}");
}

#[test]
fn a_head_that_no_kernel_is_for_is_an_error() {
    let heads = Heads { heads: 1, kv_heads: 1, head_dim: 32 };
    let be = metal(Order::Forward);
    let (q, k, v) = (be.tensor(1, 32), be.tensor(1, 32), be.tensor(1, 32));
    let mut out = be.tensor(1, 32);
    be.attention(heads, &tree(&[(None, 1, 1)]).0, &q, &k, &v, &mut out);
    let error = be.read(&out).unwrap_err().to_string();
    assert!(error.contains("heads of 32 values"), "{error}");
}

/// A parameter that found no memory when a model was loaded spoils every pass that would use it.
#[test]
fn what_is_missing_since_long_is_an_error() {
    let be = Metal::new(common::shim(Order::Forward).with_limit(70_000)).unwrap();
    let most = be.tensor(1, 15_000);
    let weight = be.vector(&[1.0; 5_000]);
    drop(most);
    let x = tensor(&be, 5_000, &[1.0; 5_000]);
    let mut out = be.tensor(1, 5_000);
    assert!(be.read(&x).is_ok());
    be.rms_norm(&x, &weight, 0.0, &mut out);
    let error = be.read(&out).unwrap_err().to_string();
    assert_eq!(
        error,
        "metal: the GPU does not give 20480 bytes: take a smaller model or shorter texts, or run on the CPU"
    );
}

const NORM_FAULTS: [&str; 4] = [
    "threadgroup_barrier(mem_flags::mem_threadgroup);\n    float scale => float scale",
    "sum = simd_sum(sum);\n => \n",
    "sums[2] + sums[3] => sums[2]",
    "x + ulong(group.x) * p.columns; => x + ulong(group.x) * (p.columns - 1);",
];
const ROPE_FAULTS: [&str; 4] = [
    "group.y * 4 + simdgroup, halves => group.y + simdgroup, halves",
    "a * cosines[i] - b * sines[i] => a * cosines[i] + b * sines[i]",
    "cosines + ulong(p.rows) * halves => cosines + halves",
    "values[i + halves] * scale * weight[i + halves] => values[i + halves] * scale * weight[i]",
];
const COPY_FAULTS: [&str; 2] = [
    "ulong(rows[group.x]) * p.columns => ulong(group.x) * p.columns",
    "target[i] = source[i] => target[i] = source[t]",
];
const ATTENTION_FAULTS: [&str; 17] = [
    // The barriers of a simdgroup, by what is beside them.
    "simdgroup_barrier(mem_flags::mem_threadgroup);\n        for (ushort i = 0; i < 4; i++) simdgroup_load(query => for (ushort i = 0; i < 4; i++) simdgroup_load(query",
    "simdgroup_load(query[d / 8 + i], scores + 8 * i, KEYS);\n        simdgroup_barrier(mem_flags::mem_threadgroup); => simdgroup_load(query[d / 8 + i], scores + 8 * i, KEYS);",
    "simdgroup_barrier(mem_flags::mem_threadgroup);\n        for (ushort r = 0; r < QUERIES; r++) {\n            float score = => for (ushort r = 0; r < QUERIES; r++) {\n            float score =",
    "simdgroup_barrier(mem_flags::mem_threadgroup);\n        simdgroup_matrix<float, 8, 8> factor => simdgroup_matrix<float, 8, 8> factor",
    "simdgroup_barrier(mem_flags::mem_threadgroup);\n        for (ushort r = 0; r < count; r++) { => for (ushort r = 0; r < count; r++) {",
    "/ total[r];\n        }\n        simdgroup_barrier(mem_flags::mem_threadgroup); => / total[r];\n        }",
    // Indices, strides, masks.
    "lane <= position + r => lane < position + r",
    "row == NO_ROW ? 0.0f : => row == NO_ROW ? as_type<float>(NO_ROW) :",
    "key * p.head_dim + i % p.head_dim => key * p.head_dim + i / p.head_dim",
    "packed_values + at => packed_keys + at",
    "8 * j * DIM + 8 * i, DIM, ulong2(0, 0), true) => 8 * j * DIM + 8 * i, DIM)",
    "if (lane == 0) factors[9 * r] => if (lane == 0) factors[8 * r]",
    "largest[r] = larger; => ",
    "total[r] * factor + => total[r] +",
    "/ total[r]; => ;",
    "blocks[task.blocks + block]) * DIM => blocks[task.blocks]) * DIM",
    "block * KEYS < position + count; => block * KEYS < position;",
];

#[test]
fn faults_of_norms_are_seen() {
    common::faults::are_seen("rms_norm", &NORM_FAULTS);
}

#[test]
fn faults_of_ropes_are_seen() {
    common::faults::are_seen("norm_rope", &ROPE_FAULTS);
}

#[test]
fn faults_of_copies_are_seen() {
    common::faults::are_seen("rows_are_looked_up_and_copied", &COPY_FAULTS);
}

#[test]
fn faults_of_attention_are_seen() {
    common::faults::are_seen("one_text", &ATTENTION_FAULTS);
}

#[test]
fn all_of_it_under_address_sanitizer() {
    common::sanitizer::all_again();
}
