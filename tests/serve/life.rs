//! How it starts, loads anew, and ends.

use crate::server::{Answer, Server, model};
use serde_json::json;
use std::io::{Read, Write};

#[test]
fn what_cannot_be_served_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.gguf");
    let (status, lines) = Server::try_start(&["--gguf", missing.to_str().unwrap()]).err().expect("no server");
    assert_eq!(status.code(), Some(1));
    assert!(lines.iter().any(|line| line.contains("none.gguf")), "{lines:?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_qembed-q")).args(["serve", "--port", &port]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains(&port), "{said}");
    for (words, code) in
        [(&["--gguf", "x,dimensions=many"][..], 2), (&["--token-ids", "gpt2"], 2), (&["--tls-cert", "x"], 2)]
    {
        let (status, lines) = Server::try_start(words).err().expect("no server");
        assert_eq!(status.code(), Some(code), "{lines:?}");
    }
}

#[test]
fn keys_that_are_none_open_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (none, one) = (write("none", "# of the house\n\n   \n"), write("one", "key\n"));
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    for (words, code, parts) in [
        (&["--api-key-file", &none][..], 1, [none.as_str(), "holds no key", "one a line"]),
        (&["--api-key", "first", "--api-key-file", &none], 1, [&none, "holds no key", "leave out --api-key-file"]),
        (&["--api-key-file", &missing], 1, [&missing, "", ""]),
        (&["--api-key", ""], 2, ["--api-key is empty", "give it a key", "leave it out"]),
        (&["--api-key", "first", "--api-key", ""], 2, ["--api-key is empty", "", ""]),
        (&["--api-key=", "--api-key-file", &one], 2, ["--api-key is empty", "", ""]),
    ] {
        let (status, lines) = Server::try_start(words).err().expect("no server");
        let said = lines.join("\n");
        assert_eq!(status.code(), Some(code), "{words:?}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{words:?}: {said}");
    }
}

#[test]
fn a_budget_that_leaves_nothing_for_passes_is_refused() {
    let start = |words: &[&str]| {
        let (status, lines) = Server::try_start(words).err().expect("no server");
        (status.code(), lines.join("\n"))
    };
    // Results take 256 MiB, four bodies 256 MiB.
    let (code, said) = start(&["--memory-budget", "512MiB"]);
    assert_eq!(code, Some(2), "{said}");
    for part in ["--memory-budget 512.0 MiB", "(256.0 MiB)", "raise it", "--cache-size", "--max-body"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) = start(&["--memory-budget", "9MiB", "--cache-size", "1MiB", "--max-body", "2MiB"]);
    assert!(code == Some(2) && said.contains("(1.0 MiB)") && said.contains("(8.0 MiB)"), "{said}");
    // It leaves a byte: too little for this model.
    let budget = ((512 << 20) + 1).to_string();
    let (code, said) = start(&["--memory-budget", &budget]);
    assert_eq!(code, Some(1), "{said}");
    for part in ["budget of 1 bytes", "bytes at least", "--memory-budget", "--cache-size", "--max-body"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // And enough.
    let server = Server::start(&["--memory-budget", "256MiB", "--cache-size", "0", "--max-body", "1MiB"]);
    assert_eq!(server.vectors(&json!({ "input": "a" })).len(), 1);
}

#[test]
fn a_check_says_what_would_be_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path(), "small.gguf", 1, 100);
    let spec = format!("mine={path},dimensions=48");
    let words = ["serve", "--check", "--port", "12345", "--gguf", &spec];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_qembed-q")).args(words).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    for word in ["http://127.0.0.1:12345", "mine: Q8_0, 48 dimensions", "256 MiB", "anybody"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_ping_asks_how_a_server_is() {
    let ping = |port: &str| {
        let words = ["serve", "--ping", "--host", "0.0.0.0", "--port", port];
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_qembed-q")).args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let server = Server::start(&[]);
    let port = server.address.rsplit(':').next().unwrap();
    assert_eq!(ping(port), (Some(0), String::new()));
    // One that is there and not well.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let read = stream.read(&mut [0; 1000]).unwrap();
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n{\"reason\": \"loading\"}").unwrap();
        read
    });
    let (code, said) = ping(&port);
    assert!(code == Some(1) && said.contains("loading") && said.contains(&port), "{said}");
    assert!(answers.join().unwrap() > 0);
    // And now nobody.
    let (code, said) = ping(&port);
    assert!(code == Some(1) && said.contains(&port), "{said}");
}

#[cfg(unix)]
#[test]
fn it_ends_when_what_is_in_flight_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path(), "small.gguf", 1, 4000);
    let server = Server::start(&["--gguf", &path, "--cache-size", "0"]);
    let texts: Vec<String> = (0..60).map(|i| format!("{i}{}", "x".repeat(1500))).collect();
    let body = json!({ "input": texts, "dimensions": 32 }).to_string();
    let expected = server.ask("POST", "/v1/embeddings", &[], body.as_bytes()).json();
    let waiting: Vec<_> = (0..4).map(|_| server.send("POST", "/v1/embeddings", &[], body.as_bytes())).collect();
    // All of them are known to it.
    while server.metric("qembed_connections") < 5.0 || server.metric("qembed_queue_texts") == 0.0 {}
    server.signal("-TERM");
    for stream in waiting {
        let answer = Answer::read(stream).expect("a whole answer");
        assert_eq!((answer.status, answer.json()), (200, expected.clone()));
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// A request whose head has been taken, and half of whose body has been sent; and the other half.
#[cfg(unix)]
fn half_sent(server: &Server) -> (std::net::TcpStream, &'static [u8]) {
    let mut stream = server.connect();
    let head = b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 14\r\n\r\n";
    stream.write_all(head).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let (half, rest) = br#"{"input": "a"}"#.split_at(7);
    stream.write_all(half).unwrap();
    (stream, rest)
}

#[cfg(unix)]
#[test]
fn what_comes_by_an_open_connection_is_answered_to_the_end() {
    let server = Server::start(&[]);
    let (mut stream, rest) = half_sent(&server);
    server.signal("-TERM");
    server.wait_for_line("stopping");
    assert!(std::net::TcpStream::connect(&server.address).is_err(), "no more are taken");
    stream.write_all(rest).unwrap();
    assert_eq!(Answer::read(stream).expect("an answer").status, 200);
    assert_eq!(server.wait().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn what_is_not_done_in_time_at_the_end_is_said_to_be_lost() {
    let server = Server::start(&["--drain", "0.2"]);
    let _open = half_sent(&server);
    server.signal("-TERM");
    let said = server.wait_for_line("0.2 s");
    assert!(said.contains("lost: 1;"), "{said}");
    assert_eq!(server.wait().code(), Some(1));
}

#[cfg(unix)]
#[test]
fn a_new_file_takes_the_place_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path(), "small.gguf", 1, 100);
    let server = Server::start(&["--gguf", &path]);
    let body = json!({ "input": "a" });
    let old = server.vectors(&body);
    // What cannot be opened leaves the old one where it is.
    let damaged = folder.path().join("damaged");
    std::fs::write(&damaged, "no model").unwrap();
    std::fs::rename(&damaged, &path).unwrap();
    server.wait_for_line("the old one is kept");
    assert_eq!(server.vectors(&body), old);
    let new = model(folder.path(), "new.gguf", 2, 100);
    std::fs::rename(&new, &path).unwrap();
    server.signal("-HUP");
    server.wait_for_line("loaded anew");
    let vectors = server.vectors(&body);
    assert_ne!(vectors, old);
    assert_eq!(vectors, Server::start(&["--gguf", &path]).vectors(&body));
}

#[test]
fn results_outlive_a_kill_and_never_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path(), "small.gguf", 1, 100);
    let kept = folder.path().join("kept");
    let start = || Server::start(&["--gguf", &path, "--cache-dir", kept.to_str().unwrap()]);
    let ask = |server: &Server, text: &str| {
        let answer = server.post("/v1/embeddings", &json!({ "input": [text] }));
        (answer.headers["x-cache-hits"].clone(), crate::server::floats(&answer.json()))
    };
    let mut server = start();
    // Until the digest of the file is known, nothing is written.
    let mut count = 0;
    let (last, vector) = loop {
        count += 1;
        let text = format!("text {count}");
        let (_, vector) = ask(&server, &text);
        std::thread::sleep(std::time::Duration::from_millis(50));
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        server = start();
        // Its first request has it look for the digest, which is remembered.
        ask(&server, "something else");
        std::thread::sleep(std::time::Duration::from_millis(50));
        let (hits, again) = ask(&server, &text);
        assert_eq!(again, vector);
        if hits == "1" {
            break (text, vector);
        }
        assert!(count < 100, "nothing is kept");
    };
    drop(server);
    model(folder.path(), "small.gguf", 2, 100);
    let server = start();
    for _ in 0..10 {
        let (_, other) = ask(&server, &last);
        assert_ne!(other, vector, "another model has other vectors");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[cfg(unix)]
#[test]
fn a_unix_socket_does_as_well() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    // One that a killed program left behind is taken over.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_qembed-q"))
        .args(["serve", "--unix", path.to_str().unwrap()])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + crate::server::PATIENCE;
    let text = loop {
        if let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&path) {
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            if text.contains("200 OK") {
                break text;
            }
        }
        assert!(std::time::Instant::now() < until);
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(text.ends_with(r#"{"status":"ok"}"#), "{text}");
    let ended = std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(ended.success() && child.wait().unwrap().success());
    assert!(!path.exists());
}
