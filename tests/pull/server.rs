//! A small server that plays the hub: what it says of files, redirects to a second one with their contents, and faults.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Where the bytes that are wanted begin.
    pub(crate) fn from(&self) -> usize {
        let range =
            self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        range.unwrap_or(0)
    }

    pub(crate) fn is_content(&self) -> bool {
        self.method == "GET" && !self.path.starts_with("/api/")
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection is closed after so many bytes of the body, or stays open while nothing more comes.
    pub(crate) cut: Option<usize>,
    pub(crate) stall: bool,
    /// Between chunks of 16 KiB.
    pub(crate) slow: Option<Duration>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    pub(crate) fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.with(name, value)
    }
}

/// A server with a log of what it was asked.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (log, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let seen = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || talk(stream, &seen, &*answer));
            }
        });
        Self { url, log }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Where the bytes of contents began that were asked for, each time.
    pub(crate) fn ranges(&self) -> Vec<usize> {
        self.requests().iter().filter(|request| request.is_content()).map(Request::from).collect()
    }
}

/// One request and its answer; then the connection is closed.
fn talk(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Reply) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned())));
    let request = Request { method, path, headers: headers.collect() };
    seen.lock().unwrap().push(request.clone());
    let reply = answer(&request);
    let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !reply.headers.iter().any(|(name, _)| name == "content-length") {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    let sent = || {
        stream.write_all(head.as_bytes())?;
        stream.write_all(b"\r\n")?;
        if request.method != "HEAD" {
            for chunk in reply.body[..reply.cut.unwrap_or(reply.body.len())].chunks(1 << 14) {
                stream.write_all(chunk)?;
                reply.slow.into_iter().for_each(std::thread::sleep);
            }
        }
        stream.flush()
    };
    // Whoever was asking may have gone.
    let _: std::io::Result<()> = { sent }();
    if reply.stall {
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Files by their names.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As the hub itself answers; contents are at `contents`, if that is another server.
pub(crate) fn hub(request: &Request, repository: &str, files: &Files, contents: Option<&str>) -> Reply {
    if request.path == format!("/api/models/{repository}/revision/main") {
        let names = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect::<Vec<_>>();
        return Reply::new(200, serde_json::json!({ "sha": COMMIT, "siblings": names }).to_string());
    }
    let file = request.path.strip_prefix(&format!("/{repository}/resolve/{COMMIT}/"));
    let Some(bytes) = file.and_then(|file| files.get(file)) else {
        return Reply::new(404, "").with("x-error-code", "EntryNotFound");
    };
    let linked = |reply: Reply| {
        reply
            .with("x-repo-commit", COMMIT)
            .with("x-linked-size", bytes.len())
            .with("x-linked-etag", format!("\"{}\"", sha256(bytes)))
    };
    match contents {
        Some(url) => linked(Reply::new(302, "").with("location", format!("{url}{}?signed=1", request.path))),
        None => linked(content(request, bytes)),
    }
}

/// The bytes that a request wants.
pub(crate) fn content(request: &Request, bytes: &[u8]) -> Reply {
    match request.from() {
        0 => Reply::new(200, bytes),
        from if from >= bytes.len() => Reply::new(416, ""),
        from => {
            let (last, size) = (bytes.len() - 1, bytes.len());
            Reply::new(206, &bytes[from..]).with("content-range", format!("bytes {from}-{last}/{size}"))
        }
    }
}
