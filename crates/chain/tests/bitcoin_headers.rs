//! The header chain on published mainnet headers, forged branches and mined regtest forks; it must never skip a rule.

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::hex::FromHex;
use bitcoin::{BlockHash, CompactTarget, Target, TxMerkleNode};
use florin_chain::bitcoin::header::{
    Accepted, Checkpoint, HEADERS_MAX, HeaderChain, HeaderRefusal, REORG_DEPTH_MIN, ReorgPath, parse_header,
};
use florin_chain::bitcoin::network::Network;
use serde_json::Value;

/// A clock well after every header in these tests.
const CLOCK_S: u32 = 1_900_000_000;

struct Published {
    period_start: Header,
    checkpoint: Header,
    checkpoint_height: u32,
    headers: Vec<Header>,
    stale: Header,
}

fn published() -> Published {
    let file: Value = serde_json::from_str(include_str!("vectors/mainnet_headers.json")).expect("JSON");
    let header = |value: &Value| {
        let bytes = Vec::from_hex(value["header"].as_str().expect("text")).expect("hexadecimal");
        let header = parse_header(&bytes).expect("80 bytes");
        assert_eq!(header.block_hash().to_string(), value["hash"].as_str().expect("text"));
        header
    };
    Published {
        period_start: header(&file["period_start"]),
        checkpoint: header(&file["checkpoint"]),
        checkpoint_height: file["checkpoint"]["height"].as_u64().expect("a height") as u32,
        headers: file["headers"].as_array().expect("a list").iter().map(header).collect(),
        stale: header(&file["stale"]),
    }
}

fn mainnet(data: &Published) -> HeaderChain {
    let (header, start) = (data.checkpoint, data.period_start.time);
    let checkpoint = Checkpoint::inside_period(data.checkpoint_height, header, start, header.bits);
    HeaderChain::start(Network::Main, checkpoint, HEADERS_MAX).expect("a valid checkpoint")
}

#[test]
fn mainnet_headers_across_a_retarget_are_accepted() {
    let data = published();
    let mut chain = mainnet(&data);
    for header in &data.headers {
        let hash = header.block_hash();
        let path = ReorgPath { disconnect: vec![], connect: vec![hash] };
        assert_eq!(chain.accept(header, CLOCK_S), Ok(Accepted::NewTip(path)));
        assert_eq!(chain.accept(header, CLOCK_S), Ok(Accepted::Known));
    }
    assert_eq!(chain.tip().height, 437_479);
    assert_ne!(data.headers[4].bits, data.headers[5].bits, "the target changed between 437471 and 437472");
    assert_eq!(chain.hash_at(437_472), Some(data.headers[5].block_hash()));
    assert_eq!(chain.confirmations(&data.headers[5].block_hash()), Some(8));
    assert_eq!(chain.hash_at(437_465), None);
    assert_eq!(chain.hash_at(437_480), None);
}

#[test]
fn a_stale_mainnet_block_is_a_side_branch_or_is_taken_back() {
    let data = published();
    let (at_437478, at_437479) = (data.headers[11], data.headers[12]);
    let mut chain = mainnet(&data);
    for header in &data.headers[..11] {
        chain.accept(header, CLOCK_S).expect("a valid header");
    }
    assert!(matches!(chain.accept(&data.stale, CLOCK_S), Ok(Accepted::NewTip(_))));
    assert_eq!(chain.accept(&at_437478, CLOCK_S), Ok(Accepted::SideBranch), "the first seen of equal work stays");
    assert!(!chain.is_active(&at_437478.block_hash()));
    let path = ReorgPath {
        disconnect: vec![data.stale.block_hash()],
        connect: vec![at_437478.block_hash(), at_437479.block_hash()],
    };
    assert_eq!(chain.accept(&at_437479, CLOCK_S), Ok(Accepted::NewTip(path.clone())));
    assert_eq!(chain.path_to_tip(&data.stale.block_hash()), Some(path));
    assert_eq!(chain.confirmations(&data.stale.block_hash()), None);
    assert_eq!(chain.hash_at(437_478), Some(at_437478.block_hash()));
}

/// A header that claims `bits` and really meets `target`, which may be far easier.
fn mine(previous: BlockHash, time: u32, bits: CompactTarget, target: Target) -> Header {
    let mut header = Header {
        version: Version::from_consensus(0x2000_0000),
        prev_blockhash: previous,
        merkle_root: TxMerkleNode::all_zeros(),
        time,
        bits,
        nonce: 0,
    };
    while !target.is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    header
}

#[test]
fn a_forged_easy_branch_is_refused() {
    let data = published();
    let mut chain = mainnet(&data);
    let before = data.headers[0];
    chain.accept(&before, CLOCK_S).expect("a valid header");
    let easy = CompactTarget::from_consensus(0x207f_ffff);
    let forged = mine(before.block_hash(), before.time + 600, easy, Target::from_compact(easy));
    assert_eq!(chain.accept(&forged, CLOCK_S), Err(HeaderRefusal::TargetWrong), "its own easy target");
    let lowest = CompactTarget::from_consensus(0x1d00_ffff);
    let forged = mine(before.block_hash(), before.time + 6_000, lowest, Target::from_compact(easy));
    assert_eq!(chain.accept(&forged, CLOCK_S), Err(HeaderRefusal::TargetWrong), "the network's lowest difficulty");
    let forged = mine(before.block_hash(), before.time + 600, before.bits, Target::from_compact(easy));
    assert_eq!(
        chain.accept(&forged, CLOCK_S),
        Err(HeaderRefusal::WorkInsufficient),
        "the right target without the work"
    );
    let child = mine(forged.block_hash(), before.time + 1_200, easy, Target::from_compact(easy));
    assert_eq!(chain.accept(&child, CLOCK_S), Err(HeaderRefusal::ParentUnknown), "nothing stands on a refused header");
    assert_eq!(chain.tip().hash, before.block_hash());
}

#[test]
fn the_old_target_is_refused_after_a_retarget() {
    let data = published();
    let mut chain = mainnet(&data);
    for header in &data.headers[..5] {
        chain.accept(header, CLOCK_S).expect("a valid header");
    }
    let mut forged = data.headers[5];
    forged.bits = data.headers[4].bits;
    assert_eq!(chain.accept(&forged, CLOCK_S), Err(HeaderRefusal::TargetWrong));
    let wrong_start = Checkpoint::inside_period(
        data.checkpoint_height,
        data.checkpoint,
        data.period_start.time + 3_600,
        data.checkpoint.bits,
    );
    let mut chain = HeaderChain::start(Network::Main, wrong_start, HEADERS_MAX).expect("its work is real");
    for header in &data.headers[..5] {
        chain.accept(header, CLOCK_S).expect("a valid header");
    }
    assert_eq!(chain.accept(&data.headers[5], CLOCK_S), Err(HeaderRefusal::TargetWrong), "the rule is really computed");
}

#[test]
fn checkpoints_of_another_network_are_refused() {
    let refusal = |network, checkpoint| HeaderChain::start(network, checkpoint, HEADERS_MAX).err();
    assert_eq!(refusal(Network::Main, Checkpoint::genesis(Network::Test)), Some(HeaderRefusal::GenesisMismatch));
    let regtest = Checkpoint::genesis(Network::Regtest);
    assert_eq!(refusal(Network::Regtest, regtest), None);
    let header = published().period_start;
    assert_eq!(Checkpoint::at_period_start(435_457, header), Err(HeaderRefusal::CheckpointIncomplete));
    let mut forged = header;
    forged.nonce += 1;
    let forged = Checkpoint::at_period_start(435_456, forged).expect("a period's start");
    assert_eq!(refusal(Network::Main, forged), Some(HeaderRefusal::WorkInsufficient));
    let real = Checkpoint::at_period_start(435_456, header).expect("a period's start");
    assert_eq!(refusal(Network::Main, real), None);
    assert_eq!(parse_header(&[0; 79]), Err(HeaderRefusal::Size { size: 79 }));
    assert_eq!(parse_header(&[0; 81]), Err(HeaderRefusal::Size { size: 81 }));
}

struct Regtest {
    chain: HeaderChain,
    bits: CompactTarget,
}

impl Regtest {
    fn new(headers_max: usize) -> Regtest {
        let genesis = Checkpoint::genesis(Network::Regtest);
        let chain = HeaderChain::start(Network::Regtest, genesis, headers_max).expect("genesis");
        Regtest { chain, bits: CompactTarget::from_consensus(0x207f_ffff) }
    }

    fn header(&self, previous: &BlockHash, time: u32) -> Header {
        mine(*previous, time, self.bits, Target::from_compact(self.bits))
    }

    /// Mines `count` headers on `previous`, `spacing_s` apart, and returns their hashes.
    fn extend(&mut self, previous: BlockHash, count: u32, spacing_s: u32) -> Vec<BlockHash> {
        let mut hashes = Vec::new();
        let mut last = self.chain.get(&previous).expect("a known parent").header;
        for _ in 0..count {
            last = self.header(&last.block_hash(), last.time + spacing_s);
            self.chain.accept(&last, CLOCK_S).expect("a valid header");
            hashes.push(last.block_hash());
        }
        hashes
    }
}

#[test]
fn the_branch_with_the_most_work_wins_at_any_depth() {
    let mut net = Regtest::new(HEADERS_MAX);
    let genesis = net.chain.tip().hash;
    let first = net.extend(genesis, 300, 600);
    let second = net.extend(first[9], 290, 601);
    assert_eq!(net.chain.tip().hash, first[299], "equal work: the first seen stays");
    let last = net.chain.get(&second[289]).expect("kept").header;
    let winner = net.header(&last.block_hash(), last.time + 1);
    let mut disconnect = first[10..].to_vec();
    disconnect.reverse();
    let mut connect = second.clone();
    connect.push(winner.block_hash());
    let path = ReorgPath { disconnect, connect };
    assert_eq!(net.chain.accept(&winner, CLOCK_S), Ok(Accepted::NewTip(path)));
    assert_eq!(net.chain.tip().height, 301);
    assert!(!net.chain.is_active(&first[10]));
    assert!(net.chain.is_active(&first[9]));
    let back = net.chain.path_to_tip(&first[299]).expect("both are kept");
    assert_eq!((back.disconnect.len(), back.connect.len()), (290, 291));
    assert_eq!(net.chain.path_to_tip(&winner.block_hash()), Some(ReorgPath { disconnect: vec![], connect: vec![] }));
}

#[test]
fn times_are_held_between_the_median_past_and_two_hours_ahead() {
    let mut net = Regtest::new(HEADERS_MAX);
    let genesis = net.chain.tip();
    let hashes = net.extend(genesis.hash, 20, 100);
    let median = net.chain.get(&hashes[14]).expect("kept").header.time;
    assert_eq!(net.chain.median_time_past(&hashes[19]), Some(median));
    let old = net.header(&hashes[19], median);
    assert_eq!(net.chain.accept(&old, CLOCK_S), Err(HeaderRefusal::TimeTooOld));
    let just = net.header(&hashes[19], median + 1);
    let ahead = net.header(&hashes[19], CLOCK_S + 7_201);
    assert_eq!(net.chain.accept(&ahead, CLOCK_S), Err(HeaderRefusal::TimeTooNew));
    assert!(net.chain.accept(&ahead, CLOCK_S + 1).is_ok(), "later it is good");
    assert!(net.chain.accept(&just, CLOCK_S).is_ok());
}

#[test]
fn without_earlier_times_the_median_is_not_guessed() {
    let data = published();
    let mut chain = mainnet(&data);
    assert_eq!(chain.median_time_past(&chain.tip().hash), None);
    for header in &data.headers {
        chain.accept(header, CLOCK_S).expect("a valid header");
    }
    assert!(chain.median_time_past(&chain.tip().hash).is_some(), "fourteen headers are known");
    let times: Vec<u32> = (0..20).map(|step| data.checkpoint.time - 12_000 + step * 600).collect();
    let (header, start) = (data.checkpoint, data.period_start.time);
    let checkpoint = Checkpoint::inside_period(437_466, header, start, header.bits).with_times_before(&times);
    let chain = HeaderChain::start(Network::Main, checkpoint, HEADERS_MAX).expect("a valid checkpoint");
    assert_eq!(chain.median_time_past(&chain.tip().hash), Some(times[15]));
}

#[test]
fn outdated_versions_are_refused() {
    let mut net = Regtest::new(HEADERS_MAX);
    let genesis = net.chain.tip();
    let mut header = net.header(&genesis.hash, genesis.header.time + 1);
    header.version = Version::from_consensus(3);
    while !header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    assert_eq!(net.chain.accept(&header, CLOCK_S), Err(HeaderRefusal::VersionOutdated));
}

#[test]
fn memory_is_bounded_and_two_weeks_are_always_kept() {
    let mut net = Regtest::new(0);
    let limit = 2 * REORG_DEPTH_MIN;
    let genesis = net.chain.tip().hash;
    let hashes = net.extend(genesis, limit + 100, 1);
    assert_eq!(net.chain.tip().height, limit + 100);
    assert_eq!(net.chain.lowest_height(), 101, "as many are kept as the limit says");
    assert_eq!(net.chain.hash_at(100), None);
    assert_eq!(net.chain.hash_at(101), Some(hashes[100]));
    assert_eq!(net.chain.path_to_tip(&hashes[99]), None, "forgotten");
    let late = net.header(&hashes[50], 1_800_000_000);
    assert_eq!(net.chain.accept(&late, CLOCK_S), Err(HeaderRefusal::ParentUnknown));
    // Side branches fill the store until only two weeks of headers are left below the tip.
    let fork = hashes[limit as usize + 50];
    let time = net.chain.get(&fork).expect("kept").header.time;
    let mut refusal = None;
    for number in 0..limit {
        let side = net.header(&fork, time + 10_000 + number);
        if let Err(error) = net.chain.accept(&side, CLOCK_S) {
            refusal = Some(error);
            break;
        }
    }
    assert_eq!(refusal, Some(HeaderRefusal::TooMany));
    assert!(net.chain.hash_at(net.chain.tip().height - REORG_DEPTH_MIN + 1).is_some());
}

#[test]
fn a_branch_whose_fork_is_forgotten_is_refused_and_changes_nothing() {
    let mut net = Regtest::new(4_500);
    let genesis = net.chain.tip().hash;
    let first = net.extend(genesis, 2_600, 1);
    let second = net.extend(first[199], 2_400, 2);
    assert_eq!(net.chain.tip().hash, first[2_599], "equal work: the first seen stays");
    assert!(net.chain.lowest_height() > 200, "the fork is forgotten");
    let last = net.chain.get(&second[2_399]).expect("kept").header;
    let winner = net.header(&last.block_hash(), last.time + 1);
    assert_eq!(net.chain.accept(&winner, CLOCK_S), Err(HeaderRefusal::ParentUnknown));
    assert_eq!(net.chain.get(&winner.block_hash()), None);
    assert_eq!(net.chain.tip().hash, first[2_599]);
}
