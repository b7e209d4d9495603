//! Wallets, addresses, what mempools show, and custody's work on time. Never counts a mempool's view as money.

use super::block::{BlockRefusal, move_deposit, receipt, settle};
use super::{Draft, refusals, withdrawal};
use crate::command::{IssuedAddress, Outcome, PART_COST_MAX, Receipt};
use crate::custody::{Address, Beneficiary, Branch, Deposit, DepositStatus, KeyPath, OutPoint, Wallet};
use crate::event::{DepositArchived, Event, WalletRetired};
use crate::id::{ChainId, WalletId};
use crate::state::State;
use crate::wire::Bytes;

/// The longest descriptor of a wallet, in bytes: one of fifteen keys with origins fits.
pub const DESCRIPTOR_MAX: usize = 4_096;

/// The longest output script, in bytes: beyond it Bitcoin's scripts can't be spent (`MAX_SCRIPT_SIZE` of its consensus rules).
pub const SCRIPT_MAX: usize = 10_000;

/// How many addresses of one customer may wait for their first coin. All are watched for ever, so an endless supply of new ones
/// would be an endless burden; a thousand is more than any customer has invoices open.
pub const UNUSED_ADDRESSES_MAX: u32 = 1_000;

/// The indices of a branch that are not hardened (BIP-32).
const INDEX_MAX: u32 = 0x7fff_ffff;

/// How long a replaced deposit is shown before it leaves the state: a mempool keeps a transaction for 14 days (Bitcoin Core's
/// `mempoolexpiry`), and by then nobody sends it again. If it comes back later, it is seen for the first time.
pub const REPLACED_KEPT_MS: u64 = 14 * 24 * 60 * 60 * 1000;

/// How many payments to one address are noted before they are in a block, replaced ones counted until they are forgotten. A
/// payment is usually one, and each replacement of it one more. Nobody has checked signatures yet, so whoever lists invented
/// payments could fill the journal with them; what is beyond the limit is not lost, but first noted when a block has it.
pub const SEEN_PER_ADDRESS_MAX: u32 = 32;

/// The same for all addresses of a chain: some 10 MiB of state, and as much of the journal in two weeks.
pub const SEEN_PER_CHAIN_MAX: u32 = 20_000;

refusals! {
    /// Why a wallet is not registered or retired, or an address not handed out.
    pub enum AddressRefusal {
        /// The wallet's id is in use.
        WalletExists => "wallet_exists", "a wallet with this id is registered already";
        /// No wallet has this id.
        WalletUnknown => "wallet_unknown", "there is no such wallet";
        /// No chain has this id.
        ChainUnknown => "chain_unknown", "there is no such chain";
        /// Generations are counted from 1.
        GenerationInvalid => "wallet_generation_invalid", "a wallet's generation is counted from 1";
        /// A descriptor is empty or too long, or both are the same.
        DescriptorInvalid => "wallet_descriptor_invalid", "a wallet has two different descriptors of at most 4,096 bytes";
        /// Another wallet, or this one's other branch, derives the same scripts. Whatever it handed out would be
        /// refused as handed out already, address by address and for ever.
        DescriptorTaken => "wallet_descriptor_taken", "another wallet has this descriptor already";
        /// It is new, and says that it was in use.
        WalletUsed => "wallet_used", "a new wallet has handed out no address and is not retired";
        /// The wallet was retired.
        WalletRetired => "wallet_retired", "the wallet is retired";
        /// Change addresses are handed out by plans alone.
        BranchInternal => "branch_internal", "addresses are handed out from the receiving branch";
        /// Another address was handed out since the script was derived.
        IndexStale => "index_stale", "the index is not the wallet's next one";
        /// The branch is used up.
        IndexExhausted => "index_exhausted", "the wallet has no more addresses";
        /// Empty or too long.
        ScriptInvalid => "script_invalid", "a script has 1 to 10,000 bytes";
        /// The script was handed out.
        ScriptIssued => "script_issued", "this script was handed out already";
        /// No customer has this id.
        CustomerUnknown => "customer_unknown", "there is no such customer";
        /// Change is no one's to ask for.
        BeneficiaryInvalid => "beneficiary_invalid", "an address is for a customer or the house's inventory";
        /// See [`UNUSED_ADDRESSES_MAX`].
        TooManyUnused => "too_many_unused_addresses", "the customer has too many addresses that were never paid";
    }
}

/// Registers a wallet that has handed out nothing yet.
pub(super) fn register_wallet(draft: &mut Draft<'_>, wallet: &Wallet) -> Result<Outcome, AddressRefusal> {
    if draft.state.wallets.contains_key(&wallet.id) {
        return Err(AddressRefusal::WalletExists);
    }
    if !draft.state.chains.contains_key(&wallet.chain) {
        return Err(AddressRefusal::ChainUnknown);
    }
    if wallet.generation == 0 {
        return Err(AddressRefusal::GenerationInvalid);
    }
    let (external, internal) = (&wallet.descriptor_external, &wallet.descriptor_internal);
    let is_sane = |descriptor: &str| (1..=DESCRIPTOR_MAX).contains(&descriptor.len());
    if !is_sane(external) || !is_sane(internal) || external == internal {
        return Err(AddressRefusal::DescriptorInvalid);
    }
    if is_taken(draft.state, external, internal) {
        return Err(AddressRefusal::DescriptorTaken);
    }
    if wallet.retired || wallet.next_external != 0 || wallet.next_internal != 0 {
        return Err(AddressRefusal::WalletUsed);
    }
    draft.emit(Event::WalletRegistered(wallet.clone()));
    Ok(Outcome::Done(true))
}

/// Whether both branches, or one of them and a branch of any registered wallet, retired or on another chain, are the same.
fn is_taken(state: &State, external: &str, internal: &str) -> bool {
    let new = [script_part(external), script_part(internal)];
    let clashes = |wallet: &Wallet| {
        [&wallet.descriptor_external, &wallet.descriptor_internal].iter().any(|known| new.contains(&script_part(known)))
    };
    new[0] == new[1] || state.wallets.values().any(clashes)
}

/// What of a descriptor decides its scripts: all but the keys' origins in brackets and the checksum behind `#`, which only say
/// where keys came from and whether the text is whole (BIP-380).
fn script_part(descriptor: &str) -> String {
    let mut part = String::with_capacity(descriptor.len());
    let mut is_origin = false;
    for letter in descriptor.chars().take_while(|letter| *letter != '#') {
        match letter {
            '[' => is_origin = true,
            ']' => is_origin = false,
            _ if !is_origin => part.push(letter),
            _ => {}
        }
    }
    part
}

/// Retires a wallet: nobody is told to pay it any more. It is watched for ever, and may still pay.
pub(super) fn retire_wallet(draft: &mut Draft<'_>, id: WalletId) -> Result<Outcome, AddressRefusal> {
    let wallet = draft.state.wallets.get(&id).ok_or(AddressRefusal::WalletUnknown)?;
    if wallet.retired {
        return Err(AddressRefusal::WalletRetired);
    }
    draft.emit(Event::WalletRetired(WalletRetired { wallet: id }));
    Ok(Outcome::Done(true))
}

/// Hands out a wallet's next receiving address.
pub(super) fn issue_address(
    draft: &mut Draft<'_>,
    path: KeyPath,
    script: &Bytes,
    beneficiary: &Beneficiary,
) -> Result<Outcome, AddressRefusal> {
    let state = &*draft.state;
    let wallet = state.wallets.get(&path.wallet).ok_or(AddressRefusal::WalletUnknown)?;
    if wallet.retired {
        return Err(AddressRefusal::WalletRetired);
    }
    if path.branch != Branch::External {
        return Err(AddressRefusal::BranchInternal);
    }
    if path.index != wallet.next_external {
        return Err(AddressRefusal::IndexStale);
    }
    if path.index > INDEX_MAX {
        return Err(AddressRefusal::IndexExhausted);
    }
    if !(1..=SCRIPT_MAX).contains(&script.0.len()) {
        return Err(AddressRefusal::ScriptInvalid);
    }
    if state.scripts.contains_key(script) {
        return Err(AddressRefusal::ScriptIssued);
    }
    match beneficiary {
        Beneficiary::Customer(customer) => {
            if !state.customers.contains_key(customer) {
                return Err(AddressRefusal::CustomerUnknown);
            }
            if state.index.unused_addresses(customer) >= UNUSED_ADDRESSES_MAX {
                return Err(AddressRefusal::TooManyUnused);
            }
        }
        Beneficiary::House(true) => {}
        Beneficiary::House(false) => return Err(AddressRefusal::BeneficiaryInvalid),
    }
    draft.emit(Event::AddressIssued(Address {
        path,
        script: script.clone(),
        beneficiary: beneficiary.clone(),
        issued: draft.now,
        used: false,
    }));
    Ok(Outcome::Address(IssuedAddress { path, script: script.clone() }))
}

/// Notes what a mempool shows. What is known already, is no deposit, or is too much of it ([`State::takes_sighting`]), says
/// nothing.
pub(super) fn see_receipts(
    draft: &mut Draft<'_>,
    chain: ChainId,
    receipts: &[Receipt],
) -> Result<Outcome, BlockRefusal> {
    if !draft.state.chains.contains_key(&chain) {
        return Err(BlockRefusal::ChainUnknown);
    }
    if receipts.len() > PART_COST_MAX {
        return Err(BlockRefusal::TooMany);
    }
    receipt::check_addresses(draft.state, chain, receipts)?;
    for seen in receipts {
        let outpoint = seen.outpoint(chain);
        let Some(depositor) = receipt::depositor(draft.state, chain, seen) else { continue };
        if draft.state.coins.contains_key(&outpoint) {
            continue;
        }
        match draft.state.deposits.get(&outpoint).cloned() {
            None if !draft.state.takes_sighting(chain, &seen.path) => {}
            None => {
                let deposit = receipt::new_deposit(draft, chain, seen, depositor);
                draft.emit(Event::DepositSeen(deposit));
            }
            Some(mut deposit) if deposit.status == DepositStatus::Replaced => {
                deposit.status = DepositStatus::Seen;
                deposit.missing_since = None;
                move_deposit(draft, &deposit);
            }
            Some(_) => {}
        }
    }
    Ok(Outcome::Done(true))
}

/// Notes that unconfirmed payments are gone from the mempool. Deposits that were credited are not touched: only time or a
/// block decides about them.
pub(super) fn lose_receipts(
    draft: &mut Draft<'_>,
    chain: ChainId,
    outpoints: &[OutPoint],
) -> Result<Outcome, BlockRefusal> {
    if !draft.state.chains.contains_key(&chain) {
        return Err(BlockRefusal::ChainUnknown);
    }
    if outpoints.len() > PART_COST_MAX / 2 {
        return Err(BlockRefusal::TooMany);
    }
    let is_seen = |deposit: &&Deposit| deposit.outpoint.chain == chain && deposit.status == DepositStatus::Seen;
    for outpoint in outpoints {
        let Some(mut deposit) = draft.state.deposits.get(outpoint).filter(is_seen).cloned() else { continue };
        deposit.hold.take().into_iter().for_each(|hold| draft.release(hold));
        deposit.status = DepositStatus::Replaced;
        deposit.missing_since = Some(draft.now);
        move_deposit(draft, &deposit);
    }
    Ok(Outcome::Done(true))
}

/// Custody's work on time, in at most `budget` events: credits and finality that a block left over, deposits that became
/// large enough by a new policy, deposits missing for too long, withdrawals whose intents expired, and old records.
pub(super) fn tick(draft: &mut Draft<'_>, budget: usize) {
    let limit = settle::limit(draft, budget);
    let chains: Vec<ChainId> = draft.state.chains.keys().copied().collect();
    for chain in chains {
        while draft.events.len() < limit && settle::release_accrued(draft, chain) {}
        settle::settle(draft, chain, limit);
        while draft.events.len() < limit && reverse_missing(draft, chain) {}
    }
    while draft.events.len() < limit && (withdrawal::expire(draft) || withdrawal::archive(draft)) {}
    while draft.events.len() < limit && archive_replaced(draft) {}
}

impl State {
    /// Whether one more unconfirmed payment to an address would be noted: fewer than [`SEEN_PER_ADDRESS_MAX`] of its own, and
    /// fewer than [`SEEN_PER_CHAIN_MAX`] of the chain, are in no block and never were credited.
    pub fn takes_sighting(&self, chain: ChainId, path: &KeyPath) -> bool {
        let (of_address, of_chain) = self.index.unconfirmed(chain, path);
        of_address < SEEN_PER_ADDRESS_MAX && of_chain < SEEN_PER_CHAIN_MAX
    }
}

fn reverse_missing(draft: &mut Draft<'_>, chain: ChainId) -> bool {
    let state = &*draft.state;
    let Some((since, outpoint)) = state.index.first_missing(chain) else { return false };
    let policy = state.policies.get(&state.chains[&chain].chain.coin);
    if policy.is_none_or(|policy| draft.now.since_ms(since) < policy.missing_ms) {
        return false;
    }
    let deposit = state.deposits[&outpoint].clone();
    receipt::reverse(draft, deposit);
    true
}

fn archive_replaced(draft: &mut Draft<'_>) -> bool {
    let Some((since, outpoint)) = draft.state.index.first_replaced() else { return false };
    let is_old = draft.now.since_ms(since) >= REPLACED_KEPT_MS;
    if is_old {
        draft.emit(Event::DepositArchived(DepositArchived { outpoint }));
    }
    is_old
}
