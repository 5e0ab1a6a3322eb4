//! How much memory there is, and how much a model takes.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// What a model takes and what there is, in bytes: shown by `qembed-q info`, and looked at before a model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryNeeds {
    /// The model file, all parts. It is mapped: its pages can be taken away and read again when memory is short.
    pub file: u64,
    /// The tokenizer and what else stays while the model is open, an estimate.
    pub fixed: u64,
    /// Of a forward pass, for each of its tokens.
    pub per_token: u64,
    /// Of a forward pass, for each of its texts besides.
    pub per_text: u64,
    /// The bound on the memory of a forward pass.
    pub budget: u64,
    /// What the system could give now, or the limit of this process's control group; `None` where it does not say.
    pub available: Option<u64>,
}

impl MemoryNeeds {
    /// Tokens that a text may have at this budget.
    pub fn tokens(&self) -> usize {
        (self.budget.saturating_sub(self.per_text) / self.per_token.max(1)) as usize
    }

    /// What a pass takes at most.
    pub fn of_pass(&self, tokens: usize, texts: usize) -> u64 {
        self.per_token * tokens as u64 + self.per_text * texts as u64
    }

    /// What is resident during a pass of one text of `tokens` tokens when all of the file is.
    pub fn resident(&self, tokens: usize) -> u64 {
        self.file + self.fixed + self.of_pass(tokens, 1)
    }
}

/// Bytes that the system could give to this process without swapping.
pub(crate) fn available() -> Option<u64> {
    let system =
        System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()));
    let free = system.available_memory();
    let limit = system.cgroup_limits().map(|limits| limits.free_memory);
    [Some(free).filter(|free| *free > 0), limit].into_iter().flatten().min()
}

/// Bytes of address space that this process may still take: what its limit (`ulimit -v`) leaves, where it has one that the
/// system tells.
pub(crate) fn address_space() -> u64 {
    let left = || {
        let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
        let limit =
            limits.lines().find_map(|line| line.strip_prefix("Max address space"))?.split_whitespace().next()?;
        let limit: u64 = limit.parse().ok()?;
        Some(limit.saturating_sub(memory_stats::memory_stats()?.virtual_mem as u64))
    };
    left().unwrap_or(u64::MAX)
}

/// Bytes of the tokenizer, as it is built: measured as 140 for each token.
pub(crate) fn fixed(vocabulary: usize) -> u64 {
    (vocabulary * 140 + (4 << 20)) as u64
}
