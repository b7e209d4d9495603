//! Records of the search tables as the interface shows them: as the state has them, or else without what matters only as long as something
//! is under way. It changes nothing.

use crate::api::deposits;
use crate::api::past::Record;
use crate::api::view::{
    self, DepositView, QuoteStatus, QuoteView, WithdrawalView, address, block, code, confirmations, money,
    outpoint_text,
};
use florin_core::custody::Beneficiary;
use florin_core::id::{AssetId, ChainId};
use florin_core::state::State;
use florin_store::projection::Place;
use florin_store::projection::query::{self, DepositKey, DepositRecord, QuoteRecord, WithdrawalRecord};

impl Record for DepositRecord {
    type View = DepositView;

    fn name(&self) -> String {
        deposits::name(&DepositKey { seen: self.seen, outpoint: self.outpoint })
    }

    fn place(&self) -> Place {
        self.place
    }

    fn view(&self, state: &State) -> DepositView {
        if let Some(standing) = state.deposits().get(&self.outpoint) {
            return DepositView::new(state, standing);
        }
        let chain = self.outpoint.chain;
        let asset = view::coin_of(state, chain).unwrap_or(AssetId(0));
        // Addresses never leave the state.
        let paid = state.addresses().get(&self.path);
        let beneficiary =
            self.customer.map(Beneficiary::Customer).or_else(|| paid.map(|paid| paid.beneficiary.clone()));
        DepositView {
            id: outpoint_text(&self.outpoint),
            chain: chain.0,
            beneficiary: beneficiary.as_ref().map_or_else(String::new, view::beneficiary),
            asset: code(state, asset),
            amount: money(state, asset, self.amount),
            status: self.status.name(),
            block: self.at.map(block),
            confirmations: confirmations(state, chain, self.at),
            confirmations_needed: None,
            waits_for: None,
            address: paid.and_then(|paid| address(state, chain, &paid.script.0)),
            coinbase: None,
            seen_ms: self.seen.0,
            missing_since_ms: None,
            debited: money(state, asset, self.debited),
        }
    }
}

impl Record for QuoteRecord {
    type View = QuoteView;

    fn name(&self) -> String {
        self.quote.id.to_string()
    }

    fn place(&self) -> Place {
        self.place
    }

    fn view(&self, state: &State) -> QuoteView {
        if let Some(standing) = state.quotes().get(&self.quote.id) {
            return QuoteView::new(state, standing, QuoteStatus::Open);
        }
        let status = match self.status {
            query::QuoteStatus::Open => QuoteStatus::Open,
            query::QuoteStatus::Accepted => QuoteStatus::Accepted,
            query::QuoteStatus::Ended => QuoteStatus::Ended,
        };
        QuoteView::new(state, &self.quote, status)
    }
}

impl Record for WithdrawalRecord {
    type View = WithdrawalView;

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn place(&self) -> Place {
        self.place
    }

    fn view(&self, state: &State) -> WithdrawalView {
        if let Some(standing) = state.withdrawals().get(&self.id) {
            return WithdrawalView::new(state, standing);
        }
        let chain = state.assets().get(&self.asset).and_then(|asset| asset.chain).unwrap_or(ChainId(0));
        let at = self.paid.map(|(_, at)| at);
        WithdrawalView {
            id: self.id.to_string(),
            customer: self.customer.to_string(),
            asset: code(state, self.asset),
            amount: money(state, self.asset, self.amount),
            fee: money(state, self.asset, self.fee),
            address: address(state, chain, &self.script.0),
            status: self.status.name(),
            wallet: None,
            plan: self.plan.map(|plan| plan.0),
            signed_txids: Vec::new(),
            txid: self.paid.map(|(txid, _)| txid.to_string()),
            block: at.map(block),
            confirmations: confirmations(state, chain, at),
            approved_by: Vec::new(),
            intent_digest: None,
            intent: None,
            intent_expiry_ms: None,
            requested_ms: self.requested.0,
        }
    }
}
