//! What the interface shows: the wire's own types, made from the state. Core types never leave the process as they are, and nothing here changes anything.

use crate::api::problem::Problem;
use florin_chain::bitcoin::address::address_text;
use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetPolicy, Halt};
use florin_core::broker::{Price, Quote};
use florin_core::custody::{
    Address, Beneficiary, BlockRef, Deposit, DepositStatus, KeyPath, OutPoint, Payment, Wallet, Withdrawal,
};
use florin_core::decide::KEPT_BLOCKS;
use florin_core::hex::encode as encode_hex;
use florin_core::id::{AssetId, ChainId, CustomerId, Height};
use florin_core::ledger::Owner;
use florin_core::state::State;
use florin_core::wire::Message;
use florin_engine::scripts::network_of;
use serde::Serialize;
use utoipa::ToSchema;

/// Done; there is no more to say.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoneView {
    /// Always true.
    pub done: bool,
}

/// An asset.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetView {
    /// Its number in the journal.
    pub id: u32,
    /// Its code.
    pub code: String,
    /// How many decimals its amounts have at most.
    pub decimals: u8,
    /// `coin`, `fiat` or `plain`.
    pub kind: String,
    /// The chain it lives on.
    pub chain: Option<u32>,
    /// How it is handled.
    pub policy: Option<PolicyView>,
}

/// How an asset is handled.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyView {
    /// From which amount on a deposit waits for how many confirmations.
    pub depths: Vec<DepthView>,
    /// Below this a deposit is shown and not credited.
    pub deposit_min: String,
    /// The smallest withdrawal.
    pub withdrawal_min: String,
    /// What a withdrawal costs.
    pub withdrawal_fee: String,
    /// Above this a withdrawal needs approvals.
    pub automatic_max: String,
    /// Confirmations after which a withdrawal is final.
    pub final_confirmations: u32,
    /// For how many seconds a credited deposit that left the chain may stay away before it is debited.
    pub missing_s: u64,
    /// For how many seconds after its request a withdrawal may be signed.
    pub intent_s: u64,
    /// The most network fee of one transaction.
    pub network_fee_max: String,
    /// How many blocks are kept in memory to take them back at once; older ones are read from the journal where a
    /// reorganisation reaches them.
    pub kept_blocks: u32,
}

/// A step of a deposit's depth.
#[derive(Debug, Serialize, ToSchema)]
pub struct DepthView {
    /// From this amount on.
    pub amount_from: String,
    /// How many confirmations.
    pub confirmations: u32,
}

/// A customer.
#[derive(Debug, Serialize, ToSchema)]
pub struct CustomerView {
    /// The id.
    pub id: String,
    /// The name, where one is kept.
    pub name: Option<String>,
    /// When the record was opened, in Unix milliseconds.
    pub opened_ms: u64,
    /// How many reasons forbid withdrawals now.
    pub freezes: u32,
}

/// A balance of one asset.
#[derive(Debug, Serialize, ToSchema)]
pub struct BalanceView {
    /// The asset's code.
    pub asset: String,
    /// What may be spent.
    pub available: String,
    /// Reserved for withdrawals under way.
    pub held: String,
    /// Announced by deposits that are not deep enough; not spendable.
    pub pending: String,
    /// Kept back because a credited deposit's block was taken back.
    pub frozen: String,
}

/// An address that was handed out.
#[derive(Debug, Serialize, ToSchema)]
pub struct AddressView {
    /// The address.
    pub address: Option<String>,
    /// Its output script in hexadecimal.
    pub script: String,
    /// The wallet.
    pub wallet: u32,
    /// `external` or `internal`.
    pub branch: String,
    /// The index in the branch.
    pub index: u32,
    /// A customer's id, `inventory`, or `change`.
    pub beneficiary: String,
    /// When it was handed out, in Unix milliseconds.
    pub issued_ms: Option<u64>,
}

/// A block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BlockView {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: String,
}

/// A journalled block with its surroundings.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChainBlockView {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: String,
    /// The hash of the block before it.
    pub previous: String,
    /// The block's own time in Unix seconds.
    pub time_s: u64,
    /// How many blocks confirm it, itself counted.
    pub confirmations: u32,
}

/// A payment to one of our addresses.
#[derive(Debug, Serialize, ToSchema)]
pub struct DepositView {
    /// Transaction and output: `txid:vout`.
    pub id: String,
    /// The chain.
    pub chain: u32,
    /// A customer's id, `inventory`, or `change`.
    pub beneficiary: String,
    /// The asset's code.
    pub asset: String,
    /// What it pays.
    pub amount: String,
    /// `seen`, `pending`, `credited`, `missing`, `reversed` or `replaced`.
    pub status: String,
    /// Its block.
    pub block: Option<BlockView>,
    /// Confirmations now.
    pub confirmations: u32,
    /// Confirmations at which it is credited; absent once the deposit is archived.
    pub confirmations_needed: Option<u32>,
    /// Why it is not credited yet, in a sentence.
    pub waits_for: Option<String>,
    /// The address paid.
    pub address: Option<String>,
    /// Whether it was mined; absent once the deposit is archived.
    pub coinbase: Option<bool>,
    /// When it was first seen, in Unix milliseconds.
    pub seen_ms: u64,
    /// Since when it is missing, in Unix milliseconds.
    pub missing_since_ms: Option<u64>,
    /// What was debited when it was reversed.
    pub debited: String,
}

/// A price.
#[derive(Debug, Serialize, ToSchema)]
pub struct PriceView {
    /// What is bought and sold.
    pub base: String,
    /// What it is paid in.
    pub quote: String,
    /// What one whole unit of base costs, in units of quote; absent where no decimal says it exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// The ratio that is reckoned with, which is exact in any case: so much of quote
    pub quote_amount: String,
    /// for so much of base.
    pub base_amount: String,
    /// As of when, in Unix milliseconds.
    pub as_of_ms: u64,
    /// How old it may be when a quote is made from it, in milliseconds.
    pub age_max_ms: u64,
    /// The margin on either side, in hundredths of a percent.
    pub spread_bp: u32,
    /// How long a quote stands, in milliseconds.
    pub quote_ms: u64,
}

/// A quote.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuoteView {
    /// Its id.
    pub id: String,
    /// For whom.
    pub customer: String,
    /// `buy` or `sell`.
    pub side: String,
    /// What is bought or sold.
    pub base: String,
    /// How much of it.
    pub base_amount: String,
    /// What it is paid in.
    pub quote: String,
    /// How much of it, margin included.
    pub quote_amount: String,
    /// The margin within it.
    pub spread: String,
    /// Not to be accepted at or after this time, in Unix milliseconds.
    pub expiry_ms: u64,
    /// What became of it.
    pub status: QuoteStatus,
}

/// What became of a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuoteStatus {
    /// It stands, if it has not expired.
    Open,
    /// Its exchange was done.
    Accepted,
    /// It expired, or a newer one took its place.
    Ended,
}

/// A withdrawal.
#[derive(Debug, Serialize, ToSchema)]
pub struct WithdrawalView {
    /// Its id.
    pub id: String,
    /// Whose.
    pub customer: String,
    /// The asset's code.
    pub asset: String,
    /// What arrives.
    pub amount: String,
    /// What it costs on top.
    pub fee: String,
    /// The address paid.
    pub address: Option<String>,
    /// `awaiting_approval`, `queued`, `signing`, `signed`, `broadcast`, `confirmed`, `final`, `cancelled` or `refunded`.
    pub status: String,
    /// The wallet that pays; absent once the withdrawal is archived.
    pub wallet: Option<u32>,
    /// The plan that pays it.
    pub plan: Option<u64>,
    /// Ids of the signed transactions, the newest last.
    pub signed_txids: Vec<String>,
    /// The transaction that paid it.
    pub txid: Option<String>,
    /// Its block.
    pub block: Option<BlockView>,
    /// Confirmations now.
    pub confirmations: u32,
    /// Public keys of those who approved it, in hexadecimal.
    pub approved_by: Vec<String>,
    /// What operators sign to approve it: SHA-256 over the intent, in hexadecimal; absent once it is archived.
    pub intent_digest: Option<String>,
    /// The intent in its canonical encoding, in hexadecimal; absent once it is archived.
    pub intent: Option<String>,
    /// Not to be signed after this time, in Unix milliseconds; absent once it is archived.
    pub intent_expiry_ms: Option<u64>,
    /// When it was requested, in Unix milliseconds.
    pub requested_ms: u64,
}

/// A wallet.
#[derive(Debug, Serialize, ToSchema)]
pub struct WalletView {
    /// Its id.
    pub id: u32,
    /// Its chain.
    pub chain: u32,
    /// Its generation.
    pub generation: u32,
    /// `hot`, `warm` or `cold`.
    pub tier: String,
    /// The first block that may concern it.
    pub birthday: u32,
    /// The descriptor of receiving addresses.
    pub descriptor_external: String,
    /// The descriptor of change addresses.
    pub descriptor_internal: String,
    /// Whether it takes no new addresses.
    pub retired: bool,
    /// The next receiving index.
    pub next_external: u32,
    /// The next change index.
    pub next_internal: u32,
    /// The asset's code.
    pub asset: Option<String>,
    /// Its unspent coins.
    pub coins: u64,
    /// What they hold.
    pub coins_amount: String,
}

/// A halt.
#[derive(Debug, Serialize, ToSchema)]
pub struct HaltView {
    /// The asset's code; all assets where absent.
    pub asset: Option<String>,
    /// `credit`, `quote`, `withdraw` or `sign`.
    pub action: String,
    /// Why.
    pub reason: String,
}

/// The asset with a code.
///
/// # Errors
/// `asset_unknown`.
pub(crate) fn asset_of<'a>(state: &'a State, code: &str) -> Result<&'a Asset, Problem> {
    state
        .asset_by_code(code)
        .ok_or_else(|| Problem::titled("asset_unknown", "there is no such asset".to_owned()).detail(quoted(code)))
}

/// What was sent, short and without control characters, for a sentence.
pub(crate) fn quoted(text: &str) -> String {
    let text: String = text.chars().filter(|character| !character.is_control()).take(64).collect();
    format!("there is no '{text}'")
}

fn decimals(state: &State, asset: AssetId) -> u8 {
    state.assets().get(&asset).map_or(0, |asset| asset.decimals)
}

pub(crate) fn code(state: &State, asset: AssetId) -> String {
    state.assets().get(&asset).map_or_else(|| asset.to_string(), |asset| asset.code.clone())
}

/// An amount with its asset's decimals.
pub(crate) fn money(state: &State, asset: AssetId, amount: Amount) -> String {
    amount.format(decimals(state, asset))
}

/// The address of a script on a chain.
pub(crate) fn address(state: &State, chain: ChainId, script: &[u8]) -> Option<String> {
    let network = network_of(state.chains().get(&chain)?.chain.genesis)?;
    address_text(network, bitcoin::Script::from_bytes(script))
}

fn chain_of_wallet(state: &State, path: KeyPath) -> ChainId {
    state.wallets().get(&path.wallet).map_or(ChainId(0), |wallet| wallet.chain)
}

pub(crate) fn coin_of(state: &State, chain: ChainId) -> Option<AssetId> {
    state.chains().get(&chain).map(|chain| chain.chain.coin)
}

pub(crate) fn block(at: BlockRef) -> BlockView {
    BlockView { height: at.height.0, hash: at.hash.to_string() }
}

pub(crate) fn confirmations(state: &State, chain: ChainId, at: Option<BlockRef>) -> u32 {
    let Some(at) = at else { return 0 };
    state.chains().get(&chain).map_or(0, |chain| chain.confirmations(at.height))
}

/// Whom coins are for, in one word.
pub(crate) fn beneficiary(beneficiary: &Beneficiary) -> String {
    match beneficiary {
        Beneficiary::Customer(customer) => customer.to_string(),
        Beneficiary::House(true) => "inventory".to_owned(),
        Beneficiary::House(false) => "change".to_owned(),
    }
}

/// An output's name: `txid:vout`.
pub fn outpoint_text(outpoint: &OutPoint) -> String {
    format!("{}:{}", outpoint.txid, outpoint.vout)
}

impl AssetView {
    pub(crate) fn new(state: &State, asset: &Asset) -> AssetView {
        let policy = state.policies().get(&asset.id).map(|policy| PolicyView::new(asset.decimals, policy));
        AssetView {
            id: asset.id.0,
            code: asset.code.clone(),
            decimals: asset.decimals,
            kind: asset.kind.name(),
            chain: asset.chain.map(|chain| chain.0),
            policy,
        }
    }
}

impl PolicyView {
    fn new(decimals: u8, policy: &AssetPolicy) -> PolicyView {
        let depth = |step: &florin_core::asset::DepthStep| DepthView {
            amount_from: step.amount_from.format(decimals),
            confirmations: step.confirmations,
        };
        let deepest = policy.depths.iter().map(|step| step.confirmations).max().unwrap_or(0);
        PolicyView {
            depths: policy.depths.iter().map(depth).collect(),
            deposit_min: policy.deposit_min.format(decimals),
            withdrawal_min: policy.withdrawal_min.format(decimals),
            withdrawal_fee: policy.withdrawal_fee.format(decimals),
            automatic_max: policy.automatic_max.format(decimals),
            final_confirmations: policy.final_confirmations,
            missing_s: policy.missing_ms / 1_000,
            intent_s: policy.intent_ms / 1_000,
            network_fee_max: policy.network_fee_max.format(decimals),
            kept_blocks: policy.kept_blocks.unwrap_or(KEPT_BLOCKS).max(deepest).max(policy.final_confirmations),
        }
    }
}

/// A customer's balances, in order of asset.
pub(crate) fn balances(state: &State, customer: CustomerId) -> Vec<(AssetId, BalanceView)> {
    let owner = Owner::Customer(customer);
    let missing = |deposit: &&Deposit| {
        deposit.status == DepositStatus::Missing && deposit.beneficiary == Beneficiary::Customer(customer)
    };
    // Whose deposit is missing is frozen for it: for all others there is nothing to look for.
    let is_frozen = state.customers().get(&customer).is_some_and(|customer| customer.freezes > 0);
    let deposits = state.deposits().values().take_while(|_| is_frozen);
    let frozen_holds: Vec<_> = deposits.filter(missing).filter_map(|deposit| deposit.hold).collect();
    let view = |account: &florin_core::ledger::Account| {
        let holds = frozen_holds.iter().filter_map(|hold| state.ledger().holds().get(hold));
        let ours = holds.filter(|hold| hold.transfer.debit == account.id);
        let frozen: Amount = ours.map(|hold| hold.transfer.amount).sum();
        let show = |amount: Amount| money(state, account.asset, amount);
        let balance = BalanceView {
            asset: code(state, account.asset),
            available: show(account.available()),
            held: show(account.debits_pending.saturating_sub(frozen)),
            pending: show(account.credits_pending),
            frozen: show(frozen),
        };
        (account.asset, balance)
    };
    state.ledger().accounts_of(&owner).map(view).collect()
}

impl AddressView {
    pub(crate) fn new(state: &State, issued: &Address) -> AddressView {
        AddressView {
            address: address(state, chain_of_wallet(state, issued.path), &issued.script.0),
            script: encode_hex(&issued.script.0),
            wallet: issued.path.wallet.0,
            branch: issued.path.branch.name(),
            index: issued.path.index,
            beneficiary: beneficiary(&issued.beneficiary),
            issued_ms: Some(issued.issued.0),
        }
    }
}

impl DepositView {
    pub(crate) fn new(state: &State, deposit: &Deposit) -> DepositView {
        let chain = deposit.outpoint.chain;
        let asset = coin_of(state, chain).unwrap_or(AssetId(0));
        let confirmations = confirmations(state, chain, deposit.at);
        let needed = confirmations_needed(state, asset, deposit);
        let paid = state.addresses().get(&deposit.path);
        DepositView {
            id: outpoint_text(&deposit.outpoint),
            chain: chain.0,
            beneficiary: beneficiary(&deposit.beneficiary),
            asset: code(state, asset),
            amount: money(state, asset, deposit.amount),
            status: deposit.status.name(),
            block: deposit.at.map(block),
            confirmations,
            confirmations_needed: Some(needed),
            waits_for: waits_for(deposit, needed.saturating_sub(confirmations)),
            address: paid.and_then(|paid| address(state, chain, &paid.script.0)),
            coinbase: Some(deposit.coinbase),
            seen_ms: deposit.seen.0,
            missing_since_ms: deposit.missing_since.map(|since| since.0),
            debited: money(state, asset, deposit.debited),
        }
    }
}

fn confirmations_needed(state: &State, asset: AssetId, deposit: &Deposit) -> u32 {
    // What was decided for this deposit stands, whatever the policy says today.
    if let (Some(due), Some(at)) = (deposit.due, deposit.at) {
        return due.0.saturating_add(1).saturating_sub(at.height.0);
    }
    let steps = state.policies().get(&asset).map_or(&[][..], |policy| policy.depths.as_slice());
    let step = steps.iter().take_while(|step| step.amount_from <= deposit.amount).last();
    let depth = step.map_or(1, |step| step.confirmations);
    let maturity = state.chains().get(&deposit.outpoint.chain).map_or(0, |chain| chain.chain.coinbase_maturity);
    if deposit.coinbase { depth.max(maturity) } else { depth }
}

fn waits_for(deposit: &Deposit, blocks: u32) -> Option<String> {
    match deposit.status {
        DepositStatus::Seen => Some("it is in no block yet".to_owned()),
        DepositStatus::Pending if deposit.due.is_none() => Some("it is below the smallest deposit".to_owned()),
        DepositStatus::Pending if blocks > 0 => Some(format!("{blocks} more blocks")),
        DepositStatus::Pending => Some("crediting is halted".to_owned()),
        DepositStatus::Missing => Some("its block was taken back; the amount is frozen until it returns".to_owned()),
        DepositStatus::Credited | DepositStatus::Reversed | DepositStatus::Replaced => None,
    }
}

/// What one whole unit of base costs, as people write it: with the decimals of quote, and as many more as it takes.
fn written_price(state: &State, price: &Price) -> Option<String> {
    let decimals = |asset| state.assets().get(&asset).map(|asset| asset.decimals);
    decimal_price(
        price.quote_units.units(),
        decimals(price.pair.quote)?,
        price.base_units.units(),
        decimals(price.pair.base)?,
    )
}

/// Smallest units of quote for smallest units of base, as units of quote for one of base. Exact, or not at all.
fn decimal_price(quote_units: u128, quote_decimals: u8, base_units: u128, base_decimals: u8) -> Option<String> {
    let places = base_units.checked_ilog10().filter(|places| 10u128.checked_pow(*places) == Some(base_units))?;
    let shift = i64::from(places) - i64::from(base_decimals);
    if shift < 0 {
        let factor = 10u128.checked_pow(u32::try_from(-shift).ok()?)?;
        return Some(Amount::new(quote_units.checked_mul(factor)?).format(quote_decimals));
    }
    let (mut units, mut decimals) = (quote_units, u8::try_from(i64::from(quote_decimals) + shift).ok()?);
    while decimals > quote_decimals && units.is_multiple_of(10) {
        (units, decimals) = (units / 10, decimals - 1);
    }
    Some(Amount::new(units).format(decimals))
}

impl PriceView {
    pub(crate) fn new(state: &State, price: &Price) -> PriceView {
        PriceView {
            base: code(state, price.pair.base),
            quote: code(state, price.pair.quote),
            price: written_price(state, price),
            quote_amount: money(state, price.pair.quote, price.quote_units),
            base_amount: money(state, price.pair.base, price.base_units),
            as_of_ms: price.as_of.0,
            age_max_ms: price.age_max_ms,
            spread_bp: price.spread_bp,
            quote_ms: price.quote_ms,
        }
    }
}

impl QuoteView {
    pub(crate) fn new(state: &State, quote: &Quote, status: QuoteStatus) -> QuoteView {
        QuoteView {
            id: quote.id.to_string(),
            customer: quote.customer.to_string(),
            side: quote.side.name(),
            base: code(state, quote.pair.base),
            base_amount: money(state, quote.pair.base, quote.base),
            quote: code(state, quote.pair.quote),
            quote_amount: money(state, quote.pair.quote, quote.quote),
            spread: money(state, quote.pair.quote, quote.spread),
            expiry_ms: quote.expiry.0,
            status,
        }
    }
}

impl WithdrawalView {
    pub(crate) fn new(state: &State, withdrawal: &Withdrawal) -> WithdrawalView {
        let wallet = withdrawal.intent.wallet;
        let chain = state.wallets().get(&wallet).map_or(ChainId(0), |wallet| wallet.chain);
        let plan = withdrawal.plan.and_then(|plan| state.plans().get(&plan));
        let versions = plan.map_or(&[][..], |plan| plan.versions.as_slice());
        let paid: Option<&Payment> = withdrawal.paid.as_ref();
        WithdrawalView {
            id: withdrawal.id.to_string(),
            customer: withdrawal.customer.to_string(),
            asset: code(state, withdrawal.asset),
            amount: money(state, withdrawal.asset, withdrawal.amount),
            fee: money(state, withdrawal.asset, withdrawal.fee),
            address: address(state, chain, &withdrawal.script.0),
            status: withdrawal.status.name(),
            wallet: Some(wallet.0),
            plan: withdrawal.plan.map(|plan| plan.0),
            signed_txids: versions.iter().filter_map(|version| version.txid).map(|txid| txid.to_string()).collect(),
            txid: paid.map(|paid| paid.txid.to_string()),
            block: paid.map(|paid| block(paid.at)),
            confirmations: confirmations(state, chain, paid.map(|paid| paid.at)),
            approved_by: withdrawal.approvals.iter().map(|approval| encode_hex(&approval.key)).collect(),
            intent_digest: Some(withdrawal.intent.digest().to_string()),
            intent: Some(encode_hex(&withdrawal.intent.encode())),
            intent_expiry_ms: Some(withdrawal.intent.expiry.0),
            requested_ms: withdrawal.requested.0,
        }
    }
}

impl WalletView {
    pub(crate) fn new(state: &State, wallet: &Wallet) -> WalletView {
        let unspent = state.coins().values().filter(|coin| coin.path.wallet == wallet.id && coin.spent.is_none());
        let (mut coins, mut amount) = (0u64, Amount::ZERO);
        for coin in unspent {
            coins += 1;
            amount = amount.checked_add(coin.amount).unwrap_or(Amount::MAX);
        }
        let asset = coin_of(state, wallet.chain);
        WalletView {
            id: wallet.id.0,
            chain: wallet.chain.0,
            generation: wallet.generation,
            tier: wallet.tier.name(),
            birthday: wallet.birthday.0,
            descriptor_external: wallet.descriptor_external.clone(),
            descriptor_internal: wallet.descriptor_internal.clone(),
            retired: wallet.retired,
            next_external: wallet.next_external,
            next_internal: wallet.next_internal,
            asset: asset.map(|asset| code(state, asset)),
            coins,
            coins_amount: asset.map_or_else(|| amount.units().to_string(), |asset| money(state, asset, amount)),
        }
    }
}

impl HaltView {
    pub(crate) fn new(state: &State, halt: &Halt) -> HaltView {
        HaltView {
            asset: halt.asset.map(|asset| code(state, asset)),
            action: halt.action.name(),
            reason: halt.reason.name(),
        }
    }
}

/// A chain's journalled blocks, the tip first.
pub(crate) fn blocks(
    state: &State,
    chain: ChainId,
    below: Option<Height>,
    limit: usize,
) -> Option<Vec<ChainBlockView>> {
    let chain = state.chains().get(&chain)?;
    let range = chain.blocks.range(..below.unwrap_or(Height(u32::MAX))).rev();
    let view = |(height, block): (&Height, &florin_core::custody::Block)| ChainBlockView {
        height: height.0,
        hash: block.at.hash.to_string(),
        previous: block.previous.to_string(),
        time_s: block.time_s,
        confirmations: chain.confirmations(*height),
    };
    Some(range.take(limit).map(view).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_written_exactly_or_not_at_all() {
        let written = |units, base_units| decimal_price(units, 2, base_units, 8);
        assert_eq!(written(9_000_000, 100_000_000).as_deref(), Some("90000.00"));
        assert_eq!(written(60_000_125, 1_000_000_000).as_deref(), Some("60000.125"));
        assert_eq!(written(60_000_120, 1_000_000_000).as_deref(), Some("60000.12"), "no more decimals than it takes");
        assert_eq!(written(7, 1).as_deref(), Some("7000000.00"));
        assert_eq!(written(1, 10u128.pow(26)).as_deref(), Some("0.00000000000000000001"));
        assert_eq!(written(u128::MAX, 1), None, "too large to be written");
        assert_eq!(written(1, 3), None, "a third has no end");
        assert_eq!(written(1, 0), None);
        assert_eq!(decimal_price(5, 0, 10, 0).as_deref(), Some("0.5"));
    }
}
