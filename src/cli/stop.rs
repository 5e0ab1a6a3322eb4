//! What happens when a run is stopped, by Ctrl-C or otherwise.

use qembed_q::gguf::discard_unfinished_files;

/// From now on a signal that ends the program removes files that are not whole, and does `more`, before it ends.
pub(super) fn clean_up_when_stopped(mut more: impl FnMut() + Send + 'static) {
    let handled = ctrlc::set_handler(move || {
        discard_unfinished_files();
        more();
        std::process::exit(130);
    });
    if let Err(error) = handled {
        say!("qembed-q: warning: a run that is stopped will leave its temporary files: {error}");
    }
}
