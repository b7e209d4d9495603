//! Reorganisations deeper than the blocks that the state keeps: the journal goes back as far as it ever went forward, whatever stops it
//! on the way; below its first block it stands still, and says so for as long as that lasts.

use super::gathered::judge;
use super::*;
use crate::common::{Random, Rows};
use crate::network::Blocks;
use florin_core::asset::{AssetPolicy, HaltAction};
use florin_core::custody::{Block, BlockRef};
use florin_core::id::Height;
use florin_core::journal::{AppendError, Journal, ReadError, Row};
use florin_engine::lanes::Ask;
use florin_engine::unarchive::{JournalPast, PastLimits};
use std::collections::BTreeMap;

/// So few blocks that the policy just allows it.
const KEPT: u32 = 6;

/// The journal of a platform, which a test can take away.
#[derive(Clone)]
struct Shelf {
    rows: Rows,
    is_away: Arc<Mutex<bool>>,
}

impl Journal for Shelf {
    fn append(&mut self, _: &Row) -> Result<(), AppendError> {
        Err(AppendError::Fenced)
    }
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        if *self.is_away.lock().unwrap() { Err(ReadError("away".into())) } else { self.rows.read(after, count_max) }
    }
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.rows.head()
    }
}

/// Few records at once, so that the journal is read more than once.
const RECORDS: usize = 30;

/// A watcher that knows nothing yet but where the journal is.
fn follower(nodes: &[FakeNode], rows: &Rows) -> (Follower, Arc<Mutex<bool>>) {
    follower_within(PastLimits::default(), nodes, rows)
}

fn follower_within(limits: PastLimits, nodes: &[FakeNode], rows: &Rows) -> (Follower, Arc<Mutex<bool>>) {
    let shelf = Shelf { rows: rows.clone(), is_away: Arc::default() };
    let is_away = Arc::clone(&shelf.is_away);
    let past = JournalPast::new(Box::new(shelf), limits);
    let follower =
        Follower::new(follower_config(2), seats(nodes), [3; 16]).expect("the checkpoint is the genesis block");
    (follower.with_past_of(Box::new(past), RECORDS), is_away)
}

fn keep_few(platform: &mut Platform) {
    let policy = platform.state().policies()[&BTC].clone();
    let few = AssetPolicy { kept_blocks: Some(KEPT), ..policy };
    platform.must(Ask::internal(Command::SetAssetPolicy(few)));
}

fn resume(platform: &mut Platform) {
    for halt in platform.state().halts().to_vec() {
        platform.must(Ask::internal(Command::Resume(halt)));
    }
}

fn halted(platform: &Platform) -> Vec<HaltAction> {
    let mut actions: Vec<HaltAction> = platform.state().halts().iter().map(|halt| halt.action).collect();
    actions.sort_unstable();
    actions
}

/// The coins of the platform's scripts on the chain that ends with a block, as anyone would find them.
fn on_chain(blocks: &Blocks, tip: BlockHash, platform: &Platform) -> BTreeMap<OutPoint, Amount> {
    let mut chain = Vec::new();
    let mut hash = tip;
    while let Some((height, block)) = blocks.get(hash) {
        hash = florin_engine::terms::core_hash(block.header.prev_blockhash);
        chain.push(block);
        if height == 0 {
            break;
        }
    }
    let mut coins = BTreeMap::new();
    for tx in chain.iter().rev().flat_map(|block| &block.txdata) {
        for input in &tx.input {
            coins.remove(&core_outpoint(CHAIN, input.previous_output));
        }
        for (vout, output) in (0..).zip(&tx.output) {
            if platform.state().scripts().contains_key(&Bytes(output.script_pubkey.to_bytes())) {
                let outpoint = OutPoint { chain: CHAIN, txid: core_txid(tx.compute_txid()), vout };
                coins.insert(outpoint, Amount::new(u128::from(output.value.to_sat())));
            }
        }
    }
    coins
}

fn booked(platform: &Platform) -> BTreeMap<OutPoint, Amount> {
    let coins = platform.state().coins().values().filter(|coin| coin.spent.is_none());
    coins.map(|coin| (coin.outpoint, coin.amount)).collect()
}

/// A platform that keeps few blocks: two deposits were credited, two withdrawals paid, the second one with the first one's change, and
/// all of that has left the state since.
struct Story {
    platform: Platform,
    blocks: Blocks,
    nodes: Vec<FakeNode>,
    /// The tip of its branch.
    ours: BlockHash,
    /// What brought the deposits, and what paid the withdrawals.
    payment: bitcoin::Transaction,
    sent: Vec<bitcoin::Transaction>,
}

impl Story {
    fn new() -> Story {
        let mut world = paying();
        keep_few(&mut world.platform);
        let mut sent = Vec::new();
        // The second one needs the change of the first.
        for (number, whose, amount, rate) in [(10, 2, 150_000, 2_000), (11, 1, 99_000, 20_000)] {
            world.nodes.iter().for_each(|node| node.state().estimate = Some(rate));
            world.withdraw(number, whose, amount);
            for worker in [&mut world.planner as &mut dyn Worker, &mut world.signing] {
                world.platform.settle(worker);
            }
            world.platform.step(&mut world.broadcaster);
            let tx = world.nodes[0].state().sent.last().cloned().expect("it was sent");
            world.nodes.iter().for_each(|node| node.state().mempool.clear());
            let mined = world.blocks.mine(world.platform.tip().hash, 0, vec![tx.clone()]);
            set_tips(&world.nodes, world.blocks.extend(mined, 0, 8));
            world.platform.settle(&mut world.follower);
            sent.push(tx);
        }
        let ours = world.blocks.extend(world.platform.tip().hash, 0, 30);
        set_tips(&world.nodes, ours);
        world.platform.settle(&mut world.follower);
        let Paying { platform, blocks, nodes, .. } = world;
        let state = platform.state();
        assert!(state.plans().is_empty() && state.withdrawals().is_empty() && state.deposits().is_empty());
        assert_eq!(state.chains()[&CHAIN].blocks.len(), KEPT as usize + 1);
        let (_, first) = blocks.get(blocks.ancestor(ours, 1).unwrap()).unwrap();
        let payment = first.txdata[1].clone();
        assert!(sent[1].input.iter().any(|input| input.previous_output.txid == sent[0].compute_txid()));
        Story { platform, blocks, nodes, ours, payment, sent }
    }
}

impl Story {
    /// A branch that leaves the platform's after its very first block, with these transactions in its third.
    fn other(&self, transactions: Vec<bitcoin::Transaction>, longer_by: u32) -> BlockHash {
        let (height, _) = self.blocks.get(self.ours).unwrap();
        let second = self.blocks.extend(self.blocks.genesis(), 1, 2);
        let third = self.blocks.mine(second, 1, transactions);
        self.blocks.extend(third, 1, (height + longer_by - 3) as usize)
    }

    /// The coins are those of the chain that ends with the platform's tip, and every row's books are right.
    fn check(&self) {
        assert_eq!(booked(&self.platform), on_chain(&self.blocks, self.platform.tip().hash, &self.platform));
        judge(&self.platform.rows);
    }

    fn statuses(&self) -> (Vec<DepositStatus>, Vec<WithdrawalStatus>) {
        let (deposits, withdrawals) = (self.platform.state().deposits().values(), self.platform.state().withdrawals());
        (deposits.map(|it| it.status).collect(), withdrawals.values().map(|it| it.status).collect())
    }

    fn available(&self) -> (u128, u128) {
        (self.platform.available(1), self.platform.available(2))
    }
}

#[test]
fn a_reorganisation_to_the_first_block_is_followed_however_few_blocks_are_kept() {
    let mut story = Story::new();
    let (had, mut follower) = (story.available(), follower(&story.nodes, &story.platform.rows).0);
    let other = story.other(vec![story.payment.clone()], 1);
    set_tips(&story.nodes, other);
    // First the asset stops, and nothing is taken back; then the journal is read; then it goes back.
    story.platform.step(&mut follower);
    assert_eq!(
        (story.platform.tip().hash, halt_reasons(&story.platform)),
        (story.ours, vec![HaltReason::DeepReorganisation])
    );
    assert_eq!(halted(&story.platform).len(), 4);
    assert_eq!(alarm_codes(&follower), ["reorganisation_below_kept"]);
    story.platform.step(&mut follower);
    let said =
        follower.status().alarms.iter().find(|alarm| alarm.code == "reorganisation_below_kept").cloned().unwrap();
    let tip = story.blocks.get(story.ours).unwrap().0;
    let words = format!("the best chain leaves the journal's after block 0: {tip} blocks are still to be taken back");
    assert_eq!(said.detail, words);
    story.platform.settle(&mut follower);
    assert_eq!(story.platform.tip().hash, other);
    assert_eq!(alarm_codes(&follower), [""; 0], "it is over");
    // Both deposits are on this branch too, and are credited once. What was paid out waits to be mined again.
    let (deposits, withdrawals) = story.statuses();
    assert_eq!((deposits, story.available()), (vec![], had));
    assert_eq!(withdrawals, [WithdrawalStatus::Signed; 2]);
    story.check();
    assert_eq!((halted(&story.platform).len(), halt_reasons(&story.platform).len()), (4, 1), "people have to look");

    let mined = story.blocks.mine(other, 1, story.sent.clone());
    set_tips(&story.nodes, story.blocks.extend(mined, 1, 40));
    story.platform.settle(&mut follower);
    assert_eq!((story.statuses(), story.available()), ((vec![], vec![]), had), "all of it is final and left again");
    story.check();
    resume(&mut story.platform);
    story.platform.settle(&mut follower);
    assert_eq!(halt_reasons(&story.platform), []);
}

#[test]
fn deposits_and_payments_that_the_other_branch_lacks_are_missing_until_they_come_back() {
    let mut story = Story::new();
    let mut follower = follower(&story.nodes, &story.platform.rows).0;
    let other = story.other(vec![], 2);
    set_tips(&story.nodes, other);
    story.platform.settle(&mut follower);
    assert_eq!(story.platform.tip().hash, other);
    assert_eq!(story.statuses(), (vec![DepositStatus::Missing; 2], vec![WithdrawalStatus::Signed; 2]));
    assert_eq!(story.available(), (0, 0));
    assert_eq!(booked(&story.platform), BTreeMap::new());
    story.check();
    let had = Story::new().available();
    let mut all = vec![story.payment.clone()];
    all.extend(story.sent.clone());
    let mined = story.blocks.mine(other, 1, all);
    set_tips(&story.nodes, story.blocks.extend(mined, 1, 5));
    story.platform.settle(&mut follower);
    assert_eq!(story.available(), had);
    assert_eq!(story.statuses().1, [WithdrawalStatus::Final; 2]);
    story.check();
}

#[test]
fn whoever_is_stopped_on_the_way_back_goes_on_by_himself() {
    for seed in 1..=3u64 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let mut story = Story::new();
        let had = story.available();
        let other = story.other(vec![story.payment.clone()], 1);
        set_tips(&story.nodes, other);
        let (mut watching, mut lives) = (follower(&story.nodes, &story.platform.rows).0, 0);
        while story.platform.tip().hash != other {
            if random.chance(60) {
                lives += 1;
                story.platform = story.platform.restarted();
                watching = follower(&story.nodes, &story.platform.rows).0;
            }
            story.platform.now_ms += 1_000;
            let asks = watching.step(&story.platform.model, story.platform.now_ms);
            // A process may also end after any of the commands that it asked for at once.
            let most = random.below(1 + asks.len() as u64) as usize;
            let asks = if random.chance(30) { asks.into_iter().take(most).collect() } else { asks };
            story.platform.ask(asks);
            assert!(lives < 10_000, "it comes to an end");
        }
        assert!(lives > 5);
        assert_eq!((story.statuses().1, story.available()), (vec![WithdrawalStatus::Signed; 2], had));
        story.check();
    }
}

#[test]
fn blocks_that_need_many_commands_each_are_taken_back_however_far_below() {
    let mut story = Story::new();
    let (other, script) = (story.other(vec![], 60), story.payment.output[0].script_pubkey.clone());
    let mut ours = story.ours;
    for tag in 1..=2u8 {
        let previous_output = bitcoin::OutPoint { vout: u32::from(tag), ..bitcoin::OutPoint::null() };
        let output = |sats| bitcoin::TxOut { value: bitcoin::Amount::from_sat(sats), script_pubkey: script.clone() };
        let crowded = bitcoin::Transaction {
            input: vec![bitcoin::TxIn { previous_output, ..bitcoin::TxIn::default() }],
            output: (5_000..7_600).map(output).collect(),
            ..story.payment.clone()
        };
        ours = story.blocks.mine(ours, 0, vec![crowded]);
    }
    let ours = story.blocks.extend(ours, 0, 20);
    let shelf = story.platform.rows.clone();
    let past = JournalPast::new(Box::new(shelf), PastLimits::default());
    let follower = Follower::new(follower_config(2), seats(&story.nodes), [3; 16]).unwrap();
    let mut follower = follower.with_past_of(Box::new(past), 3_000);
    set_tips(&story.nodes, ours);
    story.platform.settle(&mut follower);
    assert_eq!((story.platform.tip().hash, story.platform.state().deposits().len()), (ours, 0), "all left");
    set_tips(&story.nodes, other);
    story.platform.settle(&mut follower);
    assert_eq!((story.platform.tip().hash, alarm_codes(&follower)), (other, vec![]));
    assert_eq!(story.statuses().0, vec![DepositStatus::Missing; 2 + 2 * 2_600]);
    story.check();
}

#[test]
fn one_group_alone_takes_nothing_back_below_the_kept_blocks_whatever_it_shows() {
    for seed in 1..=6u64 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let mut story = Story::new();
        let (mut ours, had) = (story.ours, story.available());
        // Both leave far below; one has more work than ours ever gets, the other one less.
        let mut shown = vec![story.other(vec![], 80), story.blocks.extend(story.blocks.genesis(), 2, 20)];
        let mut nodes = story.nodes.clone();
        nodes.push(FakeNode::new(&story.blocks));
        let rows = story.platform.rows.clone();
        let fresh = || {
            // Whoever is asked first is the one that is not to be believed.
            let seats = ["c", "a", "b"].iter().zip([&nodes[2], &nodes[0], &nodes[1]]);
            let seats = seats.map(|(name, node)| node.seat(name)).collect();
            let past = JournalPast::new(Box::new(rows.clone()), PastLimits::default());
            let follower = Follower::new(follower_config(2), seats, [3; 16]).unwrap();
            follower.with_past_of(Box::new(past), RECORDS)
        };
        let mut watching = fresh();
        for _ in 0..120 {
            let (height, _) = story.blocks.get(ours).unwrap();
            shown.truncate(2);
            shown.extend([ours, story.blocks.ancestor(ours, height - KEPT - 3).unwrap()]);
            nodes[2].state().tip = shown[random.below(4) as usize];
            for node in &nodes {
                node.state().manner = if random.chance(15) { Manner::Silent } else { Manner::Honest };
            }
            if random.chance(20) && height < 100 {
                ours = story.blocks.extend(ours, 0, 1);
            }
            // The honest ones hear of a block one after the other, and one of them may have lost some.
            nodes[0].state().tip = ours;
            let behind = [height, height.saturating_sub(30)][usize::from(random.chance(10))];
            nodes[1].state().tip = story.blocks.ancestor(ours, behind).unwrap();
            if random.chance(15) {
                story.platform = story.platform.restarted();
                watching = fresh();
            }
            story.platform.step(&mut watching);
            let tip = story.platform.tip();
            assert_eq!(story.blocks.ancestor(ours, tip.height.0), Some(tip.hash), "it follows the two");
            assert!(!halt_reasons(&story.platform).contains(&HaltReason::DeepReorganisation));
        }
        nodes.iter().for_each(|node| node.state().manner = Manner::Honest);
        set_tips(&nodes, ours);
        story.platform.settle(&mut fresh());
        assert_eq!((story.platform.tip().hash, story.available()), (ours, had));
        story.check();
    }
}

#[test]
fn nodes_that_come_back_to_the_old_branch_find_the_journal_on_it_again() {
    let mut story = Story::new();
    let (had, before) = (story.available(), booked(&story.platform));
    let mut follower = follower(&story.nodes, &story.platform.rows).0;
    let (mut other, mut ours) = (story.other(vec![], 1), story.ours);
    let mut lowest = u32::MAX;
    for steps in [2, 3, 4, 5, 7, 9] {
        set_tips(&story.nodes, other);
        for _ in 0..steps {
            story.platform.step(&mut follower);
        }
        lowest = lowest.min(story.platform.tip().height.0);
        ours = story.blocks.extend(ours, 0, 2);
        set_tips(&story.nodes, ours);
        story.platform.settle(&mut follower);
        assert_eq!((story.platform.tip().hash, story.available()), (ours, had));
        assert_eq!((booked(&story.platform), alarm_codes(&follower)), (before.clone(), vec![]));
        story.check();
        other = story.blocks.extend(other, 1, 2);
    }
    assert!(lowest < 10, "it had gone far back: {lowest}");
}

#[test]
fn nodes_are_heard_while_the_journal_is_read() {
    let mut story = Story::new();
    let limits = PastLimits { slice_rows: 10, ..PastLimits::default() };
    let (mut follower, _) = follower_within(limits, &story.nodes, &story.platform.rows);
    let other = story.other(vec![], 1);
    set_tips(&story.nodes, other);
    let first = "no block that the state keeps is on the best chain: ";
    for (words, is_reading) in [
        ("the asset stops before older ones are looked for", false),
        ("the journal is read for older ones, as far as row 0", true),
        ("the journal is read for older ones, as far as row 10", true),
        ("the journal is read for older ones, as far as row 20", true),
    ] {
        story.platform.step(&mut follower);
        let alarms = &follower.status().alarms;
        assert_eq!(alarms[0].detail.strip_prefix(first), Some(words));
        assert_eq!((alarms.len(), follower.is_reading()), (1, is_reading));
    }
    // They come back, and there is nothing to read for any more.
    let ours = story.blocks.extend(story.ours, 0, 2);
    set_tips(&story.nodes, ours);
    story.platform.settle(&mut follower);
    assert_eq!((story.platform.tip().hash, follower.is_reading()), (ours, false));
    set_tips(&story.nodes, story.blocks.extend(other, 1, 2));
    let mut steps = 0;
    while story.platform.tip().hash == ours {
        story.platform.step(&mut follower);
        steps += 1;
    }
    assert!(steps > story.platform.rows.all().len() / 20, "from the first row again: {steps}");
}

#[test]
fn while_the_records_cannot_be_had_nothing_is_taken_back() {
    let mut story = Story::new();
    let (mut follower, is_away) = follower(&story.nodes, &story.platform.rows);
    *is_away.lock().unwrap() = true;
    let other = story.other(vec![story.payment.clone()], 1);
    set_tips(&story.nodes, other);
    for _ in 0..30 {
        story.platform.step(&mut follower);
    }
    assert_eq!((story.platform.tip().hash, halted(&story.platform).len()), (story.ours, 4));
    assert_eq!(alarm_codes(&follower), ["archived_unreadable", "reorganisation_below_kept"]);
    let alarms = follower.status().alarms.clone();
    assert_eq!(
        alarms[0].detail,
        "the records of older blocks can't be found (journal_unreadable_now): the journal can't be read now: \
         the journal can't be read: away"
    );
    *is_away.lock().unwrap() = false;
    while story.platform.tip().hash == story.ours {
        story.platform.step(&mut follower);
    }
    story.platform.settle(&mut follower);
    assert_eq!((story.platform.tip().hash, alarm_codes(&follower)), (other, vec![]));

    // A journal whose beginning is nowhere to be seen, or is another one's.
    let mut story = Story::new();
    let rows = Rows::default();
    *rows.0.lock().unwrap() = story.platform.rows.all().split_off(2);
    let mut follower = self::follower(&story.nodes, &rows).0;
    set_tips(&story.nodes, story.other(vec![], 1));
    for _ in 0..15 {
        story.platform.step(&mut follower);
    }
    assert_eq!((story.platform.tip().hash, halted(&story.platform).len()), (story.ours, 4));
    let detail = &follower.status().alarms[0].detail;
    assert!(detail.contains("(journal_gap): the journal's rows before row 3 are not there"), "{detail}");
}

#[test]
fn a_clock_that_is_set_back_does_not_put_off_the_next_try() {
    let mut story = Story::new();
    let (mut follower, is_away) = follower(&story.nodes, &story.platform.rows);
    *is_away.lock().unwrap() = true;
    set_tips(&story.nodes, story.other(vec![], 1));
    while !alarm_codes(&follower).contains(&"archived_unreadable") {
        story.platform.step(&mut follower);
    }
    *is_away.lock().unwrap() = false;
    story.platform.now_ms -= 1_000_000;
    (0..15).for_each(|_| drop(story.platform.step(&mut follower)));
    assert!(!alarm_codes(&follower).contains(&"archived_unreadable"), "{:?}", follower.status().alarms);
}

#[test]
fn a_journal_that_has_other_rows_is_named_also_while_it_is_read_again() {
    let mut story = Story::new();
    let rows = Rows::default();
    let mut all = story.platform.rows.all();
    all.truncate(all.len() / 2);
    *rows.0.lock().unwrap() = all;
    let limits = PastLimits { slice_rows: 5, ..PastLimits::default() };
    let mut follower = follower_within(limits, &story.nodes, &rows).0;
    set_tips(&story.nodes, story.other(vec![], 1));
    let is_named = |follower: &Follower| alarm_codes(follower).contains(&"archived_unreadable");
    while !is_named(&follower) {
        story.platform.step(&mut follower);
    }
    let mut read = 0;
    for _ in 0..rows.all().len() {
        story.platform.step(&mut follower);
        assert!(is_named(&follower), "it is still so: {:?}", follower.status().alarms);
        read += usize::from(follower.is_reading());
    }
    assert!(read > 5, "it was read again meanwhile: {read}");
    let detail = &follower.status().alarms[0].detail;
    assert!(detail.contains("(archived_not_found)"), "{detail}");
    assert_eq!(story.platform.tip().hash, story.ours);
}

#[test]
fn an_operator_who_resumes_on_the_way_back_is_not_heard_before_it_is_over() {
    let mut story = Story::new();
    let mut follower = follower(&story.nodes, &story.platform.rows).0;
    let other = story.other(vec![], 1);
    set_tips(&story.nodes, other);
    for _ in 0..4 {
        story.platform.step(&mut follower);
    }
    let tip = story.platform.tip().hash;
    assert!(tip != story.ours);
    resume(&mut story.platform);
    story.platform.step(&mut follower);
    assert_eq!((story.platform.tip().hash, halted(&story.platform).len()), (tip, 4), "first it stops again");
    story.platform.settle(&mut follower);
    assert_eq!((story.platform.tip().hash, halted(&story.platform).len()), (other, 4));
}

#[test]
fn a_branch_is_compared_by_work_however_long_ago_it_left() {
    let mut story = Story::new();
    let ours = story.blocks.extend(story.ours, 0, 300);
    set_tips(&story.nodes, ours);
    story.platform.settle(&mut follower(&story.nodes, &story.platform.rows).0);
    let (height, _) = story.blocks.get(ours).unwrap();
    // Work that is less than ours, from nodes that have forgotten which branch they followed: nobody has a reason to leave.
    let other = story.blocks.extend(story.blocks.genesis(), 1, height as usize - 1);
    set_tips(&story.nodes, other);
    let mut fresh = follower(&story.nodes, &story.platform.rows).0;
    for _ in 0..5 {
        story.platform.step(&mut fresh);
    }
    assert_eq!((story.platform.tip().hash, fresh.status().best), (ours, Some((height, ours))));
    assert_eq!(halt_reasons(&story.platform), [HaltReason::ChainSplit], "valid work that nobody follows");
    let other = story.blocks.extend(other, 1, 2);
    set_tips(&story.nodes, other);
    story.platform.settle(&mut fresh);
    assert_eq!(story.platform.tip().hash, other);
}

#[test]
fn a_reorganisation_below_all_kept_blocks_stops_the_asset_until_the_nodes_come_back() {
    let (_, blocks, nodes, mut follower) = world();
    let fifth = blocks.extend(blocks.genesis(), 0, 5);
    let (_, block) = blocks.get(fifth).unwrap();
    let previous = florin_engine::terms::core_hash(block.header.prev_blockhash);
    let at = BlockRef { height: Height(5), hash: fifth };
    let start = Block { chain: CHAIN, at, previous, time_s: u64::from(block.header.time) };
    let mut platform = Platform::starting_at(blocks.genesis(), start, ScriptKind::Wpkh);
    let ours = blocks.extend(fifth, 0, 3);
    set_tips(&nodes, ours);
    platform.settle(&mut follower);
    assert_eq!((platform.tip().hash, halt_reasons(&platform)), (ours, vec![]));

    // The other branch leaves ours before the journal's first block.
    set_tips(&nodes, blocks.extend(blocks.genesis(), 1, 12));
    let resume = |platform: &mut Platform| {
        for halt in platform.state().halts().to_vec() {
            platform.must(Ask::internal(Command::Resume(halt)));
        }
    };
    for _ in 0..3 {
        platform.settle(&mut follower);
        assert_eq!((platform.tip().hash, halt_reasons(&platform)), (ours, vec![HaltReason::DeepReorganisation]));
        assert!(alarm_codes(&follower).contains(&"reorganisation_too_deep"));
        resume(&mut platform);
    }
    platform.settle(&mut follower);

    let longer = blocks.extend(ours, 0, 6);
    set_tips(&nodes, longer);
    platform.settle(&mut follower);
    assert_eq!((platform.tip().hash, halt_reasons(&platform)), (longer, vec![HaltReason::DeepReorganisation]));
    resume(&mut platform);
    platform.settle(&mut follower);
    assert_eq!(halt_reasons(&platform), []);
}

#[test]
fn a_reorganisation_below_the_first_block_is_not_begun_though_older_ones_left_the_state() {
    let (_, blocks, nodes, _) = world();
    let fifth = blocks.extend(blocks.genesis(), 0, 5);
    let (_, block) = blocks.get(fifth).unwrap();
    let previous = florin_engine::terms::core_hash(block.header.prev_blockhash);
    let at = BlockRef { height: Height(5), hash: fifth };
    let start = Block { chain: CHAIN, at, previous, time_s: u64::from(block.header.time) };
    let mut platform = Platform::starting_at(blocks.genesis(), start, ScriptKind::Wpkh);
    keep_few(&mut platform);
    let mut follower = follower(&nodes, &platform.rows).0;
    let ours = blocks.extend(fifth, 0, 40);
    set_tips(&nodes, ours);
    platform.settle(&mut follower);
    assert!(platform.state().chains()[&CHAIN].archived.count > 20);
    set_tips(&nodes, blocks.extend(blocks.genesis(), 1, 60));
    for _ in 0..10 {
        platform.step(&mut follower);
    }
    assert_eq!((platform.tip().hash, halted(&platform).len()), (ours, 4));
    assert_eq!(alarm_codes(&follower), ["reorganisation_too_deep"]);
    let longer = blocks.extend(ours, 0, 30);
    set_tips(&nodes, longer);
    platform.settle(&mut follower);
    assert_eq!(platform.tip().hash, longer);
    assert_eq!(alarm_codes(&follower), [""; 0]);
}
