//! Holds the platform's own state against the auditor's: what the platform shows is what its journal says, whoever folds it.

use crate::ports::MemorySnapshots;
use crate::world::World;
use florin_core::id::Seq;
use florin_core::snapshot;
use florin_engine::audit::{BookFault, Seen, change_being_undone, check_books, judge_rows};
use florin_engine::load::{Loaded, Place, load};
use std::collections::BTreeMap;

impl World {
    /// Compares the read model's sums and records with the auditor's. Where the model has not folded all durable rows, the rest
    /// is folded upon a copy of it.
    ///
    /// # Errors
    /// Where they differ, or the model has rows that the journal has not.
    pub fn agree(&mut self) -> Result<(), String> {
        // Without a process there is no state to compare; the next one loads its own.
        let Some(process) = &self.process else { return Ok(()) };
        let at = process.model().at();
        let Loaded { mut state, mut place } = process.model().loaded();
        let rows = self.rows.rows();
        for row in rows.get(at.0 as usize..).ok_or_else(|| format!("the process shows row {at}, which is not there"))? {
            let batch = row.open(place.seq, place.hash).map_err(|fault| format!("row {}: {fault}", row.seq))?;
            state.apply_row(row, &batch);
            place = Place { seq: row.seq, hash: row.hash };
        }
        if place.seq.0 != self.auditor.seq() {
            return Err(format!(
                "the journal ends at row {}, and the auditor read row {}",
                place.seq,
                self.auditor.seq()
            ));
        }
        let sums: BTreeMap<u64, [u128; 4]> = state
            .ledger()
            .accounts()
            .iter()
            .map(|account| {
                let sums =
                    [account.debits_posted, account.credits_posted, account.debits_pending, account.credits_pending];
                (account.id.0, sums.map(|amount| amount.units()))
            })
            .collect();
        same("accounts", &sums, &self.auditor.sums())?;
        let unspent = state.coins().values().filter(|coin| coin.spent.is_none());
        let unspent: BTreeMap<_, u128> =
            unspent.map(|coin| ((coin.outpoint.txid.0, u64::from(coin.outpoint.vout)), coin.amount.units())).collect();
        same("unspent coins", &unspent, &self.auditor.unspent())?;
        let deposits = state.deposits().values();
        let deposits: BTreeMap<_, u64> = deposits
            .map(|deposit| ((deposit.outpoint.txid.0, u64::from(deposit.outpoint.vout)), deposit.status as u64))
            .collect();
        same("deposits", &deposits, &self.auditor.deposits())?;
        let withdrawals: BTreeMap<Vec<u8>, u64> = state
            .withdrawals()
            .values()
            .map(|withdrawal| (withdrawal.id.0.to_vec(), withdrawal.status as u64))
            .collect();
        let audited =
            self.auditor.withdrawals().iter().map(|(id, withdrawal)| (id.clone(), withdrawal.status)).collect();
        same("withdrawals", &withdrawals, &audited)?;
        self.count("compared with the state");
        Ok(())
    }

    /// Whether the engine finds the books right that the process shows now.
    ///
    /// # Errors
    /// What it finds.
    pub fn check_books(&mut self) -> Result<(), String> {
        let Some(process) = &self.process else { return Ok(()) };
        let at = (process.number, process.model().at());
        if self.books_at.replace(at) == Some(at) {
            return Ok(());
        }
        first(at.1, &check_books(process.model().state())).map_or(Ok(()), Err)
    }

    /// Reads the journal as whoever verifies it does, and checks the books after every row: also after those that no process showed
    /// because it died, or read several at once.
    fn verify(&mut self) -> Result<(), String> {
        let (mut fault, mut between) = (None, 0);
        let seen = |at: Seen<'_>| {
            fault = fault.take().or_else(|| first(at.row.seq, &at.check_books()));
            between += u32::from(!change_being_undone(at.state).is_empty());
        };
        let report = judge_rows(&mut self.journal(), seen, |_| ());
        if let Some(wrong) = report.wrong {
            return Err(format!("the journal is wrong: {wrong}"));
        }
        if let Some(fault) = report.unreadable {
            return Err(format!("the journal can't be read: {fault}"));
        }
        for _ in 0..between {
            self.count("a row with change of plans that are undone");
        }
        fault.map_or(Ok(()), Err)
    }

    /// Folds the journal from its start and from the newest snapshot: both give the state that the process has, byte for byte.
    ///
    /// # Errors
    /// Where they differ.
    pub fn agree_in_full(&mut self) -> Result<(), String> {
        self.agree()?;
        self.verify()?;
        let mut snapshots = self.snapshots.clone();
        let from_snapshot = load(&mut self.journal(), &mut snapshots).map_err(|fault| format!("no load: {fault}"))?;
        let from_start = load(&mut self.journal(), &mut MemorySnapshots::default())
            .map_err(|fault| format!("the journal does not fold from its start: {fault}"))?;
        let hash = snapshot::hash(&from_start.state);
        if snapshot::hash(&from_snapshot.state) != hash {
            return Err("a snapshot and the journal fold to different states".into());
        }
        let Some(process) = &self.process else { return Err("there is no process to compare".into()) };
        let (at, end) = (process.model().at(), from_start.place.seq);
        if at != end {
            return Err(format!("the process shows row {at}, and the journal ends at row {end}"));
        }
        if snapshot::hash(process.model().state()) != hash {
            return Err("the process has another state than its journal".into());
        }
        self.count("compared with the fold");
        Ok(())
    }
}

fn first(at: Seq, faults: &[BookFault]) -> Option<String> {
    faults.first().map(|fault| format!("row {at}: {}: {fault}", fault.code()))
}

fn same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    of_platform: &BTreeMap<K, V>,
    of_auditor: &BTreeMap<K, V>,
) -> Result<(), String> {
    if of_platform == of_auditor {
        return Ok(());
    }
    let differs = of_platform.iter().find(|(key, value)| of_auditor.get(*key) != Some(value));
    let missing = of_auditor.iter().find(|(key, _)| !of_platform.contains_key(*key));
    Err(format!("{what} differ: the platform has {differs:?}, and lacks {missing:?}"))
}
