//! The signer's process in the simulation: the real session over a real memory in files, which dies before, while and after it writes and starts again from what its files held at that moment. It never decides anything.

use crate::chaos::{Chaos, Edge};
use crate::ports::{SimClock, Simulated, lock};
use crate::world::PLATFORM;
use florin::signing::Transport;
use florin_core::id::{Digest, LedgerTime};
use florin_engine::ports::SignerFault;
use florin_signer::keystore::KeyStore;
use florin_signer::memory::Memory;
use florin_signer::policy::Policy;
use florin_signer::protocol::{
    CheckpointHead, Fence, Hello, KnownRow, MemoryHead, Outcome, PROTOCOL, Reply, Request, StatusWanted, Welcome,
};
use florin_signer::session::Signer;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How the next question to the signer fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignerTrouble {
    /// It never hears the question.
    Unheard,
    /// It has died, and is not back.
    Away,
    /// It answers, and the answer is lost.
    LostReply,
    /// Its process dies when it hears the question.
    DiesBefore,
    /// Its process dies with a part of its decision written.
    DiesWithin,
    /// Its process dies with its decision durable, before it answers.
    DiesAfter,
    /// An old copy of its memory was put in place and written on: it answers from that, until the whole one is put back.
    OldMemory,
}

/// A folder that is gone with its owner.
struct Home(PathBuf);

impl Home {
    /// A folder of its own, in memory where the machine has such a place: only its owner's process has to outlive anything.
    fn new() -> io::Result<Home> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let shared = Path::new("/dev/shm");
        let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("florin-sim-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Home(folder))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A folder that stays behind costs room and nothing else.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The log beside a memory's file.
fn log_of(path: &Path) -> PathBuf {
    path.with_extension("db-wal")
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// The signer's process, which outlives the platform's and dies for itself.
pub struct SignerProcess {
    /// Absent only where it can't start again: then the run has failed.
    signer: Option<Signer>,
    keys: KeyStore,
    policy: Policy,
    path: PathBuf,
    starts: u64,
    /// What it has decided durably, as far as anybody but its files knows.
    head: Option<MemoryHead>,
    wrong: Option<String>,
    /// Its memory as it was once, copied away.
    backup: Option<(PathBuf, MemoryHead)>,
    home: Home,
}

impl SignerProcess {
    /// Starts with an empty memory.
    ///
    /// # Panics
    /// Where the machine has no room for it.
    pub fn new(keys: KeyStore, policy: Policy) -> SignerProcess {
        let home = Home::new().expect("there is a place for the signer's files");
        let path = home.0.join("memory-0.db");
        let memory = Memory::create(&path, PLATFORM).expect("a fresh folder takes a fresh memory");
        let signer = Some(Signer::new(&keys, policy.clone(), memory).expect("the signer starts"));
        SignerProcess { signer, keys, policy, path, starts: 1, head: None, wrong: None, backup: None, home }
    }

    /// What is wrong with it, if anything.
    pub fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    fn handle(&mut self, request: &Request, clock: LedgerTime) -> Result<Reply, SignerFault> {
        let gone = || SignerFault::Transport(Box::new(Simulated("the signer does not run")));
        let reply = self.signer.as_mut().ok_or_else(gone)?.handle(request, clock);
        let reply = reply.map_err(|fault| SignerFault::Transport(Box::new(fault)))?;
        self.head = Some(reply.head);
        Ok(reply)
    }

    /// The process dies as it is, and another one starts with the files as they are: of the log only the first bytes, where not
    /// all of it had been written.
    fn restart(&mut self, log_size: u64) {
        let next = self.home.0.join(format!("memory-{}.db", self.starts));
        self.starts += 1;
        // What is open is copied before it is closed: closing tidies up, and dying does not.
        let copied = self.copy(&next, log_size);
        self.signer = None;
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(log_of(&self.path));
        self.path = next;
        let memory = match copied.map(|()| Memory::open(&self.path, PLATFORM)) {
            Ok(Ok(memory)) => memory,
            Ok(Err(fault)) => return self.fail(format!("the signer's memory does not open after its death: {fault}")),
            Err(fault) => return self.fail(format!("the signer's files can't be copied: {fault}")),
        };
        match Signer::new(&self.keys, self.policy.clone(), memory) {
            Ok(signer) => self.signer = Some(signer),
            Err(fault) => self.fail(format!("the signer does not start again: {fault}")),
        }
    }

    fn copy(&self, next: &Path, log_size: u64) -> io::Result<()> {
        std::fs::copy(&self.path, next)?;
        let log = log_of(&self.path);
        if log.exists() {
            std::fs::copy(&log, log_of(next))?;
            let file = std::fs::OpenOptions::new().write(true).open(log_of(next))?;
            file.set_len(log_size.min(size(&log)))?;
        }
        Ok(())
    }

    fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// Whether the old copy of the memory has all that the asker knows of.
    fn knew_as_much(&self, request: &Request) -> bool {
        let known = request.memory().map_or(0, |known| known.counter);
        self.backup.as_ref().is_some_and(|(_, old)| known <= old.counter)
    }

    /// Answers from an old copy of the memory that somebody has written on since. Nobody who knows more may believe it. Says what
    /// happened, and the answer, where there is an old copy to answer from; before that one is made.
    fn answer_from_old(
        &mut self,
        request: &Request,
        clock: LedgerTime,
        draw: u64,
    ) -> io::Result<(&'static str, Option<Reply>)> {
        let Some((copy, old)) = self.backup.clone() else {
            let copy = self.home.0.join("backup.db");
            self.copy(&copy, u64::MAX)?;
            self.backup = self.look(clock).map(|head| (copy, head));
            return Ok(("the signer's memory is copied", None));
        };
        let Some(known) = request.memory().filter(|known| known.counter > old.counter) else {
            return Ok(("the signer's old memory lacks nothing", None));
        };
        let path = self.home.0.join("old.db");
        std::fs::copy(&copy, &path)?;
        if log_of(&copy).exists() {
            std::fs::copy(log_of(&copy), log_of(&path))?;
        }
        let answered = Memory::open(&path, PLATFORM)
            .map_err(io::Error::other)
            .and_then(|memory| Signer::new(&self.keys, self.policy.clone(), memory).map_err(io::Error::other))
            .and_then(|mut signer| {
                // It falls short of what is known, comes level, or is past it.
                for _ in 0..draw % (2 * (known.counter - old.counter) + 2) {
                    decide(&mut signer, clock)?;
                }
                signer.handle(request, clock).map_err(io::Error::other)
            });
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_file(log_of(&path));
        let reply = answered?;
        if reply.check(&known).is_ok() || !matches!(reply.outcome, Outcome::Refused(_)) {
            self.fail(format!("an old memory is believed: {reply:?} by one who knows {known:?}"));
        }
        Ok(("fault signer answers with an old memory", Some(reply)))
    }

    /// What the memory says of itself.
    fn look(&mut self, clock: LedgerTime) -> Option<MemoryHead> {
        let hello = Request::Hello(Hello { protocol: PROTOCOL });
        self.signer.as_mut()?.handle(&hello, clock).ok().map(|reply| reply.head)
    }

    /// After a restart it knows all that it had decided: `wanted` at least.
    fn hold(&mut self, wanted: Option<MemoryHead>, clock: LedgerTime) {
        let status = Request::Status(StatusWanted { memory: wanted });
        let Some(found) = self.signer.as_mut().and_then(|signer| signer.handle(&status, clock).ok()) else {
            return self.fail("the signer does not say after a restart what it remembers".into());
        };
        if let Some(Err(doubt)) = wanted.map(|wanted| found.check(&wanted)) {
            self.fail(format!("the signer has forgotten a decision over a restart: {doubt}"));
        }
        self.head = Some(found.head);
    }

    /// Hears a question and dies over it. Says what happened.
    fn die(&mut self, trouble: SignerTrouble, request: &Request, clock: LedgerTime, draw: u64) -> &'static str {
        let before = self.head;
        if trouble == SignerTrouble::DiesBefore {
            self.restart(u64::MAX);
            self.hold(before, clock);
            return "fault signer dies before its write";
        }
        let log = log_of(&self.path);
        let size_before = size(&log);
        let answered = self.handle(request, clock);
        let after = self.head;
        let size_after = size(&log);
        if trouble == SignerTrouble::DiesWithin && size_after > size_before {
            // Between nothing and all but the last byte of what was written: no decision is durable before its last byte is.
            self.restart(size_before + draw % (size_after - size_before));
            self.hold(before, clock);
            return "fault signer dies within its write";
        }
        self.restart(u64::MAX);
        self.hold(after, clock);
        if answered.is_ok() && after.map(|head| head.counter) > before.map(|head| head.counter) {
            "fault signer dies after its write"
        } else {
            "fault signer dies without a write"
        }
    }
}

/// Has a signer decide something for somebody who does not know what it decided before.
fn decide(signer: &mut Signer, clock: LedgerTime) -> io::Result<()> {
    let hello = signer.handle(&Request::Hello(Hello { protocol: PROTOCOL }), clock).map_err(io::Error::other)?;
    let Outcome::Welcome(Welcome { highest: Some(highest), .. }) = hello.outcome else { return Ok(()) };
    let fence = Fence { seq: highest.seq.next(), head: Digest([8; 32]), ..highest };
    let known = Some(KnownRow { seq: highest.seq, hash: highest.head });
    let head = Request::CheckpointHead(CheckpointHead { fence, known, memory: None });
    signer.handle(&head, clock).map(drop).map_err(io::Error::other)
}

/// The signer as a process of the platform reaches it.
#[derive(Clone)]
pub struct SignerLink {
    /// The signer.
    pub process: Arc<Mutex<SignerProcess>>,
    /// What befalls the next questions, each with a number that says where in it.
    pub troubles: Arc<Mutex<VecDeque<(SignerTrouble, u64)>>>,
    /// The signer's clock.
    pub clock: SimClock,
    /// The process that asks.
    pub chaos: Chaos,
    /// What it refused, by code.
    pub refused: Arc<Mutex<Vec<&'static str>>>,
    /// What befell it, as it is counted.
    pub struck: Arc<Mutex<Vec<&'static str>>>,
}

impl SignerLink {
    /// What befalls this question. Who dies over a decision waits for a question that brings one, and who forgets one for a question
    /// by somebody who knows of it.
    fn trouble(&self, request: &Request) -> Option<(SignerTrouble, u64)> {
        let mut troubles = lock(&self.troubles);
        let (trouble, _) = troubles.front()?;
        let needs_decision = matches!(trouble, SignerTrouble::DiesWithin | SignerTrouble::DiesAfter);
        let brings_one = matches!(request, Request::SignPlan(_) | Request::VoidPlan(_) | Request::CheckpointHead(_));
        let forgets_nothing = *trouble == SignerTrouble::OldMemory && lock(&self.process).knew_as_much(request);
        if (needs_decision && !brings_one) || forgets_nothing { None } else { troubles.pop_front() }
    }
}

impl Transport for SignerLink {
    fn ask(&mut self, request: &Request) -> Result<Reply, SignerFault> {
        let gone = |what| SignerFault::Transport(Box::new(Simulated(what)));
        if !self.chaos.pass("signer call", Edge::Before) {
            return Err(gone("the process died before it asked"));
        }
        let trouble = self.trouble(request);
        let clock = LedgerTime(self.clock.now_ms());
        match trouble {
            Some((SignerTrouble::Unheard, _)) => {
                lock(&self.struck).push("fault signer unheard");
                return Err(SignerFault::Timeout);
            }
            Some((SignerTrouble::Away, _)) => {
                lock(&self.struck).push("the signer is not back from its death");
                return Err(SignerFault::Timeout);
            }
            Some((
                death @ (SignerTrouble::DiesBefore | SignerTrouble::DiesWithin | SignerTrouble::DiesAfter),
                draw,
            )) => {
                let how = lock(&self.process).die(death, request, clock, draw);
                lock(&self.struck).push(how);
                return Err(gone("the signer died"));
            }
            Some((SignerTrouble::OldMemory, draw)) => {
                let mut process = lock(&self.process);
                match process.answer_from_old(request, clock, draw) {
                    Ok((how, reply)) => {
                        lock(&self.struck).push(how);
                        if let Some(reply) = reply {
                            return Ok(reply);
                        }
                    }
                    Err(fault) => process.fail(format!("the signer's old memory can't be put back: {fault}")),
                }
            }
            Some((SignerTrouble::LostReply, _)) | None => {}
        }
        let reply = lock(&self.process).handle(request, clock)?;
        if let Outcome::Refused(refusal) = &reply.outcome {
            lock(&self.refused).push(refusal.reason.code());
        }
        if !self.chaos.pass("signer call", Edge::After) {
            return Err(gone("the process died after it asked"));
        }
        if matches!(trouble, Some((SignerTrouble::LostReply, _))) {
            lock(&self.struck).push("fault signer lost reply");
            return Err(SignerFault::Timeout);
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_chain::bitcoin::mnemonic::Mnemonic;
    use florin_core::id::{Epoch, Seq};

    const CLOCK: LedgerTime = LedgerTime(1_000);

    /// A question whose answer is a durable decision.
    fn checkpoint(process: &mut SignerProcess, row: u64) -> Request {
        let fence = Fence { platform: PLATFORM, epoch: Epoch(1), seq: Seq(row), head: Digest([7; 32]), time: CLOCK };
        let hello = Request::Hello(Hello { protocol: PROTOCOL });
        let reply = process.signer.as_mut().and_then(|signer| signer.handle(&hello, CLOCK).ok());
        let Some(Outcome::Welcome(welcome)) = reply.map(|reply| reply.outcome) else { panic!("it greets") };
        let known = welcome.highest.map(|fence| KnownRow { seq: fence.seq, hash: fence.head });
        Request::CheckpointHead(CheckpointHead { fence, known, memory: None })
    }

    fn process() -> SignerProcess {
        let phrase = Mnemonic::from_entropy(&[9; 32]).expect("32 bytes are enough");
        SignerProcess::new(KeyStore::demo(phrase.seed("")), crate::world::signer_policy_for_tests())
    }

    fn counter(process: &mut SignerProcess) -> u64 {
        process.look(CLOCK).expect("it runs").counter
    }

    #[test]
    fn each_death_leaves_what_was_durable_and_nothing_more() {
        let mut process = process();
        let mut row = 0;
        for (trouble, what, added) in [
            (SignerTrouble::DiesBefore, "fault signer dies before its write", 0),
            (SignerTrouble::DiesWithin, "fault signer dies within its write", 0),
            (SignerTrouble::DiesAfter, "fault signer dies after its write", 1),
        ] {
            for draw in [0, 1, 31, 4_095, u64::MAX - 1] {
                row += 1;
                let asked = checkpoint(&mut process, row);
                process.handle(&asked, CLOCK).expect("it answers");
                let before = counter(&mut process);
                row += 1;
                let asked = checkpoint(&mut process, row);
                assert_eq!(process.die(trouble, &asked, CLOCK, draw), what);
                assert_eq!((counter(&mut process) - before, process.wrong()), (added, None), "{trouble:?} at {draw}");
            }
        }
        let asked = checkpoint(&mut process, row);
        assert_eq!(process.die(SignerTrouble::DiesAfter, &asked, CLOCK, 0), "fault signer dies without a write");
    }

    #[test]
    fn a_memory_that_forgets_is_told() {
        let mut process = process();
        let asked = checkpoint(&mut process, 1);
        process.handle(&asked, CLOCK).expect("it answers");
        let told = process.head;
        // Nothing of the log is left.
        process.restart(0);
        process.hold(told, CLOCK);
        assert!(process.wrong().is_some());
    }

    #[test]
    fn an_old_memory_is_told_by_who_knows_more_whatever_was_written_on_it() {
        let mut process = process();
        let ask = |process: &mut SignerProcess, row| {
            let asked = checkpoint(process, row);
            process.handle(&asked, CLOCK).expect("it answers").head
        };
        let old = ask(&mut process, 1);
        let status = |head| Request::Status(StatusWanted { memory: Some(head) });
        let answer = |process: &mut SignerProcess, head, draw| {
            process.answer_from_old(&status(head), CLOCK, draw).expect("the files can be copied")
        };
        assert_eq!(answer(&mut process, old, 0).0, "the signer's memory is copied");
        assert_eq!(answer(&mut process, old, 0), ("the signer's old memory lacks nothing", None));
        let known = (2..5).map(|row| ask(&mut process, row)).last().expect("three");
        for draw in 0..8 {
            let (how, reply) = answer(&mut process, known, draw);
            assert_eq!((how, process.wrong()), ("fault signer answers with an old memory", None));
            let reply = reply.expect("it answers");
            assert_eq!(reply.head.counter, old.counter + draw);
            let doubt = if draw < 3 { "signer_memory_behind" } else { "signer_memory_conflict" };
            assert_eq!(reply.check(&known).map_err(|doubt| doubt.code()), Err(doubt), "{draw}");
            assert_eq!(process.look(CLOCK), Some(known), "the whole one is as it was");
        }
    }

    #[test]
    fn its_files_go_with_it() {
        let process = process();
        let folder = process.home.0.clone();
        assert!(folder.is_dir());
        drop(process);
        assert!(!folder.exists());
    }
}
