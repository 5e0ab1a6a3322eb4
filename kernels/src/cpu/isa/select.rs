//! Which tiers there are, which of them this machine can run, and which is used.

use super::scalar::Scalar;
use super::tier::{Isa, Tier};
use super::token::{Token, keep};
#[cfg(target_arch = "x86_64")]
use super::{amx::Amx, avx2::Avx2, avx512vnni::Avx512, avxvnni::AvxVnni, sse41::Sse41};
#[cfg(target_arch = "aarch64")]
use super::{dotprod::DotProd, i8mm::I8mm, neon::Neon};
use std::sync::LazyLock;

/// A tier by its name, and what gives it where the machine has it.
type Entry = (&'static str, fn() -> Option<&'static dyn Tier>);

/// Every tier of this architecture, best first.
static TIERS: &[Entry] = &[
    #[cfg(target_arch = "x86_64")]
    entry::<Amx>(),
    #[cfg(target_arch = "x86_64")]
    entry::<Avx512>(),
    #[cfg(target_arch = "x86_64")]
    entry::<AvxVnni>(),
    #[cfg(target_arch = "x86_64")]
    entry::<Avx2>(),
    #[cfg(target_arch = "x86_64")]
    entry::<Sse41>(),
    #[cfg(target_arch = "aarch64")]
    entry::<I8mm>(),
    #[cfg(target_arch = "aarch64")]
    entry::<DotProd>(),
    #[cfg(target_arch = "aarch64")]
    entry::<Neon>(),
    entry::<Scalar>(),
];

const fn entry<T: Token + Tier>() -> Entry {
    (T::NAME, || T::detect().map(|token| keep(token) as &dyn Tier))
}

/// Those of [`TIERS`] that this machine can run.
static FOUND: LazyLock<Vec<Isa>> =
    LazyLock::new(|| TIERS.iter().filter_map(|(name, detect)| Some(Isa { name, tier: detect()? })).collect());

/// Why a tier cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// No tier of that name.
    #[error("unknown instruction set {name:?}: choose one of {}", Isa::names().join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The machine lacks it.
    #[error("this CPU (or its operating system) does not offer {name:?}: choose one of {}", Isa::available().join(", "))]
    Unavailable {
        /// The name asked for.
        name: String,
    },
}

impl Isa {
    /// The tiers that this machine can run, best first; the last is the portable `scalar`.
    pub fn all() -> impl Iterator<Item = &'static Isa> {
        FOUND.iter()
    }

    /// The names of all tiers of this architecture, best first.
    pub fn names() -> Vec<&'static str> {
        TIERS.iter().map(|(name, _)| *name).collect()
    }

    /// The names of the tiers that this machine can run, best first.
    pub fn available() -> Vec<&'static str> {
        Self::all().map(|isa| isa.name).collect()
    }

    /// The tier called `name`; without a name, the one that the environment variable `QEMBED_ISA` names; without that,
    /// the best that this machine can run.
    ///
    /// # Errors
    /// An unknown name, or a tier that this machine cannot run.
    pub fn select(name: Option<&str>) -> Result<&'static Isa, IsaError> {
        let from_env = std::env::var("QEMBED_ISA").ok().filter(|name| !name.is_empty());
        let Some(name) = name.or(from_env.as_deref()).map(str::to_ascii_lowercase) else {
            return Ok(Self::all().next().expect("the scalar tier runs everywhere"));
        };
        match Self::all().find(|isa| isa.name == name) {
            Some(isa) => Ok(isa),
            None if Self::names().contains(&&*name) => Err(IsaError::Unavailable { name }),
            None => Err(IsaError::Unknown { name }),
        }
    }
}
