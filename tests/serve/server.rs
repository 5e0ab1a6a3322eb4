//! A server that runs, and what is said to it over its socket.

use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longer than anything here takes, even on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The program, as a server.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// `host:port`
    pub(crate) address: String,
    lines: Receiver<String>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Reads all that comes until the other side closes.
    pub(crate) fn read(mut stream: impl Read) -> Option<Self> {
        let mut bytes = Vec::new();
        // A connection that is cut is seen by what is missing.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let headers: HashMap<_, _> = lines.filter_map(header).collect();
        let body = bytes[end + 4..].to_vec();
        let length = headers.get("content-length").map_or(body.len(), |length| length.parse().unwrap());
        (body.len() == length).then_some(Self { status, headers, body })
    }
}

impl Server {
    /// Starts one on a free port and waits until it answers.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::try_start(arguments).unwrap_or_else(|(status, lines)| panic!("{status}: {lines:#?}"))
    }

    /// [`Self::start`], or how it ended and what it said.
    pub(crate) fn try_start(arguments: &[&str]) -> Result<Self, (ExitStatus, Vec<String>)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
        command.args(["serve", "--port", "0", "--threads", "2"]).args(arguments).stdin(Stdio::null());
        Self::run(command)
    }

    /// Runs a command that starts one, and waits until it answers, or ends.
    pub(crate) fn run(mut command: Command) -> Result<Self, (ExitStatus, Vec<String>)> {
        for variable in ["QEMBED_API_KEY", "RUST_LOG"] {
            command.env_remove(variable);
        }
        let mut child = command.env("NO_COLOR", "1").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (to, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(to.send(line))));
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => match line.split_once("listening on ").and_then(|(_, url)| url.split_once("://")) {
                    Some((_, address)) => return Ok(Self { address: address.to_owned(), child, lines }),
                    None => said.push(line),
                },
                Err(_) => return Err((child.wait().unwrap(), said)),
            }
        }
    }

    /// Waits for a line of the log with these words in it.
    pub(crate) fn wait_for_line(&self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line with {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let stream = self.send(method, path, headers, body);
        Answer::read(stream).expect("an answer")
    }

    /// The same without waiting for the answer.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        let host = if headers.iter().any(|(name, _)| *name == "host") { "" } else { "host: localhost\r\n" };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\n{host}{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses a body need not read it.
        let _ = stream.write_all(body);
        stream
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], body.to_string().as_bytes())
    }

    /// Vectors of `/v1/embeddings`.
    pub(crate) fn vectors(&self, body: &Value) -> Vec<Vec<f32>> {
        let answer = self.post("/v1/embeddings", body);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        floats(&answer.json())
    }

    /// A number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.split(' ').nth(1))
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name}: {text}"))
    }

    /// Sends a signal.
    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The vectors of an answer in floats, in the order of their indices.
pub(crate) fn floats(answer: &Value) -> Vec<Vec<f32>> {
    let vector = |(i, item): (usize, &Value)| {
        assert_eq!(item["index"], i);
        item["embedding"].as_array().expect("floats").iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    answer["data"].as_array().unwrap().iter().enumerate().map(vector).collect()
}

/// A model file with random weights, of 64 dimensions and a context of `context` tokens.
pub(crate) fn model(folder: &Path, name: &str, seed: u64, context: usize) -> String {
    model_of(&format!("layers=2,hidden=64,context={context}"), folder, name, seed)
}

/// The same of another shape.
pub(crate) fn model_of(shape: &str, folder: &Path, name: &str, seed: u64) -> String {
    let path = folder.join(name);
    let dims = format!("tiny,{shape},ffn=64,heads=2,kv_heads=1,head_dim=32,vocab=300");
    let spec = qembed_models::synth::Spec {
        dims: dims.parse().unwrap(),
        level: "Q8_0".parse().unwrap(),
        seed,
        vocabulary: None,
    };
    qembed_models::synth::write(&spec, &path).unwrap();
    path.to_str().unwrap().to_owned()
}
