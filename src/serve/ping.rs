//! How a server is, asked from outside: for health checks of containers and supervisors, which have no other program at hand.

use crate::serve::error::ServeError;
use crate::serve::options::Address;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the server that listens at an address for its health, without TLS.
///
/// # Errors
/// When nobody answers there, or the answer is not that it is well: then the reason that it gives.
pub fn ping(address: &Address) -> Result<(), ServeError> {
    let (name, answer) = match address {
        Address::Tcp(host, port) => (format!("{host}:{port}"), connect(host, *port).and_then(ask)),
        #[cfg(unix)]
        Address::Unix(path) => {
            let connected = std::os::unix::net::UnixStream::connect(path);
            let patient = connected.and_then(|stream| stream.set_read_timeout(Some(PATIENCE)).map(|()| stream));
            (path.display().to_string(), patient.and_then(ask))
        }
        _ => return Err(ServeError::NotInherited),
    };
    let unwell = |problem: String| ServeError::Unwell { address: name.clone(), problem };
    let answer = answer.map_err(|error| unwell(error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(unwell(if body.is_empty() { format!("answers {head:?}") } else { body.to_owned() })),
    }
}

/// A server that listens at all addresses is asked at the machine's own.
fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for mut address in (host.trim_matches(['[', ']']), port).to_socket_addrs()? {
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            } else {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            });
        }
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return stream.set_read_timeout(Some(PATIENCE)).map(|()| stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    // Who sends more than that is somebody else.
    stream.take(1 << 16).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
