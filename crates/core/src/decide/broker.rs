//! Prices and quotes.

use super::{Draft, refusals};
use crate::amount::Amount;
use crate::broker::{Pair, Price, Side};
use crate::command::Outcome;
use crate::id::{CustomerId, QuoteId};

refusals! {
    /// Why a price is not set.
    pub enum PriceRefusal { /// To be replaced.
        Unknown => "price_unknown", "not known"; }
}
refusals! {
    /// Why no quote is offered.
    pub enum QuoteRefusal { /// To be replaced.
        Unknown => "quote_unknown", "not known"; }
}
refusals! {
    /// Why a quote is not executed.
    pub enum AcceptQuoteRefusal { /// To be replaced.
        Unknown => "accept_unknown", "not known"; }
}
pub(super) fn set_price(_: &mut Draft<'_>, _: &Price) -> Result<Outcome, PriceRefusal> {
    Err(PriceRefusal::Unknown)
}
pub(super) fn request_quote(
    _: &mut Draft<'_>,
    _: CustomerId,
    _: Pair,
    _: Side,
    _: (Option<Amount>, Option<Amount>),
) -> Result<Outcome, QuoteRefusal> {
    Err(QuoteRefusal::Unknown)
}
pub(super) fn accept_quote(_: &mut Draft<'_>, _: CustomerId, _: QuoteId) -> Result<Outcome, AcceptQuoteRefusal> {
    Err(AcceptQuoteRefusal::Unknown)
}
