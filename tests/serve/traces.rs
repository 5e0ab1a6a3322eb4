//! Traces, as a collector sees them.

use crate::server::Server;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// Takes what is posted: each time the first line of the head, and the body.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (to, posted) = channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        loop {
            let (mut first, mut length) = (String::new(), 0);
            if stream.read_line(&mut first).unwrap_or(0) == 0 {
                return;
            }
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            if to.send((first, body)).is_err() {
                return;
            }
        }
    });
    (address, posted)
}

fn command(endpoint: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(variable);
    }
    command.args(["serve", "--port", "0", "--threads", "2"]).stdin(Stdio::null());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    command
}

#[test]
fn a_request_is_a_span_of_its_clients_trace() {
    let (address, posted) = collector();
    let server = Server::run(command(&format!("http://{address}"))).map_err(|(_, lines)| lines).unwrap();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let body = br#"{"input": "a", "dimensions": 64, "encoding_format": "base64"}"#;
    assert_eq!(server.ask("POST", "/v1/embeddings", &[("traceparent", parent)], body).status, 200);
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/v1/models/none").status, 404);
    server.signal("-TERM");
    assert_eq!(server.wait().code(), Some(0));
    let (first, body) = posted.recv().unwrap();
    assert_eq!(first.trim_end(), "POST /v1/traces HTTP/1.1");
    let has = |bytes: &[u8]| body.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(&0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes()), "the trace");
    assert!(has(&0xb7ad_6b71_6920_3331_u64.to_be_bytes()), "the span of the client");
    for words in [
        "embeddings builtin",
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.request.encoding_formats",
        "base64",
        "gen_ai.embeddings.dimension.count",
        "gen_ai.usage.input_tokens",
        "http.response.status_code",
        "/v1/embeddings",
        "service.name",
        "qembed-q",
        "error.type",
        "404",
    ] {
        assert!(has(words.as_bytes()), "{words}");
    }
    assert!(!has(b"/health"), "what is asked every second is no news");
    assert!(posted.recv().is_err(), "all at once, at the end");
}

#[test]
fn a_collector_that_cannot_be_reached_so_is_an_error_at_the_start() {
    let (status, lines) = Server::run(command("https://traces.example:4318")).err().expect("no server");
    assert!(status.code() == Some(1) && lines.concat().contains("https://traces.example:4318"), "{lines:?}");
}
