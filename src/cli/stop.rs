//! What happens when a run is stopped, by Ctrl-C or otherwise.

use qembed_q::gguf::discard_unfinished_files;
use std::sync::atomic::{AtomicBool, Ordering};

static STOPPING: AtomicBool = AtomicBool::new(false);

/// From now on a signal that ends the program removes files that are not whole, and does `more`, before it ends.
pub(super) fn clean_up_when_stopped(mut more: impl FnMut() + Send + 'static) {
    let handled = ctrlc::set_handler(move || {
        STOPPING.store(true, Ordering::SeqCst);
        discard_unfinished_files();
        more();
        std::process::exit(130);
    });
    if let Err(error) = handled {
        say!("qembed-q: warning: a run that is stopped will leave its temporary files: {error}");
    }
}

/// While the program is being stopped, never returns: work that fails because its files are taken away must not end the
/// program before the rest is cleaned up, nor be reported.
pub(super) fn wait_if_stopping() {
    while STOPPING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}
