//! Results that are kept: of each text the final hidden state, before it is cut and normalized, so that every number of
//! dimensions is served from the same one, to the bit.

use crate::embedder::Embedder;
use crate::tokens::Tokens;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The final hidden state of a text, [hidden].
pub(crate) type State = Arc<[f32]>;

/// What a result is found by: all that its bits depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) hash: [u8; 32],
    /// Whether it means the same after the program has ended.
    pub(crate) lasting: bool,
}

/// What a model is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A number that no other model has had since the program was started.
    Number(u64),
    /// The SHA-256 of its file.
    Digest([u8; 32]),
}

impl Key {
    /// The key of a text.
    pub(crate) fn of(model: Identity, embedder: &Embedder, tokens: &Tokens) -> Self {
        let number;
        let (identity, lasting): (&[u8], _) = match &model {
            Identity::Number(n) => {
                number = n.to_le_bytes();
                (&number, false)
            }
            Identity::Digest(digest) => (digest, true),
        };
        let mut hash = Sha256::new();
        let version = env!("CARGO_PKG_VERSION");
        for part in [identity, embedder.device().as_bytes(), embedder.isa().as_bytes(), version.as_bytes()] {
            hash.update((part.len() as u32).to_le_bytes());
            hash.update(part);
        }
        let ids: Vec<u8> = tokens.ids().iter().flat_map(|id| id.to_le_bytes()).collect();
        hash.update(ids);
        Self { hash: hash.finalize().into(), lasting }
    }
}

/// Results in memory, the ones used least go first.
pub(crate) struct Results {
    /// `None`: nothing is kept.
    cache: Option<moka::sync::Cache<Key, State>>,
}

/// What an entry takes besides its values, in bytes: keys, counters and links, as measured.
const ENTRY: usize = 200;

impl Results {
    /// Of so many bytes at most.
    pub(crate) fn new(bytes: u64) -> Self {
        let weigh = |_: &Key, state: &State| (size_of_val(&state[..]) + ENTRY).try_into().unwrap_or(u32::MAX);
        let build = || moka::sync::Cache::builder().max_capacity(bytes).weigher(weigh).build();
        Self { cache: (bytes > 0).then(build) }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<State> {
        self.cache.as_ref()?.get(key)
    }

    pub(crate) fn put(&self, key: Key, state: &State) {
        if let Some(cache) = &self.cache {
            cache.insert(key, state.clone());
        }
    }

    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.cache.as_ref().map_or(0, |cache| {
            cache.run_pending_tasks();
            cache.weighted_size()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_allowed() {
        let results = Results::new(10_000);
        let key = |i: u8| Key { hash: [i; 32], lasting: false };
        let state: State = vec![1.0; 200].into();
        for i in 0..100 {
            results.put(key(i), &state);
        }
        let bytes = results.bytes();
        assert!((1000..=10_000).contains(&bytes), "{bytes}");
        assert!((0..100).any(|i| results.get(&key(i)).is_some_and(|kept| kept == state)));
        let none = Results::new(0);
        none.put(key(0), &state);
        assert!(none.get(&key(0)).is_none() && none.bytes() == 0);
    }
}
