//! Requests to the hub. Redirects are followed here, so that the token goes to the endpoint and nowhere else.

use crate::hub::error::HubError;
use crate::hub::name::Repository;
use crate::hub::note::{Note, Notes};
use crate::hub::settings::HubSettings;
use std::error::Error;
use std::io;
use std::time::Duration;
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// Redirects that are followed.
const HOPS: usize = 10;
/// How often something is tried in all while it comes no further.
const TRIES: u32 = 5;
/// The longest that a server may have us wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// The longest list of files.
const LONGEST_LIST: u64 = 32 << 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The head of an answer; a redirect to another host is one.
    Head,
    /// The answer, from a byte of it on.
    From(u64),
}

pub(crate) struct Http<'a> {
    pub(crate) settings: &'a HubSettings,
    notes: Notes<'a>,
    agent: Agent,
}

impl<'a> Http<'a> {
    pub(crate) fn new(settings: &'a HubSettings, notes: Notes<'a>) -> Self {
        // The system's, so that those of a company's proxy are known; where it has none, as in a bare container, Mozilla's.
        let certificates = rustls_native_certs::load_native_certs().certs;
        let roots = match certificates.is_empty() {
            true => RootCerts::WebPki,
            false => certificates.iter().map(|der| Certificate::from_der(der).to_owned()).collect::<Vec<_>>().into(),
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("qembed-q/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_resolve(Some(settings.etag_timeout))
            .timeout_connect(Some(settings.etag_timeout))
            .timeout_per_read(Some(settings.download_timeout))
            .timeout_per_write(Some(settings.download_timeout));
        Self { settings, notes, agent: config.build().into() }
    }

    pub(crate) fn note(&self, note: Note<'_>) {
        if let Some(notes) = self.notes {
            notes(&note);
        }
    }

    /// One request and what it is redirected to, once. The status is one of success, or a redirect to another host where the
    /// head is asked for, or 416.
    pub(crate) fn request(&self, of: &Repository, url: &str, want: Want) -> Result<Response<Body>, HubError> {
        let timeout = if want == Want::Head { self.settings.etag_timeout } else { self.settings.download_timeout };
        let unreachable = |at: &str, error| HubError::Unreachable { url: at.into(), source: plain(error, timeout) };
        let mut at = url.to_owned();
        for _ in 0..HOPS {
            let mut request = if want == Want::Head { self.agent.head(&at) } else { self.agent.get(&at) };
            request = request.header(ACCEPT_ENCODING, "identity");
            if let Want::From(first) = want
                && first > 0
            {
                request = request.header(RANGE, format!("bytes={first}-"));
            }
            if let Some(token) = self.settings.token.as_ref().filter(|_| self.is_endpoint(&at)) {
                request = request.header(AUTHORIZATION, format!("Bearer {}", token.0));
            }
            let request = request.config().timeout_recv_response(Some(timeout)).build();
            let answer = request.call().map_err(|error| unreachable(&at, error))?;
            let status = answer.status();
            if !status.is_redirection() {
                return if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
                    Ok(answer)
                } else {
                    Err(self.refused(of, &at, &answer))
                };
            }
            let to = header(answer.headers(), LOCATION.as_str()).and_then(|to| joined(&at, to));
            let to = to.ok_or_else(|| not_the_hub(&at, "it redirects to nowhere"))?;
            if want == Want::Head && !self.is_endpoint(&to) {
                return Ok(answer);
            }
            at = to;
        }
        Err(not_the_hub(url, "it redirects again and again"))
    }

    /// The head of an answer, tried again while the server is busy.
    pub(crate) fn head(&self, of: &Repository, url: &str) -> Result<Response<Body>, HubError> {
        self.patiently(false, |_| self.request(of, url, Want::Head))
    }

    /// A JSON document, tried again while the server is busy.
    pub(crate) fn json(&self, of: &Repository, url: &str) -> Result<serde_json::Value, HubError> {
        let text = self.patiently(false, |_| {
            let mut answer = self.request(of, url, Want::From(0))?;
            let timeout = self.settings.download_timeout;
            let text = answer.body_mut().with_config().limit(LONGEST_LIST).lossy_utf8(true).read_to_string();
            let text =
                text.map_err(|error| HubError::Unreachable { url: url.into(), source: plain(error, timeout) })?;
            page(url, answer.headers(), text.as_bytes()).map_or(Ok(text), Err)
        })?;
        serde_json::from_str(&text).map_err(|error| not_the_hub(url, &format!("no JSON comes: {error}")))
    }

    /// Does something again after a pause when it fails in a way that may pass. Once something was there, `midst`, that is
    /// also so of connections that fail.
    pub(crate) fn patiently<T>(
        &self,
        midst: bool,
        mut work: impl FnMut(&mut Tries) -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        let mut tries = Tries::default();
        loop {
            let error = match work(&mut tries) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let asked = match &error {
                HubError::Busy { after, .. } => *after,
                HubError::Unreachable { .. } | HubError::Short { .. } if midst => None,
                _ => return Err(error),
            };
            let pause = asked.unwrap_or(self.settings.pause * 2u32.pow(tries.0));
            tries.0 += 1;
            if tries.0 >= TRIES || pause > LONGEST_PAUSE {
                return Err(error);
            }
            self.note(Note::Again { error: &error, pause });
            std::thread::sleep(pause);
        }
    }

    /// Whether a URL is of the scheme, host and port that the token is for.
    fn is_endpoint(&self, url: &str) -> bool {
        let parts = |url: &str| -> Option<(String, String)> {
            let url: Uri = url.parse().ok()?;
            Some((url.scheme_str()?.to_ascii_lowercase(), url.authority()?.as_str().to_ascii_lowercase()))
        };
        let own = parts(&self.settings.endpoint);
        own.is_some() && own == parts(url)
    }

    /// The error that a status stands for.
    fn refused(&self, of: &Repository, url: &str, answer: &Response<Body>) -> HubError {
        let (url, status, headers) = (url.to_owned(), answer.status().as_u16(), answer.headers());
        let token = self.settings.token.is_some();
        let code = header(headers, "x-error-code").unwrap_or_default();
        let after = header(headers, RETRY_AFTER.as_str()).and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
        let words = header(headers, "x-error-message").map(|words| format!(": {}", short(words))).unwrap_or_default();
        match status {
            511 => HubError::Page { url, title: String::new() },
            429 | 500..=599 => HubError::Busy { url, status, after },
            _ if !self.is_endpoint(&url) => HubError::Refused { url, status, words },
            401 | 403 if code == "GatedRepo" => {
                HubError::Gated { repository: of.clone(), page: format!("{}/{of}", self.settings.endpoint), token }
            }
            401 => HubError::NoAccess { repository: of.clone(), status, token },
            403 if words.is_empty() => HubError::NoAccess { repository: of.clone(), status, token },
            404 if code == "RepoNotFound" => HubError::NoAccess { repository: of.clone(), status, token },
            404 => HubError::NotFound { url },
            _ => HubError::Refused { url, status, words },
        }
    }
}

/// How often something was tried since it came further.
#[derive(Debug, Default)]
pub(crate) struct Tries(u32);

/// A header as text.
pub(crate) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

pub(crate) fn not_the_hub(url: &str, problem: &str) -> HubError {
    HubError::NotTheHub { url: url.into(), problem: problem.into() }
}

/// The error that a web page in place of an answer is, by its type or its beginning.
pub(crate) fn page(url: &str, headers: &HeaderMap, begin: &[u8]) -> Option<HubError> {
    let text = String::from_utf8_lossy(&begin[..begin.len().min(4096)]).into_owned();
    let lower = text.trim_start().to_ascii_lowercase();
    let typed = header(headers, CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("text/html"));
    if !typed && !lower.starts_with("<!doctype html") && !lower.starts_with("<html") {
        return None;
    }
    let title = || {
        let (begin, end) = (lower.find("<title>")? + "<title>".len(), lower.find("</title>")?);
        let text = text.trim_start().get(begin..end)?;
        Some(format!(" ({})", short(text.trim())))
    };
    Some(HubError::Page { url: url.into(), title: title().unwrap_or_default() })
}

/// What a server says, fit for a line.
fn short(words: &str) -> String {
    words.chars().take(160).collect::<String>().escape_debug().to_string()
}

/// What a redirect leads to.
fn joined(from: &str, to: &str) -> Option<String> {
    if to.starts_with("http://") || to.starts_with("https://") {
        return Some(to.into());
    }
    let (scheme, rest) = from.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    match to.strip_prefix("//") {
        Some(other) => Some(format!("{scheme}://{other}")),
        None if to.starts_with('/') => Some(format!("{scheme}://{host}{to}")),
        None => None,
    }
}

/// An error in words for people.
pub(crate) fn plain(error: ureq::Error, timeout: Duration) -> Box<dyn Error + Send + Sync> {
    match error {
        ureq::Error::Io(error) => Box::new(error),
        ureq::Error::Timeout(_) => {
            let words = format!("nothing has come for {} s", timeout.as_secs());
            Box::new(io::Error::new(io::ErrorKind::TimedOut, words))
        }
        ureq::Error::HostNotFound => "no such host is known; is there a network?".into(),
        error => Box::new(error),
    }
}

/// A path as it stands in a URL.
pub(crate) fn in_url(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let from = "https://hub:8080/a/b?c=d";
        for (to, expected) in [
            ("http://cdn/x?y", Some("http://cdn/x?y")),
            ("//cdn/x", Some("https://cdn/x")),
            ("/x/y", Some("https://hub:8080/x/y")),
            ("x", None),
            ("ftp://x", None),
        ] {
            assert_eq!(joined(from, to).as_deref(), expected, "{to}");
        }
    }

    #[test]
    fn the_token_is_for_the_endpoint_alone() {
        let get = |name: &str| (name == "HF_HOME").then(|| "/hf".into());
        let mut settings = HubSettings::read(&get, None, None).unwrap();
        settings.endpoint = "https://hub.example:444/sub".into();
        let http = Http::new(&settings, None);
        for url in ["https://hub.example:444/x", "https://HUB.example:444/sub/x"] {
            assert!(http.is_endpoint(url), "{url}");
        }
        for url in [
            "http://hub.example:444/x",
            "https://hub.example/x",
            "https://hub.example:444.evil/x",
            "https://evil/hub.example:444",
            "https://hub.example:444@evil/x",
            "no url",
        ] {
            assert!(!http.is_endpoint(url), "{url}");
        }
    }

    #[test]
    fn names_of_files_are_fit_for_urls() {
        assert_eq!(in_url("sub/a b-Ü%?#.gguf"), "sub/a%20b-%C3%9C%25%3F%23.gguf");
    }
}
