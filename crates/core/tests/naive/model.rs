//! The second ledger itself: names, numbers and plain arithmetic. It imports nothing of the first.

use crate::big::Big;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const DAY: i128 = 86_400_000;

/// What both are asked, in words that belong to neither.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Transfers(Vec<(String, String, u128)>),
    Receipt { reference: String, asset: i128, amount: u128, who: String },
    Correction { reference: String, asset: i128, amount: u128, debit: String, credit: String },
    Price { base: i128, quote: i128, up: u128, down: u128, as_of: i128, age: i128, bp: i128, stands: i128 },
    Quote { who: String, base: i128, quote: i128, buys: bool, names_base: bool, amount: u128 },
    Accept { who: String, id: i128 },
    Halt(i128),
    Resume(i128),
    Tick,
    Confirm,
    Clock(i128),
}

#[derive(Debug, Clone)]
pub(crate) enum From {
    /// Id and a byte that stands for the request's hash.
    Id(i128, u8),
    /// A session and its sequence.
    Session(i128, i128),
    Ourselves,
}

#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) who: String,
    pub(crate) base: i128,
    pub(crate) quote: i128,
    pub(crate) buys: bool,
    pub(crate) moves: Big,
    pub(crate) pays: Big,
    pub(crate) margin: Big,
    pub(crate) until: i128,
    pub(crate) price: Ratio,
}

/// So many of one per so many of another.
pub(crate) type Ratio = (Big, Big);

/// What an account was debited and credited, each summed up by itself: that only the difference is right proves little.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) debits: Big,
    pub(crate) credits: Big,
}

impl Sums {
    /// Whether so much more is owed than owes.
    fn has(self, amount: Big) -> bool {
        self.credits >= self.debits + amount
    }
}

/// A price as it was set: the ratio, its time, its age, margin, how long quotes stand.
pub(crate) type Priced = (Ratio, [i128; 4]);

#[derive(Debug, Default, Clone)]
pub(crate) struct Naive {
    pub(crate) now: i128,
    pub(crate) kinds: BTreeMap<i128, &'static str>,
    /// Name and asset to sums.
    pub(crate) accounts: BTreeMap<(String, i128), Sums>,
    /// Plain accounts: asset, and the rule of their balance.
    pub(crate) plain: BTreeMap<String, (i128, &'static str)>,
    pub(crate) customers: BTreeSet<String>,
    pub(crate) references: BTreeSet<String>,
    pub(crate) cases: BTreeSet<String>,
    /// By pair.
    pub(crate) prices: BTreeMap<(i128, i128), Priced>,
    pub(crate) offers: BTreeMap<i128, Offer>,
    pub(crate) halted: BTreeSet<i128>,
    /// By id: hash, answer, when.
    pub(crate) answers: BTreeMap<i128, (u8, String, i128)>,
    pub(crate) forgotten: i128,
    /// By session: the last sequence.
    pub(crate) sessions: BTreeMap<i128, i128>,
    pub(crate) ticked: i128,
    /// Which way the clock has left ledger time, and nobody has said that it is right: 1 ahead, -1 back.
    pub(crate) jumped: Option<i128>,
    /// What it showed then.
    pub(crate) shown: i128,
}

/// The time in an id.
pub(crate) fn time_of(id: i128) -> i128 {
    id / (1 << 64)
}

impl Naive {
    pub(crate) fn hear(&mut self, from: &From, ask: &Ask) -> Result<String, String> {
        match from {
            From::Ourselves => self.execute(ask, None),
            From::Session(session, sequence) => {
                let last = self.sessions.get(session).copied().unwrap_or(0);
                let refusal = if *sequence <= last {
                    Some("sequence_done")
                } else if self.now - time_of(*session) >= DAY {
                    Some("session_expired")
                } else if time_of(*session) > self.now + 600_000 {
                    Some("session_ahead")
                } else if *sequence != last + 1 {
                    Some("sequence_gap")
                } else {
                    None
                };
                if let Some(code) = refusal {
                    return Err(code.to_owned());
                }
                let answer = self.execute(ask, None)?;
                self.sessions.insert(*session, *sequence);
                Ok(answer)
            }
            From::Id(id, hash) => {
                if let Some((before, answer, _)) = self.answers.get(id) {
                    return if before == hash { Ok(answer.clone()) } else { Err("idempotency_mismatch".to_owned()) };
                }
                let clock = if self.jumped == Some(-1) { self.now.min(self.shown) } else { self.now };
                if clock - time_of(*id) >= DAY || time_of(*id) < self.forgotten {
                    return Err("id_expired".to_owned());
                }
                if time_of(*id) > self.now + 600_000 {
                    return Err("id_ahead".to_owned());
                }
                let answer = self.execute(ask, Some(*id))?;
                self.answers.insert(*id, (*hash, answer.clone(), self.now));
                Ok(answer)
            }
        }
    }

    /// Plays on a copy, and keeps the copy only if all went well.
    pub(crate) fn execute(&mut self, ask: &Ask, id: Option<i128>) -> Result<String, String> {
        let mut copy = Naive { answers: BTreeMap::new(), ..self.clone_without_answers() };
        std::mem::swap(&mut copy.answers, &mut self.answers);
        let answer = copy.play(ask, id);
        if answer.is_ok() {
            *self = copy;
        } else {
            self.answers = copy.answers;
        }
        answer.map_err(str::to_owned)
    }

    pub(crate) fn clone_without_answers(&mut self) -> Naive {
        let answers = std::mem::take(&mut self.answers);
        let copy = self.clone();
        self.answers = answers;
        copy
    }

    pub(crate) fn play(&mut self, ask: &Ask, id: Option<i128>) -> Result<String, &'static str> {
        match ask {
            Ask::Transfers(transfers) => self.transfers(transfers)?,
            Ask::Receipt { reference, asset, amount, who } => self.receipt(reference, *asset, *amount, who)?,
            Ask::Correction { reference, asset, amount, debit, credit } => {
                self.correction(reference, *asset, *amount, debit, credit)?
            }
            Ask::Price { base, quote, up, down, as_of, age, bp, stands } => {
                self.price((*base, *quote), ((Big::from(*up), Big::from(*down)), [*as_of, *age, *bp, *stands]))?
            }
            Ask::Quote { .. } => return self.quote(ask, id),
            Ask::Accept { who, id } => {
                self.accept(who, *id)?;
                return Ok("exchanged".to_owned());
            }
            Ask::Halt(asset) => {
                if !self.halted.insert(*asset) {
                    return Err("halt_exists");
                }
            }
            Ask::Resume(asset) => {
                if !self.halted.remove(asset) {
                    return Err("halt_unknown");
                }
            }
            Ask::Tick => self.tick()?,
            Ask::Confirm => match self.jumped {
                None => return Err("time_not_jumped"),
                Some(-1) => return Err("time_behind"),
                Some(_) => (self.jumped, self.ticked) = (None, self.now),
            },
            Ask::Clock(clock) => self.clock(*clock)?,
        }
        Ok("done".to_owned())
    }

    pub(crate) fn sums(&self, name: &str, asset: i128) -> Sums {
        self.accounts.get(&(name.to_owned(), asset)).copied().unwrap_or_default()
    }

    /// Moves it, and says so where a sum is then more than an amount can be.
    pub(crate) fn change(&mut self, debit: &str, credit: &str, asset: i128, amount: Big) -> Result<(), &'static str> {
        let debited = self.accounts.entry((debit.to_owned(), asset)).or_default();
        debited.debits = debited.debits + amount;
        let is_too_large = debited.debits > Big::limit();
        let credited = self.accounts.entry((credit.to_owned(), asset)).or_default();
        credited.credits = credited.credits + amount;
        if is_too_large || credited.credits > Big::limit() { Err("amount_too_large") } else { Ok(()) }
    }

    pub(crate) fn transfers(&mut self, transfers: &[(String, String, u128)]) -> Result<(), &'static str> {
        if transfers.is_empty() {
            return Err("transfers_empty");
        }
        for (debit, credit, amount) in transfers {
            let (debit_asset, _) = *self.plain.get(debit).ok_or("debit_account_unknown")?;
            let (credit_asset, _) = *self.plain.get(credit).ok_or("credit_account_unknown")?;
            if debit == credit {
                return Err("transfer_to_itself");
            }
            if debit_asset != credit_asset {
                return Err("assets_differ");
            }
            if *amount == 0 {
                return Err("amount_zero");
            }
        }
        for (debit, credit, amount) in transfers {
            let (asset, rule) = self.plain[debit];
            let amount = Big::from(*amount);
            let (debited, credited) = (self.sums(debit, asset), self.sums(credit, asset));
            if rule == "owed" && !debited.has(amount) {
                return Err("insufficient_funds");
            }
            // The account debited is judged to its end before the one credited.
            if debited.debits + amount > Big::limit() {
                return Err("amount_too_large");
            }
            if self.plain[credit].1 == "owes" && credited.debits < credited.credits + amount {
                return Err("credit_exceeds_debits");
            }
            self.change(debit, credit, asset, amount)?;
        }
        Ok(())
    }

    pub(crate) fn receipt(
        &mut self,
        reference: &str,
        asset: i128,
        amount: u128,
        who: &str,
    ) -> Result<(), &'static str> {
        if reference.is_empty() || reference.contains(' ') {
            return Err("bank_reference_invalid");
        }
        if self.references.contains(reference) {
            return Err("bank_reference_used");
        }
        if *self.kinds.get(&asset).ok_or("asset_unknown")? != "fiat" {
            return Err("asset_not_fiat");
        }
        if amount == 0 {
            return Err("amount_zero");
        }
        if who != "inventory" && !self.customers.contains(who) {
            return Err("customer_unknown");
        }
        self.references.insert(reference.to_owned());
        self.change("bank", who, asset, Big::from(amount))
    }

    pub(crate) fn correction(
        &mut self,
        reference: &str,
        asset: i128,
        amount: u128,
        debit: &str,
        credit: &str,
    ) -> Result<(), &'static str> {
        if reference.is_empty() || reference.contains(' ') {
            return Err("correction_reference_invalid");
        }
        if self.cases.contains(reference) {
            return Err("correction_reference_used");
        }
        if *self.kinds.get(&asset).ok_or("asset_unknown")? == "plain" {
            return Err("asset_plain");
        }
        if amount == 0 {
            return Err("amount_zero");
        }
        let is_customer = |name: &str| name.starts_with('c');
        let is_house = |name: &str| ["inventory", "spread", "fees"].contains(&name);
        if !is_customer(debit) && !is_house(debit) {
            return Err("debit_not_correctable");
        }
        if !is_customer(credit) && !is_house(credit) && credit != "bank" {
            return Err("credit_not_correctable");
        }
        if debit == credit {
            return Err("transfer_to_itself");
        }
        if [debit, credit].iter().any(|name| is_customer(name) && !self.customers.contains(*name)) {
            return Err("customer_unknown");
        }
        let amount = Big::from(amount);
        if !self.sums(debit, asset).has(amount) {
            return Err("insufficient_funds");
        }
        self.cases.insert(reference.to_owned());
        self.change(debit, credit, asset, amount)
    }

    pub(crate) fn price(&mut self, pair: (i128, i128), new: Priced) -> Result<(), &'static str> {
        let ((up, down), [as_of, age, bp, stands]) = new;
        if self.jumped.is_some() {
            return Err("time_unconfirmed");
        }
        if as_of > self.now {
            return Err("price_ahead");
        }
        if self.prices.get(&(pair.1, pair.0)).is_some_and(|(_, [as_of, age, ..])| self.now - as_of <= *age) {
            return Err("pair_reversed");
        }
        let old = self.prices.get(&pair).copied();
        if old.is_some_and(|(_, [old_as_of, ..])| as_of < old_as_of) {
            return Err("price_older");
        }
        if !(1..=DAY).contains(&age) {
            return Err("price_age_invalid");
        }
        if !(1..=600_000).contains(&stands) {
            return Err("quote_time_invalid");
        }
        if bp > 2_000 {
            return Err("spread_too_large");
        }
        if let Some(((old_up, old_down), _)) = old {
            let ten = Big::from(10);
            let far = up * old_down > ten * old_up * down || ten * up * old_down < old_up * down;
            if far && !self.is_halted(pair) {
                return Err("price_out_of_band");
            }
        }
        self.prices.insert(pair, new);
        Ok(())
    }

    pub(crate) fn is_halted(&self, pair: (i128, i128)) -> bool {
        self.halted.contains(&pair.0) || self.halted.contains(&pair.1)
    }

    pub(crate) fn quote(&mut self, ask: &Ask, id: Option<i128>) -> Result<String, &'static str> {
        let Ask::Quote { who, base, quote, buys, names_base, amount } = ask else { panic!("it is a quote") };
        let id = id.ok_or("id_missing")?;
        if !self.customers.contains(who) {
            return Err("customer_unknown");
        }
        let (price, [as_of, age, bp, stands]) = *self.prices.get(&(*base, *quote)).ok_or("price_unknown")?;
        if self.is_halted((*base, *quote)) {
            return Err("quote_halted");
        }
        if self.now - as_of > age {
            return Err("price_stale");
        }
        if self.jumped.is_some() {
            return Err("time_unconfirmed");
        }
        if *amount == 0 {
            return Err("amount_zero");
        }
        let (moves, value, pays) = worth(*buys, *names_base, Big::from(*amount), price, Big::from(bp as u128));
        let [Some(moved), Some(_), Some(paid)] = [moves, value, pays].map(Big::fits) else {
            return Err("amount_too_large");
        };
        if moved == 0 || paid == 0 {
            return Err("quote_too_small");
        }
        let margin = if *buys { pays - value } else { value - pays };
        let (gives, given) = if *buys { (*quote, pays) } else { (*base, moves) };
        if !self.sums(who, gives).has(given) {
            return Err("insufficient_funds");
        }
        let (gives, given) = if *buys { (*base, moves) } else { (*quote, value) };
        if !self.sums("inventory", gives).has(given) {
            return Err("inventory_insufficient");
        }
        self.offers.retain(|_, offer| offer.who != *who);
        let until = self.now + stands;
        let offer =
            Offer { who: who.clone(), base: *base, quote: *quote, buys: *buys, moves, pays, margin, until, price };
        self.offers.insert(id, offer);
        Ok(format!("offer of {moved} for {paid}, {margin:?} of it margin, until {until}"))
    }

    pub(crate) fn accept(&mut self, who: &str, id: i128) -> Result<(), &'static str> {
        let offer = self.offers.get(&id).filter(|offer| offer.who == who).ok_or("quote_unknown")?.clone();
        if self.now >= offer.until {
            return Err("quote_expired");
        }
        if self.jumped.is_some() {
            return Err("time_unconfirmed");
        }
        if self.is_halted((offer.base, offer.quote)) {
            return Err("quote_halted");
        }
        let ((up, down), _) = self.prices[&(offer.base, offer.quote)];
        let (now, then) = (up * offer.price.1 * Big::from(100), offer.price.0 * down);
        if now > then * Big::from(105) || now < then * Big::from(95) {
            return Err("price_moved");
        }
        let (base, quote) = (offer.base, offer.quote);
        if offer.buys {
            if !self.sums(who, quote).has(offer.pays) {
                return Err("insufficient_funds");
            }
            if !self.sums("inventory", base).has(offer.moves) {
                return Err("inventory_insufficient");
            }
            self.change(who, "inventory", quote, offer.pays - offer.margin)?;
            self.change(who, "spread", quote, offer.margin)?;
            self.change("inventory", who, base, offer.moves)?;
        } else {
            if !self.sums(who, base).has(offer.moves) {
                return Err("insufficient_funds");
            }
            if !self.sums("inventory", quote).has(offer.pays + offer.margin) {
                return Err("inventory_insufficient");
            }
            self.change(who, "inventory", base, offer.moves)?;
            self.change("inventory", who, quote, offer.pays)?;
            self.change("inventory", "spread", quote, offer.margin)?;
        }
        self.offers.remove(&id);
        Ok(())
    }

    pub(crate) fn clock(&mut self, clock: i128) -> Result<(), &'static str> {
        let off = if self.ticked == 0 { 0 } else { clock - self.ticked };
        if off.abs() > 60_000 && self.jumped != Some(off.signum()) {
            (self.jumped, self.shown) = (Some(off.signum()), clock);
            return Ok(());
        }
        match self.jumped {
            None => Ok(()),
            Some(-1) if (0..=60_000).contains(&off) => {
                (self.jumped, self.ticked) = (None, self.now);
                Ok(())
            }
            Some(_) => Err("time_unconfirmed"),
        }
    }

    pub(crate) fn tick(&mut self) -> Result<(), &'static str> {
        if self.jumped.is_some() {
            return Err("time_unconfirmed");
        }
        if self.ticked != 0 && self.now - self.ticked > 60_000 {
            self.jumped = Some(1);
            return Ok(());
        }
        let before = (self.offers.len(), self.answers.len(), self.sessions.len());
        let now = self.now;
        self.offers.retain(|_, offer| offer.until > now);
        let mut room = 1_000;
        while let Some((&id, &(_, _, at))) = self.answers.first_key_value()
            && now - at >= DAY
            && room > 0
        {
            room -= 1;
            self.answers.remove(&id);
            self.forgotten = self.forgotten.max(time_of(id) + 1);
        }
        let old: Vec<i128> =
            self.sessions.keys().filter(|&&session| now - time_of(session) >= 2 * DAY).copied().collect();
        for session in old.iter().take(50) {
            self.sessions.remove(session);
        }
        if before != (self.offers.len(), self.answers.len(), self.sessions.len()) || now - self.ticked >= 1_000 {
            self.ticked = now;
        }
        Ok(())
    }
}

/// What moves, its value by the price, and what is paid for it or paid out, whatever their size. Each division is rounded for the
/// house: the least that it may ask, the most that it may give.
fn worth(buys: bool, names_base: bool, amount: Big, (up, down): Ratio, bp: Big) -> (Big, Big, Big) {
    let whole = Big::from(10_000);
    match (buys, names_base) {
        (true, true) => {
            let value = (amount * up).over(down);
            (amount, value, value + (value * bp).over(whole))
        }
        (false, true) => {
            let value = amount * up / down;
            (amount, value, value - (value * bp).over(whole))
        }
        (true, false) => {
            let value = amount * whole / (whole + bp);
            (value * down / up, value, amount)
        }
        (false, false) => {
            let value = (amount * whole).over(whole - bp);
            ((value * down).over(up), value, amount)
        }
    }
}
