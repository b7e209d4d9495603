//! What is asked of the writer, and the three bounded lanes it waits in. Never decides anything.

use florin_core::command::{Command, Origin, Request};
use florin_core::custody::{Beneficiary, Branch};
use florin_core::id::WalletId;
use std::collections::VecDeque;

/// Operators and chain watchers send a few commands a second; a block in parts or a deep reorganisation sends its commands
/// one after another. A thousand waiting ones mean that the journal stands still, and then more of them help nobody.
pub const OPERATOR_LANE_MAX: usize = 1_024;
/// Cancels are short, and there are at most as many as there is something to cancel.
pub const CANCEL_LANE_MAX: usize = 4_096;
/// Customers and bulk callers. At 20,000 commands a second this is less than a second of work: whoever would wait longer
/// is better told at once that the queue is full.
pub const REST_LANE_MAX: usize = 16_384;

/// In which lane a command waits. A lane is served only when those before it are empty: halting, following the chain and
/// cancelling must not wait behind the load that makes them urgent, and neither of them can fill the writer's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Operators, chain watchers, workers. What operators book in bulk is not here: a bank's day would hold up a halt.
    Operator,
    /// Cancels.
    Cancel,
    /// Everything else.
    Rest,
}

impl Lane {
    /// All lanes, the first served first.
    pub const ALL: [Lane; 3] = [Lane::Operator, Lane::Cancel, Lane::Rest];

    /// How many may wait in it.
    pub fn max(self) -> usize {
        match self {
            Lane::Operator => OPERATOR_LANE_MAX,
            Lane::Cancel => CANCEL_LANE_MAX,
            Lane::Rest => REST_LANE_MAX,
        }
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Operator => "operator",
            Lane::Cancel => "cancel",
            Lane::Rest => "rest",
        }
    }
}

/// What is asked of the writer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are requests, and a box would cost each of them an allocation"
)]
pub enum Ask {
    /// A command, complete.
    Request(Request),
    /// The next address of a wallet. Index and script depend on the state it is decided on, so the writer fills them in.
    NextAddress {
        /// Who asks.
        origin: Origin,
        /// Of which wallet.
        wallet: WalletId,
        /// On which branch.
        branch: Branch,
        /// Whom it is for.
        beneficiary: Beneficiary,
    },
}

impl Ask {
    /// A watcher's or worker's command.
    pub fn internal(command: Command) -> Ask {
        Ask::Request(Request { origin: Origin::Internal, command })
    }

    /// Who asks.
    pub fn origin(&self) -> &Origin {
        match self {
            Ask::Request(request) => &request.origin,
            Ask::NextAddress { origin, .. } => origin,
        }
    }

    /// Whether it books a block, takes one back, or makes that possible.
    pub fn moves_chain(&self) -> bool {
        let Ask::Request(request) = self else { return false };
        matches!(
            request.command,
            Command::ConnectBlock(_) | Command::DisconnectBlock { .. } | Command::Unarchive { .. }
        )
    }

    /// The lane it waits in.
    pub fn lane(&self) -> Lane {
        let Ask::Request(request) = self else { return Lane::Rest };
        match &request.command {
            Command::Tick
            | Command::ConfirmTime
            | Command::SeeClock { .. }
            | Command::DefineAsset(_)
            | Command::SetAssetPolicy(_)
            | Command::Halt(_)
            | Command::Resume(_)
            | Command::DefineChain { .. }
            | Command::RegisterWallet(_)
            | Command::RetireWallet(_)
            | Command::ConnectBlock(_)
            | Command::DisconnectBlock { .. }
            | Command::Unarchive { .. }
            | Command::SeeReceipts { .. }
            | Command::LoseReceipts { .. }
            | Command::SeePlan { .. }
            | Command::SetPrice(_)
            | Command::ApproveWithdrawal { .. }
            | Command::ProposePlan(_)
            | Command::RecordSigned { .. }
            | Command::ProveConflict { .. }
            | Command::RecordVoid { .. } => Lane::Operator,
            Command::CancelWithdrawal { .. } => Lane::Cancel,
            Command::OpenCustomer(_)
            | Command::OpenAccount { .. }
            | Command::PostTransfers(_)
            | Command::BookBankReceipt { .. }
            | Command::BookCorrection { .. }
            | Command::IssueAddress { .. }
            | Command::RequestQuote { .. }
            | Command::AcceptQuote { .. }
            | Command::RequestWithdrawal { .. } => Lane::Rest,
        }
    }
}

/// Three bounded queues.
#[derive(Debug)]
pub struct Lanes<T> {
    queues: [VecDeque<T>; 3],
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Lanes { queues: [VecDeque::new(), VecDeque::new(), VecDeque::new()] }
    }
}

impl<T> Lanes<T> {
    /// Puts an item at the end of a lane, or gives it back where the lane is full.
    ///
    /// # Errors
    /// The item, where [`Lane::max`] of them wait.
    pub fn push(&mut self, lane: Lane, item: T) -> Result<(), T> {
        let queue = &mut self.queues[lane as usize];
        if queue.len() >= lane.max() {
            return Err(item);
        }
        queue.push_back(item);
        Ok(())
    }

    /// The next item: the oldest of the first lane that has one.
    pub fn pop(&mut self) -> Option<T> {
        self.queues.iter_mut().find_map(VecDeque::pop_front)
    }

    /// How many wait in a lane.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.queues[lane as usize].len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Takes everything, in order of service.
    pub fn drain(&mut self) -> Vec<T> {
        self.queues.iter_mut().flat_map(std::mem::take).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bank_receipts_wait_with_the_load_and_halts_do_not() {
        use florin_core::amount::Amount;
        use florin_core::asset::{Halt, HaltAction, HaltReason};
        use florin_core::id::AssetId;
        use florin_core::ledger::{HouseAccount, Owner};
        let beneficiary = Beneficiary::INVENTORY;
        let (reference, asset, amount) = (String::new(), AssetId(1), Amount::new(1));
        let (debit, credit) = (Owner::House(HouseAccount::Fees), Owner::House(HouseAccount::Inventory));
        let correction = Command::BookCorrection { reference: reference.clone(), asset, amount, debit, credit };
        let halt = Halt { asset: None, action: HaltAction::Sign, reason: HaltReason::Operator };
        for (command, lane) in [
            (Command::BookBankReceipt { reference, asset, amount, beneficiary }, Lane::Rest),
            (correction, Lane::Rest),
            (Command::Halt(halt), Lane::Operator),
            (Command::Tick, Lane::Operator),
        ] {
            assert_eq!(Ask::internal(command).lane(), lane);
        }
    }

    #[test]
    fn lanes_are_served_in_order_and_bounded() {
        let mut lanes = Lanes::default();
        for (lane, item) in [(Lane::Rest, 1), (Lane::Cancel, 2), (Lane::Operator, 3), (Lane::Rest, 4)] {
            assert_eq!(lanes.push(lane, item), Ok(()));
        }
        assert_eq!(std::iter::from_fn(|| lanes.pop()).collect::<Vec<_>>(), [3, 2, 1, 4]);
        for lane in Lane::ALL {
            for item in 0..lane.max() {
                assert_eq!(lanes.push(lane, item), Ok(()));
            }
            assert_eq!(lanes.push(lane, 7), Err(7), "{}", lane.name());
        }
        assert_eq!(lanes.drain().len(), OPERATOR_LANE_MAX + CANCEL_LANE_MAX + REST_LANE_MAX);
        assert!(lanes.is_empty());
    }
}
