//! What connections may do, and for how long.

use crate::server::{Answer, PATIENCE, Server};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A certificate for `localhost` and its key, as files.
struct Certificate {
    der: CertificateDer<'static>,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    fn new(folder: &Path, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = |ending: &str, text: String| {
            let path = folder.join(format!("{name}.{ending}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let (certificate, key) = (file("crt", made.cert.pem()), file("key", made.signing_key.serialize_pem()));
        Self { der: made.cert.der().clone(), certificate, key }
    }
}

fn start_tls(certificate: &Path, key: &Path) -> Result<Server, String> {
    let words = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    Server::try_start(&words).map_err(|(status, lines)| format!("{status}: {lines:?}"))
}

#[test]
fn tls_is_spoken_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let Certificate { der, certificate, key } = Certificate::new(folder.path(), "mine");
    let server = start_tls(&certificate, &key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(der).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let client = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(client, server.connect());
    let body = json!({ "input": "a" }).to_string();
    let head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\nconnection: close";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let answer = Answer::read(stream).expect("an answer");
    assert_eq!((answer.status, crate::server::floats(&answer.json()).len()), (200, 1));

    let mut plain = server.connect();
    plain.write_all(HEALTH).unwrap();
    assert!(Answer::read(plain).is_none());
}

#[test]
fn a_key_that_does_not_fit_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let [mine, other] = ["mine", "other"].map(|name| Certificate::new(folder.path(), name));
    let missing = folder.path().join("none.key");
    for key in [&other.key, &mine.certificate, &missing] {
        let said = start_tls(&mine.certificate, key).err().expect("no server");
        let name = key.file_name().unwrap().to_str().unwrap();
        assert!(said.starts_with("exit status: 1") && said.contains(name), "{said}");
    }
    let said = start_tls(&mine.key, &mine.key).err().expect("no server");
    assert!(said.contains("mine.key") && said.contains("certificate"), "{said}");
}

/// As systemd does it: the socket is number 3, and two variables say so.
#[cfg(unix)]
#[test]
fn a_socket_that_is_handed_over_is_listened_at() {
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let script = r#"export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" serve --systemd --threads 2 3<&0 </dev/null"#;
    let start = |socket: Stdio, script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_qembed-q")]).stdin(socket);
        Server::run(command)
    };
    let server = start(OwnedFd::from(listener).into(), script).map_err(|(_, lines)| lines).unwrap();
    assert_eq!(server.address, address);
    assert_eq!(server.get("/health").status, 200);
    // Without one there is nothing to listen at.
    let (status, lines) = start(Stdio::null(), r#"exec "$0" serve --systemd"#).err().expect("no server");
    assert!(status.code() == Some(1) && lines.concat().contains("no socket"), "{lines:?}");
}

/// Reads until the server closes the connection, which it has to do long before it would by default.
fn until_closed(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE / 5)).unwrap();
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("still open: {error}"),
        _ => String::from_utf8(text).unwrap(),
    }
}

/// Reads one answer of `/health`, after which the connection stays open.
fn healthy(stream: &mut TcpStream) {
    const BODY: &[u8] = br#"{"status":"ok"}"#;
    stream.write_all(HEALTH).unwrap();
    let mut text = Vec::new();
    while !text.ends_with(BODY) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    assert!(text.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_connection_that_asks_nothing_is_closed() {
    let server = Server::start(&["--idle-timeout", "1"]);
    assert_eq!(until_closed(server.connect()), "", "one that never asked");
    let mut asked = server.connect();
    healthy(&mut asked);
    assert_eq!(until_closed(asked), "", "one that did");
}

#[test]
fn a_request_that_stalls_is_given_up() {
    let server = Server::start(&["--head-timeout", "1", "--body-timeout", "1", "--idle-timeout", "100"]);
    let mut quiet = server.connect();
    healthy(&mut quiet);
    let mut head = server.connect();
    head.write_all(&HEALTH[..20]).unwrap();
    let mut second = server.connect();
    healthy(&mut second);
    second.write_all(&HEALTH[..20]).unwrap();
    let mut body = server.connect();
    body.write_all(b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: 14\r\n\r\n{\"input\"").unwrap();
    assert_eq!(until_closed(head), "");
    assert_eq!(until_closed(second), "");
    let said = until_closed(body);
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("nothing came for 1 s"), "{said}");
    // The time between two requests is nobody's head.
    std::thread::sleep(Duration::from_millis(1500));
    healthy(&mut quiet);
}
