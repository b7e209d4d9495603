//! What the signer would not sign: withdrawals that are planned alone or later, and coins that are not planned at all, so
//! that everything else in a wallet goes on. It never decides about money, and it may be forgotten.
//!
//! It is kept in memory. After a restart each refusal is met once more, and costs one plan that is given up.

use florin_core::custody::OutPoint;
use florin_core::id::{WalletId, WithdrawalId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often a pause doubles: from 5 seconds to 85 minutes. An operator who mends a policy or cancels does not wait longer
/// than that, and a day has few plans in vain.
pub const PAUSE_DOUBLINGS_MAX: u32 = 10;

/// With whom a withdrawal is planned when its pause is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// By itself: its refusal then stops nobody else.
    Alone,
    /// With others: what refused it passes with time.
    Others,
}

/// Why a withdrawal does not go with the others now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The signer's code.
    pub code: String,
    /// With whom it is planned when its pause is over.
    pub company: Company,
    /// How often it was refused.
    pub count: u32,
    /// How many approvals it had then.
    pub approvals: usize,
    /// How long its last pause is, in milliseconds.
    pause_ms: u64,
    /// When that began.
    since_ms: u64,
}

impl Doubt {
    /// Whether its pause is not over. A clock that was set back ends it.
    pub fn is_paused(&self, now_ms: u64) -> bool {
        now_ms >= self.since_ms && now_ms - self.since_ms < self.pause_ms
    }
}

#[derive(Debug, Default)]
struct Known {
    withdrawals: BTreeMap<WithdrawalId, Doubt>,
    coins: BTreeMap<OutPoint, String>,
    inputs_max: BTreeMap<WalletId, usize>,
}

/// What was refused, as the workers of one chain share it: who takes plans to the signer tells, and who makes them listens.
#[derive(Debug, Clone, Default)]
pub struct Doubts(Arc<Mutex<Known>>);

impl Doubts {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change is one insertion or one removal: a thread that ended in the middle left nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a withdrawal with so many approvals was refused: its pause begins at `retry_ms` and doubles each time.
    pub fn blame(
        &self,
        (withdrawal, approvals): (WithdrawalId, usize),
        (company, code): (Company, &str),
        (now_ms, retry_ms): (u64, u64),
    ) {
        let mut known = self.known();
        let count = known.withdrawals.get(&withdrawal).map_or(0, |doubt| doubt.count);
        let pause_ms = retry_ms.saturating_mul(1 << count.min(PAUSE_DOUBLINGS_MAX));
        let count = count.saturating_add(1);
        let doubt = Doubt { code: code.to_owned(), company, count, approvals, pause_ms, since_ms: now_ms };
        known.withdrawals.insert(withdrawal, doubt);
    }

    /// Notes that no plan that spends a coin will be signed.
    pub fn bar(&self, coin: OutPoint, code: &str) {
        self.known().coins.insert(coin, code.to_owned());
    }

    /// Notes that a plan of a wallet with `count` inputs did not fit the signer's frame: plans then spend half as many. One
    /// input always fits, because no transaction is larger than a block.
    pub fn narrow(&self, wallet: WalletId, count: usize) {
        self.known().inputs_max.insert(wallet, (count / 2).max(1));
    }

    /// How many inputs a wallet's plans may have, where that was found to be too many.
    pub fn inputs_max(&self, wallet: WalletId) -> Option<usize> {
        self.known().inputs_max.get(&wallet).copied()
    }

    /// What is known against a withdrawal.
    pub fn of(&self, withdrawal: WithdrawalId) -> Option<Doubt> {
        self.known().withdrawals.get(&withdrawal).cloned()
    }

    /// All that is known against withdrawals, in order of their ids.
    pub fn all(&self) -> Vec<(WithdrawalId, Doubt)> {
        self.known().withdrawals.iter().map(|(id, doubt)| (*id, doubt.clone())).collect()
    }

    /// Why a coin is not planned.
    pub fn bar_of(&self, coin: OutPoint) -> Option<String> {
        self.known().coins.get(&coin).cloned()
    }

    /// Forgets withdrawals that are not open any more and coins that are gone: what is known stays as small as the state.
    pub fn retain(&self, is_open: impl Fn(WithdrawalId) -> bool, is_there: impl Fn(OutPoint) -> bool) {
        let mut known = self.known();
        known.withdrawals.retain(|withdrawal, _| is_open(*withdrawal));
        known.coins.retain(|coin, _| is_there(*coin));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_end() {
        let (doubts, id) = (Doubts::default(), WithdrawalId([1; 16]));
        let mut now_ms = 1_000_000;
        let mut pauses = Vec::new();
        for _ in 0..13 {
            doubts.blame((id, 0), (Company::Alone, "limit_payment"), (now_ms, 5_000));
            let doubt = doubts.of(id).expect("it was blamed");
            assert!(doubt.is_paused(now_ms) && doubt.is_paused(now_ms + doubt.pause_ms - 1));
            assert!(!doubt.is_paused(now_ms + doubt.pause_ms), "it ends");
            assert!(!doubt.is_paused(now_ms - 1), "a clock that was set back holds nobody up");
            pauses.push(doubt.pause_ms / 5_000);
            now_ms += doubt.pause_ms;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 1_024, 1_024]);
    }

    #[test]
    fn plans_get_narrower_and_never_empty() {
        let (doubts, wallet) = (Doubts::default(), WalletId(1));
        assert_eq!(doubts.inputs_max(wallet), None);
        for (count, narrowed) in [(250, 125), (125, 62), (3, 1), (1, 1)] {
            doubts.narrow(wallet, count);
            assert_eq!(doubts.inputs_max(wallet), Some(narrowed));
        }
        assert_eq!(doubts.inputs_max(WalletId(2)), None);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let doubts = Doubts::default();
        let coin = OutPoint { chain: florin_core::id::ChainId(1), txid: florin_core::id::TxId([2; 32]), vout: 3 };
        let (first, second) = (WithdrawalId([1; 16]), WithdrawalId([2; 16]));
        doubts.blame((first, 1), (Company::Alone, "approval_invalid"), (5, 5));
        doubts.blame((second, 0), (Company::Others, "limit_day"), (5, 5));
        doubts.bar(coin, "outpoint_taken");
        doubts.retain(|id| id == second, |_| true);
        assert_eq!((doubts.of(first), doubts.of(second).map(|doubt| doubt.count)), (None, Some(1)));
        assert_eq!(doubts.bar_of(coin).as_deref(), Some("outpoint_taken"));
        doubts.retain(|_| true, |_| false);
        assert_eq!(doubts.bar_of(coin), None);
    }
}
