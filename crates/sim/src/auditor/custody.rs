//! Blocks, coins, deposits, withdrawals and plans: how each may move, and what must be so at that moment.

use super::archived::{self, Said};
use super::derive::Deriver;
use super::proto::Message;
use super::{
    Auditor, Coin, Deposit, FOLLOWED, Output, Plan, Policy, Taken, Wallet, Withdrawal, chain, deposit_status, fixed,
    halt, output, withdrawal_status,
};
use std::collections::BTreeSet;

/// The schema's number for the branch of a wallet on which its change arrives.
const INTERNAL: u64 = 2;

/// Confirmations of a mined output before it may be spent, by the rules of the followed chain.
const MATURITY: u64 = 100;

/// The schema's numbers for where a plan stands.
pub(super) mod plan_status {
    /// Its transaction is in a block.
    pub const CONFIRMED: u64 = 3;
    /// For ever in a block.
    pub const FINAL: u64 = 4;
    /// From here on a plan can't be paid any more.
    pub const VOIDED: u64 = 5;
    /// Another transaction took its place.
    pub const CONFLICTED: u64 = 6;
}

impl Auditor {
    pub(super) fn block_disconnected(&mut self, body: &Message<'_>) -> Result<(), String> {
        let at = (body.message(2)?.number(1)?, fixed(body.message(2)?.bytes(2)?)?);
        match self.blocks.last() {
            Some(tip) if *tip == at => {
                if self.blocks_kept() < 2 {
                    return Err("the only block that is kept was disconnected".into());
                }
                self.blocks.pop();
                Ok(())
            }
            // What was booked of a block that never was completed is taken back: the tip stays.
            Some(tip) if at.0 == tip.0 + 1 => {
                self.is_between = false;
                Ok(())
            }
            _ => Err("a block that is not the tip was disconnected".into()),
        }
    }

    pub(super) fn coin_received(&mut self, body: &Message<'_>) -> Result<(), String> {
        let is_suspense = body.maybe_number(9) == Some(1);
        let (amount, wallet) = (body.amount_or_zero(2)?, body.message(3)?.number(1)?);
        let is_coinbase = body.maybe_number(5) == Some(1);
        let is_change = body.message(3)?.number(2)? == INTERNAL && !is_suspense;
        let said = Said::new(body, archived::COIN);
        let (is_spent, spent_at, taken) = (false, None, None);
        let coin = Coin { amount, wallet, is_spent, spent_at, taken, is_suspense, is_coinbase, is_change, said };
        match self.coins.insert(output(&body.message(1)?)?, coin) {
            None => Ok(()),
            Some(_) => Err("an output arrived twice".into()),
        }
    }

    pub(super) fn deposit_moved(&mut self, body: &Message<'_>) -> Result<(), String> {
        use deposit_status::*;
        let key = output(&body.message(1)?)?;
        let depth = match body.maybe_bytes(3) {
            Some(_) => self.depth(&body.message(3)?),
            None => Ok(0),
        };
        let wanted = self.deposits.get(&key).and_then(|deposit| self.depth_wanted(deposit));
        let is_halted = self.is_halted(halt::CREDIT);
        let deposit = self.deposits.get_mut(&key).ok_or("an unknown deposit moved")?;
        let (from, to) = (deposit.status, body.number(2)?);
        let is_allowed = match from {
            SEEN => matches!(to, SEEN | PENDING | REPLACED),
            PENDING => matches!(to, SEEN | PENDING | CREDITED | REPLACED),
            CREDITED => matches!(to, CREDITED | MISSING),
            MISSING => matches!(to, CREDITED | REVERSED),
            REVERSED => matches!(to, CREDITED | REVERSED),
            REPLACED => matches!(to, SEEN | PENDING),
            _ => false,
        };
        if !is_allowed {
            return Err(format!("a deposit went from {from} to {to}"));
        }
        deposit.status = to;
        deposit.height = body.maybe_bytes(3).map(|_| body.message(3)?.number(1)).transpose()?;
        deposit.said.moved(body, archived::DEPOSIT_MOVED);
        deposit.hold = body.maybe_number(4);
        deposit.debited = body.amount_or_zero(6)?;
        if from == PENDING && to == CREDITED {
            deposit.credits += 1;
            if deposit.is_coinbase {
                *self.counts.entry("coinbase deposit credited".into()).or_default() += 1;
            }
            let depth = depth?;
            if is_halted || wanted.is_none_or(|wanted| depth < wanted) {
                return Err(format!("a deposit was credited at depth {depth}, wanted {wanted:?}, halted: {is_halted}"));
            }
        }
        let is_coinbase = deposit.is_coinbase;
        if deposit.credits > 1 {
            return Err("a deposit was credited twice".into());
        }
        *self.counts.entry(format!("deposit {from} to {to}")).or_default() += 1;
        if from == PENDING && to == SEEN && is_coinbase {
            *self.counts.entry("coinbase deposit taken back".into()).or_default() += 1;
        }
        Ok(())
    }

    pub(super) fn withdrawal_moved(&mut self, body: &Message<'_>) -> Result<(), String> {
        use withdrawal_status::*;
        if body.number(2)? == FINAL {
            let depth = self.depth(&body.message(5)?.message(2)?)?;
            let wanted = self.policy().map(|policy| policy.final_confirmations);
            if wanted.is_none_or(|wanted| depth < wanted) {
                return Err(format!("a withdrawal is final at depth {depth}, wanted {wanted:?}"));
            }
        }
        self.check_end_of_plan(body.bytes(1)?, body.number(2)?, body)?;
        let withdrawal = self.withdrawals.get_mut(body.bytes(1)?).ok_or("an unknown withdrawal moved")?;
        let (from, to) = (withdrawal.status, body.number(2)?);
        // A reorganisation deeper than what was final takes back what never should have been: then everything is halted.
        let is_deep = from == FINAL && (SIGNING..=SIGNED).contains(&to);
        self.is_undone |= is_deep;
        if matches!(from, FINAL | CANCELLED | REFUNDED) && from != to && !is_deep {
            return Err(format!("a withdrawal that had ended in {from} went to {to}"));
        }
        withdrawal.status = to;
        withdrawal.said.moved(body, archived::WITHDRAWAL_MOVED);
        withdrawal.hold = body.maybe_number(3);
        withdrawal.plan = body.maybe_number(4);
        *self.counts.entry(format!("withdrawal {from} to {to}")).or_default() += 1;
        Ok(())
    }

    pub(super) fn signing_requested(&mut self, body: &Message<'_>, row: u64) -> Result<(), String> {
        let inputs: BTreeSet<Output> = body.messages(3)?.iter().map(output).collect::<Result<_, _>>()?;
        let anchor = output(&body.message(4)?)?;
        if !inputs.contains(&anchor) {
            return Err("a plan does not spend its own anchor".into());
        }
        for input in &inputs {
            if self.coins.get(input).is_none_or(|coin| coin.is_spent) {
                return Err("a plan spends what is not there".into());
            }
        }
        if self.is_halted(halt::SIGN) {
            return Err("signing is halted, and was requested".into());
        }
        let first = body.messages(5)?.into_iter().next().ok_or("a plan has no version")?;
        let withdrawals = first
            .messages(4)?
            .iter()
            .map(|payment| payment.bytes(1).map(<[u8]>::to_vec))
            .collect::<Result<BTreeSet<_>, _>>()?;
        let is_live = |plan: &&Plan| plan.status < plan_status::VOIDED;
        let is_shared = |plan: &Plan| !plan.inputs.is_disjoint(&inputs) || !plan.withdrawals.is_disjoint(&withdrawals);
        if self.plans.values().filter(is_live).any(is_shared) {
            return Err("two plans that may both be paid share a coin or a withdrawal".into());
        }
        let (wallet, said) = (body.number(2)?, Said::new(body, archived::PLAN));
        let plan = Plan { row, status: 1, wallet, inputs, anchor, withdrawals, paid: None, said };
        match self.plans.insert(body.number(1)?, plan) {
            None => Ok(()),
            Some(_) => Err("a plan's id is used twice".into()),
        }
    }

    pub(super) fn plan_signed(&mut self, body: &Message<'_>, row: u64) -> Result<(), String> {
        let plan = self.plans.get(&body.number(1)?).ok_or("a plan was signed that nobody requested")?;
        if plan.row >= row {
            return Err("a plan was signed before its request was durable".into());
        }
        let spend = chain::Spend::read(body.bytes(3)?)?;
        if !spend.inputs.is_subset(&plan.inputs) || !spend.inputs.contains(&plan.anchor) {
            return Err("a signed transaction spends other coins than its plan".into());
        }
        if spend.txid.as_slice() != body.bytes(4)? {
            return Err("a signed transaction has another id than the journal says".into());
        }
        let amount = |input: &Output| self.coins.get(input).map(|coin| coin.amount);
        let inputs: Option<u128> = spend.inputs.iter().map(amount).sum();
        let outputs: u128 = spend.outputs.iter().map(|(_, amount)| amount).sum();
        let fee_max = self.policy().map_or(0, |policy| policy.network_fee_max);
        // A coin may be gone by now, with the block that brought it; then the fee can't be told.
        if inputs.is_some_and(|inputs| inputs.checked_sub(outputs).is_none_or(|fee| fee > fee_max)) {
            return Err("a signed transaction pays more than the policy's fee, or more than it spends".into());
        }
        let mut owed: Vec<(&[u8], u128)> = Vec::new();
        for id in &plan.withdrawals {
            let withdrawal = self.withdrawals.get(id).ok_or("a plan pays an unknown withdrawal")?;
            owed.push((&withdrawal.script, withdrawal.amount));
        }
        for (script, amount) in &spend.outputs {
            if let Some(at) = owed.iter().position(|(owed_script, owed)| owed_script == script && owed == amount) {
                owed.swap_remove(at);
            } else if self.scripts.get(script).is_none_or(|path| (path.0, path.1) != (plan.wallet, 2)) {
                return Err("a signed transaction pays somebody who is owed nothing".into());
            }
        }
        if owed.is_empty() { Ok(()) } else { Err("a signed transaction leaves a withdrawal out".into()) }
    }

    pub(super) fn coin_spent_or_returned(&mut self, body: &Message<'_>, is_spent: bool) -> Result<(), String> {
        let outpoint = output(&body.message(1)?)?;
        let mut taken = None;
        if is_spent {
            let spent = body.message(2)?;
            let pays: BTreeSet<Vec<u8>> = spent.all_bytes(4).map(<[u8]>::to_vec).collect();
            match spent.maybe_number(3) {
                None => taken = Some(Taken { txid: fixed(spent.bytes(1)?)?, pays }),
                Some(_) if !pays.is_empty() => return Err("a plan's own spend pays in a plan's place".into()),
                Some(_) => {}
            }
        }
        self.check_foreign_payments(&outpoint, taken.as_ref())?;
        let coin = self.coins.get_mut(&outpoint).ok_or("an unknown coin was spent or returned")?;
        if coin.is_spent == is_spent {
            return Err("a coin is spent twice, or returned unspent".into());
        }
        coin.is_spent = is_spent;
        coin.spent_at = if is_spent { Some(body.message(2)?.message(2)?.number(1)?) } else { None };
        coin.said.moved(body, archived::COIN_SPENT);
        if is_spent && taken.is_none() && coin.is_coinbase {
            *self.counts.entry("a coinbase is spent by a plan".into()).or_default() += 1;
        }
        self.is_robbed |= taken.is_some();
        coin.taken = taken;
        Ok(())
    }

    /// What a spend that no plan meant is said to pay are withdrawals of the open plan that has the coin, each once.
    fn check_foreign_payments(&self, outpoint: &Output, taken: Option<&Taken>) -> Result<(), String> {
        let pays = taken.map(|taken| &taken.pays).into_iter().flatten();
        for id in pays {
            let mut plans = self.plans.values().filter(|plan| plan.status < plan_status::CONFIRMED);
            if !plans.any(|plan| plan.inputs.contains(outpoint) && plan.withdrawals.contains(id)) {
                return Err("a spend pays in the place of a plan that is not open, or not hit".into());
            }
            if self.foreign_payer(id).is_some() {
                return Err("two spends pay the same withdrawal".into());
            }
        }
        Ok(())
    }

    /// A withdrawal whose plan ended without paying it is final if somebody else has paid it, and refunded if not.
    fn check_end_of_plan(&mut self, id: &[u8], to: u64, body: &Message<'_>) -> Result<(), String> {
        use withdrawal_status::{FINAL, REFUNDED};
        let plan = body.maybe_number(4).and_then(|plan| self.plans.get(&plan));
        if plan.is_none_or(|plan| plan.status != plan_status::CONFLICTED) || !matches!(to, FINAL | REFUNDED) {
            return Ok(());
        }
        let payer = self.foreign_payer(id);
        let withdrawal = self.withdrawals.get(id).ok_or("an unknown withdrawal moved")?;
        match (to, payer) {
            (REFUNDED, Some(_)) => Err("a withdrawal was refunded that somebody had paid".into()),
            (FINAL, payer) => {
                let by = fixed(body.message(5)?.bytes(1)?)?;
                if payer != Some(by) {
                    return Err("a withdrawal ended as paid by what did not pay it".into());
                }
                self.paid_by_others.insert(id.to_vec(), (by, withdrawal.amount));
                *self.counts.entry("withdrawal paid in its plan's place".into()).or_default() += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// After a spend that no plan meant nothing may be signed or asked for; after the end of what was final nothing at all.
    pub(super) fn check_halts(&mut self) -> Result<(), String> {
        let coin = self.coins_of_chains.get(&FOLLOWED).copied();
        let stands = |action| self.halts.contains(&(coin, action, halt::FOREIGN_SPEND));
        if std::mem::take(&mut self.is_robbed) && !(stands(halt::SIGN) && stands(halt::WITHDRAW)) {
            return Err("somebody else spent a coin, and nothing was halted".into());
        }
        let deep = |action| self.halts.contains(&(coin, action, halt::DEEP_REORGANISATION));
        if std::mem::take(&mut self.is_undone) && !(deep(halt::SIGN) && deep(halt::WITHDRAW) && deep(halt::CREDIT)) {
            return Err("what was final was taken back, and not all was halted".into());
        }
        Ok(())
    }

    fn is_halted(&self, action: u64) -> bool {
        let coin = self.coins_of_chains.get(&FOLLOWED).copied();
        let concerns = |asset: Option<u64>| asset.is_none() || asset == coin;
        self.halts.iter().any(|(asset, of, _)| *of == action && concerns(*asset))
    }

    pub(super) fn policy(&self) -> Option<&Policy> {
        self.policies.get(self.coins_of_chains.get(&FOLLOWED)?)
    }

    pub(super) fn policy_set(&mut self, body: &Message<'_>) -> Result<(), String> {
        let step = |step: &Message<'_>| Ok((step.amount_or_zero(1)?, step.number(2)?));
        let depths = body.messages(2)?.iter().map(step).collect::<Result<Vec<_>, String>>()?;
        let final_confirmations = body.number(7)?;
        let deepest = depths.iter().map(|(_, depth)| *depth).max().unwrap_or(0);
        let policy = Policy {
            kept_blocks: body.maybe_number(11).unwrap_or(archived::KEPT_BLOCKS).max(deepest).max(final_confirmations),
            depths,
            deposit_min: body.amount_or_zero(3)?,
            final_confirmations,
            network_fee_max: body.amount(10)?,
        };
        self.policies.insert(body.number(1)?, policy);
        Ok(())
    }

    pub(super) fn wallet_registered(&mut self, body: &Message<'_>) -> Result<(), String> {
        let branch = |tag| {
            let text = std::str::from_utf8(body.bytes(tag)?).map_err(|_| "a descriptor is not text")?;
            Deriver::read(text)
        };
        let wallet = Wallet { chain: body.number(2)?, branches: [branch(6)?, branch(7)?] };
        self.wallets.insert(body.number(1)?, wallet);
        Ok(())
    }

    /// How many blocks confirm one that must be part of the journal's chain, itself counted.
    fn depth(&self, at: &Message<'_>) -> Result<u64, String> {
        let at = (at.number(1)?, fixed(at.bytes(2)?)?);
        let tip = self.blocks.last().ok_or("there is no chain")?.0;
        if self.blocks.contains(&at) { Ok(tip - at.0 + 1) } else { Err("its block is not in the chain".into()) }
    }

    /// The confirmations that the policy wants for a deposit; `None` where it is too small.
    fn depth_wanted(&self, deposit: &Deposit) -> Option<u64> {
        let policy = self.policy()?;
        let reached = policy.depths.iter().filter(|(from, _)| *from <= deposit.amount);
        let depth = reached.map(|(_, confirmations)| *confirmations).max()?;
        let depth = if deposit.is_coinbase { depth.max(MATURITY) } else { depth };
        (deposit.amount >= policy.deposit_min).then_some(depth)
    }

    pub(super) fn deposit_seen(&mut self, body: &Message<'_>) -> Result<(), String> {
        let deposit = Deposit {
            amount: body.amount(3)?,
            status: body.number(4)?,
            hold: body.maybe_number(6),
            debited: body.amount_or_zero(9)?,
            is_coinbase: body.maybe_number(10) == Some(1),
            credits: 0,
            height: body.maybe_bytes(5).map(|_| body.message(5)?.number(1)).transpose()?,
            said: Said::new(body, archived::DEPOSIT),
        };
        if !matches!(deposit.status, deposit_status::SEEN | deposit_status::PENDING) {
            return Err("a deposit is credited from the start".into());
        }
        match self.deposits.insert(output(&body.message(1)?)?, deposit) {
            None => Ok(()),
            Some(_) => Err("a deposit is announced twice".into()),
        }
    }

    pub(super) fn withdrawal_requested(&mut self, body: &Message<'_>) -> Result<(), String> {
        let is_frozen = self.freezes.get(body.bytes(2)?).is_none_or(|freezes| *freezes > 0);
        if is_frozen || self.is_halted(halt::WITHDRAW) {
            return Err("a withdrawal was accepted of somebody who is frozen or unknown, or during a halt".into());
        }
        let withdrawal = Withdrawal {
            script: body.bytes(6)?.to_vec(),
            amount: body.amount(4)?,
            status: body.number(7)?,
            plan: None,
            fee: body.amount_or_zero(5)?,
            hold: body.maybe_number(8),
            said: Said::new(body, archived::WITHDRAWAL),
        };
        match self.withdrawals.insert(body.bytes(1)?.to_vec(), withdrawal) {
            None => Ok(()),
            Some(_) => Err("a withdrawal is requested twice".into()),
        }
    }

    pub(super) fn plan_moved(&mut self, body: &Message<'_>) -> Result<(), String> {
        let plan = self.plans.get_mut(&body.number(1)?).ok_or("an unknown plan moved")?;
        plan.status = body.number(2)?;
        plan.paid = match body.maybe_bytes(3) {
            Some(_) => Some(fixed(body.message(3)?.bytes(1)?)?),
            None => None,
        };
        plan.said.moved(body, archived::PLAN_MOVED);
        if plan.status == plan_status::CONFLICTED {
            *self.counts.entry("plan ended by a conflict".into()).or_default() += 1;
        }
        Ok(())
    }
}
