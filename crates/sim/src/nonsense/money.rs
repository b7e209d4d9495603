//! Accounts, transfers, receipts, prices, quotes and withdrawals that must be refused.

use super::{NOBODY, units};
use crate::setup::{BTC, COIN_MISSING, COIN_STILL, EUR, UNIT, UNIT_OTHER, WALLET, WALLET_RETIRED, WALLET_STILL, XXX};
use crate::world::World;
use florin_core::amount::Amount;
use florin_core::asset::HaltAction;
use florin_core::broker::{Pair, Price, Side};
use florin_core::command::{Command, PlainTransfer};
use florin_core::custody::Beneficiary;
use florin_core::decide::TRANSFERS_MAX;
use florin_core::id::{AccountId, AssetId, CustomerId, LedgerTime, QuoteId, WalletId, WithdrawalId};
use florin_core::ledger::{BalanceRule, HouseAccount, Owner};
use florin_core::wire::Bytes;

const CUSTOMER: CustomerId = CustomerId([0; 16]);

impl World {
    /// Accounts, plain transfers and bank receipts.
    pub(super) fn wrong_accounts(&mut self) -> Vec<Command> {
        let open = |owner, asset| Command::OpenAccount { owner, asset, rule: BalanceRule::Free };
        let mut commands = vec![
            Command::OpenCustomer(CUSTOMER),
            open(Owner::Customer(CUSTOMER), UNIT),
            open(Owner::Plain(77), AssetId(77)),
            open(Owner::Plain(77), EUR),
            open(Owner::Plain(0), UNIT),
        ];
        commands.extend(self.wrong_transfers());
        commands.extend(self.wrong_receipts());
        commands.extend(self.wrong_corrections());
        commands
    }

    fn wrong_transfers(&mut self) -> Vec<Command> {
        let ids = |number, asset| {
            move |state: &florin_core::state::State| {
                state.ledger().account_of(&Owner::Plain(number), asset).map(|account| account.id)
            }
        };
        let plain: Option<Vec<AccountId>> = (0..4).map(|number| self.state(ids(number, UNIT)).flatten()).collect();
        let other = self.state(ids(9, UNIT_OTHER)).flatten();
        let not_plain = self.state(|state| {
            let mut all = state.ledger().accounts().iter();
            all.find(|account| !matches!(account.owner, Owner::Plain(_))).map(|account| account.id)
        });
        let (Some(plain), Some(other)) = (plain, other) else { return Vec::new() };
        let (free, credit, debit) = (plain[0], plain[1], plain[3]);
        let transfer = |debit, credit, amount| PlainTransfer { debit, credit, amount: units(amount) };
        let one = |debit, credit, amount| Command::PostTransfers(vec![transfer(debit, credit, amount)]);
        let unknown = AccountId(u64::MAX);
        let full = transfer(free, plain[2], u128::MAX);
        let mut commands = vec![
            Command::PostTransfers(Vec::new()),
            Command::PostTransfers(vec![transfer(free, credit, 1); TRANSFERS_MAX + 1]),
            one(unknown, free, 1),
            one(free, unknown, 1),
            one(free, free, 1),
            one(free, other, 1),
            one(free, credit, 0),
            one(credit, free, u128::MAX),
            one(free, debit, u128::MAX),
            Command::PostTransfers(vec![full, full]),
        ];
        commands.extend(not_plain.flatten().into_iter().flat_map(|house| [one(house, free, 1), one(free, house, 1)]));
        commands
    }

    fn wrong_receipts(&mut self) -> Vec<Command> {
        let fresh = format!("N-{}", self.rng.draw());
        let receipt = |reference: &str, asset, amount, beneficiary| Command::BookBankReceipt {
            reference: reference.into(),
            asset,
            amount: units(amount),
            beneficiary,
        };
        let house = Beneficiary::INVENTORY;
        let mut commands = vec![
            receipt("not a reference", EUR, 1, house.clone()),
            receipt(&fresh, AssetId(77), 1, house.clone()),
            receipt(&fresh, BTC, 1, house.clone()),
            receipt(&fresh, EUR, 0, house.clone()),
            receipt(&fresh, EUR, 1, Beneficiary::Customer(NOBODY)),
            receipt(&fresh, EUR, 1, Beneficiary::CHANGE),
        ];
        if self.is_halted(EUR, HaltAction::Credit) {
            commands.push(receipt(&fresh, EUR, 1, house.clone()));
        }
        let bank = Owner::House(HouseAccount::Bank);
        if self.state(|state| state.ledger().account_of(&bank, EUR).is_some()).unwrap_or(false) {
            commands.push(receipt(&fresh, EUR, u128::MAX, house));
        }
        commands
    }

    fn wrong_corrections(&mut self) -> Vec<Command> {
        let fresh = format!("N-{}", self.rng.draw());
        let correction = |reference: &str, asset, amount, debit, credit| Command::BookCorrection {
            reference: reference.into(),
            asset,
            amount: units(amount),
            debit,
            credit,
        };
        let house = Owner::House(HouseAccount::Inventory);
        let customer = Owner::Customer(CUSTOMER);
        let held = Owner::House(HouseAccount::ALL[self.rng.below(HouseAccount::ALL.len() as u64) as usize]);
        let mut commands = vec![
            correction("not a reference", EUR, 1, house.clone(), customer.clone()),
            correction(&fresh, AssetId(77), 1, house.clone(), customer.clone()),
            correction(&fresh, UNIT, 1, house.clone(), customer.clone()),
            correction(&fresh, EUR, 0, house.clone(), customer.clone()),
            correction(&fresh, BTC, 1, Owner::House(HouseAccount::Suspense), customer.clone()),
            correction(&fresh, BTC, 1, house.clone(), Owner::Custody(WALLET)),
            correction(&fresh, BTC, 1 << 90, held.clone(), held),
            correction(&fresh, EUR, 1, house.clone(), house.clone()),
            correction(&fresh, EUR, 1, house.clone(), Owner::Customer(NOBODY)),
            correction(&fresh, BTC, 1 << 90, house.clone(), customer.clone()),
        ];
        if self.is_halted(EUR, HaltAction::Credit) {
            commands.push(correction(&fresh, EUR, 1, house, customer));
        }
        commands
    }

    pub(super) fn is_halted(&self, asset: AssetId, action: HaltAction) -> bool {
        self.state(|state| state.is_halted(asset, action)).unwrap_or(false)
    }

    /// Prices, and quotes asked for and accepted.
    pub(super) fn wrong_quotes(&mut self) -> Vec<Command> {
        let now = self.state(|state| state.counters().time).unwrap_or(LedgerTime(0));
        let pair = Pair { base: BTC, quote: EUR };
        let newest = self.state(|state| state.prices().get(&pair).cloned()).flatten();
        let good = Price {
            pair,
            quote_units: units(5_000_000),
            base_units: units(100_000_000),
            as_of: now,
            age_max_ms: 60_000,
            spread_bp: 10,
            quote_ms: 1_000,
        };
        let with = |change: &dyn Fn(&mut Price)| {
            let mut price = good.clone();
            change(&mut price);
            Command::SetPrice(price)
        };
        let mut commands = vec![
            with(&|price| price.pair.quote = BTC),
            with(&|price| price.pair.quote = AssetId(77)),
            with(&|price| price.pair.quote = UNIT),
            with(&|price| price.quote_units = units(0)),
            with(&|price| price.base_units = Amount::MAX),
            with(&|price| price.as_of = LedgerTime(u64::MAX)),
            with(&|price| price.age_max_ms = 0),
            with(&|price| price.quote_ms = 0),
            with(&|price| price.spread_bp = 2_001),
        ];
        if let Some(newest) = newest {
            commands.push(with(&|price| price.as_of = LedgerTime(newest.as_of.0.saturating_sub(1))));
            // The clock runs at most a minute ahead of the journal, so that the price is good when the command is judged.
            if now.since_ms(newest.as_of).saturating_add(60_000) < newest.age_max_ms {
                commands.push(with(&|price| price.pair = Pair { base: EUR, quote: BTC }));
            }
            if !self.is_halted(BTC, HaltAction::Quote) && !self.is_halted(EUR, HaltAction::Quote) {
                commands.push(with(&|price| {
                    price.as_of = price.as_of.max(newest.as_of);
                    price.quote_units = units(newest.quote_units.units().saturating_mul(50));
                    price.base_units = newest.base_units;
                }));
            }
            commands.extend(self.wrong_requests_for_quotes(pair));
        }
        let quote = QuoteId(self.rng.bytes());
        commands.push(Command::AcceptQuote { customer: CUSTOMER, quote });
        commands
    }

    fn wrong_requests_for_quotes(&mut self, pair: Pair) -> Vec<Command> {
        let ask = |customer, pair, side, base: Option<u128>, quote: Option<u128>| Command::RequestQuote {
            customer,
            pair,
            side,
            base: base.map(units),
            quote: quote.map(units),
        };
        let back = Pair { base: EUR, quote: BTC };
        vec![
            ask(CUSTOMER, pair, Side::Buy, None, None),
            ask(NOBODY, pair, Side::Buy, Some(1), None),
            ask(CUSTOMER, back, Side::Buy, Some(1), None),
            ask(CUSTOMER, pair, Side::Buy, Some(0), None),
            ask(CUSTOMER, pair, Side::Sell, Some(1), None),
            ask(CUSTOMER, pair, Side::Buy, None, Some(u128::MAX)),
            ask(CUSTOMER, pair, Side::Buy, Some(1 << 90), None),
        ]
    }

    /// Withdrawals, approvals and cancels.
    pub(super) fn wrong_withdrawals(&mut self) -> Vec<Command> {
        let ask = |customer, asset, amount, script: &[u8], wallet| Command::RequestWithdrawal {
            customer,
            asset,
            amount: units(amount),
            script: Bytes(script.to_vec()),
            wallet,
        };
        let odd = [0x51];
        let withdrawal = WithdrawalId([0xdd; 16]);
        let approval = florin_core::custody::Approval { key: [1; 32], signature: [1; 64] };
        let mut commands = vec![
            ask(CUSTOMER, AssetId(77), 5_000, &odd, WALLET),
            ask(CUSTOMER, EUR, 5_000, &odd, WALLET),
            ask(CUSTOMER, COIN_MISSING, 5_000, &odd, WALLET),
            ask(CUSTOMER, COIN_STILL, 5_000, &odd, WALLET_STILL),
            ask(CUSTOMER, BTC, 5_000, &odd, WalletId(77)),
            ask(CUSTOMER, BTC, 5_000, &odd, WALLET_STILL),
            ask(CUSTOMER, BTC, 5_000, &odd, WALLET_RETIRED),
            ask(NOBODY, BTC, 5_000, &odd, WALLET),
            ask(CUSTOMER, BTC, 5_000, &[], WALLET),
            ask(CUSTOMER, BTC, 1, &odd, WALLET),
            ask(CUSTOMER, BTC, 1 << 90, &odd, WALLET),
            Command::ApproveWithdrawal { withdrawal, approval, complete: false },
            Command::CancelWithdrawal { withdrawal },
        ];
        let own = self.state(|state| {
            let is_own = |address: &&florin_core::custody::Address| {
                address.beneficiary == Beneficiary::Customer(CUSTOMER) && address.path.wallet == WALLET
            };
            state.addresses().values().find(is_own).map(|address| address.script.0.clone())
        });
        let retired = self.auditor.issued().iter().find(|(path, _)| path.0 == u64::from(WALLET_RETIRED.0));
        let retired = retired.map(|(_, script)| script.clone());
        commands.extend(own.flatten().map(|script| ask(CUSTOMER, BTC, 5_000, &script, WALLET)));
        commands.extend(retired.map(|script| ask(CUSTOMER, BTC, 5_000, &script, WALLET)));
        commands
    }

    /// What only a request with an id may ask for.
    pub(super) fn commands_that_need_ids(&mut self) -> Vec<Command> {
        vec![
            Command::RequestWithdrawal {
                customer: CUSTOMER,
                asset: BTC,
                amount: units(5_000),
                script: Bytes(vec![0x51]),
                wallet: WALLET,
            },
            Command::RequestQuote {
                customer: CUSTOMER,
                pair: Pair { base: XXX, quote: EUR },
                side: Side::Buy,
                base: Some(units(1)),
                quote: None,
            },
        ]
    }
}
