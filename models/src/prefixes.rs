//! Keys and values of prefixes, such as instructions, kept from pass to pass.

use crate::batch::{Text, longest_prefix};
use crate::qwen3::forward::Prefix;
use qembed_kernels::Backend;
use std::sync::{Arc, Mutex, MutexGuard};

/// The most recently used prefixes within a number of bytes.
pub(crate) struct PrefixCache<B: Backend> {
    budget: usize,
    bytes_per_token: usize,
    /// The one used last at the end.
    prefixes: Mutex<Vec<Arc<Prefix<B>>>>,
}

impl<B: Backend> PrefixCache<B> {
    pub(crate) fn new(budget: usize, bytes_per_token: usize) -> Self {
        Self { budget, bytes_per_token, prefixes: Mutex::new(Vec::new()) }
    }

    /// What a pass over `texts`, of whose prefixes `known` are at hand, should keep: texts by their number, and their prefixes.
    /// Each once, the first ones that fit together; none with which a longer one begins, and none that is all of its text.
    pub(crate) fn worth_keeping<'a>(&self, texts: &[Text<'a>], known: &[Arc<Prefix<B>>]) -> Vec<(usize, &'a [u32])> {
        let mut wanted: Vec<(usize, &[u32])> = (texts.iter().enumerate())
            .map(|(i, text)| (i, &text.tokens[..text.prefix.min(text.tokens.len().saturating_sub(1))]))
            .filter(|(_, prefix)| !prefix.is_empty() && !known.iter().any(|known| known.tokens() == *prefix))
            .collect();
        wanted.sort_by_key(|(_, prefix)| *prefix);
        // Equal ones, and those that begin another, stand before it.
        let mut longest: Vec<(usize, &[u32])> = Vec::new();
        for (i, prefix) in wanted {
            if longest.last().is_some_and(|(_, before)| prefix.starts_with(before)) {
                longest.pop();
            }
            longest.push((i, prefix));
        }
        let mut bytes = 0;
        longest.retain(|(_, prefix)| {
            let with = bytes + prefix.len() * self.bytes_per_token;
            let fits = with <= self.budget;
            bytes = if fits { with } else { bytes };
            fits
        });
        longest
    }

    /// The prefixes with which one of `texts` begins; the longest of each text.
    pub(crate) fn of<T: AsRef<[u32]>>(&self, texts: &[T]) -> Vec<Arc<Prefix<B>>> {
        let mut prefixes = self.lock();
        let longest = |text: &T| longest_prefix(text.as_ref(), prefixes.iter().map(|prefix| prefix.tokens()));
        let mut used: Vec<usize> = texts.iter().filter_map(longest).collect();
        used.sort_unstable();
        used.dedup();
        // To the end, from the last on, so that the places of the others stay.
        let mut found: Vec<_> = used.into_iter().rev().map(|i| prefixes.remove(i)).collect();
        found.reverse();
        prefixes.extend(found.iter().cloned());
        found
    }

    /// Keeps a prefix, in place of those that were not used for the longest time.
    pub(crate) fn put(&self, prefix: Prefix<B>) {
        let mut prefixes = self.lock();
        prefixes.retain(|other| other.tokens() != prefix.tokens());
        prefixes.push(Arc::new(prefix));
        let mut bytes: usize = prefixes.iter().map(|prefix| prefix.tokens().len() * self.bytes_per_token).sum();
        while bytes > self.budget {
            bytes -= prefixes.remove(0).tokens().len() * self.bytes_per_token;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Prefix<B>>>> {
        // A panic leaves a list of whole prefixes.
        self.prefixes.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Gguf;
    use crate::synth::{Spec, write};
    use crate::{Batch, Pass, Qwen3};
    use qembed_kernels::cpu::CpuBackend;
    use qembed_kernels::cpu::isa::Isa;

    #[test]
    fn what_was_used_last_stays_within_the_budget() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let dims =
            "tiny,layers=1,hidden=32,ffn=32,heads=1,kv_heads=1,head_dim=16,vocab=300,context=100".parse().unwrap();
        write(&Spec { dims, level: "F16".parse().unwrap(), seed: 1, vocabulary: None }, &path).unwrap();
        let backend = CpuBackend::new(Isa::select(None).unwrap(), 1);
        let model = Qwen3::load(&Gguf::open(&path).unwrap(), backend, &[]).unwrap();
        let prefix = |tokens: &[u32]| {
            let pass = Pass { prefixes: &[], keep: &[(0, tokens)], wanted: &|| true };
            model.run(&Batch::new(&[tokens]), &pass).unwrap().kept.pop().unwrap()
        };
        let cache = PrefixCache::new(48, 8); // six tokens
        let text = |tokens: &'static [u32], prefix| Text { tokens, prefix };
        let all = [
            text(&[5, 6, 9], 2),
            text(&[1, 2, 3, 9], 3),
            text(&[1, 2, 9], 2),
            text(&[1, 2, 3, 8], 3),
            text(&[4], 1),
            text(&[7, 7, 7, 7, 9], 4),
            text(&[8, 9], 0),
        ];
        assert_eq!(
            cache.worth_keeping(&all, &[]),
            [(3, &[1, 2, 3][..]), (0, &[5, 6])],
            "once, the longest, while they fit"
        );
        assert_eq!(cache.worth_keeping(&all[..3], &[Arc::new(prefix(&[1, 2, 3]))]), [(2, &[1, 2][..]), (0, &[5, 6])]);
        assert!(PrefixCache::<CpuBackend>::new(7, 8).worth_keeping(&all, &[]).is_empty());
        let found = |text: &[u32]| cache.of(&[text]).iter().map(|prefix| prefix.tokens().to_vec()).collect::<Vec<_>>();

        cache.put(prefix(&[1, 2]));
        cache.put(prefix(&[1, 2, 3]));
        // The same again takes the place of itself.
        cache.put(prefix(&[1, 2, 3]));
        assert_eq!(found(&[1, 2, 3, 9]), [[1, 2, 3]], "the longest");
        assert_eq!(found(&[1, 2, 3]), [[1, 2]], "one that leaves something to compute");
        assert_eq!(found(&[1, 2, 4]), [[1, 2]], "one with which the text begins");
        assert!(found(&[1, 2]).is_empty() && found(&[1, 3, 3, 3]).is_empty());
        // Each once, however many texts begin with it.
        assert_eq!(cache.of(&[[1, 2, 3, 9], [1, 2, 4, 9], [1, 2, 3, 8]]).len(), 2);

        // [1 2] was used last, so [1 2 3] goes.
        found(&[1, 2, 4]);
        cache.put(prefix(&[5, 6]));
        assert_eq!(found(&[5, 6, 9]), [[5, 6]]);
        assert_eq!(found(&[1, 2, 3, 9]), [[1, 2]]);
        // And where two go, both do.
        cache.put(prefix(&[7, 7, 7, 7, 7, 7]));
        assert!(found(&[5, 6, 9]).is_empty() && found(&[1, 2, 9]).is_empty());
        assert_eq!(found(&[7, 7, 7, 7, 7, 7, 7]), [[7, 7, 7, 7, 7, 7]]);
    }
}
