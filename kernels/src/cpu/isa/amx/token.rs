//! Whether AMX may be used.

use crate::cpu::isa::avx512vnni::Avx512;
use crate::cpu::isa::token::Token;
use std::arch::x86_64::*;

/// Proof of AMX with bfloat16, and of the AVX-512 beside it, and that the operating system lets this process use them.
///
/// `is_x86_feature_detected!` answers for AVX-512 only when XCR0 says that the operating system saves its state; AMX is
/// unstable there, so that this asks itself. Beyond XCR0, Linux wants to be asked for permission before the first use
/// (Documentation/arch/x86/xstate.rst). Other systems are not offered AMX.
#[derive(Clone, Copy)]
pub(crate) struct Amx(Avx512);

impl Token for Amx {
    const NAME: &'static str = "amx";

    fn detect() -> Option<Self> {
        let avx512 = Avx512::detect()?;
        let found = is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("xsave")
            // SAFETY: `xsave` is detected only when the operating system has enabled `xgetbv`.
            && unsafe { has_tiles() }
            && permitted();
        found.then_some(Self(avx512))
    }
}

impl Amx {
    /// The vectors beside the tiles.
    pub(super) fn avx512(self) -> Avx512 {
        self.0
    }
}

/// AMX-TILE and AMX-BF16 of the CPU, and both of its states in XCR0.
///
/// # Safety
/// The CPU has `xgetbv`, and the operating system has enabled it.
#[target_feature(enable = "xsave")]
unsafe fn has_tiles() -> bool {
    const TILE: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    const STATES: u64 = 1 << 17 | 1 << 18;
    let features = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).edx } else { 0 };
    // SAFETY: the caller's promise.
    features & (TILE | BF16) == TILE | BF16 && unsafe { _xgetbv(0) } & STATES == STATES
}

/// Asks the operating system for permission, for all threads of this process.
fn permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
        const XTILEDATA: libc::c_ulong = 18;
        // SAFETY: takes two numbers and touches no memory.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    false
}
