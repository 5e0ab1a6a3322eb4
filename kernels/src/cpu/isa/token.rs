//! Proofs that a machine has instructions.

/// Proof that the CPU, and the operating system, have the instructions of a tier: nothing but `detect` makes a value.
pub(crate) trait Token: Copy + Send + Sync + 'static {
    /// The name by which a user selects the tier.
    const NAME: &'static str;

    /// The proof, where the machine has the instructions.
    fn detect() -> Option<Self>;
}

/// A token at a place where it stays, so that tables can refer to it. It takes no memory.
pub(crate) fn keep<T>(token: T) -> &'static T {
    const { assert!(size_of::<T>() == 0) };
    Box::leak(Box::new(token))
}

/// A method of a token `$t`, compiled for its instructions.
macro_rules! method {
    ($t:ident: $token:ty, #[$attribute:meta], $name:ident($($x:ident: $of:ty),*) $body:block) => {
        fn $name(&self, $($x: $of),*) {
            /// # Safety
            /// The CPU has the instructions that it is compiled for.
            #[$attribute]
            unsafe fn compiled($t: $token, $($x: $of),*) {
                $body
            }
            // SAFETY: `self` is the proof of the instructions.
            unsafe { compiled(*self, $($x),*) }
        }
    };
}

pub(super) use method;
