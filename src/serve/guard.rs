//! What stands before and behind every route: who may ask, what a refusal looks like, headers, one line in the log.

use crate::serve::app::{App, Context};
use crate::serve::dialect::Dialect;
use crate::serve::queue::Client;
use crate::serve::record::{Line, Record};
use crate::serve::refusal::{Kind, Refusal};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, HOST, ORIGIN, RETRY_AFTER};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// The other end of a connection, put into each of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// For the log.
    pub(crate) name: String,
    /// A number of its own.
    pub(crate) connection: Client,
    /// Whether it came in by the loopback interface.
    pub(crate) loopback: bool,
    /// Whether it is on this machine, as far as that is known.
    pub(crate) local: bool,
}

/// A route that is open without a key, and before a model is loaded.
fn is_open(method: &Method, path: &str) -> bool {
    let reading = matches!(*method, Method::GET | Method::HEAD);
    reading && matches!(path, "/" | "/health" | "/ready" | "/ping" | "/docs" | "/openapi.json" | "/api/version")
}

/// Runs a request past all checks and to its route, and gives its answer the form that everybody expects.
pub(crate) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let peer = request.extensions().get::<Peer>().cloned();
    let peer = peer.unwrap_or(Peer { name: "-".into(), connection: 0, loopback: false, local: false });
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let headers = request.headers();
    let id = request_id(headers);
    let parent = headers.get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned);
    #[cfg(feature = "otel")]
    let traced = app.traces.as_ref().map(|traces| (traces, crate::serve::otel::parent(headers)));
    let checked = check(&app, &peer, &method, &path, headers);
    let context = checked.and_then(|()| context(&app, &peer, headers, &id, start));
    let mut response = match context {
        Ok(context) => {
            request.extensions_mut().insert(context);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    };
    if let Some(refusal) = response.extensions().get::<Refusal>() {
        let allowed = response.headers().get(ALLOW).cloned();
        response = refused(Dialect::of(&path), refusal);
        response.headers_mut().extend(allowed.map(|methods| (ALLOW, methods)));
    }
    response.extensions_mut().insert(peer.clone());
    let took = start.elapsed();
    let record = response.extensions_mut().remove::<Record>();
    describe(response.headers_mut(), &id, took, record.as_ref());
    let status = response.status().as_u16();
    app.metrics.request(route.as_deref().unwrap_or("none"), status, took);
    let message = response.extensions().get::<Refusal>().map(|refusal| refusal.message.as_str());
    let line = Line {
        id: &id,
        peer: &peer.name,
        method: &method,
        path: &path,
        status,
        took,
        record: record.as_ref(),
        message,
        parent: parent.as_deref(),
    };
    #[cfg(feature = "otel")]
    if let Some((traces, parent)) = traced
        && !line.is_routine()
    {
        traces.request(&parent, &line, route.as_deref());
    }
    log(&line);
    response
}

/// Whether an answer should get smaller on its way: between programs of one machine that costs more than it saves.
pub(crate) fn worth_compressing(_: StatusCode, _: Version, headers: &HeaderMap, extensions: &Extensions) -> bool {
    const LEAST: u64 = 1024;
    let size = headers.get(CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse::<u64>().ok());
    size.is_none_or(|size| size >= LEAST) && extensions.get::<Peer>().is_some_and(|peer| !peer.local)
}

/// A refusal in the words of a dialect.
fn refused(dialect: Dialect, refusal: &Refusal) -> Response {
    let mut response = dialect.refuse(refusal);
    if let Some(after) = refusal.retry_after {
        let millis = after.as_millis().max(1);
        // Some clients read it as a number of seconds and know no parts of one.
        insert(response.headers_mut(), RETRY_AFTER, millis.div_ceil(1000));
        insert(response.headers_mut(), HeaderName::from_static("retry-after-ms"), millis);
    }
    response.extensions_mut().insert(refusal.clone());
    response
}

/// A refusal on its way to [`guard`], which knows the dialect.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }
}

/// The id that the client has for the request, or one of our own.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    let sane = given.filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(|c| c.is_ascii_graphic()));
    sane.map_or_else(|| format!("req_{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)), str::to_owned)
}

fn context(app: &App, peer: &Peer, headers: &HeaderMap, id: &str, start: Instant) -> Result<Context, Refusal> {
    let asked = match headers.get("x-request-timeout") {
        None => None,
        Some(value) => {
            let seconds = value.to_str().ok().and_then(|text| text.trim().parse().ok());
            let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let wrong = || Refusal::field("x-request-timeout", "is a number of seconds");
            Some(time.ok_or_else(wrong)?)
        }
    };
    let timeout = [asked, app.options.timeout].into_iter().flatten().min();
    let says = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("no-store"));
    Ok(Context {
        id: id.to_owned(),
        client: peer.connection,
        start,
        deadline: timeout.and_then(|timeout| start.checked_add(timeout)),
        no_store: headers.get(CACHE_CONTROL).is_some_and(says),
    })
}

/// Whether a request may pass: by its host, its origin, its key, and the state of the server.
fn check(app: &App, peer: &Peer, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    if let Some(host) = text(HOST).filter(|_| peer.loopback)
        && !host_is_known(host, &app.options.allow_hosts)
    {
        // A page whose name was made to point to this machine must not get in (DNS rebinding).
        let message = format!("the host {host:?} is not known here; whoever runs the server can allow it");
        return Err(Refusal::new(Kind::Forbidden, message));
    }
    if let Some(origin) = text(ORIGIN)
        && !origin_may_ask(origin, text(HOST), &app.options.allow_origins)
    {
        let message = format!("pages of {origin:?} may not ask here; whoever runs the server can allow them");
        return Err(Refusal::new(Kind::Forbidden, message));
    }
    if is_open(method, path) || *method == Method::OPTIONS {
        return Ok(());
    }
    if !app.options.api_keys.is_empty() && !keys(headers).any(|key| is_known(key, &app.options.api_keys)) {
        let message = "no key, or a wrong one: send it as `Authorization: Bearer KEY`, `x-api-key` or `api-key`";
        return Err(Refusal::new(Kind::Unauthorized, message).code("invalid_api_key"));
    }
    if path == "/metrics" { Ok(()) } else { app.ready().map(drop) }
}

/// The keys that a request brings.
fn keys(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(AUTHORIZATION.as_str()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    [bearer, text("x-api-key"), text("api-key")].into_iter().flatten()
}

/// Takes the same time for every wrong key of a length, however much of it is right.
fn is_known(key: &str, known: &[String]) -> bool {
    let hash = |key: &str| Sha256::digest(key);
    let key = hash(key);
    known.iter().fold(subtle::Choice::from(0), |found, other| found | key.ct_eq(&hash(other))).into()
}

/// A host's name without its port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

/// Names of the machine itself, which no other machine can have, and those that were allowed.
fn host_is_known(host: &str, allowed: &[String]) -> bool {
    let name = without_port(host).to_ascii_lowercase();
    // The last two are this machine as programs in containers call it.
    let own = matches!(
        name.as_str(),
        "localhost" | "[::1]" | "0.0.0.0" | "host.docker.internal" | "host.containers.internal"
    ) || name.ends_with(".localhost")
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    own || allowed
        .iter()
        .any(|other| other == "*" || other.eq_ignore_ascii_case(&name) || other.eq_ignore_ascii_case(host))
}

/// Pages of this machine, programs that show pages of their own, and origins that were allowed.
pub(crate) fn origin_may_ask(origin: &str, host: Option<&str>, allowed: &[String]) -> bool {
    const PROGRAMS: [&str; 5] = ["app://", "tauri://", "vscode-webview://", "vscode-file://", "obsidian://"];
    if allowed.iter().any(|other| other == "*" || other.eq_ignore_ascii_case(origin)) {
        return true;
    }
    if PROGRAMS.iter().any(|scheme| origin.starts_with(scheme)) {
        return true;
    }
    let Some((_, authority)) = origin.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
    else {
        return false;
    };
    host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) || host_is_known(authority, &[])
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: impl Display) {
    if let Ok(value) = HeaderValue::try_from(value.to_string()) {
        headers.insert(name, value);
    }
}

/// The headers of an answer, under the names that dashboards know.
fn describe(headers: &mut HeaderMap, id: &str, took: Duration, record: Option<&Record>) {
    let mut set = |name: &'static str, value: &dyn Display| insert(headers, HeaderName::from_static(name), value);
    let millis = |time: Duration| time.as_millis();
    set("x-request-id", &id);
    set("openai-processing-ms", &millis(took));
    set("x-total-time", &millis(took));
    let Some(record) = record else { return };
    set("x-compute-type", &"cpu");
    set("x-compute-time", &millis(took));
    set("x-compute-characters", &record.characters);
    set("x-compute-tokens", &record.tokens);
    set("x-tokenization-time", &millis(record.tokenized));
    set("x-queue-time", &millis(record.queued));
    set("x-inference-time", &millis(record.computed));
    set("x-cache-hits", &record.hits);
    if record.truncated > 0 {
        set("x-truncated-inputs", &record.truncated);
    }
    if let Some(token_ids) = record.token_ids {
        set("x-qembed-token-ids", &token_ids);
    }
}

/// One line a request.
fn log(line: &Line) {
    let ms = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
    let Line { id, peer, method, path, status, took, record, message, parent } = *line;
    let texts = record.filter(|record| !record.texts.is_empty()).map(|record| &record.texts);
    match record {
        Some(record) => tracing::info!(
            target: "qembed_q::request",
            id, peer, %method, path, status, ms = ms(took), model = record.model, items = record.items, tokens = record.tokens,
            dims = record.dimensions, queue_ms = ms(record.queued), compute_ms = ms(record.computed), cache_hits = record.hits,
            truncated = record.truncated, traceparent = parent, texts = texts.map(tracing::field::debug)
        ),
        None if line.is_routine() => {
            tracing::debug!(target: "qembed_q::request", id, peer, %method, path, status, ms = ms(took));
        }
        None => tracing::info!(
            target: "qembed_q::request",
            id, peer, %method, path, status, ms = ms(took), error = message, traceparent = parent
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_machine_itself() {
        for host in [
            "localhost",
            "LOCALHOST:30000",
            "127.0.0.1:30000",
            "127.8.8.8",
            "[::1]:80",
            "[::1]",
            "a.localhost",
            "host.docker.internal:30000",
            "box:1",
        ] {
            assert!(host_is_known(host, &["box".into()]), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "", "box.example"]
        {
            assert!(!host_is_known(host, &["box".into()]), "{host}");
        }
    }

    #[test]
    fn origins_of_the_machine_and_of_programs() {
        let allowed = ["https://notes.example".to_owned()];
        for origin in [
            "http://localhost:3000",
            "http://127.0.0.1",
            "app://obsidian.md",
            "https://notes.example",
            "http://box:30000",
        ] {
            assert!(origin_may_ask(origin, Some("box:30000"), &allowed), "{origin}");
        }
        for origin in ["null", "http://evil.example", "https://notes.example.evil", "file://", "http://box:80"] {
            assert!(!origin_may_ask(origin, Some("box:30000"), &allowed), "{origin}");
        }
        assert!(origin_may_ask("http://evil.example", None, &["*".into()]));
    }

    #[test]
    fn keys_by_three_names() {
        let known = ["secret".to_owned(), "other".into()];
        let with = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            keys(&headers).any(|key| is_known(key, &known))
        };
        assert!(with("authorization", "Bearer secret") && with("authorization", "bearer  other"));
        assert!(with("x-api-key", "secret") && with("api-key", "other"));
        assert!(!with("authorization", "secret") && !with("authorization", "Basic secret"));
        assert!(!with("x-api-key", "Secret") && !with("x-api-key", "") && !with("x-api-key", "secretother"));
    }
}
