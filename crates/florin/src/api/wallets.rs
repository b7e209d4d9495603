//! Wallets as the online process knows them: descriptors and counters, never a private key.

use crate::api::ask::{Nothing, Order, Params, Place, choice};
use crate::api::customers::issued;
use crate::api::problem::Problem;
use crate::api::view::{AddressView, Page, WalletView};
use crate::api::{Api, Reply, created, seen};
use axum::extract::State as Shared;
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::network::Network;
use florin_core::command::Command;
use florin_core::custody::{Beneficiary, Branch, Wallet, WalletTier};
use florin_core::id::{ChainId, Height, WalletId};
use florin_core::state::State;
use florin_engine::lanes::Ask;
use florin_engine::scripts::network_of;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(register_wallet, list_wallets)).routes(routes!(issue_inventory_address))
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

/// Both descriptors of a wallet have to be of its network, and the two branches of one account.
fn check_descriptors(network: Network, external: &str, internal: &str) -> Result<(), Problem> {
    let read =
        |text: &str| Descriptor::parse(network, text).map_err(|error| Problem::titled(error.code(), error.to_string()));
    let (external, internal) = (read(external)?, read(internal)?);
    let steps = |descriptor: &Descriptor| descriptor.steps().iter().map(|step| step.get()).collect::<Vec<u32>>();
    let is_pair = external.origin() == internal.origin()
        && external.xpub() == internal.xpub()
        && external.kind() == internal.kind()
        && steps(&external).last() == Some(&0)
        && steps(&internal).last() == Some(&1);
    if is_pair { Ok(()) } else { Err(Problem::new("descriptor_not_ranged_pair")) }
}

fn wallet_of(state: &State, new: &NewWallet) -> Result<Wallet, Problem> {
    let tier = choice("tier", &new.tier, WalletTier::ALL, WalletTier::name)?;
    let chain = state.chains().get(&ChainId(new.chain)).ok_or_else(|| unknown_chain(new.chain))?;
    let network = network_of(chain.chain.genesis).ok_or_else(|| unknown_chain(new.chain))?;
    check_descriptors(network, &new.descriptor_external, &new.descriptor_internal)?;
    let tip = chain.tip().map_or(Height(0), |tip| tip.at.height);
    Ok(Wallet {
        id: WalletId(new.id),
        chain: chain.chain.id,
        generation: new.generation.unwrap_or(1),
        tier,
        birthday: new.birthday.map_or(tip, Height),
        descriptor_external: new.descriptor_external.clone(),
        descriptor_internal: new.descriptor_internal.clone(),
        retired: false,
        next_external: 0,
        next_internal: 0,
    })
}

fn view(state: &State, id: WalletId) -> Result<WalletView, Problem> {
    let found = state.wallets().get(&id).map(|wallet| WalletView::new(state, wallet));
    found.ok_or_else(|| Problem::titled("wallet_unknown", "there is no such wallet".to_owned()))
}

/// Registers a wallet from its descriptors.
#[utoipa::path(post, path = "/api/v1/wallets", tag = "wallets", request_body = NewWallet,
    responses((status = 201, body = WalletView), (status = "default", body = Problem)))]
async fn register_wallet(Shared(api): Shared<Arc<Api>>, order: Order<NewWallet>) -> Reply<WalletView> {
    let wallet = api.read(|state| wallet_of(state, &order.body))?;
    let id = wallet.id;
    api.execute(order.origin, Command::RegisterWallet(wallet)).await?;
    created(api.read(|state| view(state, id))?)
}

/// Lists wallets.
#[utoipa::path(get, path = "/api/v1/wallets", tag = "wallets",
    responses((status = 200, body = Page<WalletView>), (status = "default", body = Problem)))]
async fn list_wallets(Shared(api): Shared<Arc<Api>>, Params(Nothing {}): Params<Nothing>) -> Reply<Page<WalletView>> {
    let items = api.read(|state| state.wallets().values().map(|wallet| WalletView::new(state, wallet)).collect());
    seen(Page { items, next: None })
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
