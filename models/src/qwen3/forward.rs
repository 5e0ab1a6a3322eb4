//! The forward pass: tokens of a batch in, one hidden state of each text out.

use super::{Layer, Qwen3};
use crate::batch::Batch;
use crate::config::Config;
use crate::error::ModelError;
use qembed_kernels::{Backend, Node};
use std::sync::Arc;

/// Keys and values of the first tokens of texts, computed in an earlier pass.
pub struct Prefix<B: Backend> {
    tokens: Vec<u32>,
    /// Of each layer, [tokens × KV] each.
    layers: Vec<(B::Tensor, B::Tensor)>,
}

impl<B: Backend> Prefix<B> {
    /// The tokens whose keys and values these are, from a text's start.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

/// How to run a pass.
pub struct Pass<'a, B: Backend> {
    /// The prefixes that the batch continues, in its order.
    pub prefixes: &'a [Arc<Prefix<B>>],
    /// What to keep as prefixes for later passes: texts, by their number in the batch, and their first tokens.
    pub keep: &'a [(usize, &'a [u32])],
    /// Asked before each layer whether the result is still wanted.
    pub wanted: &'a dyn Fn() -> bool,
}

/// What a pass gives.
pub struct Outcome<B: Backend> {
    /// The final-normed hidden state of each text's last token, [texts × H], not yet cut or normalized.
    pub states: Vec<f32>,
    /// What was to be kept, in the same order.
    pub kept: Vec<Prefix<B>>,
}

/// What a pass works on, for T rows of tokens; H, Q, KV and F as in [`Layer`]. Keys and values have R rows: of all tokens to
/// compute, then of those whose keys and values are known.
pub(super) struct Buffers<B: Backend> {
    /// The residual stream, [T × H]
    x: B::Tensor,
    /// [T × Q]
    q: B::Tensor,
    /// [R × KV]
    k: B::Tensor,
    /// [R × KV]
    v: B::Tensor,
    /// The normed residual stream, [T × H]
    h: B::Activations,
    /// What attention gathered, [T × Q]
    context: B::Activations,
    /// silu(gate) · up, [T × F]
    f: B::Activations,
    /// T, and the forms of `h`, `context` and `f`
    inputs: (usize, [B::Form; 3]),
}

/// The queries of a layer: of every token, or of each text's last one.
struct Queries<B: Backend> {
    nodes: Vec<Node>,
    rope: B::Rope,
}

impl<B: Backend> Qwen3<B> {
    /// The final-normed hidden state of each text's last token, [texts × hidden], not yet cut or normalized.
    ///
    /// # Errors
    /// A text without tokens, longer than the context, or with a token beyond the vocabulary; a device that fails.
    pub fn forward(&self, batch: &Batch) -> Result<Vec<f32>, ModelError> {
        let pass = Pass { prefixes: &[], keep: &[], wanted: &|| true };
        self.run(batch, &pass).map(|outcome| outcome.states)
    }

    /// [`Qwen3::forward`] with prefixes known, kept, or a pass that may be called off.
    ///
    /// # Errors
    /// As [`Qwen3::forward`], and when the result is no longer wanted.
    ///
    /// # Panics
    /// When `prefixes` are not those that the batch was made with, or a text does not begin with what is to be kept of it.
    pub fn run(&self, batch: &Batch, pass: &Pass<B>) -> Result<Outcome<B>, ModelError> {
        self.check(batch)?;
        let known = pass.prefixes.iter().map(|prefix| prefix.tokens.len());
        assert!(known.eq(batch.nodes[..batch.known].iter().map(|node| node.rows.len())), "the prefixes of the batch");
        let mut kept: Vec<Prefix<B>> =
            pass.keep.iter().map(|(_, tokens)| Prefix { tokens: tokens.to_vec(), layers: Vec::new() }).collect();
        if batch.tokens() == 0 {
            return Ok(Outcome { states: Vec::new(), kept });
        }
        let be = &self.backend;
        be.begin()?;
        let positions = batch.positions();
        let rope = |positions: &[u32]| be.rope(positions, self.config.heads.head_dim, self.config.rope_base);
        let all = Queries { nodes: batch.all_queries(), rope: rope(&positions) };
        // Of the last layer nothing is wanted but the last token of each text.
        let (nodes, rows) = batch.last_queries();
        let last = Queries { nodes, rope: rope(&rows.iter().map(|row| positions[*row]).collect::<Vec<_>>()) };
        let ends: Vec<usize> = batch.ends.iter().flatten().map(|node| last.nodes[*node].queries.start).collect();

        let mut buffers = self.buffers(batch);
        be.embed(&self.token_embd, &batch.tokens, &mut buffers.x);
        for (i, layer) in self.layers.iter().enumerate() {
            if !(pass.wanted)() {
                return Err(ModelError::Unwanted);
            }
            for (prefix, node) in pass.prefixes.iter().zip(&batch.nodes) {
                self.recall(prefix, i, node.rows.start, &mut buffers);
            }
            let is_last = i + 1 == self.layers.len();
            let (queries, rows) = if is_last { (&last, Some(&rows[..])) } else { (&all, None) };
            buffers = self.layer(layer, rows, queries, &all.rope, buffers);
            for (prefix, (text, tokens)) in kept.iter_mut().zip(pass.keep) {
                prefix.layers.push(self.retain(&batch.rows_of_prefix(*text, tokens.len()), &buffers));
            }
            be.checkpoint();
        }
        let mut pooled = be.tensor(ends.len(), self.config.hidden); // [texts × H]
        be.rms_norm_rows(&buffers.x, &ends, &self.output_norm, self.config.eps, &mut pooled);
        Ok(Outcome { states: be.read(&pooled)?, kept })
    }

    /// One layer of the transformer. `last` are the rows to go on with after keys and values, where that is not all; `queries`
    /// are theirs, and `rope` has the angles of all.
    fn layer(
        &self,
        layer: &Layer<B>,
        last: Option<&[usize]>,
        queries: &Queries<B>,
        rope: &B::Rope,
        buffers: Buffers<B>,
    ) -> Buffers<B> {
        let (be, &Config { heads, eps, .. }) = (&self.backend, &self.config);
        let mut s = self.fit(buffers, layer.forms);
        be.rms_norm(&s.x, &layer.attn_norm, eps, &mut s.h); // h [T × H]
        if let Some(rows) = last {
            be.matmul(&s.h, &mut [(&layer.attn_k, &mut s.k), (&layer.attn_v, &mut s.v)]); // k, v [R × KV]
            s = self.cut(s, rows);
            be.rms_norm(&s.x, &layer.attn_norm, eps, &mut s.h);
            be.matmul(&s.h, &mut [(&layer.attn_q, &mut s.q)]); // q [T × Q]
        } else {
            let products = &mut [(&layer.attn_q, &mut s.q), (&layer.attn_k, &mut s.k), (&layer.attn_v, &mut s.v)];
            be.matmul(&s.h, products); // q [T × Q], k, v [R × KV]
        }
        be.norm_rope(&mut s.q, &layer.attn_q_norm, eps, &queries.rope);
        be.norm_rope(&mut s.k, &layer.attn_k_norm, eps, rope);
        be.attention(heads, &queries.nodes, &s.q, &s.k, &s.v, &mut s.context); // context [T × Q]
        be.matmul_add(&s.context, &layer.attn_output, &mut s.x); // x [T × H]

        be.rms_norm(&s.x, &layer.ffn_norm, eps, &mut s.h); // h [T × H]
        be.gated(&s.h, &layer.ffn_gate, &layer.ffn_up, &mut s.f); // f [T × F]
        be.matmul_add(&s.f, &layer.ffn_down, &mut s.x); // x [T × H]
        s
    }

    /// Buffers for a batch; nothing is in them.
    fn buffers(&self, batch: &Batch) -> Buffers<B> {
        let (be, (q_dim, kv_dim)) = (&self.backend, self.attention_dims());
        let (tokens, forms) = (batch.tokens(), self.layers.first().map_or(Default::default(), |layer| layer.forms));
        let (x, q) = (be.tensor(tokens, self.config.hidden), be.tensor(tokens, q_dim));
        let [k, v] = [(); 2].map(|()| be.tensor(batch.rows(), kv_dim));
        self.with_inputs(x, q, k, v, (tokens, forms))
    }

    /// The same with `h`, `context` and `f` in these forms.
    fn fit(&self, buffers: Buffers<B>, forms: [B::Form; 3]) -> Buffers<B> {
        if buffers.inputs.1 == forms {
            return buffers;
        }
        let Buffers { x, q, k, v, h, context, f, inputs: (rows, _) } = buffers;
        drop((h, context, f)); // The new ones can have their memory.
        self.with_inputs(x, q, k, v, (rows, forms))
    }

    /// The same with these rows of `x` only, and room for as many elsewhere; keys and values stay.
    fn cut(&self, buffers: Buffers<B>, rows: &[usize]) -> Buffers<B> {
        let Buffers { x, q, k, v, h, context, f, inputs: (_, forms) } = buffers;
        let mut rest = self.backend.tensor(rows.len(), self.config.hidden);
        self.backend.copy_rows(&x, rows, &mut rest, 0);
        drop((q, h, context, f));
        let q = self.backend.tensor(rows.len(), self.attention_dims().0);
        self.with_inputs(rest, q, k, v, (rows.len(), forms))
    }

    fn with_inputs(
        &self,
        x: B::Tensor,
        q: B::Tensor,
        k: B::Tensor,
        v: B::Tensor,
        inputs: (usize, [B::Form; 3]),
    ) -> Buffers<B> {
        let (be, &Config { hidden, ffn, .. }, (rows, [h, context, f])) = (&self.backend, &self.config, inputs);
        let (h, f) = (be.activations(rows, hidden, h), be.activations(rows, ffn, f));
        let context = be.activations(rows, self.attention_dims().0, context);
        Buffers { x, q, k, v, h, context, f, inputs }
    }

    /// Puts the keys and values of a prefix in layer `i` where the batch has its rows.
    fn recall(&self, prefix: &Prefix<B>, i: usize, first: usize, buffers: &mut Buffers<B>) {
        let (known_k, known_v) = &prefix.layers[i];
        let rows: Vec<usize> = (0..prefix.tokens.len()).collect();
        self.backend.copy_rows(known_k, &rows, &mut buffers.k, first);
        self.backend.copy_rows(known_v, &rows, &mut buffers.v, first);
    }

    /// Copies of the keys and values of these rows, [rows × KV] each.
    fn retain(&self, rows: &[usize], buffers: &Buffers<B>) -> (B::Tensor, B::Tensor) {
        let keep = |from: &B::Tensor| {
            let mut to = self.backend.lasting_tensor(rows.len(), self.attention_dims().1);
            self.backend.copy_rows(from, rows, &mut to, 0);
            to
        };
        (keep(&buffers.k), keep(&buffers.v))
    }

    fn check(&self, batch: &Batch) -> Result<(), ModelError> {
        for (text, tokens) in batch.lengths().enumerate() {
            if tokens == 0 {
                return Err(ModelError::NoTokens { text });
            }
            if tokens > self.config.context {
                return Err(ModelError::TooLong { text, tokens, limit: self.config.context });
            }
        }
        match batch.tokens.iter().position(|token| *token as usize >= self.vocabulary) {
            Some(row) => {
                let (token, limit) = (batch.tokens[row], self.vocabulary);
                Err(ModelError::Token { text: batch.text_with(row), token, limit })
            }
            None => Ok(()),
        }
    }
}
