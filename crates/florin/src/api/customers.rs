//! Customers, their addresses and balances. Names go to the people store alone; the journal knows an opaque id.

use crate::api::ask::{AmountText, Nothing, Order, Params, Place, request_hash};
use crate::api::pages::{ListParams, Page, number};
use crate::api::past;
use crate::api::problem::Problem;
use crate::api::view::{self, AddressView, BalanceView, CustomerView, DoneView, asset_of};
use crate::api::wallets::hot_wallets;
use crate::api::{Api, Reply, created, seen};
use crate::platform::NameAnswer;
use axum::extract::State as Shared;
use florin_core::asset::Asset;
use florin_core::command::{Command, Origin, Outcome};
use florin_core::custody::{Address, Beneficiary, Branch, KeyPath};
use florin_core::decide::{OriginRefusal, Refusal};
use florin_core::event::Customer;
use florin_core::id::{AssetId, CustomerId, WalletId};
use florin_core::state::State;
use florin_engine::lanes::Ask;
use florin_store::projection::Projection;
use serde::Deserialize;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The longest name, in characters.
const NAME_CHARACTERS_MAX: usize = 200;

/// Where customers are opened.
const CUSTOMERS: &str = "/api/v1/customers";

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(open_customer, list_customers))
        .routes(routes!(show_customer))
        .routes(routes!(forget_name))
        .routes(routes!(issue_address, list_addresses))
        .routes(routes!(list_balances))
        .routes(routes!(book_bank_receipt))
}

/// A new customer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCustomer {
    /// The name, kept apart from the journal.
    name: Option<String>,
}

/// The customer with an id.
pub(crate) fn customer_of<'a>(state: &'a State, text: &str) -> Result<&'a Customer, Problem> {
    let found = CustomerId::parse(text).and_then(|id| state.customers().get(&id));
    found.ok_or_else(|| {
        Problem::titled("customer_unknown", "there is no such customer".to_owned()).detail(view::quoted(text))
    })
}

/// A customer's id as it was sent; whether there is one is for the rules.
pub(crate) fn customer_id(text: &str) -> Result<CustomerId, Problem> {
    CustomerId::parse(text).ok_or_else(|| {
        Problem::titled("customer_unknown", "there is no such customer".to_owned()).detail(view::quoted(text))
    })
}

fn customer_view(customer: &Customer, name: Option<String>) -> CustomerView {
    CustomerView { id: customer.id.to_string(), name, opened_ms: customer.opened.0, freezes: customer.freezes }
}

fn check_name(name: &str) -> Result<(), Problem> {
    let count = name.chars().count();
    let right = (1..=NAME_CHARACTERS_MAX).contains(&count) && !name.chars().any(char::is_control);
    if right { Ok(()) } else { Err(Problem::new("name_invalid")) }
}

/// Who asks for an opening. The journal keeps a request's hash for ever, and a name can be guessed and held against one: so this one does not
/// tell which name it was, but only that there was one.
fn origin_of(order: &Order<NewCustomer>) -> Origin {
    match (&order.body.name, &order.origin) {
        (Some(_), Origin::Request { id, .. }) => {
            Origin::Request { id: *id, request: request_hash("POST", CUSTOMERS, b"with a name") }
        }
        (_, origin) => origin.clone(),
    }
}

/// Opens a customer. Its id is the command's.
#[utoipa::path(post, path = "/api/v1/customers", tag = "customers", request_body = NewCustomer,
    responses((status = 201, body = CustomerView), (status = "default", body = Problem)))]
async fn open_customer(Shared(api): Shared<Arc<Api>>, order: Order<NewCustomer>) -> Reply<CustomerView> {
    if let Some(name) = &order.body.name {
        check_name(name)?;
    }
    let id = CustomerId(order.id.0);
    api.execute(origin_of(&order), Command::OpenCustomer(id)).await?;
    let name = match order.body.name {
        None => None,
        Some(name) => match api.name_customer(id, name.clone()).await? {
            NameAnswer::Kept => Some(name),
            NameAnswer::Forgotten => None,
            NameAnswer::Other => return Err(Problem::from(&Refusal::Origin(OriginRefusal::Mismatch))),
        },
    };
    let view = api.read(|state| customer_of(state, &id.to_string()).map(|found| customer_view(found, name)))?;
    created(view)
}

/// Lists customers in order of id.
#[utoipa::path(get, path = "/api/v1/customers", tag = "customers", params(ListParams),
    responses((status = 200, body = Page<CustomerView>), (status = "default", body = Problem)))]
async fn list_customers(
    Shared(api): Shared<Arc<Api>>,
    Params(params): Params<ListParams>,
) -> Reply<Page<CustomerView>> {
    let limit = params.limit()?;
    let start = params.start(CustomerId::parse)?;
    let customers: Vec<Customer> = api.read(|state| {
        state
            .customers()
            .range((start, Bound::Unbounded))
            .take(limit + 1)
            .map(|(_, customer)| customer.clone())
            .collect()
    });
    let names = api.names(customers.iter().map(|customer| customer.id).collect()).await?;
    let views = customers.iter().zip(names).map(|(customer, name)| customer_view(customer, name)).collect();
    seen(Page::cut(views, limit, |customer| customer.id.clone()))
}

/// Shows a customer.
#[utoipa::path(get, path = "/api/v1/customers/{id}", tag = "customers", params(("id" = String, Path)),
    responses((status = 200, body = CustomerView), (status = "default", body = Problem)))]
async fn show_customer(Shared(api): Shared<Arc<Api>>, Place(id): Place<String>) -> Reply<CustomerView> {
    let customer = api.read(|state| customer_of(state, &id).cloned())?;
    let name = api.names(vec![customer.id]).await?.pop().flatten();
    seen(customer_view(&customer, name))
}

/// Erases a customer's name for good; where there is none, that stays so. What was booked stays, under an id that leads to nobody.
///
/// The key is as with every change; nothing is remembered of it, since to forget twice is to forget once.
#[utoipa::path(post, path = "/api/v1/customers/{id}/forget-name", tag = "customers", params(("id" = String, Path)),
    responses((status = 200, body = CustomerView), (status = "default", body = Problem)))]
async fn forget_name(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    _order: Order<Nothing>,
) -> Reply<CustomerView> {
    let customer = api.read(|state| customer_of(state, &id).cloned())?;
    api.forget_name(customer.id).await?;
    seen(customer_view(&customer, None))
}

/// A request for an address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAddress {
    /// The code of a coin; the only coin there is where absent.
    asset: Option<String>,
    /// The wallet; the newest hot one where absent.
    wallet: Option<u32>,
}

/// The coin with a code, or the only one there is.
fn coin_of<'a>(state: &'a State, code: Option<&str>) -> Result<&'a Asset, Problem> {
    if let Some(code) = code {
        return asset_of(state, code);
    }
    let mut coins = state.assets().values().filter(|asset| asset.chain.is_some());
    match (coins.next(), coins.next()) {
        (Some(coin), None) => Ok(coin),
        _ => Err(Problem::new("body_invalid").detail("'asset' says which coin")),
    }
}

/// The wallet that takes part for an asset: the one named, or the newest hot one of its chain.
pub(crate) fn wallet_for(state: &State, asset: AssetId, named: Option<u32>) -> Result<WalletId, Problem> {
    let asset = state.assets().get(&asset).ok_or_else(|| Problem::new("asset_not_on_chain"))?;
    let chain = asset.chain.ok_or_else(|| Problem::new("asset_not_on_chain"))?;
    let on_chain = |wallet: &&florin_core::custody::Wallet| wallet.chain == chain;
    if let Some(id) = named {
        let found = state.wallets().get(&WalletId(id)).filter(on_chain);
        return found.map(|wallet| wallet.id).ok_or_else(|| {
            Problem::titled("wallet_unknown", "there is no such wallet".to_owned())
                .detail(format!("there is no wallet {id} for {}", asset.code))
        });
    }
    let newest = hot_wallets(state, chain).max_by_key(|wallet| (wallet.generation, wallet.id));
    newest.map(|wallet| wallet.id).ok_or_else(|| Problem::new("wallet_missing"))
}

/// The view of the address that was handed out just now.
pub(crate) fn issued(api: &Api, outcome: Outcome) -> Result<AddressView, Problem> {
    let Outcome::Address(issued) = outcome else { return Err(Problem::new("internal")) };
    let found: Option<Address> = api.read(|state| state.addresses().get(&issued.path).cloned());
    let address = found.ok_or_else(|| Problem::new("internal"))?;
    Ok(api.read(|state| AddressView::new(state, &address)))
}

/// Hands out a fresh deposit address.
#[utoipa::path(post, path = "/api/v1/customers/{id}/addresses", tag = "customers", params(("id" = String, Path)),
    request_body = NewAddress,
    responses((status = 201, body = AddressView), (status = "default", body = Problem)))]
async fn issue_address(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    order: Order<NewAddress>,
) -> Reply<AddressView> {
    let customer = customer_id(&id)?;
    let wallet = api.read(|state| {
        let asset = coin_of(state, order.body.asset.as_deref())?;
        wallet_for(state, asset.id, order.body.wallet)
    })?;
    let beneficiary = Beneficiary::Customer(customer);
    let ask = Ask::NextAddress { origin: order.origin, wallet, branch: Branch::External, beneficiary };
    let outcome = api.ask(ask).await?;
    created(issued(&api, outcome)?)
}

/// An address's place in lists, as `next` names it: wallet, branch, index.
fn path_name(path: &KeyPath) -> String {
    format!("{}:{}:{}", path.wallet.0, path.branch.name(), path.index)
}

fn path_of(text: &str) -> Option<KeyPath> {
    let mut parts = text.splitn(3, ':');
    let wallet = WalletId(number(parts.next()?)?);
    let word = parts.next()?;
    let branch = Branch::ALL.iter().copied().find(|branch| branch.name() == word)?;
    Some(KeyPath { wallet, branch, index: number(parts.next()?)? })
}

/// Lists a customer's addresses in order of wallet, branch and index.
#[utoipa::path(get, path = "/api/v1/customers/{id}/addresses", tag = "customers",
    params(("id" = String, Path), ListParams),
    responses((status = 200, body = Page<AddressView>), (status = "default", body = Problem)))]
async fn list_addresses(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    Params(params): Params<ListParams>,
) -> Reply<Page<AddressView>> {
    let span = params.span(path_of)?;
    let owner = api.read(|state| customer_of(state, &id).map(|customer| customer.id))?;
    let ask = move |tables: &mut Projection, after, extent| tables.addresses(owner, after, extent);
    let Page { items, next } = past::keys(&api, span, ask, path_name).await?;
    let items = api.read(|state| {
        // None ever leaves the state.
        let all = items.iter().filter_map(|path| state.addresses().get(path));
        all.map(|address| AddressView::new(state, address)).collect()
    });
    seen(Page { items, next })
}

/// Shows a customer's balances, in the order in which assets were defined: what is available, held, pending and frozen.
#[utoipa::path(get, path = "/api/v1/customers/{id}/balances", tag = "customers",
    params(("id" = String, Path), ListParams),
    responses((status = 200, body = Page<BalanceView>), (status = "default", body = Problem)))]
async fn list_balances(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    Params(params): Params<ListParams>,
) -> Reply<Page<BalanceView>> {
    let (limit, start) = (params.limit()?, params.start(number)?);
    seen(api.read(|state| {
        let all = view::balances(state, customer_of(state, &id)?.id);
        let rest = all.into_iter().filter(|(asset, _)| (start, Bound::Unbounded).contains(&asset.0));
        Ok::<_, Problem>(Page::first(rest.map(|(asset, balance)| (asset.0.to_string(), balance)), limit))
    })?)
}

/// Money that arrived at the bank.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BankReceipt {
    /// The bank's reference, unique for ever. No personal data: it stays in the journal.
    reference: String,
    /// The asset's code.
    asset: String,
    /// What arrived.
    amount: AmountText,
    /// A customer's id, or `inventory`.
    beneficiary: String,
}

/// Books money that arrived at the bank.
#[utoipa::path(post, path = "/api/v1/bank-receipts", tag = "customers", request_body = BankReceipt,
    responses((status = 201, body = DoneView), (status = "default", body = Problem)))]
async fn book_bank_receipt(Shared(api): Shared<Arc<Api>>, order: Order<BankReceipt>) -> Reply<DoneView> {
    let receipt = &order.body;
    let beneficiary = match receipt.beneficiary.as_str() {
        "inventory" => Beneficiary::INVENTORY,
        text => Beneficiary::Customer(customer_id(text)?),
    };
    let (asset, amount) = api.read(|state| {
        let asset = asset_of(state, &receipt.asset)?;
        Ok::<_, Problem>((asset.id, receipt.amount.parse(asset.decimals)?))
    })?;
    let reference = receipt.reference.clone();
    api.execute(order.origin, Command::BookBankReceipt { reference, asset, amount, beneficiary }).await?;
    created(DoneView { done: true })
}
