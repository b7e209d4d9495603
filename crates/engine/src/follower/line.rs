//! A line to a node, for those who must not be held up by it: questions are asked on threads of their own, and a node that hung
//! is left alone by all who ask it until it answers again. It judges nothing that a node says, and asks nothing twice.
//!
//! How long a question may take is the node's port to bound; an answer that comes late in this sense is [`NodeFault::Timeout`].
//! What takes long by nature, whole blocks and the list of a mempool, is asked aside: whoever asked goes on, and takes the
//! answer the next time he asks the same.

use crate::ports::{Node, NodeFault, NodeInfo, SendResult, TestAccept};
use florin_core::id::{BlockHash, Height, TxId};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a node that hung for the second time is left alone; doubled each time, so that one that answers by turns takes
/// ever less of everyone's time.
const REST_MIN: Duration = Duration::from_secs(10);
/// The longest rest: shorter than any silence that stops an asset, so that a node that is back is heard before.
const REST_MAX: Duration = Duration::from_secs(5 * 60);
/// After how long a hang is forgotten: longer than the longest rest, or no rest would ever follow another.
const FORGIVEN: Duration = Duration::from_secs(10 * 60);
/// How often a resting node is asked whether it answers again.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// How often whoever waits for an answer looks whether waiting is over: this long a stop may be held up.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a block is waited for at first. Most come within it; then another node is asked, and this one's answer taken later.
const BLOCK_WAIT: Duration = Duration::from_secs(10);
/// The same for what waits in a mempool, which nothing waits for: a node nearby answers at once.
const MEMPOOL_WAIT: Duration = Duration::from_millis(100);

/// Makes a connection to a node.
pub type Connect = Arc<dyn Fn() -> Box<dyn Node> + Send + Sync>;

/// What is asked of a node, as far as one may hang and others not. A node that hangs at the first rests as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Chain,
    Block,
    Mempool,
    Transaction,
    Send,
    Fee,
}

/// What a node hung at.
#[derive(Debug)]
struct Rest {
    /// It lasts at least until then. Whatever was asked before belongs to the same hang.
    until: Instant,
    /// Whether it lasts until the node was heard.
    is_probed: bool,
    /// How many there were in a row.
    count: u32,
    hung: Instant,
}

#[derive(Debug, Default)]
struct Standing {
    is_closed: bool,
    rests: BTreeMap<Kind, Rest>,
}

impl Standing {
    fn is_resting(&self, kind: Kind, now: Instant) -> bool {
        let rests = |kind| self.rests.get(&kind).is_some_and(|rest| rest.is_probed || now < rest.until);
        rests(Kind::Chain) || rests(kind)
    }
}

/// What all who ask one node know of its silence.
#[derive(Debug, Clone, Default)]
pub struct Rests(Arc<(Mutex<Standing>, Condvar)>);

impl Rests {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every wait for the node, now and from now on: nobody stops later because of it.
    pub fn close(&self) {
        self.standing().is_closed = true;
        self.0.1.notify_all();
    }

    fn is_closed(&self) -> bool {
        self.standing().is_closed
    }

    fn allows(&self, kind: Kind) -> bool {
        let standing = self.standing();
        !standing.is_closed && !standing.is_resting(kind, Instant::now())
    }

    /// Notes that a question hung which was asked at `asked`; says whether the asker is to listen for the node from now on.
    fn hung(&self, kind: Kind, asked: Instant) -> bool {
        let (mut standing, now) = (self.standing(), Instant::now());
        let last = standing.rests.get(&kind);
        if last.is_some_and(|rest| rest.is_probed || asked < rest.until) {
            return false;
        }
        let recent = last.filter(|rest| now.duration_since(rest.hung) < FORGIVEN);
        let count = recent.map_or(1, |rest| rest.count.saturating_add(1));
        let is_probed = kind == Kind::Chain;
        standing.rests.insert(kind, Rest { until: now + rest_of(count, is_probed), is_probed, count, hung: now });
        is_probed
    }

    /// The node was heard again. Says whether its rest is over.
    fn heard(&self) -> bool {
        let (mut standing, now) = (self.standing(), Instant::now());
        let Some(rest) = standing.rests.get_mut(&Kind::Chain) else { return true };
        if now < rest.until {
            return false;
        }
        (rest.is_probed, rest.until) = (false, now);
        true
    }

    /// Nobody listens for the node any more: whoever asks next finds out how it stands.
    fn give_up(&self) {
        if let Some(rest) = self.standing().rests.get_mut(&Kind::Chain) {
            rest.is_probed = false;
        }
    }

    fn pause(&self, duration: Duration) {
        let standing = self.standing();
        drop(self.0.1.wait_timeout_while(standing, duration, |standing| !standing.is_closed));
    }

    /// Waits for an answer, at most until `deadline` or until waiting makes no sense any more.
    fn receive<T>(&self, told: &Receiver<T>, kind: Kind, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match told.recv_timeout(left.map_or(LOOK_AGAIN, |left| left.min(LOOK_AGAIN))) {
                Err(RecvTimeoutError::Timeout) if left.is_none_or(|left| !left.is_zero()) && self.allows(kind) => {}
                answer => return answer,
            }
        }
    }
}

/// How long to leave a node alone that hung so often. One that is listened for is asked again as soon as it was heard; a
/// single hang may be a moment's, or this machine's own.
fn rest_of(count: u32, is_probed: bool) -> Duration {
    match count - u32::from(is_probed && count > 0) {
        0 => Duration::ZERO,
        doublings => REST_MIN.saturating_mul(1 << (doublings - 1).min(20)).min(REST_MAX),
    }
}

/// One question on the line's thread; says whether the node is to be listened for after it.
type Job = Box<dyn FnOnce(&mut dyn Node) -> bool + Send>;

/// A node that is asked through threads of its own. See the module.
pub struct Line {
    connect: Connect,
    rests: Rests,
    jobs: Sender<Job>,
    /// Whether the last question was not answered yet, though its asker has given up.
    is_busy: Arc<AtomicBool>,
    /// While the line is there, its thread is.
    _here: Arc<()>,
    /// What was asked by [`Node::prepare`].
    info: Option<Receiver<Result<NodeInfo, NodeFault>>>,
    block: Aside<BlockHash, Option<Vec<u8>>>,
    mempool: Aside<(), Option<Vec<TxId>>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Line({:?})", self.rests)
    }
}

impl Line {
    /// A line to the node that `connect` reaches; what is known of its silence is shared through `rests`.
    pub fn open(connect: Connect, rests: Rests) -> Line {
        let (jobs, waiting) = mpsc::channel();
        let here = Arc::new(());
        let thread = {
            let (connect, rests, here) = (Arc::clone(&connect), rests.clone(), Arc::downgrade(&here));
            move || serve(connect().as_mut(), &waiting, &rests, &here)
        };
        let builder = std::thread::Builder::new().name("node line".to_owned());
        builder.spawn(thread).expect("the operating system has room for a thread when the process starts");
        let (is_busy, info) = (Arc::default(), None);
        let (block, mempool) = (Aside::default(), Aside::default());
        Line { connect, rests, jobs, is_busy, _here: here, info, block, mempool }
    }

    /// Hands a question to the line's thread; `None` where the node is not to be asked now.
    fn begin<T: Send + 'static>(
        &mut self,
        kind: Kind,
        question: impl FnOnce(&mut dyn Node) -> Result<T, NodeFault> + Send + 'static,
    ) -> Option<Receiver<Result<T, NodeFault>>> {
        if !self.rests.allows(kind) || self.is_busy.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (tell, told) = mpsc::channel();
        let (rests, is_busy, asked) = (self.rests.clone(), Arc::clone(&self.is_busy), Instant::now());
        let job: Job = Box::new(move |node| {
            let answer = catch_unwind(AssertUnwindSafe(|| question(node))).unwrap_or_else(|_| Err(panicked()));
            let listens = matches!(answer, Err(NodeFault::Timeout)) && rests.hung(kind, asked);
            is_busy.store(false, Ordering::Release);
            // Whoever asked may have given up.
            drop(tell.send(answer));
            listens
        });
        self.jobs.send(job).ok().map(|()| told)
    }

    fn ask<T: Send + 'static>(
        &mut self,
        kind: Kind,
        question: impl FnOnce(&mut dyn Node) -> Result<T, NodeFault> + Send + 'static,
    ) -> Result<T, NodeFault> {
        let told = self.begin(kind, question).ok_or(NodeFault::Timeout)?;
        self.rests.receive(&told, kind, None).unwrap_or(Err(NodeFault::Timeout))
    }
}

fn panicked() -> NodeFault {
    NodeFault::Malformed { what: "the connection's code panicked on it".to_owned() }
}

/// The line's thread.
fn serve(node: &mut dyn Node, jobs: &Receiver<Job>, rests: &Rests, here: &Weak<()>) {
    while let Ok(job) = jobs.recv() {
        if job(node) {
            listen(node, rests, here);
        }
    }
}

/// Asks a node that hung where it stands, until it answers or nobody wants to know.
fn listen(node: &mut dyn Node, rests: &Rests, here: &Weak<()>) {
    while here.strong_count() > 0 && !rests.is_closed() {
        let info = catch_unwind(AssertUnwindSafe(|| node.info())).unwrap_or_else(|_| Err(panicked()));
        if !matches!(info, Err(NodeFault::Timeout)) && rests.heard() {
            return;
        }
        rests.pause(PROBE_PAUSE);
    }
    rests.give_up();
}

/// An answer, and the connection over which it came.
type Returned<T> = (Box<dyn Node>, Result<T, NodeFault>);

/// A connection of its own for what takes long, and what is asked over it. Its thread lives as long as the question.
struct Aside<K, T> {
    node: Option<Box<dyn Node>>,
    under_way: Option<(K, Receiver<Returned<T>>)>,
}

impl<K, T> Default for Aside<K, T> {
    fn default() -> Aside<K, T> {
        Aside { node: None, under_way: None }
    }
}

impl<K: Copy + PartialEq, T: Default + Send + 'static> Aside<K, T> {
    /// The answer to this question, asked now or before; nothing, as the type has it, while it is under way. One that nobody
    /// wants any more stands in the way until it has ended.
    fn ask(
        &mut self,
        key: K,
        (kind, wait): (Kind, Duration),
        (rests, connect): (&Rests, &Connect),
        question: impl FnOnce(&mut dyn Node) -> Result<T, NodeFault> + Send + 'static,
    ) -> Result<T, NodeFault> {
        if let Some((of, told)) = self.under_way.take() {
            match told.try_recv() {
                Ok((node, answer)) => {
                    self.node = Some(node);
                    if of == key {
                        return answer;
                    }
                }
                Err(mpsc::TryRecvError::Empty) => {
                    self.under_way = Some((of, told));
                    return Ok(T::default());
                }
                Err(mpsc::TryRecvError::Disconnected) => return Err(panicked()),
            }
        }
        if !rests.allows(kind) {
            return Err(NodeFault::Timeout);
        }
        let (tell, told) = mpsc::channel();
        let mut node = self.node.take().unwrap_or_else(|| connect());
        let (shared, asked) = (rests.clone(), Instant::now());
        let thread = move || {
            let answer = question(node.as_mut());
            if matches!(answer, Err(NodeFault::Timeout)) {
                shared.hung(kind, asked);
            }
            drop(tell.send((node, answer)));
        };
        let builder = std::thread::Builder::new().name("node aside".to_owned());
        builder.spawn(thread).map_err(|fault| NodeFault::Transport(Box::new(fault)))?;
        match rests.receive(&told, kind, Some(asked + wait)) {
            Ok((node, answer)) => {
                self.node = Some(node);
                answer
            }
            Err(RecvTimeoutError::Timeout) => {
                self.under_way = Some((key, told));
                Ok(T::default())
            }
            Err(RecvTimeoutError::Disconnected) => Err(panicked()),
        }
    }
}

impl Node for Line {
    fn prepare(&mut self) {
        if self.info.is_none() {
            self.info = self.begin(Kind::Chain, |node| node.info());
        }
    }

    fn info(&mut self) -> Result<NodeInfo, NodeFault> {
        self.prepare();
        let told = self.info.take().ok_or(NodeFault::Timeout)?;
        self.rests.receive(&told, Kind::Chain, None).unwrap_or(Err(NodeFault::Timeout))
    }

    fn block_hash(&mut self, height: Height) -> Result<Option<BlockHash>, NodeFault> {
        self.ask(Kind::Chain, move |node| node.block_hash(height))
    }

    fn header(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
        self.ask(Kind::Chain, move |node| node.header(hash))
    }

    fn block(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
        let question = move |node: &mut dyn Node| node.block(hash);
        self.block.ask(hash, (Kind::Block, BLOCK_WAIT), (&self.rests, &self.connect), question)
    }

    fn mempool(&mut self) -> Result<Option<Vec<TxId>>, NodeFault> {
        let question = |node: &mut dyn Node| node.mempool();
        self.mempool.ask((), (Kind::Mempool, MEMPOOL_WAIT), (&self.rests, &self.connect), question)
    }

    fn transaction(&mut self, txid: TxId, block: Option<BlockHash>) -> Result<Option<Vec<u8>>, NodeFault> {
        self.ask(Kind::Transaction, move |node| node.transaction(txid, block))
    }

    fn send(&mut self, transaction: &[u8]) -> Result<SendResult, NodeFault> {
        let transaction = transaction.to_vec();
        self.ask(Kind::Send, move |node| node.send(&transaction))
    }

    fn test_accept(&mut self, transaction: &[u8]) -> Result<TestAccept, NodeFault> {
        let transaction = transaction.to_vec();
        self.ask(Kind::Send, move |node| node.test_accept(&transaction))
    }

    fn fee_estimate(&mut self, blocks: u16) -> Result<Option<u64>, NodeFault> {
        self.ask(Kind::Fee, move |node| node.fee_estimate(blocks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that does nothing: what is asked over it is in the question.
    struct Nothing;

    impl Node for Nothing {
        fn info(&mut self) -> Result<NodeInfo, NodeFault> {
            Err(NodeFault::Forbidden)
        }
        fn block_hash(&mut self, _: Height) -> Result<Option<BlockHash>, NodeFault> {
            Err(NodeFault::Forbidden)
        }
        fn header(&mut self, _: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
            Err(NodeFault::Forbidden)
        }
        fn block(&mut self, _: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
            Err(NodeFault::Forbidden)
        }
        fn mempool(&mut self) -> Result<Option<Vec<TxId>>, NodeFault> {
            Err(NodeFault::Forbidden)
        }
        fn transaction(&mut self, _: TxId, _: Option<BlockHash>) -> Result<Option<Vec<u8>>, NodeFault> {
            Err(NodeFault::Forbidden)
        }
        fn send(&mut self, _: &[u8]) -> Result<SendResult, NodeFault> {
            Err(NodeFault::Forbidden)
        }
        fn test_accept(&mut self, _: &[u8]) -> Result<TestAccept, NodeFault> {
            Err(NodeFault::Forbidden)
        }
        fn fee_estimate(&mut self, _: u16) -> Result<Option<u64>, NodeFault> {
            panic!("the connection's code fails")
        }
    }

    fn connect() -> Connect {
        Arc::new(|| Box::new(Nothing))
    }

    #[test]
    fn rests_grow_and_one_that_is_listened_for_begins_with_none() {
        let seconds = |is_probed| (1..=8).map(|count| rest_of(count, is_probed).as_secs()).collect::<Vec<_>>();
        assert_eq!(seconds(true), [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(seconds(false), [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(rest_of(u32::MAX, false), REST_MAX);
    }

    #[test]
    fn what_was_asked_before_a_rest_ended_is_the_same_hang() {
        let (rests, asked) = (Rests::default(), Instant::now());
        assert!(rests.hung(Kind::Chain, asked), "one listens");
        assert!(!rests.hung(Kind::Chain, asked), "the others need not");
        assert!(!rests.allows(Kind::Fee), "who does not answer at all is asked nothing");
        assert!(rests.heard() && rests.allows(Kind::Chain));
        assert!(!rests.hung(Kind::Chain, asked) && rests.allows(Kind::Chain));
        assert!(rests.hung(Kind::Chain, Instant::now()));
        assert!(!rests.heard(), "the second time it rests for a while");
        rests.give_up();
        assert!(!rests.allows(Kind::Chain));

        let rests = Rests::default();
        assert!(!rests.hung(Kind::Fee, asked));
        assert_eq!((rests.allows(Kind::Fee), rests.allows(Kind::Chain)), (false, true), "it rests with that alone");
    }

    #[test]
    fn what_takes_long_is_taken_when_it_is_asked_for_again() {
        let (rests, connect, mut aside) = (Rests::default(), connect(), Aside::<u8, Option<u8>>::default());
        let (let_go, waits) = mpsc::channel::<()>();
        let slow = move |_: &mut dyn Node| {
            let _ = waits.recv();
            Ok(Some(1))
        };
        let how = (Kind::Block, Duration::ZERO);
        assert!(matches!(aside.ask(1, how, (&rests, &connect), slow), Ok(None)));
        assert!(matches!(aside.ask(1, how, (&rests, &connect), |_| Ok(Some(9))), Ok(None)), "it is not asked twice");
        assert!(matches!(aside.ask(2, how, (&rests, &connect), |_| Ok(Some(2))), Ok(None)), "one after the other");
        drop(let_go);
        let answer = loop {
            if let Some(answer) = aside.ask(1, how, (&rests, &connect), |_| Ok(Some(9))).expect("it is there") {
                break answer;
            }
        };
        assert_eq!(answer, 1);

        let (let_go, waits) = mpsc::channel::<()>();
        let late = move |_: &mut dyn Node| {
            let _ = waits.recv();
            Err(NodeFault::Timeout)
        };
        assert!(matches!(aside.ask(3, how, (&rests, &connect), late), Ok(None)));
        drop(let_go);
        while rests.allows(Kind::Block) {
            std::thread::yield_now();
        }
        while aside.ask(4, how, (&rests, &connect), |_| Ok(Some(4))).is_ok() {
            std::thread::yield_now();
        }
        assert!(rests.allows(Kind::Mempool));
    }

    #[test]
    fn a_question_that_panics_is_a_fault_and_the_next_one_is_answered() {
        let mut line = Line::open(connect(), Rests::default());
        assert!(matches!(line.fee_estimate(1), Err(NodeFault::Malformed { .. })));
        assert!(matches!(line.header(BlockHash([1; 32])), Err(NodeFault::Forbidden)));
    }
}
