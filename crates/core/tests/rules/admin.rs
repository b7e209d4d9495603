//! Definitions, policies, halts: each refusal by its rank.

use crate::world::*;
use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind, AssetPolicy, DepthStep, Halt, HaltAction, HaltReason};
use florin_core::command::{Command, Outcome};
use florin_core::custody::{Block, BlockRef, Chain};
use florin_core::decide::AdminRefusal;
use florin_core::id::{AssetId, BlockHash, ChainId, Height};

#[test]
fn asset_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    let define = |asset: Asset| Command::DefineAsset(asset);
    let plain = AssetKind::Plain;
    let id = AssetId(77);
    let steps = vec![
        (define(asset(BTC, "btc", 99, AssetKind::Coin, None)), AdminRefusal::AssetExists),
        (define(asset(id, "btc", 99, AssetKind::Coin, None)), AdminRefusal::AssetCodeInvalid),
        (define(asset(id, "B", 99, AssetKind::Coin, None)), AdminRefusal::AssetCodeInvalid),
        (define(asset(id, "ABCDEFGHIJKLM", 99, AssetKind::Coin, None)), AdminRefusal::AssetCodeInvalid),
        (define(asset(id, "B\u{42e}", 99, AssetKind::Coin, None)), AdminRefusal::AssetCodeInvalid),
        (define(asset(id, "BTC", 99, AssetKind::Coin, None)), AdminRefusal::AssetCodeTaken),
        (define(asset(id, "LTC", 37, AssetKind::Coin, None)), AdminRefusal::AssetDecimalsInvalid),
        (define(asset(id, "LTC", 36, AssetKind::Coin, None)), AdminRefusal::AssetChainMissing),
        (define(asset(id, "LTC", 36, plain, Some(BITCOIN))), AdminRefusal::AssetChainForbidden),
        (define(asset(id, "LTC", 36, AssetKind::Fiat, Some(BITCOIN))), AdminRefusal::AssetChainForbidden),
        (define(asset(id, "LTC", 36, AssetKind::Coin, Some(BITCOIN))), AdminRefusal::AssetChainTaken),
    ];
    check_ladder(&mut world, steps);
    world.done(define(asset(id, "LTC", 36, AssetKind::Coin, Some(ChainId(2)))));
    assert_eq!(world.state.asset_by_code("LTC").map(|asset| asset.id), Some(id));
}

fn with(change: impl FnOnce(&mut AssetPolicy)) -> Command {
    let mut changed = policy();
    change(&mut changed);
    Command::SetAssetPolicy(changed)
}

/// Breaks everything that is judged after the depths.
fn spoil(policy: &mut AssetPolicy) {
    policy.withdrawal_min = Amount::ZERO;
    policy.withdrawal_fee = Amount::new(1);
    policy.network_fee_max = Amount::ZERO;
    policy.missing_ms = 0;
}

fn depths(steps: &[(u128, u32)]) -> Command {
    with(|policy| {
        let step = |&(from, confirmations): &(u128, u32)| DepthStep { amount_from: Amount::new(from), confirmations };
        policy.depths = steps.iter().map(step).collect();
        spoil(policy);
    })
}

#[test]
fn policy_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    let steps = vec![
        (with(|policy| (policy.asset, policy.depths) = (AssetId(99), vec![])), AdminRefusal::AssetUnknown),
        (depths(&[]), AdminRefusal::DepthCountInvalid),
        (depths(&[(1, 0); 17]), AdminRefusal::DepthCountInvalid),
        (depths(&[(1, 0), (1, 2)]), AdminRefusal::DepthStartInvalid),
        (depths(&[(0, 0), (5, 2), (5, 1)]), AdminRefusal::DepthAmountsUnordered),
        (depths(&[(0, 0)]), AdminRefusal::ConfirmationsInvalid),
        (depths(&[(0, 3), (5, 0)]), AdminRefusal::ConfirmationsInvalid),
        (depths(&[(0, 10_001), (5, 1)]), AdminRefusal::ConfirmationsInvalid),
        (with(|policy| policy.final_confirmations = 0), AdminRefusal::ConfirmationsInvalid),
        (depths(&[(0, 3), (5, 2)]), AdminRefusal::DepthsFalling),
        (with(spoil), AdminRefusal::WithdrawalMinZero),
        (with(|policy| policy.withdrawal_fee = Amount::new(10_001)), AdminRefusal::WithdrawalFeeTooLarge),
        (
            with(|policy| (policy.network_fee_max, policy.missing_ms) = (Amount::ZERO, 0)),
            AdminRefusal::NetworkFeeMaxZero,
        ),
        (
            with(|policy| (policy.network_fee_max, policy.missing_ms) = (Amount::new(100_000_001), 0)),
            AdminRefusal::NetworkFeeMaxTooLarge,
        ),
        (with(|policy| policy.missing_ms = 0), AdminRefusal::PolicyTimeZero),
        (with(|policy| policy.intent_ms = 0), AdminRefusal::PolicyTimeZero),
    ];
    check_ladder(&mut world, steps);
    assert!(world.state.policies().is_empty());
    world.done(with(|_| ()));
    world.done(with(|policy| policy.network_fee_max = Amount::new(100_000_000)));
    world.done(with(|policy| policy.final_confirmations = 9));
    assert_eq!(world.state.policies()[&BTC].final_confirmations, 9, "a policy is replaced as a whole");
}

#[test]
fn halts_of_different_reasons_are_resumed_one_by_one() {
    let mut world = World::new();
    let operator = halt_of(Some(BTC), HaltAction::Withdraw);
    let foreign = Halt { reason: HaltReason::ForeignSpend, ..operator.clone() };
    let unknown = AdminRefusal::HaltUnknown.into();
    assert_eq!(
        world.refused(Command::Halt(halt_of(Some(AssetId(99)), HaltAction::Sign))),
        AdminRefusal::AssetUnknown.into()
    );
    assert_eq!(world.refused(Command::Resume(operator.clone())), unknown);
    world.done(Command::Halt(operator.clone()));
    world.done(Command::Halt(foreign.clone()));
    assert_eq!(world.refused(Command::Halt(operator.clone())), AdminRefusal::HaltExists.into());
    assert!(!world.state.is_halted(EUR, HaltAction::Withdraw) && !world.state.is_halted(BTC, HaltAction::Sign));
    world.done(Command::Resume(operator.clone()));
    assert!(world.state.is_halted(BTC, HaltAction::Withdraw), "the other reason still stands");
    assert_eq!(world.refused(Command::Resume(operator)), unknown);
    world.done(Command::Resume(foreign));
    assert!(!world.state.is_halted(BTC, HaltAction::Withdraw));
    world.done(Command::Halt(halt_of(None, HaltAction::Withdraw)));
    assert!(world.state.is_halted(EUR, HaltAction::Withdraw), "a halt of all assets halts each");
}

#[test]
fn chain_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    let other = AssetId(8);
    world.done(Command::DefineAsset(asset(other, "LTC", 8, AssetKind::Coin, Some(ChainId(2)))));
    let good =
        Chain { id: ChainId(2), name: "litecoin".to_owned(), genesis: BlockHash([2; 32]), coin: other, ..chain() };
    let block = Block { chain: ChainId(2), at: BlockRef { height: Height(5), hash: BlockHash([5; 32]) }, ..start() };
    let wrong = Block { chain: BITCOIN, ..block.clone() };
    let at =
        |height, hash| Block { at: BlockRef { height: Height(height), hash: BlockHash([hash; 32]) }, ..block.clone() };
    let define = |start: &Block, change: fn(&mut Chain)| {
        let mut chain = Chain { coinbase_maturity: 10_001, ..good.clone() };
        change(&mut chain);
        Command::DefineChain { chain, start: start.clone() }
    };
    let sane: fn(&mut Chain) = |chain| chain.coinbase_maturity = 10_000;
    let steps = vec![
        (define(&wrong, |chain| (chain.id, chain.name) = (BITCOIN, String::new())), AdminRefusal::ChainExists),
        (define(&wrong, |chain| (chain.coin, chain.name) = (EUR, String::new())), AdminRefusal::ChainNameInvalid),
        (define(&wrong, |chain| chain.name = "a".repeat(33)), AdminRefusal::ChainNameInvalid),
        (define(&wrong, |chain| chain.name = "Litecoin".to_owned()), AdminRefusal::ChainNameInvalid),
        (
            define(&wrong, |chain| (chain.name, chain.genesis) = ("bitcoin-regtest".to_owned(), BlockHash([1; 32]))),
            AdminRefusal::ChainNameTaken,
        ),
        (
            define(&wrong, |chain| (chain.coin, chain.genesis) = (AssetId(99), BlockHash([1; 32]))),
            AdminRefusal::ChainGenesisTaken,
        ),
        (define(&wrong, |chain| chain.coin = AssetId(99)), AdminRefusal::ChainCoinUnknown),
        (define(&wrong, |chain| chain.coin = EUR), AdminRefusal::ChainCoinMismatch),
        (define(&wrong, |chain| chain.coin = BTC), AdminRefusal::ChainCoinMismatch),
        (define(&wrong, |_| ()), AdminRefusal::CoinbaseMaturityInvalid),
        (define(&wrong, sane), AdminRefusal::ChainStartInvalid),
        (define(&at(0, 5), sane), AdminRefusal::ChainStartInvalid),
        (define(&at(5, 2), sane), AdminRefusal::ChainStartInvalid),
    ];
    check_ladder(&mut world, steps);
    assert_eq!(world.done(define(&block, sane)), Outcome::Done(true));
    assert_eq!(world.state.chains()[&ChainId(2)].tip(), Some(&block));
    assert_eq!(world.state.chains()[&BITCOIN].tip(), Some(&start()), "genesis is a first block as well");
}
