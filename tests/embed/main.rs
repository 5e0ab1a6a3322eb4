//! The promises of the library: exact, whole, safe.

mod bits;
#[path = "../common/mod.rs"]
mod common;
mod texts;
mod vectors;

use common::{SHAPE, model, scratch};
use qembed_q::{EmbedOptions, Embedder, Embeddings, Error, LoadOptions};
use std::path::Path;

fn open(path: &Path, isa: Option<&str>, threads: usize) -> Embedder {
    Embedder::open_with(path, &LoadOptions::default().threads(threads).isa(isa.map(str::to_owned))).unwrap()
}

fn embed(embedder: &Embedder, texts: &[&str], options: &EmbedOptions) -> Embeddings {
    embedder.embed(texts, options).unwrap()
}

/// A text of `len` bytes, so many tokens; `salt` tells texts of one length apart.
fn text(len: usize, salt: usize) -> String {
    (0..len).map(|i| char::from(b' ' + ((i * 7 + i * i * 3 + salt * 11) % 95) as u8)).collect()
}

/// A file that is cut or written to under a mapping ends the work; one that is replaced does not, nor one that was read.
#[cfg(unix)]
#[test]
fn a_file_that_changes_under_the_work() {
    use qembed_q::gguf::{Access, GgufProblem};
    let folder = scratch("changes");
    let path = folder.join("model.gguf");
    let default = EmbedOptions::default();
    let fresh = |access| {
        std::fs::copy(model(SHAPE, "F16"), &path).unwrap();
        let embedder = Embedder::open_with(&path, &LoadOptions::default().access(access)).unwrap();
        let vectors = embed(&embedder, &["abc"], &default);
        (embedder, vectors)
    };
    let length = std::fs::metadata(model(SHAPE, "F16")).unwrap().len();
    let open_file = || std::fs::OpenOptions::new().write(true).open(&path).unwrap();

    let (embedder, _) = fresh(Access::Mapped);
    open_file().set_len(length - 1).unwrap();
    let error = embedder.embed(&["abc"], &default).unwrap_err();
    let Error::Gguf(problem) = &error else { panic!("{error:?}") };
    assert!(matches!(problem.problem(), GgufProblem::Changed) && problem.path() == path, "{error}");

    let (embedder, _) = fresh(Access::Mapped);
    open_file().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(matches!(embedder.embed(&["abc"], &default), Err(Error::Gguf(_))));

    let (embedder, vectors) = fresh(Access::Mapped);
    std::fs::write(folder.join("other"), "other").unwrap();
    std::fs::rename(folder.join("other"), &path).unwrap();
    assert_eq!(embed(&embedder, &["abc"], &default), vectors);

    let (embedder, vectors) = fresh(Access::Read);
    open_file().set_len(10).unwrap();
    assert_eq!(embed(&embedder, &["abc"], &default), vectors);
}

/// 32,000 tokens: a matrix of all scores of one head would be 4 GB.
#[test]
fn a_long_text_needs_memory_in_its_length_only() {
    let shape = "tiny,layers=1,hidden=32,ffn=32,heads=1,kv_heads=1,head_dim=16,vocab=300,context=40000";
    let embedder = open(&model(shape, "Q8_0"), None, 2);
    let long = text(32_000, 1);
    let before = peak_memory();
    let vectors = embed(&embedder, &[&long], &EmbedOptions::default());
    assert_eq!(vectors.tokens(), [32_001]);
    // The last tokens are seen, and so is the first.
    let other = format!("{}~~", &long[..31_998]);
    assert_ne!(vectors[0], embed(&embedder, &[&other], &EmbedOptions::default())[0]);
    match before.zip(peak_memory()) {
        // Other tests of this program run meanwhile; all their models together are below 10 MB.
        Some((before, after)) => assert!(after - before < 200 << 20, "{} MB more", (after - before) >> 20),
        None => println!("SKIPPED: peak memory, which this system does not tell"),
    }
}

/// The most memory that this process had resident, in bytes.
fn peak_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1024)
}

#[test]
fn threads_and_instruction_sets_that_cannot_be_had_are_errors() {
    let path = model(SHAPE, "F16");
    let open = |threads, isa: Option<&str>| {
        Embedder::open_with(&path, &LoadOptions::default().threads(threads).isa(isa.map(str::to_owned)))
            .map(|embedder| embedder.threads())
    };
    assert_eq!(open(Some(3), Some("SCALAR")).unwrap(), 3);
    assert!(matches!(open(Some(1025), None), Err(Error::TooManyThreads { threads: 1025, limit: 1024 })));
    let error = open(None, Some("mmx")).unwrap_err();
    assert!(error.to_string().contains("\"mmx\"") && error.to_string().contains("scalar"), "{error}");
}
