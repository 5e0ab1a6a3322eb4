//! Attention of a batch: keys and values are packed once per block and head, then queries are taken in tasks.

use super::CpuBackend;
use super::isa::Attention;
use super::ops::attention::task::{AttendTask, KeyValueRows, Shape};
use super::tensor::Tensor;
use crate::backend::{Backend, Node};
use crate::buffer::{Buffer, Parts, Plain};
use crate::path::Path;

/// Keys and values of a block whose rows do not lie end to end.
#[derive(Default)]
struct Gathered([Buffer<f32>; 2]);

impl CpuBackend {
    /// Attention of every node and head, by `coarse` or in f32 [queries × query heads].
    pub(super) fn attended(
        &self,
        coarse: Option<Attention<u16>>,
        shape: Shape,
        nodes: &[Node],
        qkv: (&Tensor, &Tensor, &Tensor),
    ) -> Tensor {
        let mut context = self.tensor(qkv.0.rows, qkv.0.cols);
        match coarse {
            Some(kernel) => self.attend(&kernel, shape, nodes, qkv, &mut context),
            None => self.attend(&self.tier().attention(), shape, nodes, qkv, &mut context),
        }
        context
    }

    /// Attention of every node and head, with keys and values packed as `kernel` wants them.
    fn attend<E: Plain + Send + Sync>(
        &self,
        kernel: &Attention<E>,
        shape: Shape,
        nodes: &[Node],
        (q, k, v): (&Tensor, &Tensor, &Tensor),
        context: &mut Tensor,
    ) {
        let kv_heads = k.cols / shape.head_dim;
        let (paths, packed) = Path::of(nodes, kernel.keys, kernel.pad);
        let dim = shape.head_dim;
        // What a key and a value take.
        let (k_len, v_len) = (dim + kernel.scale_len, shape.padded_dim() + kernel.scale_len);
        let mut kt = Buffer::<E>::of_arena(&self.arena, kv_heads * packed * k_len);
        let mut vp = Buffer::<E>::of_arena(&self.arena, kv_heads * packed * v_len);
        let (kt_parts, vp_parts) = (Parts::new(&mut kt), Parts::new(&mut vp));
        let blocks: Vec<(usize, usize)> =
            paths.iter().enumerate().flat_map(|(i, path)| path.own.clone().map(move |block| (i, block))).collect();
        self.pool.run(blocks.len() * kv_heads, |task, worker| {
            let ((i, block), head) = (blocks[task / kv_heads], task % kv_heads);
            let path = &paths[i];
            let (start, column) = (block * kernel.keys, head * dim);
            let keys = (path.len - start).min(kernel.keys);
            let at = head * packed + path.blocks[block];
            let width = keys.next_multiple_of(kernel.pad);
            // SAFETY: this block of this head, packed by this task alone.
            let (kt, vp) = unsafe {
                (kt_parts.part(at * k_len..(at + width) * k_len), vp_parts.part(at * v_len..(at + width) * v_len))
            };
            if start >= path.first {
                let from = (nodes[i].rows.start + start - path.first) * k.stride + column;
                let rows = KeyValueRows { k: &k.data[from..], v: &v.data[from..], stride: k.stride };
                kernel.pack(shape, keys, rows, kt, vp);
            } else {
                let scratch = &mut self.scratch(worker).attention;
                let Gathered(gathered) = scratch.own.get_or_make();
                gathered.iter_mut().for_each(|x| x.resize(keys * dim));
                for (key, position) in (start..start + keys).enumerate() {
                    let row = Path::row(&paths, nodes, i, position);
                    for (to, from) in gathered.iter_mut().zip([k, v]) {
                        to[key * dim..(key + 1) * dim].copy_from_slice(&from.row(row)[column..column + dim]);
                    }
                }
                kernel.pack(shape, keys, KeyValueRows { k: &gathered[0], v: &gathered[1], stride: dim }, kt, vp);
            }
        });

        let parts = context.parts();
        let step = shape.query_block();
        // Long rows first, so that the loop ends with small tasks; all of a head one after the other, whose keys and values
        // then stay in the cache.
        let mut by_length: Vec<usize> = (0..nodes.len()).collect();
        by_length.sort_by_key(|i| std::cmp::Reverse(paths[*i].len));
        let mut tasks = Vec::new();
        for i in by_length {
            for head in 0..kv_heads {
                tasks.extend((0..nodes[i].queries.len()).step_by(step).rev().map(|query| (i, head, query)));
            }
        }
        self.pool.run(tasks.len(), |task, worker| {
            let (i, head, query) = tasks[task];
            let row = nodes[i].queries.start + query;
            let column = head * shape.group * dim;
            let heads = head * packed..(head + 1) * packed;
            let task = AttendTask {
                shape,
                first: paths[i].len - nodes[i].queries.len() + query,
                count: step.min(nodes[i].queries.end - row),
                len: paths[i].len,
                q: &q.data[row * q.stride + column..],
                blocks: &paths[i].blocks,
                kt: &kt[heads.start * k_len..heads.end * k_len],
                vp: &vp[heads.start * v_len..heads.end * v_len],
            };
            kernel.attend(task, &mut self.scratch(worker).attention, &mut |query, in_group, values| {
                let start = column + in_group * dim;
                // SAFETY: each head of each query is computed by one task, since the queries of nodes lie end to end.
                unsafe { parts.part(row + query, start..start + dim) }.copy_from_slice(values);
            });
        });
    }
}
