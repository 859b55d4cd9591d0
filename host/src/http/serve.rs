//! Connections: taken in, given their limits, wrapped in TLS where that is configured, and ended in good order.
//!
//! axum's own loop knows no time limits; a client that sends a header byte by byte would hold its connection for ever.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::guard::MAX_HEADERS;
use super::{App, benchmarks, router, router_with};
use crate::config::{ApiKey, Config, Server};

/// How long the last words of answers that were ended may take to reach the clients.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long to wait when the system has no more sockets to give.
const NO_SOCKETS: Duration = Duration::from_secs(1);

/// How much more than is taken is read: so that `guard` can say in an error's body what is too much. Beyond that, the
/// answer is a bare 431.
const HEADROOM: usize = 4;

/// Answers requests until `shutdown` completes; then takes no more, lets running answers end, and ends those that take
/// too long. With `tls`, of which [`super::tls`] makes one, every connection is encrypted.
pub async fn serve(
    listener: TcpListener,
    app: App,
    tls: Option<TlsAcceptor>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let (models, jobs) = (app.models.clone(), benchmarks::jobs(&app));
    let server = &app.config.server;
    let grace = Duration::from_secs(server.shutdown_secs.into());
    let (limits, patience) = (limits(server), header_timeout(server));
    let mut door = Door { limits, patience, tls, router: router_with(app, Arc::clone(&jobs)) };
    let connections = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => door.open(stream, peer, connections.watcher()),
                Err(error) => refused(&error).await,
            },
            () = &mut shutdown => break,
        }
    }
    drop(listener);
    let ending = async {
        models.shutdown(grace).await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    let answers = async {
        tokio::select! {
            () = connections.shutdown() => {}
            () = ending => {}
        }
    };
    tokio::join!(answers, jobs.shutdown(grace));
}

/// A server that answers the same requests on a port and with a key of its own, until it is dropped: for a benchmark that
/// loads this server as a client would.
pub struct Private {
    /// Its address.
    pub url: String,
    /// The only key that it takes.
    pub key: String,
    /// Ends with this.
    _open: tokio::sync::oneshot::Sender<()>,
}

/// Opens one on this machine alone.
///
/// # Errors
/// What the system says.
pub async fn privately(app: &App) -> io::Result<Private> {
    let key = uuid::Uuid::new_v4().to_string();
    let mut config = Config::clone(&app.config);
    config.server.api_keys = ApiKey::try_from(key.clone()).into_iter().collect();
    config.server.admin_keys = Vec::new();
    let (limits, patience) = (limits(&config.server), header_timeout(&config.server));
    let app = App { config: Arc::new(config), ..app.clone() };
    let mut door = Door { limits, patience, tls: None, router: router(app) };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (open, mut closed) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let connections = GracefulShutdown::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => door.open(stream, peer, connections.watcher()),
                    Err(error) => refused(&error).await,
                },
                _ = &mut closed => return,
            }
        }
    });
    Ok(Private { url, key, _open: open })
}

/// A connection that was gone before it was taken is nobody's fault; without sockets, waiting is all that helps.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};

    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!("a connection cannot be accepted: {error}");
        tokio::time::sleep(NO_SOCKETS).await;
    }
}

fn header_timeout(server: &Server) -> Duration {
    Duration::from_secs(server.header_timeout_secs.into())
}

fn limits(server: &Server) -> http1::Builder {
    let mut limits = http1::Builder::new();
    limits
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout(server))
        .max_headers(HEADROOM * MAX_HEADERS)
        .max_header_size(HEADROOM.saturating_mul(server.max_header_bytes));
    limits
}

/// What every connection gets.
struct Door {
    limits: http1::Builder,
    /// For a TLS handshake.
    patience: Duration,
    tls: Option<TlsAcceptor>,
    router: Router,
}

impl Door {
    fn open(&mut self, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
        // Tokens are small packets that must not wait for each other.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("TCP_NODELAY was refused: {error}");
        }
        let (limits, router) = (self.limits.clone(), self.router.clone());
        let Some(tls) = self.tls.clone() else {
            tokio::spawn(connection(stream, peer, (limits, router), watcher));
            return;
        };
        let patience = self.patience;
        tokio::spawn(async move {
            match tokio::time::timeout(patience, tls.accept(stream)).await {
                Ok(Ok(stream)) => connection(stream, peer, (limits, router), watcher).await,
                Ok(Err(error)) => tracing::debug!(%peer, "no TLS: {error}"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
        });
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    (limits, router): (http1::Builder, Router),
    watcher: Watcher,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request.map(Body::new))
    });
    if let Err(error) = watcher.watch(limits.serve_connection(TokioIo::new(stream), service)).await {
        tracing::debug!(%peer, "a connection ended: {error}");
    }
}
