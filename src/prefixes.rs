//! Keys and values of instructions, kept from call to call.

use qembed_kernels::Backend;
use qembed_models::Prefix;
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

    /// Whether a prefix of so many tokens fits at all.
    pub(crate) fn takes(&self, tokens: usize) -> bool {
        tokens * self.bytes_per_token <= self.budget
    }

    /// The prefixes with which one of `texts` begins; the longest of each text.
    pub(crate) fn of<T: AsRef<[u32]>>(&self, texts: &[T]) -> Vec<Arc<Prefix<B>>> {
        let mut prefixes = self.lock();
        let fits =
            |text: &[u32], prefix: &Prefix<B>| text.len() > prefix.tokens().len() && text.starts_with(prefix.tokens());
        let longest = |text: &T| {
            let fitting = (0..prefixes.len()).filter(|i| fits(text.as_ref(), &prefixes[*i]));
            fitting.max_by_key(|i| prefixes[*i].tokens().len())
        };
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
