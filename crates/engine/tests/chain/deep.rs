//! Reorganisations deeper than the blocks that the state keeps: the journal stands still, and says so for as long as it lasts.

use super::*;
use florin_core::custody::{Block, BlockRef};
use florin_core::id::Height;
use florin_engine::lanes::Ask;

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
