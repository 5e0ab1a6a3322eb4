//! Products of every format through the shipped kernels, against sums in f64 of what the format's definition says.

mod common;

use bytes::Bytes;
use common::{Metal, Random, UNIT, bits, metal, normal, source, tensor};
use half::f16;
use qembed_kernels::formats::Format;
use qembed_kernels::metal::Weight;
use qembed_kernels::{Backend, Precision};
use qembed_metal_shim::{Order, Shim};

/// Random blocks whose scales are ordinary numbers: where f16 are in a block, by its layout.
fn blocks(random: &mut Random, format: Format, values: usize) -> Vec<u8> {
    let scales: &[usize] = match format {
        Format::Q4_0 | Format::Q5_0 | Format::Q8_0 | Format::IQ4_NL | Format::IQ4_XS => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
        Format::MXFP4 => &[],
        Format::F32 => return normal(random, values).iter().flat_map(|x| x.to_le_bytes()).collect(),
        Format::F16 => {
            return normal(random, values).iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        }
        Format::BF16 => {
            return normal(random, values).iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
        }
        other => panic!("where are the scales of {other}?"),
    };
    let mut bytes: Vec<u8> = (0..format.row_bytes(values).unwrap()).map(|_| random.next() as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        for at in scales {
            let scale = f16::from_f32(random.normal() / 64.0);
            block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
        if format == Format::MXFP4 {
            block[0] = 118 + block[0] % 8;
        }
    }
    bytes
}

/// A weight [n × k] and the values that a product takes it for.
struct Case {
    weight: Weight<Shim>,
    values: Vec<f32>,
}

impl Case {
    fn new(be: &Metal, random: &mut Random, format: Format, n: usize, k: usize, precision: Precision) -> Self {
        let bytes = blocks(random, format, n * k);
        let mut values = vec![0.0; n * k];
        format.dequantize(&bytes, &mut values);
        if precision == Precision::Standard && !matches!(format, Format::F32 | Format::BF16) {
            values.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32());
        }
        Self { weight: be.weight(format, Bytes::from(bytes), n, k, precision).unwrap(), values }
    }

    /// The product of a row and a weight, and how far a sum in f32 may be from it: each of k products and of k sums is rounded once.
    fn product(&self, input: &[f32], column: usize) -> (f64, f64) {
        let (mut sum, mut size) = (0.0, 0.0);
        for (a, b) in input.iter().zip(&self.values[column * input.len()..]) {
            sum += f64::from(*a) * f64::from(*b);
            size += (f64::from(*a) * f64::from(*b)).abs();
        }
        (sum, size * UNIT * (input.len() + 2) as f64)
    }
}

/// Rows of very different sizes, some beyond what a half holds.
fn inputs(random: &mut Random, rows: usize, k: usize) -> Vec<f32> {
    let mut values = normal(random, rows * k);
    for (row, values) in values.chunks_exact_mut(k).enumerate() {
        values.iter_mut().for_each(|x| *x *= [1.0, 1e6, 1e-6][row % 3]);
    }
    values
}

/// Numbers of rows, of weights and of values, of which the latter are whole blocks; floats also come in other lengths.
fn shapes(format: Format) -> Vec<(usize, usize, usize)> {
    let block = if format.is_float() { 20 } else { format.block_len() };
    vec![(1, 1, block), (16, 70, 2 * block), (17, 64, block), (37, 130, 3 * block)]
}

/// Every format and both precisions, over shapes that fill tiles and that do not, in this order of threads.
fn every_format(order: Order) {
    let be = metal(order);
    let random = &mut Random(1);
    for format in Format::ALL.iter().copied() {
        for precision in [Precision::Standard, Precision::High] {
            for (rows, n, k) in shapes(format) {
                let what = format!("{format} {precision:?} {rows} × {n} × {k} {order:?}");
                let [case, other] = [(); 2].map(|()| Case::new(&be, random, format, n, k, precision));
                let values = inputs(random, rows, k);
                let input = tensor(&be, k, &values);

                let before = normal(random, (rows + 1) * n);
                let (mut set, mut added) = (tensor(&be, n, &before), tensor(&be, n, &before));
                be.matmul(&input, &mut [(&case.weight, &mut set)]);
                be.matmul_add(&input, &case.weight, &mut added);
                let mut gated = be.activations(rows, n, be.form(&case.weight));
                be.gated(&input, &case.weight, &other.weight, &mut gated);
                let [set, added, gated] = [set, added, gated].map(|x| be.read(&x).unwrap());

                for row in 0..rows {
                    for column in 0..n {
                        let (i, input) = (row * n + column, &values[row * k..(row + 1) * k]);
                        let (want, off) = case.product(input, column);
                        let close = |got: f32, want: f64, off: f64| {
                            assert!((f64::from(got) - want).abs() <= off, "{what} at {row}, {column}: {got}, {want}");
                        };
                        close(set[i], want, off);
                        let sum = want + f64::from(before[i]);
                        close(added[i], sum, off + UNIT * (sum.abs() + off));
                        let (up, up_off) = other.product(input, column);
                        let silu = want / (1.0 + (-want).exp());
                        // SiLU is nowhere steeper than 1.1; five operations round it and the product with it, and the error of
                        // the exponential function, in parts of it, grows with what it is of until it does not matter any more.
                        let silu_off = 1.1 * off + silu.abs() * UNIT * (5.0 + want.abs().min(90.0));
                        let off = silu_off * (up.abs() + up_off) + silu.abs() * up_off + 1e-37;
                        close(gated[i], silu * up, off + UNIT * (silu * up).abs());
                    }
                }
                assert_eq!(bits(&set[rows * n..]), bits(&before[rows * n..]), "{what}: the row after the last");
            }
        }
    }
}

#[test]
fn every_format_forward() {
    every_format(Order::Forward);
}

#[test]
fn every_format_in_reverse() {
    every_format(Order::Reverse);
}

#[test]
fn every_format_shuffled() {
    every_format(Order::Shuffled);
}

/// The smallest that shows most faults, for [`faults_of_the_kernel_are_seen`].
#[test]
fn one_format() {
    let random = &mut Random(2);
    for order in Order::ALL {
        let be = metal(order);
        for (rows, n, k) in [(5, 70, 64), (37, 130, 96)] {
            let case = Case::new(&be, random, Format::Q8_0, n, k, Precision::Standard);
            let values = inputs(random, rows, k);
            let mut output = be.tensor(rows, n);
            be.matmul(&tensor(&be, k, &values), &mut [(&case.weight, &mut output)]);
            let got = be.read(&output).unwrap();
            for (i, got) in got.into_iter().enumerate() {
                let (want, off) = case.product(&values[i / n * k..(i / n + 1) * k], i % n);
                assert!((f64::from(got) - want).abs() <= off, "{rows} × {n} × {k} {order:?}: {got}, {want}");
            }
        }
    }
}

/// A row's bits are the same alone, among few and among many, whatever the order of threads.
#[test]
fn bits_do_not_depend_on_the_other_rows() {
    for format in [Format::Q4_K, Format::F16, Format::F32] {
        for precision in [Precision::Standard, Precision::High] {
            let mut seen: Option<Vec<u32>> = None;
            for order in Order::ALL {
                let be = metal(order);
                let random = &mut Random(3);
                let (n, k) = (70, 512);
                let case = Case::new(&be, random, format, n, k, precision);
                let values = inputs(random, 40, k);
                for rows in [1, 8, 9, 16, 17, 32, 40] {
                    let mut output = be.tensor(rows, n);
                    be.matmul(&tensor(&be, k, &values[..rows * k]), &mut [(&case.weight, &mut output)]);
                    let got = bits(&be.read(&output).unwrap()[..n]);
                    assert!(seen.get_or_insert(got.clone()) == &got, "{format} {precision:?} {rows} rows {order:?}");
                }
            }
        }
    }
}

/// A product too large for one command buffer is computed in parts, with the same bits.
#[test]
fn a_product_in_parts_is_the_same() {
    let random = &mut Random(4);
    let (rows, n, k) = (100, 70, 64);
    let values = inputs(random, rows, k);
    let run = |work: u64| {
        let be = Metal::metered(common::shim(Order::Forward), work).unwrap();
        let case = Case::new(&be, &mut Random(5), Format::Q4_0, n, k, Precision::Standard);
        let mut output = be.tensor(rows, n);
        be.matmul(&tensor(&be, k, &values), &mut [(&case.weight, &mut output)]);
        (bits(&be.read(&output).unwrap()), be.gpu().counts())
    };
    let (whole, counts) = run(1 << 40);
    let (parts, counts_of_parts) = run(2 * 32 * 70 * 64);
    assert!(whole == parts);
    assert_eq!((counts_of_parts.commits - counts.commits, counts_of_parts.in_flight), (3, 2));
}

/// A format without a kernel would be found out by whoever has a file of it.
#[test]
fn there_are_kernels_for_every_format() {
    let shim = common::shim(Order::Forward);
    let names: Vec<&str> = shim.kernels().collect();
    for format in Format::ALL {
        let halves = if matches!(format, Format::F32 | Format::BF16) { "float" } else { "half" };
        let floats = if *format == Format::F16 { "half" } else { "float" };
        for (kind, rows) in [(halves, 32), (halves, 8), (floats, 32), (floats, 8)] {
            let name = format!("product_{format}_{kind}_{rows}");
            assert!(names.contains(&&name[..]), "{name}");
        }
    }
}

/// Each is a place of the product's kernel, and what stands there instead; all are seen by `one_format`.
const FAULTS: [&str; 12] = [
    // The four barriers, by what follows them.
    "threadgroup_barrier(mem_flags::mem_threadgroup);\n        for (ushort i = 0; i < 16; i++) { => for (ushort i = 0; i < 16; i++) {",
    "threadgroup_barrier(mem_flags::mem_threadgroup);\n        for (ushort step => for (ushort step",
    "threadgroup_barrier(mem_flags::mem_threadgroup);\n    threadgroup float *tile => threadgroup float *tile",
    "threadgroup_barrier(mem_flags::mem_threadgroup);\n    for (ushort i = t; i < ROWS * TILE => for (ushort i = t; i < ROWS * TILE",
    // Swapped indices and wrong strides.
    "8 * (depth % 8) + own_weight % 8] => 8 * (own_weight % 8) + depth % 8]",
    "sums[j][i], b[j], a[i], sums[j][i] => sums[j][i], b[j], a[N - 1 - i], sums[j][i]",
    "tile + TILE * row + column, TILE) => tile + TILE * row + column, 8)",
    "M * (simdgroup / ACROSS) + j), 8) => M * (simdgroup % ACROSS) + j), 8)",
    "ulong(row) * p.n + column => ulong(row) * p.k + column",
    // Edges; what they shut out and no result shows is below.
    "has_row && column < p.k => has_row && column + 1 < p.k",
    "if (row >= p.rows || column >= p.n) continue; => if (row >= p.rows || column > p.n) continue;",
    "p.epilogue == STORE => p.epilogue == ADD",
];

#[test]
fn faults_of_the_kernel_are_seen() {
    common::faults::are_seen("one_format", &FAULTS);
}

#[test]
fn all_of_it_under_address_sanitizer() {
    common::sanitizer::all_again();
}

/// Weights and activations that are not there are read, and left out of the result.
#[test]
fn faults_of_reading_are_seen_under_address_sanitizer() {
    for fault in [
        "first_weight + own_weight < p.n => first_weight + own_weight <= p.n",
        "has_row && column < p.k => true",
        "first_row + own_row < p.rows => first_row + own_row <= p.rows",
    ] {
        common::sanitizer::sees("one_format", fault);
    }
}

/// What no fault is planted in is what is shipped.
#[test]
fn the_source_is_the_shipped_one() {
    if std::env::var_os(common::FAULT).is_none() {
        assert_eq!(source(), qembed_kernels::metal::SOURCE);
    }
}
