//! Definitions, policies, chains and wallets that must be refused.

use super::{NOBODY, units};
use crate::setup::{
    CHAIN, CHAIN_MISSING, CHAIN_STILL, COIN_MISSING, EUR, UNIT, WALLET, WALLET_RETIRED, policy, still, wallet,
};
use crate::world::World;
use florin_core::asset::{Asset, AssetKind, AssetPolicy, DepthStep, Halt, HaltAction, HaltReason};
use florin_core::command::Command;
use florin_core::custody::{Beneficiary, Block, Branch, Chain, Wallet};
use florin_core::id::{AssetId, BlockHash, ChainId, CustomerId, Height, WalletId};
use florin_core::wire::Bytes;

impl World {
    /// Assets, halts and confirmations of the clock.
    pub(super) fn wrong_assets(&mut self) -> Vec<Command> {
        let asset = |id, code: &str, decimals, kind, chain| {
            Command::DefineAsset(Asset { id: AssetId(id), code: code.into(), decimals, kind, chain })
        };
        let halts = self.state(|state| state.halts().clone()).unwrap_or_default();
        let is_jumped = self.state(|state| state.counters().jumped_to.is_some()).unwrap_or(true);
        let unknown = Halt { asset: Some(AssetId(77)), action: HaltAction::Sign, reason: HaltReason::Operator };
        let unset = Halt { asset: Some(UNIT), action: HaltAction::Sign, reason: HaltReason::BooksDisagree };
        let mut commands = vec![
            asset(1, "OTHER", 8, AssetKind::Fiat, None),
            asset(77, "btc", 8, AssetKind::Fiat, None),
            asset(77, "BTC", 8, AssetKind::Fiat, None),
            asset(77, "OTHER", 37, AssetKind::Fiat, None),
            asset(77, "OTHER", 8, AssetKind::Coin, None),
            asset(77, "OTHER", 8, AssetKind::Fiat, Some(ChainId(9))),
            asset(77, "OTHER", 8, AssetKind::Coin, Some(CHAIN)),
            Command::Halt(unknown),
            Command::Resume(unset),
        ];
        commands.extend(halts.first().cloned().map(Command::Halt));
        commands.push(if is_jumped { Command::Tick } else { Command::ConfirmTime });
        commands
    }

    /// Policies.
    pub(super) fn wrong_policies(&mut self) -> Vec<Command> {
        let good = policy(self);
        let with = |change: &dyn Fn(&mut AssetPolicy)| {
            let mut policy = good.clone();
            change(&mut policy);
            Command::SetAssetPolicy(policy)
        };
        let step = |from, confirmations| DepthStep { amount_from: units(from), confirmations };
        vec![
            with(&|policy| policy.asset = AssetId(77)),
            with(&|policy| policy.depths.clear()),
            with(&|policy| policy.depths = vec![step(1, 1)]),
            with(&|policy| policy.depths = vec![step(0, 1), step(5, 2), step(5, 3)]),
            with(&|policy| policy.depths = vec![step(0, 0)]),
            with(&|policy| policy.depths = vec![step(0, 3), step(5, 2)]),
            with(&|policy| policy.final_confirmations = 10_001),
            with(&|policy| policy.withdrawal_min = units(0)),
            with(&|policy| policy.withdrawal_fee = units(1_000_000)),
            with(&|policy| policy.network_fee_max = units(0)),
            with(&|policy| policy.network_fee_max = units(100_000_001)),
            with(&|policy| policy.missing_ms = 0),
        ]
    }

    /// Chains.
    pub(super) fn wrong_chains(&mut self) -> Vec<Command> {
        let (good, start) = still();
        let genesis = BlockHash([0x77; 32]);
        let good = Chain { id: CHAIN_MISSING, name: "other".into(), genesis, coin: COIN_MISSING, ..good };
        let mut start = Block { chain: CHAIN_MISSING, ..start };
        start.at.hash = genesis;
        let with = |change: &dyn Fn(&mut Chain, &mut Block)| {
            let (mut chain, mut start) = (good.clone(), start.clone());
            change(&mut chain, &mut start);
            Command::DefineChain { chain, start }
        };
        vec![
            with(&|chain, _| chain.id = CHAIN),
            with(&|chain, _| chain.name = "Other Chain".into()),
            with(&|chain, _| chain.name = "bitcoin-regtest".into()),
            with(&|chain, _| chain.genesis = still().0.genesis),
            with(&|chain, _| chain.coin = AssetId(77)),
            with(&|chain, _| chain.coin = EUR),
            with(&|chain, _| chain.coinbase_maturity = 10_001),
            with(&|_, start| start.chain = CHAIN),
            with(&|_, start| start.at.height = Height(3)),
        ]
    }

    /// Wallets and addresses.
    pub(super) fn wrong_wallets(&mut self) -> Vec<Command> {
        let mut good = wallet(self, WALLET_RETIRED, Height(0));
        good.id = WalletId(77);
        let taken = good.descriptor_internal.clone();
        (good.descriptor_external, good.descriptor_internal) = ("new/0/*".into(), "new/1/*".into());
        let with = |change: &dyn Fn(&mut Wallet)| {
            let mut wallet = good.clone();
            change(&mut wallet);
            Command::RegisterWallet(wallet)
        };
        let index = self.state(|state| state.wallets().get(&WALLET).map(|wallet| wallet.next_external));
        let index = index.flatten().unwrap_or(0);
        let issued = self.auditor.issued().first().map(|(_, script)| script.clone()).unwrap_or_default();
        let customer = Beneficiary::Customer(CustomerId([0; 16]));
        let address = |wallet, branch, index, script: &[u8], beneficiary: &Beneficiary| {
            let (script, beneficiary) = (Bytes(script.to_vec()), beneficiary.clone());
            Command::IssueAddress { wallet, branch, index, script, beneficiary }
        };
        let (external, odd) = (Branch::External, [0x51]);
        vec![
            with(&|wallet| wallet.id = WALLET),
            with(&|wallet| wallet.chain = ChainId(77)),
            with(&|wallet| wallet.generation = 0),
            with(&|wallet| wallet.descriptor_internal = wallet.descriptor_external.clone()),
            with(&|wallet| wallet.descriptor_external = taken.clone()),
            with(&|wallet| wallet.next_external = 1),
            Command::RetireWallet(WalletId(77)),
            Command::RetireWallet(WALLET_RETIRED),
            address(WALLET_RETIRED, external, 2, &odd, &customer),
            address(WALLET, Branch::Internal, 0, &odd, &customer),
            address(WALLET, external, index + 1, &odd, &customer),
            address(WALLET, external, index, &[], &customer),
            address(WALLET, external, index, &issued, &customer),
            address(WALLET, external, index, &odd, &Beneficiary::Customer(NOBODY)),
            address(WALLET, external, index, &odd, &Beneficiary::CHANGE),
        ]
    }

    /// The chain that stands still, and its only block.
    pub(super) fn still_chain() -> (ChainId, BlockHash) {
        (CHAIN_STILL, still().0.genesis)
    }
}
