//! Lean, the second promise: memory is bounded by what is said before, and given back. A program of its own, since it counts
//! every allocation. (Buffers of 4 MiB and more are pages of the system's and not counted; models here are too small for such.)

mod common;

use common::{SHAPE_K, model};
use qembed_q::{Control, EmbedOptions, Embedder, LoadOptions, Prompt};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system's allocator, whose contract it shares.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Relaxed);
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `f` held at a time, what stays of them, and all that it asked for.
fn held(f: impl FnOnce()) -> (usize, usize, usize) {
    let (before, asked) = (NOW.load(Relaxed), ASKED.load(Relaxed));
    PEAK.store(before, Relaxed);
    f();
    (PEAK.load(Relaxed) - before, NOW.load(Relaxed).saturating_sub(before), ASKED.load(Relaxed) - asked)
}

fn text(len: usize, salt: usize) -> String {
    (0..len).map(|i| char::from(b'a' + ((i * 7 + i * i * 3 + salt * 11 + i * salt) % 26) as u8)).collect()
}

fn embed(embedder: &Embedder, texts: &[String]) {
    embedder.embed_each(texts, &EmbedOptions::default(), &Control::default(), |_, _, _| ()).unwrap();
}

#[test]
fn lean() {
    // One thread: what threads have of their own does not count by tokens.
    let load = LoadOptions::default().threads(1);
    let fresh = || {
        let embedder = Embedder::open_with(model(SHAPE_K, "Q4_K_M"), &load).unwrap();
        // The worker's panels and rows, which stay.
        embed(&embedder, &[text(100, 0)]);
        embedder
    };

    // A pass of `tokens` takes what was said, and little else: tokens, positions, tasks, the vectors.
    for (count, len) in [(1, 2400), (1, 600), (20, 99), (2000, 1)] {
        let embedder = fresh();
        let memory = embedder.memory();
        let texts: Vec<String> = (0..count).map(|salt| text(len, salt)).collect();
        let (peak, left, first) = held(|| embed(&embedder, &texts));
        let tokens = (count * (len + 1)).min(embedder.pass_tokens().max(len + 1));
        // Of the call, besides passes: 1 KB for each vector, the tokens, and a little.
        let bound = memory.of_pass(tokens, count.min(tokens)) as usize + count * 2048 + (1 << 17);
        assert!(peak <= bound, "{count} texts of {len}: {peak} bytes, at most {bound}");
        // And the bound means something.
        assert!(len < 600 || 2 * peak > bound, "{count} texts of {len}: {peak} bytes of {bound}");
        // What stays is there for the next pass, which asks for less (of many tiny texts, vectors are what it takes).
        assert!(left <= peak, "{count} texts of {len} leave {left} bytes");
        let (_, more, again) = held(|| embed(&embedder, &texts));
        assert!(
            (len < 99 || 2 * again < first) && more < 1 << 17,
            "{count} texts of {len}: {first} bytes, then {again}, {more} stay"
        );
    }

    // Ten times as many texts need no more at a time.
    let embedder = fresh();
    let texts: Vec<String> = (0..10_000).map(|salt| text(3 + salt % 60, salt)).collect();
    let (few, ..) = held(|| embed(&embedder, &texts[..1000]));
    let (many, ..) = held(|| embed(&embedder, &texts));
    assert!(many as f64 <= 1.1 * few as f64, "{many} bytes for ten times as many texts, {few} before");
    // Nor do six times as many that are so short that their tokens are no bound.
    let texts: Vec<String> = (0..30_000).map(|salt| text(1, salt)).collect();
    let (few, ..) = held(|| embed(&embedder, &texts[..5000]));
    let (many, ..) = held(|| embed(&embedder, &texts));
    assert!(many as f64 <= 1.1 * few as f64, "{many} bytes for six times as many short texts, {few} before");

    // What texts have in common is computed once, and takes memory once.
    let embedder = fresh();
    let texts: Vec<String> = (0..20).map(|salt| text(1000, 1) + &text(5, salt)).collect();
    let bound = embedder.memory().of_pass(1000 + 20 * 6, 20) as usize + 20 * 2048 + (1 << 17);
    let (peak, ..) = held(|| embed(&embedder, &texts));
    assert!(peak <= bound, "{peak} bytes for a common prefix, at most {bound}");

    // Of an instruction, keys and values stay if there is room for them: two layers of 2 · 2 heads of 64 floats.
    let task = text(1000, 2);
    let queries = EmbedOptions::default().prompt(Prompt::Instruct(task.clone()));
    let bytes = format!("Instruct: {task}\nQuery:").len() * 2 * (2 * 2 * 64) * size_of::<f32>();
    let stay = |prefix_cache, options: &EmbedOptions| {
        let load = load.clone().prefix_cache(prefix_cache);
        let embedder = Embedder::open_with(model(SHAPE_K, "Q4_K_M"), &load).unwrap();
        held(|| drop(embedder.embed(&["x"], options).unwrap())).1
    };
    // The rest is there for the next pass; what is kept may have taken some of it.
    let rest = stay(0, &queries);
    let (kept, not_kept) = (stay(bytes, &queries), stay(bytes - 1, &queries));
    assert!(kept >= rest + bytes / 3 && kept <= rest + bytes + (1 << 14), "{kept} bytes stay, {rest} without");
    assert!(not_kept <= rest + (1 << 14), "no room, but {not_kept} bytes stay, {rest} without");
    // Of texts without an instruction nothing does.
    let documents = EmbedOptions::default();
    assert!(stay(bytes, &documents) <= stay(0, &documents) + (1 << 14));
}
