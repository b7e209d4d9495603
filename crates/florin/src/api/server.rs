//! The interface on a socket: a runtime of its own, started and stopped as one thing. It never outlives whoever holds it.

use crate::api::framing::{Framing, Watched};
use crate::api::room::REQUESTS_MAX;
use crate::api::token::Token;
use crate::api::{ANSWER_MAX, Api, assemble};
use crate::failure::Failure;
use crate::platform::Platform;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// Threads of the runtime: handlers only carry requests to the engine, and two keep each other from waiting.
const THREADS: usize = 2;

/// How long requests under way may go on when the interface stops.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// How long callers wait, and how many.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a request waits for the engine's answer.
    pub answer: Duration,
    /// How many requests may be under way that are neither operators' nor cancels.
    pub requests: usize,
    /// How long a connection may take for a request's head, and how long it may be idle before one.
    pub head: Duration,
    /// How many connections may be open; more wait until one ends.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let connections = connections_max(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default());
        Limits { answer: ANSWER_MAX, requests: REQUESTS_MAX, head: HEAD_WAIT, connections }
    }
}

/// Connections where the process may have open files enough: more than all requests that may be under way.
const CONNECTIONS_MAX: usize = 2_048;

/// Open files that stores, nodes and the signer need beside the connections, with room to spare.
const FILES_KEPT: usize = 256;

/// How many connections leave others the files that they need, by what Linux says of a process's limits. Elsewhere the
/// usual limit is taken.
fn connections_max(limits: &str) -> usize {
    const USUAL: usize = 1_024;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let files = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(USUAL);
    files.saturating_sub(FILES_KEPT).clamp(FILES_KEPT / 4, CONNECTIONS_MAX)
}

/// How long a request's head may take. A head is some hundred bytes: whoever sends it so slowly only keeps a connection from
/// others, without a token. Callers that keep connections find an idle one closed after it, as after any restart.
const HEAD_WAIT: Duration = Duration::from_secs(60);

/// The pause before more connections are taken where the system has none to give.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A port that is taken, and answers nothing yet.
#[derive(Debug)]
pub struct Bound {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
}

/// The interface, listening.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    api: Arc<Api>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bound {
    /// Which one it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on.
    ///
    /// # Errors
    /// `threads_failed`.
    pub fn serve(self, platform: Arc<Platform>, token: Token) -> Result<Server, Failure> {
        self.serve_within(Limits::default(), platform, token)
    }

    /// As [`Bound::serve`], with limits of the caller's own.
    ///
    /// # Errors
    /// `threads_failed`.
    pub fn serve_within(self, limits: Limits, platform: Arc<Platform>, token: Token) -> Result<Server, Failure> {
        let Bound { runtime, listener, address } = self;
        let (router, api) = assemble(platform, token, limits);
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("florin-http-main".to_owned())
            .spawn(move || {
                runtime.block_on(serve(listener, router, limits, stopped));
                runtime.shutdown_timeout(STOP_WAIT);
            })
            .map_err(|fault| Failure::new("threads_failed", "no thread for the HTTP interface").because(fault))?;
        Ok(Server { address, api, stop: Some(stop), thread: Some(thread) })
    }
}

impl Server {
    /// Takes a port; 0 takes a free one. Whoever starts a platform does this before: where the port is taken, nobody has
    /// lost the lead to a process that can't serve.
    ///
    /// # Errors
    /// `listen_failed`, `threads_failed`.
    pub fn bind(listen: SocketAddr) -> Result<Bound, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("florin-http")
            .enable_all()
            .build()
            .map_err(|fault| Failure::new("threads_failed", "no threads for the HTTP interface").because(fault))?;
        let failed = |fault| {
            Failure::new("listen_failed", format!("nothing can listen at {listen}"))
                .because(fault)
                .hint("another program may use the port; see api.listen in florin.toml")
        };
        let listener = runtime.block_on(TcpListener::bind(listen)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Bound { runtime, listener, address })
    }

    /// Takes a port and answers.
    ///
    /// # Errors
    /// `listen_failed`, `threads_failed`.
    pub fn start(platform: Arc<Platform>, listen: SocketAddr, token: Token) -> Result<Server, Failure> {
        Server::bind(listen)?.serve(platform, token)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and gives those under way some seconds to end.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.api.stop();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the HTTP interface panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Serves until `stopped` says so, or its other end is gone; then those under way get a bounded time.
async fn serve(listener: TcpListener, router: Router, limits: Limits, mut stopped: oneshot::Receiver<()>) {
    let Limits { head, connections: connections_max, .. } = limits;
    let (end, ending) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept(), if connections.len() < connections_max => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, router.clone(), head, ending.clone()))),
                // A caller that was gone before it was accepted is nobody's fault.
                Err(fault) if is_gone(&fault) => {}
                Err(fault) => {
                    tracing::error!(%fault, "no connection can be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop((listener, end));
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
        tracing::warn!("requests were cut off when the HTTP interface stopped");
    }
}

fn is_gone(fault: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(fault.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection; when the other end of `ending` is gone, only what is under way.
async fn connection(stream: TcpStream, router: Router, head: Duration, mut ending: watch::Receiver<()>) {
    let (framing, routes) = (Framing::default(), TowerToHyperService::new(router));
    let stream = Watched::new(stream, framing.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(framing.clone());
        routes.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        _ = ending.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(fault) = served {
        tracing::debug!(%fault, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_others_the_files_that_they_need() {
        let limits = |files: &str| {
            format!("Limit   Soft Limit   Hard Limit   Units\nMax open files            {files}   524288   files\n")
        };
        let cases = [("200", 64), ("1024", 768), ("4096", 2_048), ("unlimited", 768), ("-1", 768)];
        for (files, connections) in cases {
            assert_eq!(connections_max(&limits(files)), connections, "{files}");
        }
        assert_eq!(connections_max(""), 768);
    }
}
