//! Panics, told to the log as one record each and not as text of the runtime's own. It catches nothing and ends nothing, and it keeps the
//! words of a panic to itself where they might hold a secret.

use florin_engine::caught;
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::subscriber::NoSubscriber;

/// Whether words that were made of values are kept back.
static KEEPS_WORDS: AtomicBool = AtomicBool::new(false);

/// What stands in the place of words that are kept back.
const WORDS_KEPT: &str = "its words are not told, because this process handles secrets";

/// From now on every panic of this process is one record of the log, with its place, and with a backtrace where `RUST_BACKTRACE` asks for one.
/// One that is caught on purpose is told by whoever answers for it, who gets its place as well, and is a record at `debug` only.
pub fn install() {
    std::panic::set_hook(Box::new(tell));
}

/// Tells no words of a panic any more but those that stand in the source: this process holds keys or passphrases.
pub fn keep_words() {
    KEEPS_WORDS.store(true, Ordering::Relaxed);
}

/// Which words of a panic are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    All,
    OfTheSource,
}

fn tell(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let told = if KEEPS_WORDS.load(Ordering::Relaxed) { Words::OfTheSource } else { Words::All };
    let what = words(panic.payload(), told);
    if caught::is_catching() {
        panic.location().into_iter().for_each(caught::note_place);
        return tracing::debug!(thread, location, what, "a panic, which is answered as an error");
    }
    if tracing::dispatcher::get_default(|log| log.is::<NoSubscriber>()) {
        // Before there is a log. Where even this can't be written, the exit code says it.
        drop(writeln!(std::io::stderr(), "error[internal]: a defect of this program: {what}, at {location}"));
        return;
    }
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(thread, location, what, backtrace, "a panic: a defect of this program");
}

/// What a panic says. A text of the source is no secret; one that was made of values may be.
fn words(payload: &(dyn Any + Send), told: Words) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>(), told) {
        (Some(text), _, _) => text,
        (None, Some(text), Words::All) => text,
        (None, Some(_), Words::OfTheSource) => WORDS_KEPT,
        (None, None, _) => "no message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, Mutex, PoisonError};
    use tracing_subscriber::fmt::MakeWriter;

    /// What is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Log;
        fn make_writer(&'a self) -> Log {
            self.clone()
        }
    }

    /// The records of what `work` logs up to this level.
    fn logged(level: tracing::Level, work: impl FnOnce()) -> Vec<Value> {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().json().with_max_level(level).with_writer(log.clone()).finish();
        let before = std::panic::take_hook();
        install();
        // Its panic is looked at in the log.
        drop(tracing::subscriber::with_default(subscriber, || catch_unwind(AssertUnwindSafe(work))));
        std::panic::set_hook(before);
        let bytes = log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8(bytes).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn a_panic_is_one_record_and_one_that_is_answered_is_none() {
        let line = line!() + 1;
        let records = logged(tracing::Level::INFO, || panic!("a row {}\nof two lines", 7));
        assert_eq!(records.len(), 1, "{records:?}");
        let fields = &records[0]["fields"];
        assert_eq!((&records[0]["level"], &fields["what"]), (&"ERROR".into(), &"a row 7\nof two lines".into()));
        let location = fields["location"].as_str().expect("a location");
        assert!(location.contains(&format!("panics.rs:{line}:")), "{location}");
        assert_eq!(fields["backtrace"].is_string(), Backtrace::capture().status() == BacktraceStatus::Captured);
        let line = line!() + 3;
        let answered = || {
            // The place goes with the words to whoever answers: nobody else tells it.
            let answer = caught::caught(|| panic!("a rule"));
            assert_eq!(answer, Err::<(), _>(format!("a rule, at {}:{line}", file!())));
        };
        assert_eq!(logged(tracing::Level::INFO, answered), Vec::<Value>::new());
        let records = logged(tracing::Level::DEBUG, answered);
        assert_eq!((records.len(), &records[0]["fields"]["what"]), (1, &"a rule".into()));
    }

    #[test]
    fn a_process_with_secrets_tells_only_words_of_the_source() {
        let (of_values, of_source) = (String::from("abandon ability"), "a seed has 64 bytes");
        assert_eq!(words(&of_values, Words::All), "abandon ability");
        assert_eq!(words(&of_values, Words::OfTheSource), WORDS_KEPT);
        assert_eq!(words(&of_source, Words::OfTheSource), of_source);
        assert_eq!(words(&7_u8, Words::All), "no message");
    }
}
