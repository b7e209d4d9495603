//! The terminal at which a secret is typed: it doesn't show what is typed, and is as it was before, however that ends. It never
//! reads what is typed.

use crate::cli::EXIT_INTERRUPTED;
use rustix::process::{Signal, getpgrp};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use std::io::{IsTerminal, Write, stdin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::runtime::Runtime;
use tokio::signal::unix::{self, SignalKind, signal};

/// How long the terminal waits for more of what was pasted, in tenths of a second.
const MORE_TENTHS: u8 = 2;

/// What whoever is told of a signal has to know.
struct Shared {
    /// How the terminal was before it began to hide, while it hides.
    before: Option<Termios>,
    /// Whether signals are watched: they are from the first prompt on, as long as the process lives.
    is_watched: bool,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { before: None, is_watched: false });

fn shared() -> MutexGuard<'static, Shared> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The terminal at standard input, which doesn't show what is typed until this is dropped or a signal ends the process.
#[derive(Debug)]
pub struct Hidden {
    _private: (),
}

impl Hidden {
    /// Has it hide what is typed from now on; `None` where standard input is no terminal.
    ///
    /// # Errors
    /// Where the terminal, or signals, can't be told so: then nobody should type a secret.
    pub fn start() -> std::io::Result<Option<Hidden>> {
        if !stdin().is_terminal() {
            return Ok(None);
        }
        let mut shared = shared();
        if !shared.is_watched {
            watch()?;
            shared.is_watched = true;
        }
        let before = tcgetattr(stdin())?;
        tcsetattr(stdin(), OptionalActions::Now, &without_echo(&before))?;
        shared.before = Some(before);
        Ok(Some(Hidden { _private: () }))
    }

    /// Has it give bytes and not lines while `read` reads, and the end of input once nothing came for 0.2 s: otherwise a last
    /// line without its end would stay.
    pub fn give_bytes(&self, read: impl FnOnce()) {
        let Ok(found) = tcgetattr(stdin()) else { return };
        let mut bytes = found.clone();
        bytes.local_modes.remove(LocalModes::ICANON);
        bytes.special_codes[SpecialCodeIndex::VMIN] = 0;
        bytes.special_codes[SpecialCodeIndex::VTIME] = MORE_TENTHS;
        if tcsetattr(stdin(), OptionalActions::Now, &bytes).is_ok() {
            read();
            set(&found);
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        shared().show();
    }
}

impl Shared {
    /// Puts the terminal back as it was; says whether it hid anything.
    fn show(&mut self) -> bool {
        let before = self.before.take();
        before.as_ref().inspect(|before| set(before)).is_some()
    }
}

fn without_echo(modes: &Termios) -> Termios {
    let mut hidden = modes.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden
}

/// Sets the terminal, unless it is another job's now: a job in the background that touches it is stopped, and would not end.
fn set(modes: &Termios) {
    if !tcgetpgrp(stdin()).is_ok_and(|foreground| foreground != getpgrp()) {
        // A terminal that is gone has nothing to be put back.
        let _ = tcsetattr(stdin(), OptionalActions::Now, modes);
    }
}

/// The signals that end a process, and the one that lets a stopped one go on.
struct Signals {
    ends: Vec<unix::Signal>,
    goes_on: unix::Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Signals> {
        let ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let goes_on = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
        Ok(Signals { ends: ends.into_iter().map(signal).collect::<Result<_, _>>()?, goes_on })
    }

    /// Waits until the process is to end.
    async fn end(&mut self) {
        std::future::poll_fn(|context| {
            while self.goes_on.poll_recv(context).is_ready() {
                // The shell has shown everything again meanwhile.
                if let Some(before) = &shared().before {
                    set(&without_echo(before));
                }
            }
            let mut is_told = false;
            for end in &mut self.ends {
                is_told |= end.poll_recv(context).is_ready();
            }
            if is_told { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

/// Ends the process in order when a signal tells it to. A signal that was caught once is caught as long as the process lives, so
/// that this goes on after the prompt, too.
fn watch() -> std::io::Result<()> {
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _context = runtime.enter();
        Signals::catch()?
    };
    let watch = move || {
        runtime.block_on(signals.end());
        // Held to the end: no other prompt begins to hide.
        let mut shared = shared();
        if shared.show() {
            // The shell's prompt begins a line of its own.
            drop(writeln!(std::io::stderr()));
        }
        std::process::exit(i32::from(EXIT_INTERRUPTED));
    };
    std::thread::Builder::new().name("florin-terminal".to_owned()).spawn(watch).map(drop)
}
