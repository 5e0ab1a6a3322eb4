//! A stream of texts of any length in bounded memory, called off after a second; nothing that was computed is lost.
//!
//! `cargo run --release --example cancel`

use qembed_q::{Control, EmbedOptions, Embedder, Error};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let embedder = Embedder::builtin()?;
    let texts = (0u64..).map(|i| format!("text number {i} of a stream that has no end"));
    let cancel = AtomicBool::new(false);
    let mut vectors = 0u64;
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            cancel.store(true, Ordering::Relaxed);
        });
        let control = Control::default().cancel(&cancel);
        embedder.embed_unordered(texts, &EmbedOptions::default(), &control, |_index, _vector, _tokens| vectors += 1)
    });
    assert!(matches!(result, Err(Error::Cancelled)));
    println!("{vectors} vectors within a second");
    Ok(())
}
