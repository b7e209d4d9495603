//! Records that left the state are found again in the journal, and only those: the core takes every one of them back, down to the
//! chain's first block, and the books are right after each row.

use crate::common::{Random, Rows, customer};
use crate::forged::{Scene, balances, elsewhere, output, receipt, robbed, spend};
use crate::platform::{BTC, CHAIN};
use florin_core::amount::Amount;
use florin_core::asset::AssetPolicy;
use florin_core::command::{Command, ConnectBlock, Receipt};
use florin_core::custody::{Archived, ArchivedHead, Block, BlockRef, PlanStatus};
use florin_core::decide::unarchive_from;
use florin_core::id::{BlockHash, Digest, Height, Seq, TxId};
use florin_core::journal::{AppendError, Journal, ReadError, Row};
use florin_core::snapshot;
use florin_core::wire::Message;
use florin_engine::audit::judge_rows;
use florin_engine::lanes::Ask;
use florin_engine::load::{Loaded, catch_up};
use florin_engine::ports::{Past, PastFault};
use florin_engine::unarchive::{Gathered, JournalPast, PastLimits};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// So few blocks that the policy just allows it.
const KEPT: u32 = 6;

/// A journal that a test can take away, and that counts how often somebody begins at its first row.
#[derive(Clone)]
struct Watched {
    rows: Rows,
    begun: Arc<Mutex<u32>>,
    is_away: Arc<Mutex<bool>>,
}

impl Watched {
    fn of(scene: &Scene) -> Watched {
        Watched { rows: scene.platform.rows.clone(), begun: Arc::default(), is_away: Arc::default() }
    }

    fn past(&self, limits: PastLimits) -> JournalPast {
        JournalPast::new(Box::new(self.clone()), limits)
    }
}

impl Journal for Watched {
    fn append(&mut self, _: &Row) -> Result<(), AppendError> {
        Err(AppendError::Fenced)
    }
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        *self.begun.lock().unwrap() += u32::from(after == Seq::START);
        if *self.is_away.lock().unwrap() { Err(ReadError("away".into())) } else { self.rows.read(after, count_max) }
    }
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.rows.head()
    }
}

fn limits(slice_rows: usize) -> PastLimits {
    PastLimits { slice_rows, ..PastLimits::default() }
}

fn head(scene: &Scene) -> ArchivedHead {
    scene.state().chains()[&CHAIN].archived
}

/// Asks until there is an answer.
fn gather(past: &mut JournalPast, head: &ArchivedHead, records_max: usize) -> Result<Gathered, PastFault> {
    for _ in 0..10_000 {
        if let Some(gathered) = past.last_archived(head, records_max)? {
            // So many that one command's are always among them, also where the journal was turned just below them.
            let (count, held) = (head.count as usize, gathered.records().len());
            assert!(held >= count.min(records_max.div_ceil(2)), "{held} of {records_max}, and {count} left");
            return Ok(gathered);
        }
    }
    panic!("it comes to no end");
}

fn keep_few(scene: &mut Scene) {
    let policy = scene.state().policies()[&BTC].clone();
    let few = AssetPolicy { kept_blocks: Some(KEPT), ..policy };
    scene.platform.must(Ask::internal(Command::SetAssetPolicy(few)));
}

fn resume(scene: &mut Scene) {
    for halt in scene.state().halts().to_vec() {
        scene.platform.must(Ask::internal(Command::Resume(halt)));
    }
}

fn take_tip_back(scene: &mut Scene) {
    let hash = scene.platform.tip().hash;
    loop {
        scene.platform.must(Ask::internal(Command::DisconnectBlock { chain: CHAIN, hash }));
        if scene.state().chains()[&CHAIN].part.is_none() {
            return;
        }
    }
}

fn kept(scene: &Scene) -> usize {
    scene.state().chains()[&CHAIN].blocks.len()
}

/// Puts back what one command may, with `gathered`.
fn unarchive(scene: &mut Scene, gathered: &Gathered) {
    let from = unarchive_from(gathered.records());
    assert!(from < gathered.records().len(), "there is always something that can be put back");
    let (below, records) = (gathered.below(from), gathered.records()[from..].to_vec());
    scene.platform.must(Ask::internal(Command::Unarchive { chain: CHAIN, below, records }));
}

/// Takes `blocks` back, with as many records at once as `records_max`; gives how many times records were asked for.
fn take_back(scene: &mut Scene, past: &mut JournalPast, blocks: usize, records_max: usize) -> u32 {
    let (mut have, mut questions): (Option<Gathered>, u32) = (None, 0);
    for _ in 0..blocks {
        while kept(scene) == 1 {
            let head = head(scene);
            if head.count == 0 {
                return questions;
            }
            have = have.filter(|have| !have.records().is_empty() && have.head() == head);
            let gathered = match have.take() {
                Some(have) if unarchive_from(have.records()) < have.records().len() => have,
                _ => {
                    questions += 1;
                    gather(past, &head, records_max).unwrap()
                }
            };
            unarchive(scene, &gathered);
            let mut rest = gathered;
            assert!(rest.follow(self::head(scene)), "what is left leads to the state's head");
            have = Some(rest);
        }
        take_tip_back(scene);
    }
    questions
}

/// The books after every row of a journal.
pub(super) fn judge(rows: &Rows) {
    let mut faults = Vec::new();
    let report = judge_rows(&mut rows.clone(), |seen| faults.extend(seen.check_books()), |_| ());
    assert!(report.wrong.is_none(), "{:?}", report.wrong);
    assert_eq!(faults, []);
}

#[test]
fn what_was_stolen_and_is_in_suspense_comes_back_with_its_records() {
    let mut scene = robbed();
    let before = balances(scene.state());
    keep_few(&mut scene);
    scene.blocks(KEPT + 12);
    let state = scene.state();
    assert!(state.plans().is_empty() && !state.coins().contains_key(&output(2)), "all of that left the state");
    let tip = scene.platform.tip().height.0;
    let mut past = Watched::of(&scene).past(limits(5));
    // Down to the thief's second block, the only one left then: his spends stand, and their records come back.
    take_back(&mut scene, &mut past, KEPT as usize + 12 + 6, 1_000);
    assert_eq!(kept(&scene), 1);
    assert!(!scene.state().coins().contains_key(&output(4)));
    let gathered = gather(&mut past, &head(&scene), 1_000).unwrap();
    unarchive(&mut scene, &gathered);
    assert_eq!(scene.state().coins()[&output(4)].spent.as_ref().map(|spent| spent.plan), Some(None));
    assert_eq!((balances(scene.state()), scene.verified().check_books()), (before, Vec::new()));
    take_back(&mut scene, &mut past, tip as usize, 1_000);
    let state = scene.state();
    assert_eq!((head(&scene).count, kept(&scene), scene.platform.tip().height.0), (0, 1, 0), "all that ever was");
    // All three deposits are missing, and what the thief paid for us was taken of nobody: the plan that he ended stays ended.
    assert_eq!((state.coins().len(), balances(state)), (0, [840_000, 299_000]));
    judge(&scene.platform.rows);
    // And forward again, with the same blocks as if nothing had been: what leaves is counted anew.
    scene.block(vec![receipt(1, 500_000, 0), receipt(2, 300_000, 2)], Vec::new());
    scene.blocks(2 * KEPT + 4);
    judge(&scene.platform.rows);
}

/// A random step of a chain whose coins are paid in, planned, stolen; what the core refuses does not happen.
fn step(scene: &mut Scene, random: &mut Random, next: &mut u8) {
    let mut receipts = Vec::new();
    for _ in 0..random.below(3) {
        *next = next.wrapping_add(u8::from(*next < 250));
        receipts.push(receipt(*next, u128::from(10_000 + random.below(90_000)), random.below(3) as u32));
    }
    receipts.dedup_by_key(|receipt| receipt.txid);
    let new: BTreeSet<_> = receipts.iter().map(|receipt| output(receipt.txid.0[0])).collect();
    if new.iter().any(|outpoint| scene.state().coins().contains_key(outpoint)) {
        receipts.clear();
    }
    let mut spends = Vec::new();
    let coins: Vec<_> = scene.state().coins().values().filter(|coin| coin.spent.is_none()).cloned().collect();
    for coin in coins {
        let (tag, txid) = (coin.outpoint.txid.0[0], coin.outpoint.txid.0[0] ^ 0x80 | 1);
        let plan = scene.state().plans().values().find(|plan| plan.anchor == coin.outpoint).cloned();
        match plan.filter(|plan| matches!(plan.status, PlanStatus::Signing)) {
            Some(plan) if random.chance(40) => {
                let id = plan.versions[0].payments[0].withdrawal;
                spends.push(spend(txid, &[tag], vec![(elsewhere(), scene.state().withdrawals()[&id].amount)]));
            }
            _ if random.chance(6) => {
                spends.push(spend(txid ^ 0x40, &[tag], vec![(florin_core::wire::Bytes(vec![0x51]), Amount::new(6))]));
            }
            None if random.chance(30) => scene.try_pay(tag),
            _ => {}
        }
    }
    scene.block(receipts, spends);
    resume(scene);
}

#[test]
fn whatever_left_comes_back_however_few_records_are_held_and_wherever_it_was_turned_before() {
    for seed in 1..=6u64 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let mut scene = Scene::new();
        keep_few(&mut scene);
        let watched = Watched::of(&scene);
        let mut next = 0;
        for _ in 0..5 {
            for _ in 0..10 + random.below(20) {
                step(&mut scene, &mut random, &mut next);
            }
            let back = random.below(30) as usize;
            let mut past = watched.past(limits(1 + random.below(40) as usize));
            take_back(&mut scene, &mut past, back, 8 + random.below(100) as usize);
            resume(&mut scene);
        }
        for _ in 0..40 {
            step(&mut scene, &mut random, &mut next);
        }
        assert!(head(&scene).count > 40, "much has left the state");
        let begun = *watched.begun.lock().unwrap();
        let questions = take_back(&mut scene, &mut watched.past(limits(64)), 1_000, 12);
        assert!(questions > 3, "few records are held, so the journal is read again and again");
        assert!(*watched.begun.lock().unwrap() - begun >= questions);
        let state = scene.state();
        assert_eq!((head(&scene).count, kept(&scene), scene.platform.tip().height.0), (0, 1, 0));
        assert!(state.coins().is_empty() && head(&scene).digest == Digest::ZERO);
        judge(&scene.platform.rows);
    }
}

fn code(found: Result<Gathered, PastFault>) -> &'static str {
    found.expect_err("there is nothing to find").code()
}

#[test]
fn a_journal_that_does_not_lead_there_is_refused() {
    let mut scene = robbed();
    keep_few(&mut scene);
    scene.blocks(KEPT + 12);
    let (right, watched) = (head(&scene), Watched::of(&scene));
    let ask = |rows: Vec<Row>, head: &ArchivedHead| {
        let copy = Rows::default();
        *copy.0.lock().unwrap() = rows;
        gather(&mut JournalPast::new(Box::new(copy), limits(9)), head, 1_000)
    };
    let all = scene.platform.rows.all();
    let found = ask(all.clone(), &right).unwrap();
    assert_eq!((found.head(), found.has_more_below()), (right, false));
    let heights: Vec<u32> = found.blocks().iter().map(|at| at.height.0).collect();
    assert_eq!(heights, (0..heights.len() as u32).collect::<Vec<_>>(), "every block that left, the lowest first");
    assert_eq!(found.below(0), Digest::ZERO);

    // Another record among them, or none at all.
    for other in [ArchivedHead { digest: Digest([7; 32]), ..right }, ArchivedHead { count: right.count + 1, ..right }] {
        assert_eq!(code(ask(all.clone(), &other)), "archived_not_found");
    }
    assert_eq!(code(ask(all.clone(), &ArchivedHead::empty(CHAIN))), "archived_not_found");
    let mut elsewhere = Scene::new();
    keep_few(&mut elsewhere);
    elsewhere.block(vec![receipt(77, 5_000, 0)], Vec::new());
    elsewhere.blocks(KEPT + 60);
    assert!(head(&elsewhere).count > right.count);
    assert_eq!(code(ask(elsewhere.platform.rows.all(), &right)), "archived_not_found");
    // Rows that are gone, or were changed.
    assert_eq!(code(ask(all[3..].to_vec(), &right)), "journal_gap");
    let mut changed = all.clone();
    changed[4].payload.push(0);
    assert_eq!(code(ask(changed, &right)), "journal_wrong_hash");
    assert_eq!(code(ask([&all[..3], &all[4..]].concat(), &right)), "journal_gap");

    // A store that is away for a moment costs a question, and nothing that was read.
    let mut past = watched.past(limits(9));
    assert!(matches!(past.last_archived(&right, 1_000), Ok(None)));
    assert_eq!(past.row(), Seq(9));
    *watched.is_away.lock().unwrap() = true;
    assert_eq!(past.last_archived(&right, 1_000).unwrap_err().code(), "journal_unreadable_now");
    *watched.is_away.lock().unwrap() = false;
    assert_eq!(gather(&mut past, &right, 1_000).unwrap(), found);
    assert_eq!(*watched.begun.lock().unwrap(), 1);
}

#[test]
fn gathered_records_follow_the_head_of_the_state_or_are_left() {
    let mut scene = robbed();
    keep_few(&mut scene);
    scene.blocks(KEPT + 12);
    let all = gather(&mut Watched::of(&scene).past(limits(100)), &head(&scene), 1_000).unwrap();
    let few = gather(&mut Watched::of(&scene).past(limits(100)), &head(&scene), 5).unwrap();
    assert_eq!((few.records(), few.has_more_below()), (&all.records()[all.records().len() - 5..], true));
    assert_eq!(few.blocks(), all.blocks(), "the blocks are known all the same");
    for (place, record) in all.records().iter().enumerate() {
        let mut rest = all.clone();
        let head = ArchivedHead { count: place as u64, digest: all.below(place), ..all.head() };
        assert!(rest.follow(head) && rest.records() == &all.records()[..place] && rest.head() == head);
        let is_block = |record: &&Archived| matches!(record, Archived::Block(_));
        assert_eq!(rest.blocks().len(), rest.records().iter().filter(is_block).count());
        assert_eq!(head.with(record).digest, all.below(place + 1));
        assert!(!all.clone().follow(ArchivedHead { digest: Digest([7; 32]), ..head }));
        let is_held = place + 5 >= all.records().len();
        assert_eq!(few.clone().follow(head), is_held);
    }
    assert!(!all.clone().follow(ArchivedHead { count: all.head().count + 1, ..all.head() }));
}

#[test]
fn no_more_bytes_are_held_than_are_allowed() {
    let mut scene = robbed();
    keep_few(&mut scene);
    scene.blocks(KEPT + 12);
    let all = gather(&mut Watched::of(&scene).past(limits(100)), &head(&scene), 1_000).unwrap();
    let size = |records: &[Archived]| records.iter().map(|record| record.encode().len()).sum::<usize>();
    let whole = size(all.records());
    for bytes_max in [whole, whole - 1, whole / 2, 300] {
        let limits = PastLimits { bytes_max, ..limits(100) };
        let few = Watched::of(&scene).past(limits).last_archived(&head(&scene), 1_000).unwrap().expect("one slice");
        let (held, from) = (few.records().len(), all.records().len() - few.records().len());
        assert_eq!(few.records(), &all.records()[from..]);
        assert!(size(few.records()) <= bytes_max && held > 0);
        assert!(from == 0 || size(&all.records()[from - 1..]) > bytes_max, "and as many as that");
    }
}

impl Scene {
    /// Plans a withdrawal with a coin, where its customer still has the money and the core has nothing against it.
    fn try_pay(&mut self, coin: u8) {
        let coin_of_it = &self.state().coins()[&output(coin)];
        let whose = if coin_of_it.path.index == 2 { 2 } else { 1 };
        let amount = coin_of_it.amount.saturating_sub(Amount::new(1_000));
        let is_final = coin_of_it.at.height.0 + KEPT <= self.platform.tip().height.0;
        let is_whole = self.state().customers()[&customer(whose)].freezes == 0;
        if is_final && is_whole && self.platform.available(whose) > amount.units() + 500 {
            let withdrawal = self.withdraw(whose, amount.units());
            let ask = self.plan_of(coin, withdrawal);
            self.platform.ask(vec![ask]);
        }
    }
}

/// A block that pays in more deposits than one command puts back, booked in parts.
fn crowded_block(scene: &mut Scene, tag: u8) {
    let tip = scene.platform.tip();
    let (height, mut hash) = (Height(tip.height.0 + 1), [tag; 32]);
    hash[0] = 0xcc;
    let at = BlockRef { height, hash: BlockHash(hash) };
    let block = Block { chain: CHAIN, at, previous: tip.hash, time_s: 0 };
    let receipts: Vec<Receipt> = (0..2_600u32)
        .map(|number| {
            let mut txid = [tag; 32];
            txid[..4].copy_from_slice(&number.to_be_bytes());
            Receipt { txid: TxId(txid), ..receipt(1, 5_000 + u128::from(number), 0) }
        })
        .collect();
    let mut parts = receipts.chunks(500).peekable();
    while let Some(part) = parts.next() {
        let (receipts, more) = (part.to_vec(), parts.peek().is_some());
        let command = ConnectBlock { block: block.clone(), receipts, spends: Vec::new(), more };
        scene.platform.must(Ask::internal(Command::ConnectBlock(command)));
    }
}

#[test]
fn a_block_of_more_deposits_than_one_command_puts_back_may_be_left_half_way() {
    let mut scene = Scene::new();
    keep_few(&mut scene);
    scene.blocks(2);
    (1..=2).for_each(|tag| crowded_block(&mut scene, tag));
    scene.blocks(2 * KEPT + 10);
    let full = head(&scene);
    assert!(full.count > 5_200, "{full:?}");
    let mut past = Watched::of(&scene).past(limits(100));
    for half_ways in 1..=2 {
        while kept(&scene) > 1 {
            take_tip_back(&mut scene);
        }
        let mut at = head(&scene);
        let mut gathered = gather(&mut past, &at, 10_000).unwrap();
        let mut halves = 0;
        while halves < half_ways {
            let blocks = kept(&scene);
            unarchive(&mut scene, &gathered);
            at = head(&scene);
            assert!(gathered.follow(at));
            if kept(&scene) == blocks {
                halves += 1;
            } else if halves < half_ways {
                take_tip_back(&mut scene);
            }
        }
        assert_eq!(kept(&scene), 1, "half of a block's records are back");
        let here = scene.platform.model.loaded();
        let (header, chunks) = snapshot::write(&here.state, here.place.hash, "test");
        let restored = Loaded { state: snapshot::read(&header, &chunks).unwrap(), ..here };
        assert_eq!(scene.verified().check_books(), Vec::new());
        // The nodes go on from here.
        scene.blocks(2 * KEPT + 10);
        assert_eq!(scene.verified().check_books(), Vec::new());
        let restored = catch_up(&mut scene.platform.rows.clone(), restored).unwrap();
        let hash = |state| snapshot::write(state, Digest::ZERO, "test").0.state_hash;
        assert_eq!(hash(&restored.state), hash(scene.state()), "a snapshot knows that half");
        // The second time one of the two blocks was taken back, and is not mined again.
        assert_eq!(scene.state().deposits().len(), 2_600 * (half_ways - 1));
        scene.platform = scene.platform.restarted();
        resume(&mut scene);
    }
    take_back(&mut scene, &mut past, 1_000, 10_000);
    assert_eq!((head(&scene).count, kept(&scene), scene.platform.tip().height.0), (0, 1, 0));
    judge(&scene.platform.rows);
}
