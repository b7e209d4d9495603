//! How a signer ends that is told to: between two requests, its memory settled in one file. It never keeps a process from ending:
//! everything the signer promised is in its memory at any moment, with the log beside the file.

use crate::failure::Failure;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long a request may take to its end, once the process is told to end: longer than a connection may take to send one.
const GRACE: Duration = Duration::from_secs(15);

/// Set when the process is told to end.
pub(super) static TOLD: AtomicBool = AtomicBool::new(false);

/// Where this process listens.
static SOCKET: OnceLock<PathBuf> = OnceLock::new();

/// Ends this process in good order when it is told to by a signal; `socket` is where it listens, now or soon.
///
/// # Errors
/// `signals_failed`.
pub(super) fn on_signals(socket: &Path) -> Result<(), Failure> {
    // One process has one socket.
    let _ = SOCKET.set(socket.to_path_buf());
    let failed = |fault| Failure::new("signals_failed", "signals can't be waited for").because(fault);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let entered = runtime.enter();
    // Both are caught before anything is answered.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        end();
    });
    Ok(())
}

/// Ends this process when standard input does, so that it never outlives whoever started it, however that one ends.
pub(super) fn with_stdin() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        end();
    });
}

/// Has the server stop after the request that it is at, or ends the process where that takes too long.
fn end() {
    TOLD.store(true, Ordering::Release);
    // The server looks when a connection comes.
    if let Some(socket) = SOCKET.get() {
        drop(UnixStream::connect(socket));
    }
    std::thread::sleep(GRACE);
    std::process::exit(0);
}
