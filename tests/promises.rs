//! The promises of the project, a test for each: exact, lean, whole, safe, offline.

mod common;

use common::{Parts, SHAPE, SHAPE_K, bits, model, scratch};
use proptest::prelude::*;
use qembed_q::{Control, EmbedOptions, Embedder, Error, Isa, LoadOptions, Progress, Prompt};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

fn open(path: &Path, load: LoadOptions) -> Embedder {
    Embedder::open_with(path, &load.threads(2)).unwrap()
}

/// One text at a time, nothing shared, nothing kept.
fn plain(path: &Path, isa: &str) -> Embedder {
    open(path, LoadOptions::default().isa(isa.to_owned()).share_prefixes(false).prefix_cache(0))
}

fn sharing(path: &Path, isa: &str) -> Embedder {
    open(path, LoadOptions::default().isa(isa.to_owned()))
}

/// Texts that share beginnings of all lengths around the borders of attention's blocks, equal ones, and single bytes.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let beginning = prop::sample::select(vec![0usize, 1, 5, 31, 32, 62, 63, 64, 65, 100, 127, 128, 130]);
    let text = (beginning, 0..3u8, 1..40usize, 0..4u8).prop_map(|(common, family, own, salt)| {
        let byte = |i: usize, salt: u8| char::from(b'a' + ((i * 7 + i * i + usize::from(salt) * 5) % 26) as u8);
        let beginning = (0..common).map(|i| byte(i, family));
        beginning.chain((0..own).map(|i| byte(i, 10 + salt))).collect::<String>()
    });
    prop::collection::vec(text, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// A vector's bits do not depend on what else was in the call, on shared beginnings, or on calls before.
    #[test]
    fn exact(texts in texts(), query in any::<bool>()) {
        let path = model(SHAPE_K, "Q4_K_M");
        let prompt = if query { Prompt::Instruct("Find".into()) } else { Prompt::Document };
        let options = EmbedOptions::default().prompt(prompt);
        for isa in Isa::all() {
            let (plain, sharing) = (plain(&path, isa.name), sharing(&path, isa.name));
            for _ in 0..2 {
                let together = sharing.embed(&texts, &options).unwrap();
                for (i, text) in texts.iter().enumerate() {
                    let alone = plain.embed(&[text], &options).unwrap();
                    prop_assert_eq!(bits(&alone[0]), bits(&together[i]), "{}: text {}", isa.name, i);
                    prop_assert_eq!(alone.tokens()[0], together.tokens()[i]);
                }
            }
        }
    }
}

/// What is kept of an instruction are the tokens that a text left of it, not those that it has alone.
#[cfg(feature = "builtin")]
#[test]
fn exact_where_a_text_merges_with_the_instruction() {
    let open =
        |prefix_cache| Embedder::builtin_with(&LoadOptions::default().threads(2).prefix_cache(prefix_cache)).unwrap();
    let (keeps, plain) = (open(64 << 20), open(0));
    let queries = EmbedOptions::default().prompt(Prompt::Instruct("Find".into()));
    let tokens = |text, options: &EmbedOptions| plain.embed(&[text], options).unwrap().tokens()[0];
    let documents = EmbedOptions::default();
    let apart = tokens("Instruct: Find\nQuery:", &documents) + tokens(":x", &documents) - 1;
    assert!(tokens(":x", &queries) < apart, "two colons are one token");
    for text in [":x", "x", ":x", " x"] {
        assert_eq!(keeps.embed(&[text], &queries).unwrap(), plain.embed(&[text], &queries).unwrap(), "{text}");
    }
}

/// Passes are planned by what is computed, not by what texts have.
#[test]
fn lean_texts_with_a_common_beginning_make_one_pass() {
    let passes = |share_prefixes| {
        let passes = RefCell::new(0);
        let count = |_| *passes.borrow_mut() += 1;
        let embedder = open(&model(SHAPE_K, "Q8_0"), LoadOptions::default().share_prefixes(share_prefixes));
        let common = "x".repeat(embedder.pass_tokens() - 200);
        let texts: Vec<String> = (0..20).map(|i| format!("{common}{i}")).collect();
        let control = Control::default().progress(&count as &dyn Fn(_));
        embedder.embed_with(&texts, &EmbedOptions::default(), &control).unwrap();
        passes.into_inner()
    };
    assert_eq!((passes(true), passes(false)), (1, 20));
}

/// Nothing is lost or out of order, in any number of windows and passes; who reads on gets what a list gets.
#[test]
fn whole() {
    let path = model(SHAPE_K, "Q8_0");
    let embedder = open(&path, LoadOptions::default());
    // More texts than are looked at together, of few different ones.
    let texts: Vec<String> = (0..9000).map(|i| format!("{} {}", i % 23, "x".repeat(i % 5))).collect();
    let expected = embedder.embed(&texts, &EmbedOptions::default()).unwrap();
    assert_eq!(expected.len(), texts.len());
    let mut next = 0;
    let (seen, options) = (RefCell::new(Progress::default()), EmbedOptions::default());
    let progress = |progress: Progress| {
        assert!(progress.texts > seen.borrow().texts && progress.tokens > seen.borrow().tokens);
        *seen.borrow_mut() = progress;
    };
    let control = Control::default().progress(&progress as &dyn Fn(_));
    let each = |i: usize, vector: &[f32], tokens: usize| {
        assert_eq!((i, tokens), (next, texts[i].len() + 1));
        assert_eq!(bits(vector), bits(&expected[i]), "text {i}");
        next += 1;
    };
    embedder.embed_each(&texts, &options, &control, each).unwrap();
    assert_eq!(next, texts.len());
    let tokens = texts.iter().map(|text| text.len() + 1).sum();
    assert_eq!((seen.borrow().texts, seen.borrow().tokens), (texts.len(), tokens));
    // Equal texts, equal vectors, and none that belongs to another.
    let distinct: std::collections::HashSet<_> = expected.iter().map(bits).collect();
    assert_eq!(distinct.len(), texts.iter().collect::<std::collections::HashSet<_>>().len());

    // A text that does not fit is an error that names it, as is one in the middle of a stream.
    let mut texts = texts;
    texts[8500] = "y".repeat(3000);
    let error = embedder.embed_each(&texts, &EmbedOptions::default(), &Control::default(), |_, _, _| ()).unwrap_err();
    assert!(matches!(error, Error::TooLong { text: 8500, tokens: 3001, limit: 2500 }), "{error:?}");
}

/// What is not finite is an error that names its text, and leaves nothing behind: no vector, nothing that is kept.
#[test]
fn safe() {
    let path = scratch("safe").join("model.gguf");
    let mut parts = Parts::of(&model(SHAPE, "F16"));
    let embeddings = parts.tensor("token_embd.weight");
    let row = embeddings.data.len() / 300 * usize::from(b'!');
    embeddings.data[row..row + 2].copy_from_slice(&0x7e00u16.to_le_bytes()); // NaN
    parts.write(&path);
    let queries = EmbedOptions::default().prompt(Prompt::Instruct("Find".into()));
    for isa in Isa::all() {
        let expected = plain(&path, isa.name).embed(&["good", "fine"], &queries).unwrap();
        let embedder = sharing(&path, isa.name);
        for texts in [&["bad!"][..], &["good", "bad!"], &["fine", "good", "bad!", "!"], &["worse!", "bad!"]] {
            let error = embedder.embed(texts, &queries).unwrap_err();
            let first = texts.iter().position(|text| text.contains('!')).unwrap();
            assert!(matches!(error, Error::NonFinite { text } if text == first), "{}: {error:?}", isa.name);
            assert_eq!(embedder.embed(&["good", "fine"], &queries).unwrap(), expected, "{}", isa.name);
        }
        // In a stream it is named by its place among all texts, not among those that were looked at with it.
        let texts = (0..9000).map(|i| if i == 8500 { "bad!" } else { "good" });
        let error = embedder.embed_each(texts, &queries, &Control::default(), |_, _, _| ()).unwrap_err();
        assert!(matches!(error, Error::NonFinite { text: 8500 }), "{}: {error:?}", isa.name);
    }
}

#[test]
fn a_call_that_is_called_off_ends_and_harms_no_other() {
    let path = model(SHAPE_K, "Q8_0");
    let embedder = open(&path, LoadOptions::default());
    let texts: Vec<String> = (0..20).map(|i| format!("{i}{}", "x".repeat(400))).collect();
    let options = EmbedOptions::default().prompt(Prompt::Query);
    let (yes, later) = (AtomicBool::new(true), AtomicBool::new(false));
    let embed = |control: &Control| embedder.embed_with(&texts, &options, control);
    assert!(matches!(embed(&Control::default().cancel(&yes)), Err(Error::Cancelled)));
    let deadline = Some(Instant::now());
    assert!(matches!(embed(&Control::default().deadline(deadline)), Err(Error::DeadlineExceeded)));
    // After the first of several passes.
    let passes = RefCell::new(0);
    let progress = |_| {
        *passes.borrow_mut() += 1;
        later.store(true, Relaxed);
    };
    let control = Control::default().cancel(&later).progress(&progress as &dyn Fn(_));
    assert!(matches!(embed(&control), Err(Error::Cancelled)));
    assert_eq!(*passes.borrow(), 1);
    // Among the texts that become tokens, between the layers of one pass; and no more is asked then.
    for last in 1..4 {
        let asked = Cell::new(0);
        let wanted = || {
            asked.set(asked.get() + 1);
            asked.get() < last
        };
        assert!(matches!(embed(&Control::default().wanted(&wanted as &dyn Fn() -> bool)), Err(Error::Cancelled)));
        assert_eq!(asked.get(), last);
    }

    let expected = open(&path, LoadOptions::default()).embed(&texts, &options).unwrap();
    assert_eq!(embed(&Control::default()).unwrap(), expected);
}

#[test]
fn a_memory_budget_bounds_a_pass() {
    let path = model(SHAPE_K, "Q8_0");
    let load = |memory_budget| LoadOptions::default().threads(2).memory_budget(memory_budget);
    let error = Embedder::open_with(&path, &load(10_000)).err().unwrap();
    let Error::BudgetTooSmall { budget: 10_000, least } = error else { panic!("{error:?}") };
    assert_eq!(Embedder::open_with(&path, &load(least)).unwrap().memory().tokens(), 64);
    assert!(Embedder::open_with(&path, &load(least - 1)).is_err());

    let needs = open(&path, LoadOptions::default()).memory();
    // Half of what is free, unless it is said; by now, that may be a little more or less.
    assert!(needs.available.is_none_or(|free| needs.budget < free / 4 * 3), "{needs:?}");
    let embedder = Embedder::open_with(&path, &load(needs.of_pass(100, 1))).unwrap();
    assert_eq!(embedder.memory().tokens(), 100);
    let texts: Vec<String> = (1..100).map(|i| format!("{i}{}", "x".repeat(i % 97))).collect();
    let free = open(&path, LoadOptions::default());
    let expected = free.embed(&texts, &EmbedOptions::default()).unwrap();
    assert_eq!(embedder.embed(&texts, &EmbedOptions::default()).unwrap(), expected);

    let long = ["fits".into(), "x".repeat(100)];
    let error = embedder.embed(&long, &EmbedOptions::default()).unwrap_err();
    assert!(matches!(error, Error::OverBudget { text: 1, tokens: 101, limit: 100, .. }), "{error:?}");
    assert!(error.to_string().contains("text 2 has 101 tokens"), "{error}");
    assert!(free.embed(&long, &EmbedOptions::default()).is_ok());
}

/// Nothing but `pull` reaches a network: of all features `hub` alone brings what can, and of all rooms its own uses it.
#[test]
fn offline() {
    let crates = |features: &str| -> Vec<String> {
        let tree = std::process::Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--package", "qembed-q"])
            .args(["--no-default-features", "--features", features])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let tree = String::from_utf8(tree.stdout).unwrap();
        tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    };
    let none_of = |crates: &[String], names: &[&str]| {
        assert!(crates.iter().any(|name| name == "memmap2"), "{crates:?}");
        for name in names {
            assert!(!crates.iter().any(|other| other == name), "{name} is among the dependencies");
        }
    };
    const CLIENTS: [&str; 6] = ["reqwest", "ureq", "curl", "native-tls", "hyper-rustls", "hickory-resolver"];
    let alone = crates("builtin,convert,corpus,search,selftest,verify");
    none_of(&alone, &CLIENTS);
    none_of(&alone, &["socket2", "mio", "tokio", "hyper", "rustls"]);
    // A server is asked, and asks nobody.
    none_of(&crates("builtin,serve"), &CLIENTS);
    let client = CLIENTS.iter().position(|name| *name == "ureq").unwrap();
    none_of(&crates("builtin,cli"), &[&CLIENTS[..client], &CLIENTS[client + 1..], &["tokio", "hyper"]].concat());
    // The standard library can as well, so nobody here asks it to, save the server, which looks whether one is there already.
    // and `--ping`, which asks a server for its health.
    let asks = ["serve/listen.rs", "serve/ping.rs"];
    let mut folders =
        ["src", "models/src", "kernels/src"].map(|f| Path::new(env!("CARGO_MANIFEST_DIR")).join(f)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            let allowed = asks.iter().any(|file| path.ends_with(file));
            let serves = path.components().any(|part| part.as_os_str() == "serve");
            assert!(serves || !source.contains("std::net"), "{}", path.display());
            let fetches = path.components().any(|part| part.as_os_str() == "hub");
            assert!(fetches || !source.contains("ureq::"), "{}", path.display());
            for word in ["TcpStream::connect", "UnixStream::connect", "UdpSocket"] {
                assert!(!source.contains(word) || allowed, "{}: {word}", path.display());
            }
        }
    }
}
