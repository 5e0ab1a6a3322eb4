//! What happens when a run is stopped, by Ctrl-C or otherwise.

use qembed_q::gguf::discard_unfinished_files;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

static STOPPING: AtomicBool = AtomicBool::new(false);

/// Whether there is work that wants to end by itself.
static WORKING: Mutex<bool> = Mutex::new(false);
static DONE: Condvar = Condvar::new();

/// Set when that work shall end.
static CANCEL: AtomicBool = AtomicBool::new(false);

/// Who stops a program twice means it. Some stop it twice without meaning it, within less.
const INSISTENCE: Duration = Duration::from_secs(1);

/// From now on a signal that ends the program removes files that are not whole, and does `more`, before it ends.
pub(super) fn clean_up_when_stopped(more: impl FnOnce() + Send + 'static) {
    let clean_up = || {
        discard_unfinished_files();
        more();
    };
    when_stopped(true, clean_up, "will leave its temporary files");
}

/// Does work that keeps what it has when it is stopped. From now on a signal that ends the program sets the flag, and the
/// program ends when the work has; at once when that is done already, or at the next signal.
pub(super) fn let_finish<T>(work: impl FnOnce(&'static AtomicBool) -> T) -> T {
    *WORKING.lock().unwrap_or_else(PoisonError::into_inner) = true;
    let wait = || {
        CANCEL.store(true, Ordering::SeqCst);
        let working = WORKING.lock().unwrap_or_else(PoisonError::into_inner);
        drop(DONE.wait_while(working, |working| *working));
        discard_unfinished_files();
    };
    when_stopped(!survives_hangup(), wait, "may lose some of what is computed");
    let result = work(&CANCEL);
    *WORKING.lock().unwrap_or_else(PoisonError::into_inner) = false;
    DONE.notify_all();
    result
}

/// While the program is being stopped, never returns: work that fails because its files are taken away must not end the
/// program before the rest is cleaned up, nor be reported.
pub(super) fn wait_if_stopping() {
    while STOPPING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Ends the program at a signal, after `first`.
fn when_stopped(hangup: bool, first: impl FnOnce() + Send + 'static, or_else: &str) {
    let (mut first, mut since) = (Some(first), Instant::now());
    let on_signal = move || match first.take() {
        Some(first) => {
            since = Instant::now();
            STOPPING.store(true, Ordering::SeqCst);
            let end = move || {
                first();
                std::process::exit(130);
            };
            if std::thread::Builder::new().spawn(end).is_err() {
                std::process::exit(130);
            }
        }
        None if since.elapsed() >= INSISTENCE => std::process::exit(130),
        None => {}
    };
    if let Err(error) = listen(hangup, on_signal) {
        say!("qembed-q: warning: a run that is stopped {or_else}: {error}");
    }
}

/// Calls `on_signal` at Ctrl-C and when the program is to end; with `hangup` also when its terminal is closed.
#[cfg(unix)]
fn listen(hangup: bool, mut on_signal: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    if hangup {
        signals.add_signal(SIGHUP)?;
    }
    std::thread::Builder::new().spawn(move || signals.forever().for_each(|_| on_signal()))?;
    Ok(())
}

#[cfg(not(unix))]
fn listen(_hangup: bool, on_signal: impl FnMut() + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(on_signal)
}

/// Whether the program goes on when its terminal is closed, as `nohup` has it. Where the system does not say, that is left
/// as it is: nobody who started a run overnight wants it stopped.
fn survives_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}
