//! Sockets, TLS, and the connections that come in by them.

use crate::serve::app::App;
use crate::serve::error::ServeError;
use crate::serve::guard::Peer;
use crate::serve::options::{Address, ServeOptions, Tls};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::io::InspectReader;
use tower::ServiceExt;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A socket that is listened at.
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, Option<PathBuf>),
}

/// Opens the sockets of an address.
///
/// # Errors
/// One that is taken, not allowed or not there.
pub(crate) async fn bind(address: &Address) -> Result<Vec<Listener>, ServeError> {
    let fail = |address: String| move |source| ServeError::Listen { address, source };
    match address {
        Address::Tcp(host, port) => {
            let name = format!("{host}:{port}");
            let listener = TcpListener::bind((host.trim_matches(['[', ']']), *port)).await.map_err(fail(name))?;
            Ok(vec![Listener::Tcp(listener)])
        }
        #[cfg(unix)]
        Address::Unix(path) => {
            let name = path.display().to_string();
            // One that a program left behind when it was killed answers nobody.
            if tokio::net::UnixStream::connect(path)
                .await
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            {
                let _ = std::fs::remove_file(path);
            }
            let listener = tokio::net::UnixListener::bind(path).map_err(fail(name))?;
            Ok(vec![Listener::Unix(listener, Some(path.clone()))])
        }
        #[cfg(not(unix))]
        Address::Unix(path) => {
            let source = io::Error::from(io::ErrorKind::Unsupported);
            Err(ServeError::Listen { address: path.display().to_string(), source })
        }
        Address::Inherited => inherited(),
    }
}

#[cfg(unix)]
fn inherited() -> Result<Vec<Listener>, ServeError> {
    let mut handed = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for i in 0..handed.len() {
        if let Ok(Some(socket)) = handed.take_tcp_listener(i) {
            socket.set_nonblocking(true)?;
            listeners.push(Listener::Tcp(TcpListener::from_std(socket)?));
        } else if let Some(socket) = handed.take_unix_listener(i)? {
            socket.set_nonblocking(true)?;
            listeners.push(Listener::Unix(tokio::net::UnixListener::from_std(socket)?, None));
        }
    }
    if listeners.is_empty() { Err(ServeError::NotInherited) } else { Ok(listeners) }
}

#[cfg(not(unix))]
fn inherited() -> Result<Vec<Listener>, ServeError> {
    Err(ServeError::NotInherited)
}

impl Listener {
    /// Where it can be reached, for people.
    pub(crate) fn name(&self, tls: bool) -> String {
        match self {
            Self::Tcp(listener) => {
                let scheme = if tls { "https" } else { "http" };
                listener
                    .local_addr()
                    .map_or_else(|_| format!("{scheme}://?"), |address| format!("{scheme}://{address}"))
            }
            #[cfg(unix)]
            Self::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                format!("unix:{}", path.unwrap_or("?".as_ref()).display())
            }
        }
    }

    /// Whether others than this machine can reach it.
    pub(crate) fn is_public(&self) -> bool {
        match self {
            Self::Tcp(listener) => listener.local_addr().is_ok_and(|address| !address.ip().is_loopback()),
            #[cfg(unix)]
            Self::Unix(..) => false,
        }
    }
}

#[cfg(unix)]
impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, Some(path)) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What speaks TLS with a certificate.
///
/// # Errors
/// Files that cannot be read, or do not belong together.
pub(crate) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, ServeError> {
    let fail = |path: &PathBuf, problem: String| ServeError::Tls { path: path.clone(), problem };
    let certificates = CertificateDer::pem_file_iter(&tls.certificate).and_then(Iterator::collect);
    let certificates: Vec<CertificateDer> = certificates.map_err(|error| fail(&tls.certificate, error.to_string()))?;
    if certificates.is_empty() {
        return Err(fail(&tls.certificate, "holds no certificate in PEM".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| fail(&tls.key, error.to_string()))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.and_then(|config| config.with_no_client_auth().with_single_cert(certificates, key));
    let together = |error| format!("with the certificate {}: {error}", tls.certificate.display());
    let mut config = config.map_err(|error| fail(&tls.key, together(error)))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    pub(crate) tls: Option<TlsAcceptor>,
}

/// Takes connections in until the end of the task; those that are open go on without it.
pub(crate) async fn accept(listener: Arc<Listener>, serving: Serving, watcher: impl Fn() -> Watcher) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    loop {
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let peer = |name: String, loopback, local| Peer { name, connection, loopback, local };
        let accepted = match &*listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, address)| {
                let _ = stream.set_nodelay(true);
                let loopback =
                    stream.local_addr().is_ok_and(|local: SocketAddr| local.ip().to_canonical().is_loopback());
                let peer = peer(address.to_string(), loopback, loopback);
                match serving.tls.clone() {
                    Some(tls) => tokio::spawn(handshake(tls, stream, peer, serving.clone(), watcher())),
                    None => tokio::spawn(converse(stream, peer, serving.clone(), watcher())),
                };
            }),
            #[cfg(unix)]
            Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(converse(stream, peer("unix".into(), false, true), serving.clone(), watcher()));
            }),
        };
        if let Err(error) = accepted {
            // Most often too many files are open; some will be closed.
            tracing::warn!("a connection could not be taken: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn handshake(tls: TlsAcceptor, stream: tokio::net::TcpStream, peer: Peer, serving: Serving, watcher: Watcher) {
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, peer, serving, watcher).await,
        Ok(Err(error)) => tracing::debug!(peer = peer.name, "no TLS: {error}"),
        Err(_) => tracing::debug!(peer = peer.name, "no TLS within {} s", HANDSHAKE.as_secs()),
    }
}

/// What goes on in a connection.
struct Activity {
    /// Requests under way.
    requests: usize,
    /// When the last one ended.
    since: Instant,
    /// When the first byte of the next one came.
    head: Option<Instant>,
    /// Whether it speaks HTTP/2, in which bytes come between requests too; known by its first bytes.
    http2: Option<bool>,
}

impl Activity {
    fn new() -> Self {
        Self { requests: 0, since: Instant::now(), head: None, http2: None }
    }

    fn came(&mut self, bytes: &[u8]) {
        let http2 = *self.http2.get_or_insert_with(|| bytes.starts_with(b"PRI "));
        if self.requests == 0 && !http2 {
            self.head.get_or_insert_with(Instant::now);
        }
    }

    /// When to close the connection if nothing changes; `None` while a request is under way.
    fn end(&self, options: &ServeOptions) -> Option<Instant> {
        let late = self.head.map(|head| head + options.head_timeout);
        let idle = self.since + options.idle_timeout;
        (self.requests == 0).then(|| late.map_or(idle, |late| late.min(idle)))
    }
}

type Shared = Arc<Mutex<Activity>>;

fn lock(activity: &Mutex<Activity>) -> MutexGuard<'_, Activity> {
    activity.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the requests of a connection, until either side has had enough.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    serving: Serving,
    watcher: Watcher,
) {
    let _open = serving.app.metrics.connection();
    let options = &serving.app.options;
    let activity = Arc::new(Mutex::new(Activity::new()));
    // In a block, and a box, so that this task does not keep room for each step of its making: there may be thousands of them.
    let mut connection = {
        let came = activity.clone();
        let stream = InspectReader::new(stream, move |bytes| lock(&came).came(bytes));
        let (router, activity) = (serving.router.clone(), activity.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (router, activity) = (router.clone(), Under::new(activity.clone()));
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            async move {
                let response = router.oneshot(request).await;
                drop(activity);
                response.map_err(|error: Infallible| error)
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // Its own limit for heads would count the time between requests too.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None::<Duration>);
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(20)));
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        Box::pin(watcher.watch(connection))
    };
    let step = options.head_timeout.min(options.idle_timeout).max(Duration::from_millis(1));
    loop {
        let now = Instant::now();
        let end = lock(&activity).end(options);
        if end.is_some_and(|end| end <= now) {
            return;
        }
        // What begins meanwhile, a head or the time after a request, ends no sooner than that.
        let soonest = now + step;
        tokio::select! {
            // What goes wrong here is the client's, who is gone.
            _ = &mut connection => return,
            () = tokio::time::sleep_until(end.map_or(soonest, |end| end.min(soonest)).into()) => (),
        }
    }
}

/// A request under way.
struct Under(Shared);

impl Under {
    fn new(shared: Shared) -> Self {
        let mut activity = lock(&shared);
        activity.requests += 1;
        activity.head = None;
        drop(activity);
        Self(shared)
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        let mut activity = lock(&self.0);
        activity.requests -= 1;
        activity.since = Instant::now();
    }
}
