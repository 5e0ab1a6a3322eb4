//! Whatever is sent, the server answers it as it should and stays alive.

use crate::server::{Answer, PATIENCE, Server};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Instant;

/// Its words for a request that it refuses.
fn refused(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
    let error = answer.json()["error"].clone();
    assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{error}");
    error
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let server = Server::start(&["--max-items", "3", "--max-body", "10000"]);
    let post = |body: &[u8]| server.ask("POST", "/v1/embeddings", &[], body);
    for body in [&b""[..], b"{", b"[]", b"\"a\"", b"\xff\xfe", b"{\"input\": \"\xff\"}", b"null", b"{}"] {
        refused(&post(body), 400);
    }
    for (body, param) in [
        (json!({ "input": "" }), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": ["a", ""] }), "input[1]"),
        (json!({ "input": ["a", null] }), "input[1]"),
        (json!({ "input": ["a", "b", "c", "d"] }), "input"),
        (json!({ "input": "a", "dimensions": 0 }), "dimensions"),
        (json!({ "input": "a", "dimensions": 31 }), "dimensions"),
        (json!({ "input": "a", "dimensions": 257 }), "dimensions"),
        (json!({ "input": "a", "encoding_format": "hex" }), "encoding_format"),
        (json!({ "input": "a", "output_dtype": "int8", "encoding_format": "base64" }), "encoding_format"),
        (json!({ "messages": [{ "role": "user", "content": "a" }] }), "messages"),
    ] {
        assert_eq!(refused(&post(body.to_string().as_bytes()), 400)["param"], param, "{body}");
    }
    refused(&post(&vec![b' '; 10_001]), 413);
    refused(&server.get("/v1/nothing"), 404);
    refused(&server.get("/v1/embeddings"), 405);
    refused(&server.post("/v1/rerank", &json!({})), 501);
    assert_eq!(server.get("/health").json(), json!({ "status": "ok" }));
    assert_eq!(server.get("/ready").status, 200);
}

#[test]
fn nulls_and_missing_content_types_are_as_good_as_any() {
    let server = Server::start(&[]);
    let expected = server.vectors(&json!({ "input": "a" }));
    let nulls = json!({
        "input": "a", "model": null, "encoding_format": null, "dimensions": null, "user": null, "truncate": null, "unknown": 7
    });
    assert_eq!(server.vectors(&nulls), expected);
    for kind in ["application/json", "text/plain", "application/x-www-form-urlencoded"] {
        let answer = server.ask("POST", "/v1/embeddings", &[("content-type", kind)], br#"{"input": "a"}"#);
        assert_eq!(crate::server::floats(&answer.json()), expected);
    }
    assert_eq!(server.post("/embeddings", &json!({ "input": "a" })).status, 200);
    let path = "/openai/deployments/some-model/embeddings?api-version=2024-02-01";
    assert_eq!(server.post(path, &json!({ "input": "a" })).status, 200);
    let answer = server.ask("POST", "/v1/embeddings", &[("x-request-id", "mine-7")], br#"{"input": "a"}"#);
    assert_eq!(answer.headers["x-request-id"], "mine-7");
    assert!(answer.headers["openai-processing-ms"].parse::<u64>().is_ok());
}

#[test]
fn only_who_has_a_key_may_ask() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "# of the house\nthird\n").unwrap();
    let server =
        Server::start(&["--api-key", "first", "--api-key", "second", "--api-key-file", file.to_str().unwrap()]);
    let body = br#"{"input": "a"}"#;
    let with = |name: &str, value: &str| server.ask("POST", "/v1/embeddings", &[(name, value)], body);
    for (name, value) in [("authorization", "Bearer first"), ("x-api-key", "second"), ("api-key", "third")] {
        assert_eq!(with(name, value).status, 200, "{name}");
    }
    for (name, value) in
        [("authorization", "Bearer"), ("authorization", "Bearer firs"), ("x-api-key", ""), ("x", "first")]
    {
        assert_eq!(refused(&with(name, value), 401)["code"], "invalid_api_key");
    }
    refused(&server.get("/v1/models"), 401);
    assert_eq!(server.get("/metrics").status, 401);
    for open in ["/health", "/ready", "/", "/docs", "/openapi.json"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
    // Without keys any will do.
    let open = Server::start(&[]);
    assert_eq!(open.ask("POST", "/v1/embeddings", &[("authorization", "Bearer EMPTY")], body).status, 200);
}

#[test]
fn pages_of_others_do_not_get_in() {
    let server = Server::start(&["--allow-host", "box.lan", "--allow-origin", "https://notes.example"]);
    let get = |headers: &[(&str, &str)]| server.ask("GET", "/v1/models", headers, b"");
    for host in ["localhost:1", "127.0.0.1", "[::1]:30000", "box.lan"] {
        assert_eq!(get(&[("host", host)]).status, 200, "{host}");
    }
    refused(&get(&[("host", "evil.example")]), 403);
    refused(&get(&[("origin", "http://evil.example")]), 403);
    refused(&get(&[("origin", "null")]), 403);
    for origin in ["https://notes.example", "http://localhost:5173", "app://obsidian.md"] {
        let answer = get(&[("origin", origin)]);
        assert_eq!((answer.status, answer.headers["access-control-allow-origin"].as_str()), (200, origin));
    }
    let asked = [("origin", "https://notes.example"), ("access-control-request-method", "POST")];
    let answer = server.ask("OPTIONS", "/v1/embeddings", &asked, b"");
    assert_eq!((answer.status, answer.headers["access-control-allow-origin"].as_str()), (200, "https://notes.example"));
}

#[test]
fn broken_requests_cost_nobody_else_anything() {
    let server = Server::start(&[]);
    let whole = b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: 14\r\n\r\n{\"input\": \"a\"}";
    let mut open = Vec::new();
    for end in 0..whole.len() {
        let mut stream = server.connect();
        stream.write_all(&whole[..end]).unwrap();
        // Half of them stay, half of them go.
        if end % 2 == 0 {
            open.push(stream);
        }
    }
    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n"] {
        server.connect().write_all(garbage).unwrap();
    }
    assert_eq!(server.vectors(&json!({ "input": "a" })).len(), 1);
}

#[test]
fn bodies_may_be_compressed_and_do_not_burst() {
    let server = Server::start(&["--max-body", "1MiB"]);
    let expected = server.vectors(&json!({ "input": "a" }));
    // As gzip has it when nothing is compressed.
    let stored = |text: &[u8]| {
        let mut bytes = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
        let blocks = text.chunks(60_000);
        let last = blocks.len() - 1;
        for (i, block) in blocks.enumerate() {
            let length = block.len() as u16;
            bytes.push(u8::from(i == last));
            bytes.extend(length.to_le_bytes().into_iter().chain((!length).to_le_bytes()));
            bytes.extend(block);
        }
        let mut crc = !0u32;
        for byte in text {
            crc ^= u32::from(*byte);
            (0..8).for_each(|_| crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 });
        }
        bytes.extend((!crc).to_le_bytes().into_iter().chain((text.len() as u32).to_le_bytes()));
        bytes
    };
    let send = |body: &[u8]| server.ask("POST", "/v1/embeddings", &[("content-encoding", "gzip")], body);
    let answer = send(&stored(br#"{"input": "a"}"#));
    assert_eq!(crate::server::floats(&answer.json()), expected);
    refused(&send(&stored(&vec![b' '; 1_100_000])), 413);
    // A mebibyte of blanks, 1,200 bytes long, and one blank more: it counts what comes out.
    let chunk = |blanks: usize| zeros(blanks, b' ');
    refused(&send(&chunk((1 << 20) + 1)), 413);
    refused(&send(&chunk(1 << 20)), 400);
    refused(&send(b"\x1f\x8b\x08 no gzip"), 400);
}

/// So many equal bytes as gzip has them: the first one as it is, the others as copies of what is 258 bytes long at most, in one
/// block of fixed codes (RFC 1951).
fn zeros(count: usize, byte: u8) -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false];
    let mut code = |code: u32, length: u32| bits.extend((0..length).rev().map(|i| code >> i & 1 == 1));
    // Below 144: eight bits from 0x30.
    code(0x30 + u32::from(byte), 8);
    let mut left = count - 1;
    while left >= 258 {
        code(0b1100_0101, 8); // Length 258 is symbol 285,
        code(0, 5); // distance 1 symbol 0.
        left -= 258;
    }
    (0..left).for_each(|_| code(0x30 + u32::from(byte), 8));
    code(0, 7);
    let mut bytes = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    bytes.extend(
        bits.chunks(8).map(|eight| eight.iter().enumerate().fold(0u8, |byte, (i, bit)| byte | u8::from(*bit) << i)),
    );
    let mut crc = !0u32;
    for _ in 0..count {
        crc ^= u32::from(byte);
        (0..8).for_each(|_| crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 });
    }
    bytes.extend((!crc).to_le_bytes().into_iter().chain((count as u32).to_le_bytes()));
    bytes
}

#[test]
fn a_time_limit_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = crate::server::model(folder.path(), "small.gguf", 1, 8000);
    let server = Server::start(&["--gguf", &path]);
    let long = "x".repeat(7000);
    let texts: Vec<String> = (0..40).map(|i| format!("{i}{long}")).collect();
    let body = json!({ "input": texts }).to_string();
    let answer = server.ask("POST", "/v1/embeddings", &[("x-request-timeout", "0.05")], body.as_bytes());
    refused(&answer, 504);
    // Its texts have left the queue.
    assert_eq!(server.vectors(&json!({ "input": "a" })).len(), 1);
    assert_eq!(server.metric("qembed_queue_texts"), 0.0);
    // How fast it is is known now: what cannot be done in time is not begun.
    let answer = server.ask("POST", "/v1/embeddings", &[("x-request-timeout", "0.05")], body.as_bytes());
    assert!(refused(&answer, 413)["message"].as_str().unwrap().contains("tokens fit"));
    let ask = |limit: &str| server.ask("POST", "/v1/embeddings", &[("x-request-timeout", limit)], br#"{"input": "b"}"#);
    assert_eq!(ask("1000").status, 200, "long enough");
    // No time at all: where nothing waits, it would be no better later.
    refused(&ask("0"), 413);
    let texts: Vec<String> = (0..400).map(|i| format!("{i} {long}")).collect();
    let busy = server.send("POST", "/v1/embeddings", &[], json!({ "input": texts }).to_string().as_bytes());
    while server.metric("qembed_queue_texts") == 0.0 {}
    let answer = ask("0");
    let error = refused(&answer, 429);
    assert!(
        error["type"] == "rate_limit_error" && error["message"].as_str().unwrap().contains("about 0 tokens fit"),
        "{error}"
    );
    // When as many are done as wait before it.
    let header = |name: &str| answer.headers[name].parse::<u64>().unwrap();
    assert_eq!(header("retry-after"), header("retry-after-ms").div_ceil(1000).max(1));
    drop(busy);
    refused(&server.ask("POST", "/v1/embeddings", &[("x-request-timeout", "soon")], b"{}"), 400);
}

#[test]
fn who_hangs_up_is_not_worked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = crate::server::model(folder.path(), "small.gguf", 1, 8000);
    let server = Server::start(&["--gguf", &path]);
    let texts: Vec<String> = (0..400).map(|i| format!("{i}{}", "x".repeat(7000))).collect();
    let body = json!({ "input": texts }).to_string();
    let stream = server.send("POST", "/v1/embeddings", &[], body.as_bytes());
    while server.metric("qembed_queue_texts") == 0.0 {}
    drop(stream);
    while server.metric("qembed_queue_texts") > 0.0 {}
    assert_eq!(server.vectors(&json!({ "input": "a" })).len(), 1);
    assert!(server.metric("qembed_pass_texts_sum") < 400.0, "all were computed");
}

#[test]
fn a_pass_ends_with_the_time_of_its_request() {
    let folder = tempfile::tempdir().unwrap();
    // So many layers that the time is over long before the last one.
    let path = crate::server::model_of("layers=40,hidden=64,context=8000", folder.path(), "deep.gguf", 1);
    let server = Server::start(&["--gguf", &path]);
    let body = json!({ "input": "x".repeat(7000) }).to_string();
    refused(&server.ask("POST", "/v1/embeddings", &[("x-request-timeout", "0.5")], body.as_bytes()), 504);
    let until = Instant::now() + PATIENCE;
    while server.metric("qembed_passes_cancelled_total") < 1.0 {
        // Known once a pass was run to its end.
        assert!(server.metric("qembed_tokens_per_second") == 0.0 && Instant::now() < until, "it goes on");
    }
}

#[test]
fn more_than_can_wait_is_told_to_come_again() {
    let server = Server::start(&["--max-queue", "2"]);
    let answer = server.post("/v1/embeddings", &json!({ "input": ["a", "b", "c"] }));
    assert_eq!(refused(&answer, 429)["type"], "rate_limit_error");
    assert!(answer.headers["retry-after"].parse::<u64>().unwrap() >= 1);
    assert!(answer.headers["retry-after-ms"].parse::<u64>().unwrap() >= 1000);
    assert_eq!(server.vectors(&json!({ "input": ["a", "b"] })).len(), 2);
}
