//! Wallets as the online process knows them: descriptors and counters, never a private key.

use crate::api::ask::{Nothing, Order, Params, Place, choice};
use crate::api::customers::issued;
use crate::api::pages::{ListParams, Page, number};
use crate::api::problem::Problem;
use crate::api::view::{AddressView, WalletView};
use crate::api::{Api, Reply, created, seen};
use crate::signing::wallets::AskWallets;
use axum::extract::State as Shared;
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::keys;
use florin_chain::bitcoin::network::Network;
use florin_core::amount::Amount;
use florin_core::command::Command;
use florin_core::custody::{Beneficiary, Branch, Wallet, WalletTier};
use florin_core::id::{ChainId, Height, WalletId};
use florin_core::ledger::{Account, Owner};
use florin_core::state::State;
use florin_engine::lanes::Ask;
use florin_engine::ports::SignerFault;
use florin_engine::scripts::network_of;
use serde::Deserialize;
use std::ops::Bound;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(register_wallet, list_wallets))
        .routes(routes!(issue_inventory_address))
        .routes(routes!(retire_wallet))
}

/// A wallet to register, as 'florin wallet' prints it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWallet {
    /// Its id: the one by which the signer's policy names it.
    id: u32,
    /// The chain's id.
    chain: u32,
    /// Its generation; 1 where absent.
    generation: Option<u32>,
    /// `hot`, `warm` or `cold`.
    tier: String,
    /// The first block that may concern it; the journalled tip where absent.
    birthday: Option<u32>,
    /// The output descriptor of receiving addresses, with origin, `/0/*` and checksum.
    descriptor_external: String,
    /// The output descriptor of change addresses, with origin, `/1/*` and checksum.
    descriptor_internal: String,
}

pub(crate) fn unknown_chain(id: impl std::fmt::Display) -> Problem {
    Problem::titled("chain_unknown", "there is no such chain".to_owned()).detail(format!("there is no chain {id}"))
}

/// Both descriptors of a wallet have to be of its network, and exactly the two branches of one account, `/0/*` and `/1/*`: the
/// signer and every other tool that is given the account's key look for coins there and nowhere else. Says their one text.
fn check_descriptors(network: Network, external: &str, internal: &str) -> Result<(String, String), Problem> {
    let read =
        |text: &str| Descriptor::parse(network, text).map_err(|error| Problem::titled(error.code(), error.to_string()));
    let (external, internal) = (read(external)?, read(internal)?);
    match (external.account(), internal.account()) {
        (Some((first, keys::Branch::External)), Some((second, keys::Branch::Internal))) if first == second => {
            Ok((external.to_string(), internal.to_string()))
        }
        _ => Err(Problem::new("descriptor_not_ranged_pair")),
    }
}

fn wallet_of(state: &State, new: &NewWallet) -> Result<Wallet, Problem> {
    let tier = choice("tier", &new.tier, WalletTier::ALL, WalletTier::name)?;
    let chain = state.chains().get(&ChainId(new.chain)).ok_or_else(|| unknown_chain(new.chain))?;
    let network = network_of(chain.chain.genesis).ok_or_else(|| unknown_chain(new.chain))?;
    let (external, internal) = check_descriptors(network, &new.descriptor_external, &new.descriptor_internal)?;
    let tip = chain.tip().map_or(Height(0), |tip| tip.at.height);
    Ok(Wallet {
        id: WalletId(new.id),
        chain: chain.chain.id,
        generation: new.generation.unwrap_or(1),
        tier,
        birthday: new.birthday.map_or(tip, Height),
        descriptor_external: external,
        descriptor_internal: internal,
        retired: false,
        next_external: 0,
        next_internal: 0,
    })
}

fn view(state: &State, id: WalletId) -> Result<WalletView, Problem> {
    let found = state.wallets().get(&id).map(|wallet| WalletView::new(state, wallet));
    found.ok_or_else(|| Problem::titled("wallet_unknown", "there is no such wallet".to_owned()))
}

/// Refuses a wallet that the platform would pay from without the signer's having its keys: its addresses would be handed out
/// to everybody, and what they receive could not be sent. Nothing is guessed where the signer does not answer.
async fn check_keys(api: &Api, wallet: &Wallet) -> Result<(), Problem> {
    let genesis = match wallet.tier {
        WalletTier::Hot | WalletTier::Warm => {
            api.read(|state| state.chains().get(&wallet.chain).map(|chain| chain.chain.genesis))
        }
        WalletTier::Cold => return Ok(()),
    };
    let silent = |why: &str| Problem::new("wallet_keys_unknown").detail(format!("the signer can't be asked: {why}"));
    let ask: AskWallets = api.platform().ask_wallets().ok_or_else(|| silent("there is none"))?;
    let told = tokio::task::spawn_blocking(move || ask()).await.map_err(|_| Problem::new("internal"))?;
    let told = told.map_err(|fault: SignerFault| {
        tracing::warn!(code = fault.code(), %fault, "the signer does not say which wallets it has");
        silent(fault.code())
    })?;
    let known = told.into_iter().find(|known| known.wallet == wallet.id && Some(known.genesis) == genesis);
    let known = known.ok_or_else(|| Problem::new("wallet_keys_missing"))?;
    if known.external != wallet.descriptor_external || known.internal != wallet.descriptor_internal {
        return Err(Problem::new("wallet_keys_differ"));
    }
    Ok(())
}

/// Registers a wallet from its descriptors. For one that is not cold the signer has to name the same ones.
#[utoipa::path(post, path = "/api/v1/wallets", tag = "wallets", request_body = NewWallet,
    responses((status = 201, body = WalletView), (status = "default", body = Problem)))]
async fn register_wallet(Shared(api): Shared<Arc<Api>>, order: Order<NewWallet>) -> Reply<WalletView> {
    let wallet = api.read(|state| wallet_of(state, &order.body))?;
    let id = wallet.id;
    // A repeated request is answered like the first one, also while the signer is away.
    if !api.read(|state| state.wallets().get(&id).is_some_and(|known| is_same(known, &wallet))) {
        check_keys(&api, &wallet).await?;
    }
    api.execute(order.origin, Command::RegisterWallet(wallet)).await?;
    created(api.read(|state| view(state, id))?)
}

/// Whether a wallet was registered as this one: what it has handed out since, and its end, do not count.
fn is_same(known: &Wallet, new: &Wallet) -> bool {
    let Wallet { next_external, next_internal, retired, .. } = known;
    let then =
        Wallet { next_external: *next_external, next_internal: *next_internal, retired: *retired, ..new.clone() };
    *known == then
}

/// How a wallet is retired.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retirement {
    /// Whether a wallet that still holds coins may be retired: withdrawals are not paid from it any more.
    with_coins: Option<bool>,
}

/// Retires a wallet for ever: it hands out no address and pays no new withdrawal. It is watched for ever all the same.
#[utoipa::path(post, path = "/api/v1/wallets/{id}/retire", tag = "wallets", params(("id" = u32, Path)),
    request_body = Retirement, responses((status = 200, body = WalletView), (status = "default", body = Problem)))]
async fn retire_wallet(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<u32>,
    order: Order<Retirement>,
) -> Reply<WalletView> {
    let id = WalletId(id);
    let holds = |state: &State| {
        state.wallets().get(&id).is_some_and(|wallet| !wallet.retired && custody_of(state, wallet) > Amount::ZERO)
    };
    if order.body.with_coins != Some(true) && api.read(holds) {
        return Err(Problem::new("wallet_holds_coins"));
    }
    api.execute(order.origin, Command::RetireWallet(id)).await?;
    seen(api.read(|state| view(state, id))?)
}

/// What a wallet's coins are worth, by the books.
pub(crate) fn custody_of(state: &State, wallet: &Wallet) -> Amount {
    let coin = state.chains().get(&wallet.chain).map(|chain| chain.chain.coin);
    let account = coin.and_then(|coin| state.ledger().account_of(&Owner::Custody(wallet.id), coin));
    account.map_or(Amount::ZERO, Account::debit_balance)
}

/// The hot wallets of a chain that are in use.
pub(crate) fn hot_wallets(state: &State, chain: ChainId) -> impl Iterator<Item = &Wallet> {
    let is_hot = move |wallet: &&Wallet| wallet.chain == chain && wallet.tier == WalletTier::Hot && !wallet.retired;
    state.wallets().values().filter(is_hot)
}

/// The wallet that pays a withdrawal where none is named: the newest hot one that holds enough, or else the one that holds
/// most. A new generation has addresses to hand out long before it has coins.
pub(crate) fn wallet_to_pay(state: &State, chain: ChainId, amount: Amount) -> Option<WalletId> {
    let worth = |wallet: &&Wallet| {
        let custody = custody_of(state, wallet);
        (custody > amount, if custody > amount { Amount::ZERO } else { custody }, wallet.generation, wallet.id)
    };
    hot_wallets(state, chain).max_by_key(worth).map(|wallet| wallet.id)
}

/// Lists wallets in order of id.
#[utoipa::path(get, path = "/api/v1/wallets", tag = "wallets", params(ListParams),
    responses((status = 200, body = Page<WalletView>), (status = "default", body = Problem)))]
async fn list_wallets(Shared(api): Shared<Arc<Api>>, Params(params): Params<ListParams>) -> Reply<Page<WalletView>> {
    let limit = params.limit()?;
    let start = params.start(|text| number(text).map(WalletId))?;
    seen(api.read(|state| {
        let rest = state.wallets().range((start, Bound::Unbounded));
        Page::first(rest.map(|(id, wallet)| (id.0.to_string(), WalletView::new(state, wallet))), limit)
    }))
}

/// Hands out an address for the house's inventory.
#[utoipa::path(post, path = "/api/v1/wallets/{id}/addresses", tag = "wallets", params(("id" = u32, Path)),
    responses((status = 201, body = AddressView), (status = "default", body = Problem)))]
async fn issue_inventory_address(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<u32>,
    order: Order<Nothing>,
) -> Reply<AddressView> {
    let ask = Ask::NextAddress {
        origin: order.origin,
        wallet: WalletId(id),
        branch: Branch::External,
        beneficiary: Beneficiary::INVENTORY,
    };
    let outcome = api.ask(ask).await?;
    created(issued(&api, outcome)?)
}
