//! Layers in which every weight has a format and a precision of its own: what a file may hold, whatever made it.

use super::oracle::{Dense, Expected, Seen};
use super::*;

/// Rows of activations: more than a block of them.
const ROWS: usize = 50;

/// The matrices of a layer, of those lengths of rows that some formats can have: whole large blocks, small ones, none.
const SHAPES: [(usize, usize); 3] = [(256, 512), (96, 320), (40, 290)];

/// A weight before a backend takes it over.
struct Drawn {
    format: Format,
    precision: Precision,
    bytes: Vec<u8>,
    n: usize,
    k: usize,
}

impl Drawn {
    fn new(random: &mut Random, n: usize, k: usize) -> Self {
        let fitting: Vec<Format> = Format::ALL.iter().copied().filter(|format| format.row_bytes(k).is_some()).collect();
        let format = fitting[random.below(fitting.len())];
        let precision = [Precision::Standard, Precision::High][random.below(2)];
        Self { format, precision, bytes: random.weights(format, n, k), n, k }
    }

    fn on(&self, backend: &CpuBackend) -> Weight {
        weight(backend, self.precision, self.format, &self.bytes, self.n, self.k)
    }
}

/// Weights of a layer: q, k and v, gate and up, all of one input, and down.
struct Layer([Drawn; 6]);

/// What a layer makes of its rows: outputs [rows × n] of q, k, v; of the gated product; of down, added to what was there.
type Outputs = [(usize, Vec<f32>); 5];

impl Layer {
    fn new(random: &mut Random, hidden: usize, ffn: usize) -> Self {
        let shapes = [(80, hidden), (33, hidden), (1, hidden), (ffn, hidden), (ffn, hidden), (hidden, ffn)];
        Self(shapes.map(|(n, k)| Drawn::new(random, n, k)))
    }

    /// As the forward pass does it: each input once, in all the forms that its weights want.
    fn run(&self, backend: &CpuBackend, x: &[f32]) -> Outputs {
        let weights = self.0.each_ref().map(|drawn| drawn.on(backend));
        let [q, k, v, gate, up, down] = &weights;
        let rows = x.len() / q.k;
        let form = weights[..5].iter().fold(Form::default(), |form, weight| form | backend.form(weight));
        let input = acts(backend, rows, q.k, form, x);
        let mut outs = [q, k, v].map(|weight| backend.tensor(rows, weight.n));
        let [q_out, k_out, v_out] = &mut outs;
        backend.matmul(&input, &mut [(q, q_out), (k, k_out), (v, v_out)]);
        // The floats for this test to read.
        let mut f = backend.activations(rows, gate.n, backend.form(down) | F32);
        backend.gated(&input, gate, up, &mut f);
        let mut sum = tensor(backend, rows, down.n, x);
        backend.matmul_add(&f, down, &mut sum);
        let [q_out, k_out, v_out] = outs.map(|out| (out.cols, backend.read(&out)));
        [q_out, k_out, v_out, (gate.n, f.f32.to_vec()), (down.n, backend.read(&sum))]
    }

    /// The same, each product by itself and of nothing but its own form of the input.
    fn apart(&self, backend: &CpuBackend, x: &[f32]) -> Outputs {
        let weights = self.0.each_ref().map(|drawn| drawn.on(backend));
        let rows = x.len() / weights[0].k;
        let [q, k, v, gates, ups] = [0, 1, 2, 3, 4].map(|i| product(backend, &weights[i], rows, x));
        let mut f = vec![0.0; gates.len()];
        backend.isa.tier.silu_mul(&gates, &ups, &mut f);
        let down = product(backend, &weights[5], rows, &f);
        for (drawn, (x, ours)) in
            self.0.iter().zip([(x, &q), (x, &k), (x, &v), (x, &gates), (x, &ups), (&f[..], &down)])
        {
            drawn.check(backend, x, ours);
        }
        let sum = x.iter().zip(&down).map(|(x, product)| x + product).collect();
        let n = |i: usize| weights[i].n;
        [(n(0), q), (n(1), k), (n(2), v), (n(3), f), (n(5), sum)]
    }
}

impl Drawn {
    /// Holds the first and the last row of a product to what the oracle makes of the dequantized weight.
    fn check(&self, backend: &CpuBackend, x: &[f32], ours: &[f32]) {
        let Self { format, precision, ref bytes, n, k } = *self;
        let form = backend.form(&self.on(backend));
        let rows = x.len() / k;
        for row in [0, rows - 1] {
            let x = &x[row * k..(row + 1) * k];
            let seen = Seen::new(form, &acts(backend, 1, k, form, x), x);
            let dense = Dense::new(format, bytes, n, k);
            for column in 0..n {
                let Expected { value, rounding, .. } = seen.product(&dense, 0, column);
                let what =
                    || format!("{} {format} {precision:?} [{n} × {k}]: row {row} column {column}", backend.isa.name);
                assert_close(what, ours[row * n + column], value, rounding);
            }
        }
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|drawn| write!(f, " {} {:?}", drawn.format, drawn.precision))
    }
}

/// Each product comes out as by itself, to the bit, and by itself it is the oracle's but for roundings; its rows are the same
/// alone and among others, on any number of threads.
#[test]
fn layers_of_any_formats() {
    let mut random = Random(51);
    for (hidden, ffn) in SHAPES {
        for _ in 0..8 {
            let layer = Layer::new(&mut random, hidden, ffn);
            let x = random.normals(ROWS * hidden);
            for isa in isas() {
                let expected = layer.apart(&backend(isa), &x);
                let check = |backend: &CpuBackend, first: usize, count: usize| {
                    let ours = layer.run(backend, &x[first * hidden..(first + count) * hidden]);
                    for (i, ((n, ours), (_, expected))) in ours.iter().zip(&expected).enumerate() {
                        let what = format!("{} {} threads,{layer}: output {i}", isa.name, backend.threads());
                        assert_bits(&what, ours, &expected[first * n..(first + count) * n]);
                    }
                };
                (1..=3).for_each(|threads| check(&CpuBackend::new(isa, threads), 0, ROWS));
                for (first, count) in [(0, 1), (ROWS - 1, 1), (7, 20)] {
                    check(&backend(isa), first, count);
                }
            }
        }
    }
}
