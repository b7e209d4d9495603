//! The signals that tell a process to end, an interrupt and a termination, caught so that it can end in order. It ends nothing
//! itself: what is to happen is for whoever waits here.

use crate::failure::Failure;
use std::io::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both of them, caught: neither ends this process by itself any more, as long as it lives.
pub(crate) struct EndSignals {
    runtime: Runtime,
    told: Told,
}

impl EndSignals {
    /// Catches them; one that comes before it is waited for is kept.
    ///
    /// # Errors
    /// `signals_failed`.
    pub(crate) fn catch() -> Result<EndSignals, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let entered = runtime.enter();
        let told = Told {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        };
        drop(entered);
        Ok(EndSignals { runtime, told })
    }

    /// Waits until one of them comes.
    pub(crate) fn wait(mut self) {
        self.runtime.block_on(self.told.either());
    }

    /// Works until it is done, or until one of them comes: then it is not waited for any more, and there is no answer.
    ///
    /// # Errors
    /// `internal` where the work panics.
    pub(crate) fn unless_told<T: Send + 'static>(
        mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Failure> {
        let done = self.runtime.block_on(async {
            tokio::select! {
                done = tokio::task::spawn_blocking(work) => Some(done),
                () = self.told.either() => None,
            }
        });
        self.runtime.shutdown_background();
        done.transpose().map_err(|_| Failure::new("internal", "a defect of this program"))
    }
}

struct Told {
    interrupt: Signal,
    terminate: Signal,
}

impl Told {
    async fn either(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What is said where signals, or whatever else tells a process to end, can't be waited for.
pub(crate) fn failed(fault: Error) -> Failure {
    Failure::new("signals_failed", "signals can't be waited for").because(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_nobody_breaks_off_gives_its_answer_and_its_panic_is_a_failure() {
        let signals = || EndSignals::catch().expect("signals");
        assert_eq!(signals().unless_told(|| 7).expect("an answer"), Some(7));
        let failure = signals().unless_told(|| panic!("a defect")).expect_err("no answer");
        assert_eq!(failure.code(), "internal");
    }
}
