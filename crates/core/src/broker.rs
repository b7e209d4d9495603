//! The broker's records: prices, spreads and quotes.

use crate::amount::Amount;
use crate::id::{AssetId, CustomerId, LedgerTime, QuoteId};

crate::choice! {
    /// Which way a customer trades the base asset.
    pub enum Side {
        /// Pays quote, receives base.
        Buy = 1,
        /// Pays base, receives quote.
        Sell = 2,
    }
}

crate::message! {
    /// A pair of assets that is quoted.
    #[derive(Copy, PartialOrd, Ord)]
    pub struct Pair {
        /// What is bought and sold.
        1: base: AssetId,
        /// What it is paid in.
        2: quote: AssetId,
    }
}

crate::message! {
    /// A price as of a time. A ratio of whole numbers: `quote_units` of the quote asset's smallest unit for `base_units` of the base's.
    pub struct Price {
        /// The pair.
        1: pair: Pair,
        /// Numerator.
        2: quote_units: Amount,
        /// Denominator.
        3: base_units: Amount,
        /// As of when.
        4: as_of: LedgerTime,
        /// How old it may be when a quote is made from it, in milliseconds.
        5: age_max_ms: u64,
        /// The house's margin on either side, in hundredths of a percent.
        6: spread_bp: u32,
        /// How long a quote made from it stands, in milliseconds.
        7: quote_ms: u64,
    }
}

crate::message! {
    /// An offer to one customer. It stands until it expires, is used, or a newer one replaces it.
    pub struct Quote {
        /// Its id.
        1: id: QuoteId,
        /// For whom.
        2: customer: CustomerId,
        /// Which assets.
        3: pair: Pair,
        /// Which way.
        4: side: Side,
        /// How much base moves.
        5: base: Amount,
        /// How much quote the customer pays or receives, margin included.
        6: quote: Amount,
        /// The margin within it, in the quote asset.
        7: spread: Amount,
        /// Not to be accepted at or after this time.
        8: expiry: LedgerTime,
        /// The price it was made from.
        9: price: Price,
    }
}
