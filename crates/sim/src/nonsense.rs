//! Commands that make no sense, from outside and from inside: each has to be refused for its own reason.

use crate::actions::{BTC, EUR};
use crate::world::World;
use florin_core::amount::Amount;
use florin_core::broker::{Pair, Side};
use florin_core::command::Command;
use florin_core::custody::Beneficiary;
use florin_core::id::{AssetId, ChainId, CustomerId, PlanId, TxId, WalletId, WithdrawalId};
use florin_core::wire::Bytes;

impl World {
    /// One such command.
    pub fn nonsense(&mut self) {
        let nobody = CustomerId([0xee; 16]);
        let amount = Amount::new(u128::from(self.rng.below(10)));
        let command = match self.rng.below(12) {
            0 => return self.unknown_quote(),
            1 => Command::RequestWithdrawal {
                customer: nobody,
                asset: BTC,
                amount: Amount::new(5_000),
                script: Bytes(vec![0x51]),
                wallet: WalletId(1),
            },
            2 => Command::RequestWithdrawal {
                customer: nobody,
                asset: EUR,
                amount,
                script: Bytes(vec![0x51]),
                wallet: WalletId(9),
            },
            3 => Command::BookBankReceipt {
                reference: "not a reference".into(),
                asset: EUR,
                amount,
                beneficiary: Beneficiary::INVENTORY,
            },
            4 => Command::BookBankReceipt {
                reference: format!("N-{}", self.rng.next()),
                asset: AssetId(77),
                amount,
                beneficiary: Beneficiary::INVENTORY,
            },
            5 => Command::DisconnectBlock { chain: ChainId(7), hash: florin_core::id::BlockHash([7; 32]) },
            6 => Command::DisconnectBlock { chain: ChainId(1), hash: florin_core::id::BlockHash([7; 32]) },
            7 => Command::RecordVoid { plan: PlanId(u64::MAX) },
            8 => Command::SeePlan { plan: PlanId(1), txid: TxId([1; 32]) },
            9 => Command::CancelWithdrawal { withdrawal: WithdrawalId([0xdd; 16]) },
            10 => Command::RequestQuote {
                customer: nobody,
                pair: Pair { base: BTC, quote: EUR },
                side: Side::Buy,
                base: Some(amount),
                quote: Some(amount),
            },
            _ => Command::OpenCustomer(CustomerId([0; 16])),
        };
        self.ask(command);
    }
}
