//! The interface on a socket: a runtime of its own, started and stopped as one thing. It never outlives whoever holds it.

use crate::api::token::Token;
use crate::api::{Api, assemble};
use crate::failure::Failure;
use crate::platform::Platform;
use axum::Router;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Threads of the runtime: handlers only carry requests to the engine, and two keep each other from waiting.
const THREADS: usize = 2;

/// How long requests under way may go on when the interface stops.
const STOP_WAIT: Duration = Duration::from_secs(5);

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
    /// Answers from now on.
    ///
    /// # Errors
    /// `threads_failed`.
    pub fn serve(self, platform: Arc<Platform>, token: Token) -> Result<Server, Failure> {
        let Bound { runtime, listener, address } = self;
        let (router, api) = assemble(platform, token);
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("florin-http-main".to_owned())
            .spawn(move || {
                runtime.block_on(serve(listener, router, stopped));
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
async fn serve(listener: TcpListener, router: Router, stopped: oneshot::Receiver<()>) {
    let (end, ending) = oneshot::channel::<()>();
    let until = async {
        let _ = ending.await;
    };
    let mut serving = tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(until).into_future());
    tokio::select! {
        ended = &mut serving => {
            tracing::error!(?ended, "the HTTP interface ended by itself");
            return;
        }
        _ = stopped => {}
    }
    drop(end);
    if tokio::time::timeout(STOP_WAIT, serving).await.is_err() {
        tracing::warn!("requests were cut off when the HTTP interface stopped");
    }
}
