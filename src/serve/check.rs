//! What a server would do, without doing it.

use crate::serve::error::ServeError;
use crate::serve::listen::acceptor;
use crate::serve::models::Models;
use crate::serve::options::{Address, ServeOptions};
use std::fmt::Write;

/// What would listen where, with which models and memory: lines for people. The models are opened, no socket is.
///
/// # Errors
/// As [`Server::run`](crate::serve::Server::run), as far as that can be known without a socket.
pub fn check(options: &ServeOptions) -> Result<String, ServeError> {
    let models = Models::open(options)?;
    options.tls.as_ref().map(acceptor).transpose()?;
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let address = match &options.address {
        Address::Tcp(host, port) => format!("{scheme}://{host}:{port}"),
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Inherited => "the sockets that are handed over".into(),
    };
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let mut text = String::new();
    // A String takes everything.
    let _ = writeln!(text, "listens at  {address}");
    let _ = writeln!(
        text,
        "keys        {}",
        match options.api_keys.len() {
            0 => "none: anybody who can reach it may ask".into(),
            n => n.to_string(),
        }
    );
    let mut total = options.cache_size + options.max_bodies;
    let mut seen = Vec::new();
    for named in models.names() {
        let loaded = named.loaded();
        let embedder = &loaded.embedder;
        let memory = embedder.memory();
        let pass = memory.of_pass(embedder.pass_tokens(), embedder.pass_tokens() / 8);
        let _ = writeln!(
            text,
            "model       {}: {}, {} dimensions, {} tokens at most, {} with {} threads; file {} MiB (mapped), tokenizer {} MiB, a pass {} MiB",
            named.name,
            loaded.level,
            named.defaults.dimensions.unwrap_or(embedder.dimensions()),
            embedder.max_tokens(),
            embedder.isa(),
            embedder.threads(),
            mib(memory.file),
            mib(memory.fixed),
            mib(pass)
        );
        if !seen.contains(&std::sync::Arc::as_ptr(&loaded)) {
            seen.push(std::sync::Arc::as_ptr(&loaded));
            total += memory.file + memory.fixed + pass;
        }
    }
    let _ = writeln!(text, "results     up to {} MiB", mib(options.cache_size));
    let _ = writeln!(text, "bodies      up to {} MiB in flight", mib(options.max_bodies));
    let _ = writeln!(text, "in all      up to {} MiB, besides what texts longer than a pass take", mib(total));
    Ok(text)
}
