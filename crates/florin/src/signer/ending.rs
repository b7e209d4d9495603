//! How a signer ends that is told to: between two requests, its memory settled in one file. It never keeps a process from ending:
//! everything the signer promised is in its memory at any moment, with the log beside the file.

use crate::failure::Failure;
use crate::signals::{self, EndSignals};
use florin_signer::server::{CONNECTION_TIMEOUT, Stop};
use std::sync::Arc;
use std::time::Duration;

/// How long the request that it is at may take to its end: a connection may take its time twice, to send and to take the answer.
const GRACE: Duration = Duration::from_secs(2 * CONNECTION_TIMEOUT.as_secs() + 5);

/// What the server of this process is told to stop by.
///
/// # Errors
/// `signals_failed`.
pub(super) fn stop() -> Result<Arc<Stop>, Failure> {
    Stop::new().map(Arc::new).map_err(signals::failed)
}

/// Ends this process in good order when it is told to by a signal.
///
/// # Errors
/// `signals_failed`.
pub(super) fn on_signals(stop: Arc<Stop>) -> Result<(), Failure> {
    // Before anything is answered.
    let signals = EndSignals::catch()?;
    std::thread::spawn(move || {
        signals.wait();
        end(&stop);
    });
    Ok(())
}

/// Ends this process when standard input does, so that it never outlives whoever started it, however that one ends.
pub(super) fn with_stdin(stop: Arc<Stop>) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        end(&stop);
    });
}

/// Has the server stop after the request that it is at, or ends the process where that takes too long, and says so.
fn end(stop: &Stop) {
    match stop.tell() {
        Ok(()) => std::thread::sleep(GRACE),
        Err(fault) => tracing::error!(%fault, "the signer can't be told to end"),
    }
    tracing::error!("the signer did not end in time: its memory is whole, and its log is not settled");
    std::process::exit(1);
}
