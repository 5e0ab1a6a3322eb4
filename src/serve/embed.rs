//! From a request for vectors to the vectors.

use crate::options::{EmbedOptions, Truncate};
use crate::serve::app::{App, Context};
use crate::serve::ask::{Ask, Manners, OutputType};
use crate::serve::body;
use crate::serve::engine::{Done, Failed, Job, Load, Waiter};
use crate::serve::fields::{Fields, Item};
use crate::serve::models::{Chosen, Loaded};
use crate::serve::record::Record;
use crate::serve::refusal::{Kind, Refusal};
use crate::serve::results::{Key, State};
use crate::serve::vectors::vector;
use crate::serve::words::TokenIds;
use crate::serve::words::TooLong;
use crate::tokens::Tokens;
use axum::extract::Request;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The vectors of a request.
pub(crate) struct Answer {
    /// The name by which the model is served.
    pub(crate) model: String,
    /// One for each item, in their order.
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) record: Record,
}

/// A request's texts as tokens: of each item its pieces, most often one.
struct Tokenized {
    pieces: Vec<Vec<Tokens>>,
    characters: usize,
    truncated: usize,
    texts: Vec<String>,
}

/// Bytes that are read, or tokenized, sooner than another thread is awake for it.
const AT_ONCE: usize = 16 << 10;

/// Tokens that neighbouring pieces of a text have in common, one in so many of the context; half a piece at most.
const OVERLAP: usize = 8;

/// Reads what a request asks for.
///
/// # Errors
/// A body that cannot be read, or a field that makes no sense.
pub(crate) async fn read(app: &App, request: Request, manners: Manners) -> Result<Ask, Refusal> {
    let body = body::read(app, request.into_body()).await?;
    let (size, most_items) = (body.bytes.len(), app.options.max_items);
    apart_if(size > AT_ONCE, move || Ask::new(&Fields::parse(&body.bytes)?, manners, most_items)).await?
}

/// Computes what a request asks for, or finds it among the results that are kept.
///
/// # Errors
/// Names the item.
pub(crate) async fn embed(app: &Arc<App>, context: &Context, ask: Ask) -> Result<Answer, Refusal> {
    if ask.items.is_empty() {
        return Err(Refusal::empty_list(ask.input));
    }
    let Chosen { name, loaded, defaults } = app.ready()?.choose(ask.model.as_deref())?;
    let dimensions = ask.dimensions.or(defaults.dimensions);
    let dimensions = check_dimensions(&loaded, dimensions)?;
    let packed = ask.outputs.iter().any(|output| matches!(output, OutputType::Binary | OutputType::Ubinary));
    if packed && !dimensions.is_multiple_of(8) {
        let message = format!("{dimensions} values do not fill bytes of eight bits: ask for a multiple of 8");
        return Err(Refusal::field("dimensions", message));
    }
    let ask = Arc::new(Ask {
        prompt: ask.prompt.or(defaults.prompt),
        too_long: match app.options.strict_length {
            true => Some(TooLong::Error),
            false => ask.too_long.or(defaults.too_long),
        },
        token_ids: ask.token_ids.or(Some(app.options.token_ids)),
        manners: Manners { empty: app.options.empty.or(defaults.empty).unwrap_or(ask.manners.empty), ..ask.manners },
        ..ask
    });
    let start = Instant::now();
    let tokenized = {
        let (ask, loaded, log) = (ask.clone(), loaded.clone(), app.options.log_texts);
        let size = ask.items.iter().map(Item::size).sum::<usize>();
        apart_if(size > AT_ONCE, move || tokenize(&ask, &loaded, log)).await??
    };
    let took = start.elapsed();
    let count: usize = tokenized.pieces.iter().map(Vec::len).sum();
    let lengths: Vec<usize> = tokenized.pieces.iter().map(Vec::len).collect();
    let tokens: Vec<usize> = tokenized.pieces.iter().map(|pieces| pieces.iter().map(Tokens::len).sum()).collect();
    let total = tokens.iter().sum();
    admit(app, context, total)?;
    if let Some(store) = &app.store {
        store.prepare(&loaded);
    }

    let (to, mut from) = mpsc::unbounded_channel();
    let mut states: Vec<Option<State>> = vec![None; count];
    let mut jobs = Vec::new();
    for (index, tokens) in tokenized.pieces.into_iter().flatten().enumerate() {
        let key = loaded.key(&tokens);
        let kept = (!context.no_store).then(|| kept(app, &key)).flatten();
        match kept {
            Some(state) => states[index] = Some(state),
            None => jobs.push(Job { key, tokens, waiter: Waiter { index, to: to.clone() } }),
        }
    }
    drop(to);
    let missing = jobs.len();
    let submitted_at = Instant::now();
    let mut passes: Option<(Instant, Instant)> = None; // From the start of the first to the end of the last.
    if missing > 0 {
        let client = ask.user.as_deref().map_or(context.client, client_of);
        let submitted = app.engine.submit(&loaded.embedder, client, ask.priority, jobs, app.options.max_queue);
        submitted.map_err(|load| {
            let message = format!(
                "{} texts wait already, with these {missing} there would be more than {}: try again later, or send fewer",
                load.texts, app.options.max_queue
            );
            let after = load.time_for(0).unwrap_or(Duration::from_secs(1)).clamp(Duration::from_secs(1), Duration::from_secs(60));
            Refusal::new(Kind::Overloaded, message).retry_after(after)
        })?;
        for _ in 0..missing {
            let done = match context.deadline {
                Some(deadline) => {
                    tokio::time::timeout_at(deadline.into(), from.recv()).await.map_err(|_| late(context))?
                }
                None => from.recv().await,
            };
            let stopped = || Refusal::new(Kind::Unavailable, "the server is being stopped");
            let Done { index, state, started, ended } = done.ok_or_else(stopped)?;
            passes = Some(passes.map_or((started, ended), |(first, last)| (first.min(started), last.max(ended))));
            states[index] = Some(state.map_err(|failed| failure(&failed, &ask, item_of(&lengths, index)))?);
        }
    }
    // A text may have joined a pass that was under way.
    let (queued, computed) = passes.map_or((Duration::ZERO, Duration::ZERO), |(first, last)| {
        let first = first.max(submitted_at);
        (first - submitted_at, last.saturating_duration_since(first))
    });
    let states: Vec<State> = states.into_iter().flatten().collect();
    let normalize = ask.normalize;
    let make = move || {
        let mut states = &states[..];
        let mut next = |count: usize| {
            let (these, rest) = states.split_at(count);
            states = rest;
            vector(these, dimensions, normalize)
        };
        lengths.into_iter().map(&mut next).collect::<Vec<_>>()
    };
    let vectors = apart_if(count > 64, make).await?;
    if let Some(i) = vectors.iter().position(|vector| vector.iter().any(|x| !x.is_finite())) {
        return Err(failure(&Failed::NonFinite, &ask, i));
    }
    let record = Record {
        model: name.clone(),
        items: tokens.len(),
        tokens: total,
        characters: tokenized.characters,
        dimensions,
        truncated: tokenized.truncated,
        hits: count - missing,
        tokenized: took,
        queued,
        computed,
        token_ids: ask.items.iter().any(|item| matches!(item, Item::Ids(_))).then(|| match ask.token_ids {
            Some(TokenIds::Model) => "model",
            _ => "cl100k",
        }),
        #[cfg(feature = "otel")]
        outputs: ask.outputs.iter().map(|output| output.name()).collect(),
        texts: tokenized.texts,
    };
    app.metrics.embedded(record.items, total, record.truncated, record.hits, queued, computed);
    Ok(Answer { model: name, vectors, record })
}

/// How many values a model's vectors get.
///
/// # Errors
/// More or fewer than they can have.
pub(crate) fn check_dimensions(loaded: &Loaded, dimensions: Option<usize>) -> Result<usize, Refusal> {
    loaded.embedder.check_dimensions(dimensions).map_err(|error| Refusal::of_error(&error, "input", true))
}

/// A result that is in memory, or on the disk.
fn kept(app: &App, key: &Key) -> Option<State> {
    app.results.get(key).or_else(|| {
        let state = app.store.as_ref()?.get(key)?;
        app.results.put(*key, &state);
        Some(state)
    })
}

/// Which item a piece belongs to.
fn item_of(lengths: &[usize], piece: usize) -> usize {
    let mut end = 0;
    lengths
        .iter()
        .position(|length| {
            end += length;
            piece < end
        })
        .unwrap_or(0)
}

/// Whether a request can be done in time, as far as that is known; better to say so now than after the work.
fn admit(app: &App, context: &Context, tokens: usize) -> Result<(), Refusal> {
    let Some(deadline) = context.deadline else { return Ok(()) };
    in_time(&app.engine.load(), deadline.saturating_duration_since(Instant::now()), tokens)
}

/// Whether so many tokens can be done in the time that is left.
fn in_time(load: &Load, left: Duration, tokens: usize) -> Result<(), Refusal> {
    let Some(needed) = load.time_for(tokens) else { return Ok(()) };
    if needed <= left {
        return Ok(());
    }
    let fit = load.rate.map_or(0.0, |rate| rate * left.as_secs_f64() - load.tokens as f64).max(0.0);
    let message = format!(
        "{tokens} tokens, and {} that wait before them, would take about {:.1} s; the request has {:.1} s left: about {} tokens \
         fit; send fewer at once, or allow more time",
        load.tokens,
        needed.as_secs_f64(),
        left.as_secs_f64(),
        fit as u64
    );
    // Where nothing waits before it, it would be no better later.
    Err(if fit < 1.0 && load.tokens > 0 {
        Refusal::new(Kind::Overloaded, message).retry_after(needed.saturating_sub(left))
    } else {
        Refusal::new(Kind::TooLarge, message)
    })
}

fn late(context: &Context) -> Refusal {
    let message = format!(
        "the time limit was reached after {:.1} s; texts that were done are kept, so that the same request again takes less",
        context.start.elapsed().as_secs_f64()
    );
    Refusal::new(Kind::Timeout, message)
}

fn failure(failed: &Failed, ask: &Ask, item: usize) -> Refusal {
    match failed {
        Failed::Library(error) => Refusal::of_error(error, ask.input, ask.lone),
        Failed::NonFinite => Refusal::of_error(&crate::Error::NonFinite { text: item }, ask.input, ask.lone),
        Failed::Panic => Refusal::new(
            Kind::Internal,
            "a fault in the program: the pass of these texts was given up; please report it",
        ),
    }
}

/// A client by the name that it gives itself.
fn client_of(user: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    user.hash(&mut hasher);
    hasher.finish()
}

/// Work that would hold up other requests, on a thread for such.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let fault = |_| Refusal::new(Kind::Internal, "a fault in the program; please report it");
    tokio::task::spawn_blocking(work).await.map_err(fault)
}

/// Work that is done at once, unless it is so much that it would hold up others.
pub(crate) async fn apart_if<T: Send + 'static>(
    much: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if much { blocking(work).await } else { Ok(work()) }
}

fn tokenize(ask: &Ask, loaded: &Loaded, keep_texts: bool) -> Result<Tokenized, Refusal> {
    let embedder = &loaded.embedder;
    let too_long = ask.too_long.unwrap_or(ask.manners.too_long);
    let options = EmbedOptions::default()
        .prompt(ask.prompt.clone().unwrap_or_default())
        .empty(ask.manners.empty)
        .truncate(match too_long {
            TooLong::Error | TooLong::Mean => None,
            TooLong::Left => Some(Truncate::Left),
            TooLong::Right => Some(Truncate::Right),
        });
    let mut done = Tokenized { pieces: Vec::new(), characters: 0, truncated: 0, texts: Vec::new() };
    let encoder = embedder.encoder(&options).map_err(|error| Refusal::of_error(&error, ask.input, ask.lone))?;
    let encoder = match ask.most_tokens {
        Some(most) => encoder.at_most(most),
        None => encoder,
    };
    for (i, item) in ask.items.iter().enumerate() {
        let refuse = |error: &_| Refusal::of_error(error, ask.input, ask.lone);
        let place = || if ask.lone { ask.input.to_owned() } else { format!("{}[{i}]", ask.input) };
        let from_ids;
        let text = match item {
            Item::Text(text) => text,
            Item::Ids(ids) => match ask.token_ids {
                Some(TokenIds::Reject) => {
                    let message = "is a token array, which this server refuses: send the text itself";
                    return Err(Refusal::field(place(), message));
                }
                Some(TokenIds::Model) => {
                    let tokens = encoder.of_ids(i, ids).map_err(|error| refuse(&error))?;
                    done.truncated += usize::from(tokens.cut() > 0);
                    done.pieces.push(vec![tokens]);
                    continue;
                }
                _ => {
                    from_ids = embedder.decode_cl100k(ids).map_err(|error| {
                        let way_out = "`check_embedding_ctx_length=False` has LangChain send texts, `token_ids` says whose ids they are";
                        Refusal::field(place(), format!("{error} ({way_out})"))
                    })?;
                    &from_ids
                }
            },
        };
        done.characters += text.chars().count();
        let pieces = match too_long {
            TooLong::Mean => {
                let overlap = (embedder.max_tokens() / OVERLAP).min(encoder.room() / 2);
                encoder.chunks(i, text, overlap)
            }
            _ => encoder.encode(i, text).map(|tokens| vec![tokens]),
        };
        let pieces = pieces.map_err(|error| refuse(&error))?;
        done.truncated += usize::from(pieces.iter().any(|piece| piece.cut() > 0));
        done.pieces.push(pieces);
        if keep_texts {
            done.texts.push(text.clone());
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_in_time_is_too_large_or_has_to_come_again() {
        let idle = Load { texts: 0, tokens: 0, rate: Some(100.0) };
        let busy = Load { texts: 3, tokens: 1000, rate: Some(100.0) };
        let refused = |load: &Load, seconds: u64, tokens: usize| {
            let refusal = in_time(load, Duration::from_secs(seconds), tokens).unwrap_err();
            (refusal.kind, refusal.retry_after.map(|after| after.as_secs()), refusal.message)
        };
        // Those that wait take ten seconds, these two more.
        assert!(in_time(&busy, Duration::from_secs(12), 200).is_ok());
        let (kind, after, message) = refused(&busy, 11, 200);
        assert_eq!((kind, after), (Kind::TooLarge, None));
        for part in
            ["200 tokens, and 1000 that wait", "about 12.0 s", "11.0 s left", "about 100 tokens fit", "allow more"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
        // Nothing fits before those that wait: in seven seconds so many of them are done that these are in time.
        let (kind, after, message) = refused(&busy, 5, 200);
        assert_eq!((kind, after), (Kind::Overloaded, Some(7)));
        assert!(message.contains("about 0 tokens fit"), "{message}");
        assert!(in_time(&Load { tokens: 300, ..busy }, Duration::from_secs(5), 200).is_ok(), "seven seconds later");
        // Where nothing waits, it would be no better later.
        assert_eq!(refused(&idle, 0, 1).0, Kind::TooLarge);
        assert!(in_time(&idle, Duration::from_secs(2), 200).is_ok());
        // How fast it is is not known before the first pass.
        assert!(in_time(&Load { rate: None, ..busy }, Duration::ZERO, 200).is_ok());
    }
}
