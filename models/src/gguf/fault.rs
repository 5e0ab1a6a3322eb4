//! A mapped file that is cut while it is read: the system has no page to give and sends a signal, which ends a program
//! without a word unless it has said beforehand what it wants to say.
//!
//! Only what is safe in a signal handler happens there: atomic operations, `write`, `pause`, `_exit`, `sigaction`.
#![allow(unsafe_code)]

use super::error::GgufProblem;
use libc::{c_int, c_void, sigaction, siginfo_t};
use std::ops::Range;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// The signals of such a fault, which differ by system.
const SIGNALS: [c_int; 2] = [libc::SIGBUS, libc::SIGSEGV];

/// The mappings of this process, as far as there is room; more are not explained.
static MAPPINGS: [AtomicPtr<Explained>; 64] = [const { AtomicPtr::new(ptr::null_mut()) }; 64];

/// What is said besides the error.
static AROUND: OnceLock<[&str; 2]> = OnceLock::new();
/// Whether it is being said: several threads may run into the same hole.
static SAID: AtomicBool = AtomicBool::new(false);
/// What the signals did before.
static BEFORE: [OnceLock<sigaction>; 2] = [const { OnceLock::new() }; 2];

/// A mapping, never freed: a handler may be reading it.
struct Explained {
    addresses: Range<usize>,
    error: String,
}

/// From now on a mapped file that was cut ends this process with exit code 1 and the error [`GgufProblem::Changed`] on standard
/// error, between `before` and `after`. For programs, before they open a file; a library leaves signals to them.
pub fn exit_on_faults(before: &'static str, after: &'static str) {
    if AROUND.set([before, after]).is_err() {
        return;
    }
    for (signal, before) in SIGNALS.into_iter().zip(&BEFORE) {
        // SAFETY: the handler has the signature that SA_SIGINFO asks for and does only what a handler may (module
        // documentation); a zeroed `sigaction` is a valid one, and both pointers are to live values.
        unsafe {
            let (mut new, mut old): (sigaction, sigaction) = (std::mem::zeroed(), std::mem::zeroed());
            new.sa_sigaction = on_fault as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
            new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            if libc::sigaction(signal, ptr::null(), &mut old) == 0 && before.set(old).is_ok() {
                libc::sigaction(signal, &new, ptr::null_mut());
            }
        }
    }
}

extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the system calls this with a valid `info` of a fault, which has an address. Pointers in `MAPPINGS` are null or
    // to values that are never freed. `write` gets a pointer and a length of the same string.
    unsafe {
        let at = (*info).si_addr() as usize;
        let fits = |explained: &&Explained| explained.addresses.contains(&at);
        let explained = MAPPINGS.iter().filter_map(|slot| slot.load(Ordering::Acquire).as_ref()).find(fits);
        if let Some((explained, [before, after])) = explained.zip(AROUND.get()) {
            while SAID.swap(true, Ordering::AcqRel) {
                libc::pause();
            }
            for text in [before, &explained.error[..], after, "\n"] {
                libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
            }
            libc::_exit(1);
        }
        // Not ours: the instruction runs into it again, and what was there before decides.
        let before =
            SIGNALS.iter().zip(&BEFORE).find(|(other, _)| **other == signal).and_then(|(_, before)| before.get());
        libc::sigaction(signal, before.map_or(ptr::null(), |before| before), ptr::null_mut());
    }
}

/// While it lives, a fault in the mapping of a file is explained.
pub(super) struct Explanation(Option<&'static AtomicPtr<Explained>>);

impl Explanation {
    pub(super) fn new(path: &Path, mapping: &[u8]) -> Self {
        if AROUND.get().is_none() {
            return Self(None); // Nobody would say it.
        }
        let addresses = mapping.as_ptr().addr()..mapping.as_ptr().addr() + mapping.len();
        let error = GgufProblem::Changed.at(path).to_string();
        let explained = Box::into_raw(Box::new(Explained { addresses, error }));
        let take = |slot: &&AtomicPtr<_>| {
            slot.compare_exchange(ptr::null_mut(), explained, Ordering::Release, Ordering::Relaxed).is_ok()
        };
        Self(MAPPINGS.iter().find(take))
    }
}

impl Drop for Explanation {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.store(ptr::null_mut(), Ordering::Release);
        }
    }
}
