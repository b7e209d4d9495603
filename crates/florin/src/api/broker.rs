//! Prices and quotes. Those that ended are shown too. Which price a quote gets, and whether it still stands, is for the rules alone.

use crate::api::ask::{AmountText, Order, Params, Place, choice};
use crate::api::customers::{customer_id, customer_of};
use crate::api::pages::{ListParams, Page, number};
use crate::api::past;
use crate::api::problem::Problem;
use crate::api::view::{PriceView, QuoteStatus, QuoteView, asset_of};
use crate::api::{Api, Reply, created, seen};
use axum::extract::State as Shared;
use florin_core::amount::Amount;
use florin_core::asset::Asset;
use florin_core::broker::{Pair, Price, Side};
use florin_core::command::{Command, Outcome};
use florin_core::decide::AcceptQuoteRefusal;
use florin_core::id::{AssetId, CustomerId, QuoteId};
use florin_core::state::State;
use florin_store::projection::query::{self, QuoteRecord};
use serde::Deserialize;
use std::ops::Bound;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A customer that never was: its id is no UUID of version 7.
const NOBODY: CustomerId = CustomerId([0; 16]);

/// How long a price is good for where nobody says: an hour.
const AGE_S: u64 = 3_600;
/// The margin where nobody says, in hundredths of a percent.
const SPREAD_BP: u32 = 50;
/// How long a quote stands where nobody says.
const QUOTE_S: u64 = 15;
/// The most decimals of a price: more than any venue shows.
const PRICE_DECIMALS_MAX: usize = 18;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(set_price, list_prices))
        .routes(routes!(request_quote))
        .routes(routes!(show_quote))
        .routes(routes!(list_quotes_of))
        .routes(routes!(accept_quote))
}

/// A price, as of now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPrice {
    /// What is bought and sold.
    base: String,
    /// What it is paid in.
    quote: String,
    /// What one whole unit of base costs, in units of quote.
    price: AmountText,
    /// How many seconds it may be quoted from; 3,600 where absent.
    age_max_s: Option<u64>,
    /// The margin on either side, in hundredths of a percent; 50 where absent.
    spread_bp: Option<u32>,
    /// How many seconds a quote stands; 15 where absent.
    quote_s: Option<u64>,
}

/// A price's text as a ratio of whole numbers: exact, whatever its decimals.
fn ratio(text: &AmountText, base: &Asset, quote: &Asset) -> Result<(Amount, Amount), Problem> {
    let too_large = || Problem::titled("amount_too_large", "the price is too large".to_owned());
    let fraction = text.text().split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if fraction > PRICE_DECIMALS_MAX {
        return Err(Problem::titled("amount_precision", "a price has at most 18 decimals".to_owned()));
    }
    // At most 18, so that it fits a byte.
    let more = fraction.saturating_sub(usize::from(quote.decimals)) as u8;
    let quote_units = text.parse(quote.decimals + more)?;
    let base_units = 10u128.checked_pow(u32::from(base.decimals) + u32::from(more)).ok_or_else(too_large)?;
    Ok((quote_units, Amount::new(base_units)))
}

/// Sets a price, as of now.
#[utoipa::path(post, path = "/api/v1/prices", tag = "broker", request_body = NewPrice,
    responses((status = 201, body = PriceView), (status = "default", body = Problem)))]
async fn set_price(Shared(api): Shared<Arc<Api>>, order: Order<NewPrice>) -> Reply<PriceView> {
    let new = &order.body;
    let milliseconds = |seconds: u64| seconds.saturating_mul(1_000);
    let price = api.read(|state| {
        let (base, quote) = (asset_of(state, &new.base)?, asset_of(state, &new.quote)?);
        let (quote_units, base_units) = ratio(&new.price, base, quote)?;
        Ok::<_, Problem>(Price {
            pair: Pair { base: base.id, quote: quote.id },
            quote_units,
            base_units,
            // The journal's own time: a machine whose clock is behind it would otherwise set prices of the past.
            as_of: state.counters().time,
            age_max_ms: milliseconds(new.age_max_s.unwrap_or(AGE_S)),
            spread_bp: new.spread_bp.unwrap_or(SPREAD_BP),
            quote_ms: milliseconds(new.quote_s.unwrap_or(QUOTE_S)),
        })
    })?;
    api.execute(order.origin, Command::SetPrice(price.clone())).await?;
    created(api.read(|state| PriceView::new(state, &price)))
}

/// A pair's place in lists, as `next` names it.
fn pair_of(text: &str) -> Option<Pair> {
    let (base, quote) = text.split_once(':')?;
    Some(Pair { base: AssetId(number(base)?), quote: AssetId(number(quote)?) })
}

/// Lists the newest price of each pair, in the order in which their assets were defined.
#[utoipa::path(get, path = "/api/v1/prices", tag = "broker", params(ListParams),
    responses((status = 200, body = Page<PriceView>), (status = "default", body = Problem)))]
async fn list_prices(Shared(api): Shared<Arc<Api>>, Params(params): Params<ListParams>) -> Reply<Page<PriceView>> {
    let (limit, start) = (params.limit()?, params.start(pair_of)?);
    seen(api.read(|state| {
        let rest = state.prices().range((start, Bound::Unbounded));
        let name = |pair: &Pair| format!("{}:{}", pair.base.0, pair.quote.0);
        Page::first(rest.map(|(pair, price)| (name(pair), PriceView::new(state, price))), limit)
    }))
}

fn unknown() -> Problem {
    Problem::titled("quote_unknown", "there is no such quote".to_owned())
}

/// A request for a quote. Exactly one of the amounts is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewQuote {
    /// For whom.
    customer: String,
    /// `buy` or `sell`.
    side: String,
    /// What is bought or sold.
    base: String,
    /// What it is paid in.
    quote: String,
    /// How much of base, or
    base_amount: Option<AmountText>,
    /// how much of quote.
    quote_amount: Option<AmountText>,
}

/// Asks for a quote. It stands for some seconds and binds the house alone.
#[utoipa::path(post, path = "/api/v1/quotes", tag = "broker", request_body = NewQuote,
    responses((status = 201, body = QuoteView), (status = "default", body = Problem)))]
async fn request_quote(Shared(api): Shared<Arc<Api>>, order: Order<NewQuote>) -> Reply<QuoteView> {
    let new = &order.body;
    let customer = customer_id(&new.customer)?;
    let side = choice("side", &new.side, Side::ALL, Side::name)?;
    let command = api.read(|state| {
        let (base, quote) = (asset_of(state, &new.base)?, asset_of(state, &new.quote)?);
        let amount = |text: &Option<AmountText>, decimals| text.as_ref().map(|text| text.parse(decimals)).transpose();
        Ok::<_, Problem>(Command::RequestQuote {
            customer,
            pair: Pair { base: base.id, quote: quote.id },
            side,
            base: amount(&new.base_amount, base.decimals)?,
            quote: amount(&new.quote_amount, quote.decimals)?,
        })
    })?;
    let Outcome::Quote(quote) = api.execute(order.origin, command).await? else { return Err(Problem::new("internal")) };
    created(api.read(|state| QuoteView::new(state, &quote, QuoteStatus::Open)))
}

/// Shows a quote, and what became of it.
#[utoipa::path(get, path = "/api/v1/quotes/{id}", tag = "broker", params(("id" = String, Path)),
    responses((status = 200, body = QuoteView), (status = "default", body = Problem)))]
async fn show_quote(Shared(api): Shared<Arc<Api>>, Place(id): Place<String>) -> Reply<QuoteView> {
    let id = QuoteId::parse(&id).ok_or_else(unknown)?;
    let live = |state: &State| state.quotes().get(&id).map(|quote| QuoteView::new(state, quote, QuoteStatus::Open));
    let found = past::one::<QuoteRecord>(&api, live, move |tables| tables.quote(id)).await?;
    seen(found.ok_or_else(unknown)?)
}

/// Lists a customer's quotes by id, those that ended included: those that were requested last come first.
#[utoipa::path(get, path = "/api/v1/customers/{id}/quotes", tag = "broker",
    params(("id" = String, Path), ListParams),
    responses((status = 200, body = Page<QuoteView>), (status = "default", body = Problem)))]
async fn list_quotes_of(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    Params(params): Params<ListParams>,
) -> Reply<Page<QuoteView>> {
    let span = params.span(QuoteId::parse)?;
    let owner = api.read(|state| customer_of(state, &id).map(|customer| customer.id))?;
    seen(past::page(&api, span, move |tables, before, count| tables.quotes(owner, before, count)).await?)
}

/// Why a quote does not stand any more, as the search tables remember it; nothing to a customer whose quote it was not.
async fn why_gone(api: &Arc<Api>, quote: QuoteId, customer: CustomerId) -> Option<Problem> {
    let found = past::search(api, move |tables| tables.quote(quote)).await.ok()??;
    if customer != NOBODY && customer != found.quote.customer {
        return None;
    }
    match found.status {
        query::QuoteStatus::Open => None,
        query::QuoteStatus::Accepted => Some(Problem::new("quote_accepted")),
        query::QuoteStatus::Ended => Some(Problem::new("quote_ended")),
    }
}

/// Who accepts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acceptance {
    /// The customer for whom the quote was made. Where absent, the quote says it, as long as it stands.
    customer: Option<String>,
}

/// Accepts a quote: the exchange is done at once.
#[utoipa::path(post, path = "/api/v1/quotes/{id}/accept", tag = "broker", params(("id" = String, Path)),
    request_body = Acceptance,
    responses((status = 200, body = QuoteView), (status = "default", body = Problem)))]
async fn accept_quote(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    order: Order<Acceptance>,
) -> Reply<QuoteView> {
    let quote = QuoteId::parse(&id).ok_or_else(unknown)?;
    let customer = match &order.body.customer {
        Some(text) => customer_id(text)?,
        // A quote that was accepted is gone, and a repetition of its acceptance must find its answer all the same: whether
        // there is such a quote is for the rules, which look for the answer first. It is nobody's until they say so.
        None => api.read(|state| state.quotes().get(&quote).map_or(NOBODY, |found| found.customer)),
    };
    let outcome = match api.execute(order.origin, Command::AcceptQuote { customer, quote }).await {
        Err(refusal) if refusal.code() == AcceptQuoteRefusal::QuoteUnknown.code() => {
            return Err(why_gone(&api, quote, customer).await.unwrap_or(refusal));
        }
        outcome => outcome?,
    };
    let Outcome::Exchanged(quote) = outcome else { return Err(Problem::new("internal")) };
    seen(api.read(|state| QuoteView::new(state, &quote, QuoteStatus::Accepted)))
}
