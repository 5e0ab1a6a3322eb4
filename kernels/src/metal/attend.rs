//! Attention of a batch: keys and values are packed by path, then tasks of a few queries go through them.

use super::gpu::{Gpu, GpuError};
use super::kernels::ATTENTION_MEMORY;
use super::plan::{KEYS, Plan, Planned, QUERIES};
use super::stream::Job;
use super::tensor::Tensor;
use super::{MetalBackend, bits, lock, whole};
use crate::backend::{Heads, Node};
use std::sync::Arc;

impl<D: Gpu> MetalBackend<D> {
    fn planned(&self, nodes: &[Node]) -> Result<Arc<Planned<D>>, GpuError> {
        let last = &mut *lock(&self.plan);
        if let Some(planned) = last.as_ref().filter(|planned| planned.nodes == nodes) {
            return Ok(planned.clone());
        }
        let plan = Plan::of(nodes);
        let tables = [self.upload(&plan.rows)?, self.upload(&plan.tasks)?, self.upload(&plan.blocks)?];
        let keys = plan.tasks.iter().map(|[_, count, position, _]| (position + count) as usize);
        let keys = keys.map(|keys| keys.next_multiple_of(KEYS)).collect();
        let planned = Arc::new(Planned { nodes: nodes.to_vec(), packed: plan.rows.len(), keys, tables });
        *last = Some(planned.clone());
        Ok(planned)
    }

    /// Attention of every node and head; shapes have been looked at.
    pub(super) fn attend(
        &self,
        heads: Heads,
        nodes: &[Node],
        (q, k, v): (&Tensor<D>, &Tensor<D>, &Tensor<D>),
        out: &mut Tensor<D>,
    ) {
        let Heads { heads, kv_heads, head_dim } = heads;
        let Some(pipeline) = self.kernels.attention(head_dim) else {
            return self.stream.fail(GpuError::HeadDim { head_dim });
        };
        let Some(planned) = self.note(self.planned(nodes)) else { return };
        let [rows, tasks, blocks] = &planned.tables;
        let packed = [(); 2].map(|()| self.note(self.arena.for_gpu(planned.packed * k.cols * size_of::<f32>())));
        let [Some(keys), Some(values)] = &packed else { return };

        let views = [k.view(0), v.view(0), Some(whole(rows)), Some(whole(keys)), Some(whole(values))];
        let params = [k.cols, head_dim, planned.packed].map(|x| x as u32);
        // SAFETY: rows that k and v have, and room for as many keys and values as there are rows.
        unsafe { self.rows(&self.kernels.pack_keys, &views, &params, 0, [planned.packed, 2]) };

        let params = [heads as u32, kv_heads as u32, planned.packed as u32, bits(1.0 / (head_dim as f32).sqrt())];
        let (Some(q), Some(out)) = (q.view(0), out.view(0)) else {
            return self.stream.fail_again();
        };
        let work = |keys: usize| (4 * keys * QUERIES * heads * head_dim) as u64;
        let mut first = 0;
        // As many tasks at a time as a command buffer may hold.
        while first < planned.keys.len() {
            let mut total = 0;
            let fits = planned.keys[first..].iter().take_while(|keys| {
                total += work(**keys);
                total <= self.stream.most()
            });
            let count = fits.count().max(1);
            let job = Job {
                pipeline,
                views: &[
                    q,
                    whole(keys),
                    whole(values),
                    (tasks.buffer(), first * size_of::<[u32; 4]>(), Some(tasks)),
                    whole(blocks),
                    out,
                ],
                params: &params,
                threadgroup_bytes: ATTENTION_MEMORY,
                grid: [count, heads.div_ceil(4)],
                work: planned.keys[first..first + count].iter().map(|keys| work(*keys)).sum(),
            };
            // SAFETY: the plan names queries that q and out have, and packed blocks.
            unsafe { self.stream.push(job) };
            first += count;
        }
    }
}
