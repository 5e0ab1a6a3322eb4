//! The thread that computes, over a model that waits where it is told to.

use super::*;
use crate::gguf::Access;
use crate::options::{EmbedOptions, LoadOptions};
use crate::serve::results::Identity;
use qembed_models::synth::Spec;
use qembed_models::{ModelError, PassMemory, Text};
use std::sync::Barrier;
use std::sync::mpsc::channel;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The token of a byte in the model's vocabulary.
fn token(c: char) -> u32 {
    static TOKENS: std::sync::OnceLock<Vec<u32>> = std::sync::OnceLock::new();
    let tokens = TOKENS.get_or_init(|| {
        let (embedder, ..) = embedder();
        (0..128u8).map(|byte| tokens_of(&embedder, &char::from(byte).to_string()).ids()[0]).collect()
    });
    tokens[c as usize]
}

fn tokens_of(embedder: &Embedder, text: &str) -> crate::Tokens {
    embedder.tokenize(&[text], &EmbedOptions::default()).unwrap().remove(0)
}

type Watched = (std::sync::mpsc::Receiver<usize>, &'static Barrier, std::sync::mpsc::Receiver<Vec<u32>>);

/// What a model says in the place of a layer when it is called off.
const CALLED_OFF: usize = 99;

/// A model that does as the first byte of a text says: `!` panics, `n` is not finite, `l` is slow: it has two layers, before
/// each of which it says so and waits until it may go on. `u` is as slow, and says and waits too when it is called off.
fn embedder() -> (Arc<Embedder>, Watched) {
    let (layers, at_layer) = channel();
    let (passes, passed) = channel();
    let go_on: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
    let memory = |_| PassMemory { per_token: 1, per_text: 1, limit: None };
    let embedder = crate::tests::embedder(4000, memory, move |texts, hidden, wanted| {
        let first = |text: &Text| text.tokens[0];
        passes.send(texts.iter().map(first).collect()).unwrap();
        let is = |c: char| texts.iter().any(|text| first(text) == token(c));
        if is('l') || is('u') {
            for layer in 0..2 {
                layers.send(layer).unwrap();
                go_on.wait();
                if !wanted() {
                    if is('u') {
                        layers.send(CALLED_OFF).unwrap();
                        go_on.wait();
                    }
                    return Err(ModelError::Unwanted);
                }
            }
        }
        assert!(texts.iter().all(|text| first(text) != token('!')), "as it was told");
        let value = |text: &Text| if first(text) == token('n') { f32::NAN } else { text.tokens.len() as f32 };
        Ok(texts.iter().flat_map(|text| vec![value(text); hidden]).collect())
    });
    (Arc::new(embedder.unwrap()), (at_layer, go_on, passed))
}

fn engine() -> (Engine, Arc<Results>) {
    let results = Arc::new(Results::new(1 << 20));
    (Engine::start(results.clone(), |_, _| (), Arc::new(Metrics::new())).unwrap(), results)
}

fn submit(engine: &Engine, model: &Arc<Embedder>, client: Client, text: &str) -> UnboundedReceiver<Done> {
    let (to, from) = unbounded_channel();
    let tokens = tokens_of(model, text);
    let key = Key::of(Identity::Number(0), model, &tokens);
    let job = Job { key, tokens, waiter: Waiter { index: 7, to } };
    engine.submit(model, client, 0, vec![job], 100).unwrap();
    from
}

fn state(mut from: UnboundedReceiver<Done>) -> Result<State, Failed> {
    let done = from.blocking_recv().expect("an end");
    assert_eq!(done.index, 7);
    done.state
}

#[test]
fn a_panic_or_a_broken_value_is_that_of_its_texts_alone() {
    let (model, _watched) = embedder();
    let (engine, _) = engine();
    assert!(matches!(state(submit(&engine, &model, 1, "! panics")), Err(Failed::Panic)));
    let (broken, good) = (submit(&engine, &model, 1, "not finite"), submit(&engine, &model, 2, "good"));
    assert!(matches!(state(broken), Err(Failed::NonFinite)));
    assert_eq!(state(good).unwrap()[0], 5.0, "four bytes and the end");
}

#[test]
fn those_who_may_ask_again_are_waited_for_unless_the_pass_is_full() {
    let (model, _watched) = embedder();
    let now = Instant::now();
    // As long after the last text and after the last pass as may be.
    let (arrived, long) = (now + Duration::from_secs(1000), Duration::from_secs(16_000));
    let mut inner = Inner { queue: Queue::default(), rate: None, arrived, last: None, stopping: false };
    let push = |inner: &mut Inner, text: &str| {
        let (to, _) = unbounded_channel();
        let tokens = tokens_of(&model, text);
        let key = Key::of(Identity::Number(0), &model, &tokens);
        inner.queue.push(&model, 1, 0, Job { key, tokens, waiter: Waiter { index: 0, to } });
    };
    push(&mut inner, "a");
    for (texts, waits) in [(0, false), (1, false), (2, true)] {
        inner.last = Some((now, long, texts));
        assert_eq!(inner.patience().is_some(), waits, "after {texts}");
    }
    push(&mut inner, "b");
    assert!(inner.patience().is_none(), "both have come");
    inner.last = Some((now, long, 100));
    assert!(inner.patience().is_some());
    push(&mut inner, &"c".repeat(2 * model.pass_tokens()));
    assert!(inner.patience().is_none(), "more than a pass");
}

#[test]
fn short_texts_are_done_between_the_layers_of_a_long_one() {
    let (model, (at_layer, go_on, passed)) = embedder();
    let (engine, _) = engine();
    let long = submit(&engine, &model, 1, &format!("l{}", "x".repeat(3000)));
    assert_eq!(at_layer.recv().unwrap(), 0);
    let short = submit(&engine, &model, 2, "short");
    go_on.wait();
    assert_eq!(state(short).unwrap()[0], 6.0, "while the long one is at its second layer");
    assert_eq!(at_layer.recv().unwrap(), 1);
    go_on.wait();
    assert_eq!(state(long).unwrap()[0], 3002.0);
    assert_eq!(passed.try_iter().collect::<Vec<_>>(), [[token('l')], [token('s')]]);
}

#[test]
fn who_is_gone_ends_a_pass_and_who_comes_then_begins_another() {
    let (model, (at_layer, go_on, passed)) = embedder();
    let (engine, results) = engine();
    let gone = submit(&engine, &model, 1, "long");
    assert_eq!(at_layer.recv().unwrap(), 0);
    drop(gone);
    go_on.wait();
    // It is given up before its second layer; the next one is of another pass.
    while !engine.shared.lock().queue.is_idle() {
        std::thread::yield_now();
    }
    let again = submit(&engine, &model, 2, "long");
    for layer in 0..2 {
        assert_eq!(at_layer.recv().unwrap(), layer);
        go_on.wait();
    }
    let state = state(again).unwrap();
    assert_eq!(passed.try_iter().count(), 2);
    let key = Key::of(Identity::Number(0), &model, &tokens_of(&model, "long"));
    assert_eq!(results.get(&key), Some(state), "what is computed is kept");
    assert_eq!(engine.load().texts, 0);
}

#[test]
fn who_comes_while_a_pass_is_being_called_off_is_served_by_the_next() {
    let (model, (at_layer, go_on, passed)) = embedder();
    let (engine, _) = engine();
    let gone = submit(&engine, &model, 1, "unwanted");
    assert_eq!(at_layer.recv().unwrap(), 0);
    drop(gone);
    go_on.wait();
    assert_eq!(at_layer.recv().unwrap(), CALLED_OFF);
    // Nobody wanted it any more; its text is still known as one that is computed.
    let late = [2, 3].map(|client| submit(&engine, &model, client, "unwanted"));
    assert_eq!(engine.load().texts, 0);
    go_on.wait();
    // If no other pass comes, none is waited for.
    std::thread::spawn(move || at_layer.iter().for_each(|_| _ = go_on.wait()));
    for late in late {
        assert_eq!(state(late).unwrap()[0], 9.0);
    }
    assert_eq!((passed.try_iter().count(), engine.load().texts), (2, 0));
}

#[test]
fn two_models_at_once_give_the_states_of_each_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [1, 2].map(|seed| {
        let path = folder.path().join(format!("{seed}.gguf"));
        let dims = "tiny,layers=2,hidden=64,ffn=64,heads=2,kv_heads=1,head_dim=32,vocab=300,context=2000";
        let (dims, level) = (dims.parse().unwrap(), "Q8_0".parse().unwrap());
        qembed_models::synth::write(&Spec { dims, level, seed, vocabulary: None }, &path).unwrap();
        let load = LoadOptions::default().access(Access::Read).threads(2);
        Arc::new(Embedder::open_with(&path, &load).unwrap())
    });
    // A pass of the first model that begins before all and ends last, and two of the other, each of which is short enough
    // to go between layers, but not both: one before the first layer, one before the second.
    let [long, one, two] =
        [("long", 900), ("one", 20), ("two", 20)].map(|(name, more)| name.to_owned() + &"x".repeat(more));
    let texts = [(&first, 1, "a"), (&first, 1, &*long), (&second, 2, &*one), (&second, 2, &*two)];
    let (engine, _) = engine();
    let mut waiting = Vec::new();
    let mut inner = engine.shared.lock();
    for (model, client, text) in texts {
        let (to, from) = unbounded_channel();
        let tokens = tokens_of(model, text);
        let key = Key::of(Identity::Number(client), model, &tokens);
        inner.queue.push(model, client, 0, Job { key, tokens, waiter: Waiter { index: 7, to } });
        waiting.push(from);
    }
    drop(inner);
    engine.shared.changed.notify_one();
    let done: Vec<Done> = waiting.iter_mut().map(|from| from.blocking_recv().expect("an end")).collect();
    for (done, (model, _, text)) in done.iter().zip(texts) {
        let alone = model.states(&[(0, tokens_of(model, text))], &|| true).unwrap();
        let bits = |state: &[f32]| state.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(done.state.as_ref().unwrap()), bits(&alone), "{text}");
    }
    let [a, long, one, two] = &done[..] else { panic!("four") };
    assert_eq!((a.started, a.ended), (long.started, long.ended), "one pass");
    assert!(long.started <= one.started && one.ended <= two.started && two.ended <= long.ended, "within it");
}

#[test]
fn the_end_does_not_wait_for_what_nobody_can_have() {
    let (model, (at_layer, go_on, _passed)) = embedder();
    let (engine, _) = engine();
    let mut first = submit(&engine, &model, 1, "long");
    let mut second = submit(&engine, &model, 1, "not begun");
    assert_eq!(at_layer.recv().unwrap(), 0);
    let shared = engine.shared.clone();
    let end = std::thread::spawn(move || drop(engine));
    while !shared.lock().stopping {
        std::thread::yield_now();
    }
    go_on.wait();
    end.join().unwrap();
    // The second may still wait in the queue, which is dropped with the last that shares it.
    drop(shared);
    assert!(first.blocking_recv().is_none() && second.blocking_recv().is_none());
}

#[test]
fn a_full_queue_takes_no_more() {
    let (model, (at_layer, go_on, _passed)) = embedder();
    let (engine, _) = engine();
    let busy = submit(&engine, &model, 1, "long");
    assert_eq!(at_layer.recv().unwrap(), 0);
    let (to, _from) = unbounded_channel();
    let jobs = || -> Vec<Job> {
        let job = |text: &str| {
            let tokens = tokens_of(&model, text);
            let key = Key::of(Identity::Number(0), &model, &tokens);
            Job { key, tokens, waiter: Waiter { index: 0, to: to.clone() } }
        };
        vec![job("a"), job("b")]
    };
    assert!(engine.submit(&model, 1, 0, jobs(), 2).is_ok());
    assert_eq!(engine.submit(&model, 1, 0, jobs(), 3).unwrap_err().texts, 2);
    go_on.wait();
    assert_eq!(at_layer.recv().unwrap(), 1);
    go_on.wait();
    assert_eq!(state(busy).unwrap()[0], 5.0);
}
