//! From coins to a verified transaction, for every script kind, and every way a plan, a PSBT or a signer says no.

use bitcoin::hashes::Hash;
use bitcoin::psbt::{Psbt, PsbtSighashType};
use bitcoin::sighash::{EcdsaSighashType, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, absolute};
use florin_chain::bitcoin::check::{SpendIntent, SpendRefusal, SpendRules, check_spend};
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::keys::{AccountPublic, AccountSecrets, AddressIndex, Branch, ScriptKind};
use florin_chain::bitcoin::network::Network;
use florin_chain::bitcoin::plan::{
    ChangeTarget, Coin, CoinStanding, FeeLimits, KeyPlace, OutputRole, PAYMENTS_MAX, Payment, Plan, PlanRefusal,
    PlanRequest, SatPerKvb, WalletRef, make_plan,
};
use florin_chain::bitcoin::psbt::{PsbtError, WalletKeys, build_psbt, finish_psbt, parse_psbt};
use florin_chain::bitcoin::sign::{SignError, sign_psbt};
use florin_chain::bitcoin::verify::{VerifyError, verify_tx};
use proptest::prelude::*;

const WALLET: WalletRef = WalletRef(7);
const LIMITS: FeeLimits = FeeLimits {
    rate_min: SatPerKvb(1_000),
    rate_max: SatPerKvb(500_000),
    rate_long_term: SatPerKvb(10_000),
    fee_sat_max: 1_000_000,
    fee_share_ppm_max: 500_000,
};

fn index(number: u32) -> AddressIndex {
    AddressIndex::new(number).expect("a small index")
}

/// A wallet of one kind with coins, and the transactions that made them.
struct Purse {
    secrets: AccountSecrets,
    account: AccountPublic,
    coins: Vec<Coin>,
    previous: Vec<Vec<u8>>,
}

fn secrets(kind: ScriptKind, seed: u8) -> AccountSecrets {
    AccountSecrets::derive(Network::Regtest, &[seed; 32], kind, 0, &[1; 32]).expect("an account")
}

impl Purse {
    fn new(kind: ScriptKind, amounts: &[u64]) -> Purse {
        let secrets = secrets(kind, 9);
        let account = secrets.public(&[1; 32]);
        let mut purse = Purse { secrets, account, coins: Vec::new(), previous: Vec::new() };
        for (number, amount_sat) in amounts.iter().enumerate() {
            purse.receive(number as u32, *amount_sat);
        }
        purse
    }

    fn script(&self, branch: Branch, number: u32) -> ScriptBuf {
        let descriptor = Descriptor::of_account(&self.account, branch).expect("a descriptor");
        descriptor.script(index(number)).expect("a key").to_script_buf()
    }

    fn receive(&mut self, number: u32, amount_sat: u64) {
        let script = self.script(Branch::External, number);
        let funding = OutPoint { txid: Txid::from_byte_array([number as u8; 32]), vout: number };
        let other = TxOut { value: Amount::from_sat(5), script_pubkey: foreign(1) };
        let ours = TxOut { value: Amount::from_sat(amount_sat), script_pubkey: script.clone() };
        let tx = Transaction {
            version: Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn { previous_output: funding, ..TxIn::default() }],
            output: vec![other, ours],
        };
        self.previous.push(bitcoin::consensus::serialize(&tx));
        self.coins.push(Coin {
            outpoint: OutPoint { txid: tx.compute_txid(), vout: 1 },
            amount_sat,
            script,
            kind: self.account.kind,
            place: KeyPlace { wallet: WALLET, branch: Branch::External, index: index(number) },
            standing: CoinStanding::Final,
        });
    }

    fn change(&self) -> ChangeTarget {
        let place = KeyPlace { wallet: WALLET, branch: Branch::Internal, index: index(3) };
        ChangeTarget { script: self.script(Branch::Internal, 3), kind: self.account.kind, place }
    }

    fn plan(&self, payments: &[Payment], adjust: impl FnOnce(&mut PlanRequest<'_>)) -> Result<Plan, PlanRefusal> {
        let change = self.change();
        let mut request = PlanRequest {
            coins: &self.coins,
            payments,
            change: &change,
            anchor: None,
            fee_rate: SatPerKvb(10_000),
            fee_sat_min: 0,
            limits: LIMITS,
            lock_time: 800_000,
            draw: [5; 32],
        };
        adjust(&mut request);
        make_plan(&request)
    }

    fn psbt(&self, plan: &Plan) -> Psbt {
        let keys = WalletKeys { wallet: WALLET, account: &self.account };
        build_psbt(plan, &self.previous, &[keys]).expect("a sound plan")
    }
}

/// Scripts that are not ours.
fn foreign(number: u8) -> ScriptBuf {
    let mut bytes = vec![0, 20];
    bytes.extend([number; 20]);
    ScriptBuf::from_bytes(bytes)
}

fn pay(number: u8, amount_sat: u64) -> Payment {
    Payment { script: foreign(number), amount_sat }
}

fn intents(payments: &[Payment]) -> Vec<SpendIntent> {
    payments.iter().map(|one| SpendIntent { script: one.script.clone(), amount_sat: one.amount_sat }).collect()
}

fn rules() -> SpendRules {
    SpendRules {
        fee_sat_max: 1_000_000,
        fee_share_ppm_max: 500_000,
        fee_rate_max: SatPerKvb(500_000),
        change_index_max: index(100),
        anchor: None,
    }
}

fn spent(plan: &Plan) -> Vec<TxOut> {
    let output = |input: &florin_chain::bitcoin::plan::PlanInput| TxOut {
        value: Amount::from_sat(input.amount_sat),
        script_pubkey: input.script.clone(),
    };
    plan.inputs.iter().map(output).collect()
}

#[test]
fn plans_of_every_kind_are_checked_signed_finished_and_verified() {
    for kind in ScriptKind::ALL {
        let purse = Purse::new(kind, &[40_000, 70_000, 90_000]);
        let payments = [pay(1, 120_000), pay(2, 30_000)];
        let plan = purse.plan(&payments, |_| ()).expect("enough funds");
        assert!(plan.outputs.iter().any(|output| matches!(output.role, OutputRole::Change(_))), "{kind:?}");
        let mut psbt = parse_psbt(&purse.psbt(&plan).serialize()).expect("its own bytes");
        let checked = check_spend(&psbt, &intents(&payments), &purse.account, &rules()).expect("a sound plan");
        assert_eq!((checked.fee_sat, checked.weight_max), (plan.fee_sat, plan.weight_max), "{kind:?}");
        assert_eq!(checked.paid_sat, 150_000);
        assert_eq!(checked.unsigned_txid, plan.transaction().compute_txid());
        for (place, output) in checked.intent_outputs.iter().enumerate() {
            assert_eq!(plan.outputs[*output].role, OutputRole::Payment(place));
        }
        assert_eq!(finish_psbt(psbt.clone()), Err(PsbtError::NotSigned { input: 0 }));
        let unsigned = psbt.clone();
        assert_eq!(sign_psbt(&mut psbt, &purse.secrets, &[2; 32]), Ok(3));
        let mut again = unsigned;
        assert_eq!(sign_psbt(&mut again, &purse.secrets, &[77; 32]), Ok(3));
        assert_eq!(psbt, again, "the blinding does not change a signature");
        let tx = finish_psbt(psbt).expect("all is signed");
        assert_eq!(verify_tx(&tx, &spent(&plan)), Ok(plan.fee_sat), "{kind:?}");
        let weight = tx.weight().to_wu();
        assert!(
            weight <= plan.weight_max && weight + 4 * 3 * 3 >= plan.weight_max,
            "{kind:?} {weight} {}",
            plan.weight_max
        );
        assert_eq!(tx.lock_time.to_consensus_u32(), 800_000);
        assert!(tx.input.iter().all(|input| input.sequence == Sequence(0xffff_fffd)));
        assert_eq!(tx.version, Version::TWO);
    }
}

#[test]
fn transactions_that_do_not_spend_validly_are_refused() {
    for kind in ScriptKind::ALL {
        let purse = Purse::new(kind, &[40_000, 70_000]);
        let payments = [pay(1, 90_000)];
        let plan = purse.plan(&payments, |_| ()).expect("enough funds");
        let mut psbt = purse.psbt(&plan);
        sign_psbt(&mut psbt, &purse.secrets, &[2; 32]).expect("ours");
        let good = finish_psbt(psbt).expect("all is signed");
        let outputs = spent(&plan);
        let refusal = |tx: &Transaction, spent: &[TxOut]| verify_tx(tx, spent).err();
        assert_eq!(refusal(&good, &outputs), None);
        assert_eq!(refusal(&good, &outputs[1..]), Some(VerifyError::CountMismatch { inputs: 2, spent: 1 }));
        let mut changed = good.clone();
        changed.output[0].value -= Amount::from_sat(1);
        assert_eq!(refusal(&changed, &outputs), Some(VerifyError::ScriptFailed { input: 0 }), "{kind:?}");
        let mut changed = good.clone();
        changed.output[0].value = Amount::from_sat(111_000);
        assert_eq!(refusal(&changed, &outputs), Some(VerifyError::OutputsExceedInputs));
        changed.output[0].value = Amount::from_sat(u64::MAX);
        assert_eq!(refusal(&changed, &outputs), Some(VerifyError::AmountOutOfRange));
        let mut other = outputs.clone();
        other[1].script_pubkey = foreign(3);
        assert_eq!(
            refusal(&good, &other),
            Some(VerifyError::ScriptFailed { input: if kind == ScriptKind::Tr { 0 } else { 1 } })
        );
        if kind != ScriptKind::Pkh {
            // Segwit signatures commit to amounts; for pkh the full previous transaction is the proof.
            let mut other = outputs.clone();
            other[0].value += Amount::from_sat(1);
            assert_eq!(refusal(&good, &other), Some(VerifyError::ScriptFailed { input: 0 }), "{kind:?}");
        }
        let mut unsigned = good.clone();
        unsigned.input[1].script_sig = ScriptBuf::new();
        unsigned.input[1].witness.clear();
        assert_eq!(refusal(&unsigned, &outputs), Some(VerifyError::ScriptFailed { input: 1 }), "{kind:?}");
    }
}

#[test]
fn a_valid_signature_that_does_not_commit_to_everything_is_refused() {
    let purse = Purse::new(ScriptKind::Wpkh, &[40_000]);
    let plan = purse.plan(&[pay(1, 20_000)], |_| ()).expect("enough funds");
    let mut psbt = purse.psbt(&plan);
    psbt.inputs[0].sighash_type = Some(EcdsaSighashType::None.into());
    let secp = bitcoin::secp256k1::Secp256k1::new();
    let master = bitcoin::bip32::Xpriv::new_master(bitcoin::Network::Regtest, &[9; 32]).expect("a seed");
    psbt.sign(&master, &secp).expect("the library signs anything");
    let tx = finish_psbt(psbt).expect("a valid signature");
    assert_eq!(verify_tx(&tx, &spent(&plan)), Err(VerifyError::SighashForbidden { input: 0 }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn plans_conserve_money_and_stay_below_their_caps(
        amounts in proptest::collection::vec(300u64..400_000, 1..40),
        targets in proptest::collection::vec(600u64..300_000, 1..5),
        rate in 1_000u64..60_000,
        kind in 0usize..4,
        draw in any::<[u8; 32]>(),
        anchored in any::<bool>(),
        fee_sat_min in 0u64..20_000,
    ) {
        let kind = ScriptKind::ALL[kind];
        let purse = Purse::new(kind, &amounts);
        let payments: Vec<Payment> = targets.iter().enumerate().map(|(place, amount)| pay(place as u8, *amount)).collect();
        let anchor = anchored.then(|| purse.coins[amounts.len() / 2].outpoint);
        let adjust = |request: &mut PlanRequest<'_>| {
            request.fee_rate = SatPerKvb(rate);
            request.draw = draw;
            request.anchor = anchor;
            request.fee_sat_min = fee_sat_min;
        };
        let paid: u64 = targets.iter().sum();
        let worth = |coin: &&Coin| {
            let cost = florin_chain::bitcoin::weight::input_weight_max(coin.kind).div_ceil(4) * rate;
            Some(coin.outpoint) == anchor || coin.amount_sat > cost.div_ceil(1_000)
        };
        match purse.plan(&payments, adjust) {
            Ok(plan) => {
                let inputs: u64 = plan.inputs.iter().map(|input| input.amount_sat).sum();
                let outputs: u64 = plan.outputs.iter().map(|output| output.amount_sat).sum();
                prop_assert_eq!(inputs, outputs + plan.fee_sat);
                prop_assert!(plan.fee_sat <= LIMITS.fee_sat_max && plan.fee_sat * 2 <= paid);
                let size = plan.weight_max.div_ceil(4);
                let least = (size * rate).div_ceil(1_000).max(fee_sat_min);
                prop_assert!(plan.fee_sat >= least, "{} {}", plan.fee_sat, least);
                let change = plan.outputs.iter().filter(|output| matches!(output.role, OutputRole::Change(_))).count();
                if change == 1 {
                    prop_assert_eq!(plan.fee_sat, least);
                }
                prop_assert!(change <= 1);
                prop_assert_eq!(plan.outputs.len() - change, payments.len());
                prop_assert!(plan.inputs.iter().any(|input| input.outpoint == plan.anchor));
                prop_assert!(anchor.is_none_or(|anchor| plan.anchor == anchor));
                for coin in &purse.coins {
                    let spent = plan.inputs.iter().filter(|input| input.outpoint == coin.outpoint).count();
                    prop_assert!(spent <= usize::from(worth(&coin)), "uneconomic or spent twice");
                }
                let mut psbt = purse.psbt(&plan);
                prop_assert!(check_spend(&psbt, &intents(&payments), &purse.account, &rules()).is_ok());
                sign_psbt(&mut psbt, &purse.secrets, &draw).expect("ours");
                let tx = finish_psbt(psbt).expect("all is signed");
                let weight = tx.weight().to_wu();
                // Signatures may be shorter by a few bytes, four units each outside of witnesses.
                prop_assert!(weight <= plan.weight_max);
                prop_assert!(weight + 4 * 4 * plan.inputs.len() as u64 >= plan.weight_max);
                prop_assert_eq!(verify_tx(&tx, &spent(&plan)), Ok(plan.fee_sat));
                prop_assert_eq!(Ok(plan), purse.plan(&payments, adjust));
            }
            Err(PlanRefusal::InsufficientFunds { required_sat, available_sat }) => {
                let usable: u64 = purse.coins.iter().filter(worth).map(|coin| coin.amount_sat).sum();
                prop_assert_eq!(usable, available_sat);
                prop_assert!(available_sat < required_sat);
                prop_assert!(required_sat > paid);
            }
            Err(PlanRefusal::FeeShareAboveCap { fee_sat }) => prop_assert!(fee_sat * 2 > paid),
            Err(refusal) => prop_assert!(false, "{refusal:?}"),
        }
    }
}

#[test]
fn an_exact_match_makes_no_change_and_change_moves_about() {
    let purse = Purse::new(ScriptKind::Wpkh, &[50_000, 101_130, 300_000]);
    let exact = purse.plan(&[pay(1, 100_000)], |_| ()).expect("enough funds");
    assert_eq!((exact.inputs.len(), exact.outputs.len()), (1, 1));
    assert_eq!(exact.fee_sat, 1_130);
    let place = |draw: u8| {
        let plan = purse.plan(&[pay(1, 60_000), pay(2, 60_000)], |request| request.draw = [draw; 32]).expect("funds");
        plan.outputs.iter().position(|output| matches!(output.role, OutputRole::Change(_)))
    };
    for expected in 0..3 {
        assert!((0..100).any(|draw| place(draw) == Some(expected)), "change is at times at {expected}");
    }
}

#[test]
fn the_anchor_of_a_first_version_is_a_final_coin_if_there_is_one() {
    let mut purse = Purse::new(ScriptKind::Wpkh, &[50_000, 60_000]);
    for (place, expected) in [(0, 1), (1, 0)] {
        purse.coins[place].standing = CoinStanding::OwnChange;
        purse.coins[expected].standing = CoinStanding::Final;
        let plan = purse.plan(&[pay(1, 100_000)], |_| ()).expect("both coins are needed");
        assert_eq!(plan.anchor, purse.coins[expected].outpoint);
    }
}

#[test]
fn each_refusal_of_a_plan() {
    let purse = Purse::new(ScriptKind::Wpkh, &[50_000, 60_000]);
    let ask = |payments: &[Payment], adjust: fn(&mut PlanRequest<'_>)| purse.plan(payments, adjust).err();
    let one = [pay(1, 20_000)];
    assert_eq!(ask(&[], |_| ()), Some(PlanRefusal::NoPayments));
    let many = vec![pay(1, 1_000); PAYMENTS_MAX + 1];
    assert_eq!(ask(&many, |_| ()), Some(PlanRefusal::TooManyPayments { count: PAYMENTS_MAX + 1 }));
    assert_eq!(ask(&one, |request| request.lock_time = 500_000_000), Some(PlanRefusal::LockTimeInvalid));
    let data = Payment { script: ScriptBuf::from_bytes(vec![0x6a, 1, 1]), amount_sat: 1_000 };
    assert_eq!(ask(&[one[0].clone(), data], |_| ()), Some(PlanRefusal::ScriptNotPayable { index: 1 }));
    assert_eq!(ask(&[pay(1, 293)], |_| ()), Some(PlanRefusal::AmountBelowDust { index: 0, dust_sat: 294 }));
    assert_eq!(ask(&[pay(1, 0)], |_| ()), Some(PlanRefusal::AmountBelowDust { index: 0, dust_sat: 294 }));
    assert_eq!(ask(&[pay(1, u64::MAX), pay(2, u64::MAX)], |_| ()), Some(PlanRefusal::AmountOutOfRange));
    assert_eq!(ask(&one, |request| request.fee_rate = SatPerKvb(999)), Some(PlanRefusal::FeeRateBelowFloor));
    assert_eq!(ask(&one, |request| request.fee_rate = SatPerKvb(500_001)), Some(PlanRefusal::FeeRateAboveCap));
    let mut twice = Purse::new(ScriptKind::Wpkh, &[50_000]);
    twice.coins.push(twice.coins[0].clone());
    assert_eq!(twice.plan(&one, |_| ()).err(), Some(PlanRefusal::CoinDuplicate));
    assert_eq!(ask(&one, |request| request.anchor = Some(OutPoint::null())), Some(PlanRefusal::AnchorMissing));
    let short = ask(&[pay(1, 109_000)], |_| ());
    assert_eq!(short, Some(PlanRefusal::InsufficientFunds { required_sat: 110_780, available_sat: 110_000 }));
    assert_eq!(
        ask(&one, |request| request.limits.fee_sat_max = 100),
        Some(PlanRefusal::FeeAboveCap { fee_sat: 1_410 })
    );
    let share = ask(&one, |request| request.limits.fee_share_ppm_max = 70_000);
    assert_eq!(share, Some(PlanRefusal::FeeShareAboveCap { fee_sat: 1_410 }));
    assert_eq!(ask(&one, |request| request.limits.fee_share_ppm_max = 70_500), None);
}

#[test]
fn a_flood_of_dust_is_bounded_and_named() {
    let mut purse = Purse::new(ScriptKind::Wpkh, &[50_000]);
    let pattern = purse.coins[0].clone();
    for number in 0..3_000u32 {
        let mut coin = pattern.clone();
        coin.outpoint = OutPoint { txid: Txid::from_byte_array([3; 32]), vout: number };
        coin.amount_sat = 1_000;
        purse.coins.push(coin);
    }
    let plan = purse.plan(&[pay(1, 30_000)], |_| ()).expect("the large coin is enough");
    assert_eq!(plan.inputs.len(), 1, "a draw of dust would cost more than the cap allows");
    // 1,000 sat a coin less 680 for spending it: 960,000 sat are there, but not in one transaction.
    assert_eq!(purse.plan(&[pay(1, 400_000)], |_| ()).err(), Some(PlanRefusal::TooManyInputs));
    assert_eq!(purse.plan(&[pay(1, 800_000)], |_| ()).err(), Some(PlanRefusal::TooManyInputs));
    let refusal = purse.plan(&[pay(1, 3_000_000)], |_| ()).err();
    assert_eq!(refusal.map(|refusal| refusal.code()), Some("insufficient_funds"));
}

#[test]
fn each_refusal_of_a_psbt() {
    let purse = Purse::new(ScriptKind::Wpkh, &[50_000]);
    let plan = purse.plan(&[pay(1, 20_000)], |_| ()).expect("enough funds");
    let keys = [WalletKeys { wallet: WALLET, account: &purse.account }];
    let refusal = |plan: &Plan, previous: &[Vec<u8>], keys: &[WalletKeys<'_>]| build_psbt(plan, previous, keys).err();
    assert_eq!(refusal(&plan, &[vec![1, 2]], &keys), Some(PsbtError::PreviousInvalid));
    assert_eq!(refusal(&plan, &purse.previous, &[]), Some(PsbtError::WalletUnknown(WALLET)));
    let outpoint = plan.inputs[0].outpoint;
    assert_eq!(refusal(&plan, &[], &keys), Some(PsbtError::PreviousMissing(outpoint)));
    let mut wrong = plan.clone();
    wrong.inputs[0].amount_sat += 1;
    assert_eq!(refusal(&wrong, &purse.previous, &keys), Some(PsbtError::PreviousMismatch(outpoint)));
    let mut wrong = plan.clone();
    wrong.inputs[0].place.index = index(99);
    assert_eq!(refusal(&wrong, &purse.previous, &keys), Some(PsbtError::ScriptMismatch));
    for bytes in [&b""[..], b"psbt\xff", b"psbt\xff\x00", &[0xff; 100]] {
        assert_eq!(parse_psbt(bytes), Err(PsbtError::Invalid), "{bytes:?}");
    }
    assert_eq!(parse_psbt(&vec![0; (16 << 20) + 1]), Err(PsbtError::TooLarge));
    let tr = Purse::new(ScriptKind::Tr, &[50_000]);
    let plan = tr.plan(&[pay(1, 20_000)], |_| ()).expect("enough funds");
    let keys = [WalletKeys { wallet: WALLET, account: &tr.account }];
    assert!(build_psbt(&plan, &[], &keys).is_ok(), "taproot commits to all amounts");
}

#[test]
fn changed_psbt_bytes_never_panic() {
    let purse = Purse::new(ScriptKind::ShWpkh, &[50_000]);
    let payments = [pay(1, 20_000)];
    let bytes = purse.psbt(&purse.plan(&payments, |_| ()).expect("enough funds")).serialize();
    let (mut read, mut refused) = (0, 0);
    for place in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = bytes.clone();
            changed[place] = value;
            match parse_psbt(&changed) {
                Ok(mut psbt) => {
                    read += 1;
                    if check_spend(&psbt, &intents(&payments), &purse.account, &rules()).is_ok() {
                        sign_psbt(&mut psbt, &purse.secrets, &[2; 32]).expect("what is checked can be signed");
                    }
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read > 100 && refused > 100, "{read} {refused}: both cases must occur");
}

/// A sound PSBT that a hostile engine then changes.
struct Case {
    purse: Purse,
    intents: Vec<SpendIntent>,
    psbt: Psbt,
    change: usize,
}

fn case(kind: ScriptKind) -> Case {
    let purse = Purse::new(kind, &[40_000, 70_000]);
    let payments = [pay(1, 50_000), pay(2, 30_000)];
    let plan = purse.plan(&payments, |_| ()).expect("enough funds");
    let change = plan.outputs.iter().position(|output| matches!(output.role, OutputRole::Change(_)));
    let psbt = purse.psbt(&plan);
    Case { intents: intents(&payments), psbt, change: change.expect("there is change"), purse }
}

/// What the signer says after the change; before it, all must be well.
fn refusal(kind: ScriptKind, hostile: impl FnOnce(&mut Case)) -> Option<SpendRefusal> {
    let mut case = case(kind);
    assert!(check_spend(&case.psbt, &case.intents, &case.purse.account, &rules()).is_ok());
    hostile(&mut case);
    check_spend(&case.psbt, &case.intents, &case.purse.account, &rules()).err()
}

#[test]
fn each_refusal_of_a_signer_about_form() {
    let kind = ScriptKind::Wpkh;
    assert_eq!(refusal(kind, |case| drop(case.psbt.inputs.pop())), Some(SpendRefusal::Malformed));
    assert_eq!(refusal(kind, |case| drop(case.psbt.outputs.pop())), Some(SpendRefusal::Malformed));
    let version = refusal(kind, |case| case.psbt.unsigned_tx.version = Version::ONE);
    assert_eq!(version, Some(SpendRefusal::VersionWrong));
    let signed = refusal(kind, |case| {
        sign_psbt(&mut case.psbt, &case.purse.secrets, &[2; 32]).expect("ours");
    });
    assert_eq!(signed, Some(SpendRefusal::AlreadySigned { input: 0 }));
    let time = absolute::LockTime::from_consensus(1_700_000_000);
    let locked = refusal(kind, |case| case.psbt.unsigned_tx.lock_time = time);
    assert_eq!(locked, Some(SpendRefusal::LockTimeInvalid));
    let twice = refusal(kind, |case| case.psbt.unsigned_tx.input[1] = case.psbt.unsigned_tx.input[0].clone());
    assert_eq!(twice, Some(SpendRefusal::InputDuplicate { input: 1 }));
    for sequence in [Sequence::MAX, Sequence::ZERO, Sequence::ENABLE_LOCKTIME_NO_RBF] {
        let wrong = refusal(kind, |case| case.psbt.unsigned_tx.input[1].sequence = sequence);
        assert_eq!(wrong, Some(SpendRefusal::SequenceWrong { input: 1 }));
    }
    let types: [(ScriptKind, PsbtSighashType); 5] = [
        (kind, EcdsaSighashType::None.into()),
        (kind, EcdsaSighashType::AllPlusAnyoneCanPay.into()),
        (kind, TapSighashType::Default.into()),
        (ScriptKind::Tr, TapSighashType::Single.into()),
        (ScriptKind::Tr, PsbtSighashType::from_u32(0x84)),
    ];
    for (kind, asked) in types {
        let wrong = refusal(kind, |case| case.psbt.inputs[1].sighash_type = Some(asked));
        assert_eq!(wrong, Some(SpendRefusal::SighashForbidden { input: 1 }), "{asked:?}");
        let mut case = case(kind);
        case.psbt.inputs[1].sighash_type = Some(asked);
        let before = case.psbt.clone();
        let signed = sign_psbt(&mut case.psbt, &case.purse.secrets, &[2; 32]);
        assert_eq!(signed, Err(SignError::SighashForbidden { input: 1 }));
        assert_eq!(case.psbt, before, "nothing is signed by halves");
    }
    for (kind, asked) in [(kind, EcdsaSighashType::All.into()), (ScriptKind::Tr, TapSighashType::All.into())] {
        assert_eq!(refusal(kind, |case| case.psbt.inputs[1].sighash_type = Some(asked)), None);
    }
}

#[test]
fn each_refusal_of_a_signer_about_inputs() {
    for kind in [ScriptKind::Pkh, ScriptKind::ShWpkh, ScriptKind::Wpkh] {
        let missing = refusal(kind, |case| case.psbt.inputs[1].non_witness_utxo = None);
        assert_eq!(missing, Some(SpendRefusal::PreviousMissing { input: 1 }), "{kind:?}: a stated amount is no proof");
    }
    let missing = refusal(ScriptKind::Tr, |case| {
        (case.psbt.inputs[0].non_witness_utxo, case.psbt.inputs[0].witness_utxo) = (None, None);
    });
    assert_eq!(missing, Some(SpendRefusal::PreviousMissing { input: 0 }));
    for kind in ScriptKind::ALL {
        let forged = refusal(kind, |case| {
            let previous = case.psbt.inputs[0].non_witness_utxo.as_mut().expect("given");
            previous.output[1].value += Amount::from_sat(1_000_000);
            case.psbt.inputs[0].witness_utxo = None;
        });
        assert_eq!(forged, Some(SpendRefusal::PreviousMismatch { input: 0 }), "{kind:?}: another hash");
    }
    let lied = refusal(ScriptKind::Wpkh, |case| {
        case.psbt.inputs[0].witness_utxo.as_mut().expect("given").value += Amount::from_sat(1);
    });
    assert_eq!(lied, Some(SpendRefusal::PreviousMismatch { input: 0 }), "the stated amount contradicts");
    let beyond = refusal(ScriptKind::Wpkh, |case| case.psbt.unsigned_tx.input[0].previous_output.vout = 2);
    assert_eq!(beyond, Some(SpendRefusal::PreviousMismatch { input: 0 }), "no such output");
    let other = refusal(ScriptKind::Wpkh, |case| {
        case.psbt.unsigned_tx.input[0].previous_output.vout = 0;
        case.psbt.inputs[0].witness_utxo = None;
    });
    assert_eq!(other, Some(SpendRefusal::InputNotOurs { input: 0 }), "an output of ours is named, another is spent");
    let unnamed = refusal(ScriptKind::Wpkh, |case| case.psbt.inputs[0].bip32_derivation.clear());
    assert_eq!(unnamed, Some(SpendRefusal::InputNotOurs { input: 0 }));
    let mut stranger = case(ScriptKind::Wpkh);
    stranger.purse.account = secrets(ScriptKind::Wpkh, 10).public(&[1; 32]);
    let foreign = check_spend(&stranger.psbt, &stranger.intents, &stranger.purse.account, &rules());
    assert_eq!(foreign, Err(SpendRefusal::InputNotOurs { input: 0 }));
    let signed = sign_psbt(&mut stranger.psbt, &secrets(ScriptKind::Wpkh, 10), &[2; 32]);
    assert_eq!(signed, Err(SignError::NothingToSign));
    let sound = case(ScriptKind::Wpkh);
    let anchored = SpendRules { anchor: Some(OutPoint::null()), ..rules() };
    let missing = check_spend(&sound.psbt, &sound.intents, &sound.purse.account, &anchored);
    assert_eq!(missing, Err(SpendRefusal::AnchorMissing));
    let anchor = sound.psbt.unsigned_tx.input[1].previous_output;
    let anchored = SpendRules { anchor: Some(anchor), ..rules() };
    assert!(check_spend(&sound.psbt, &sound.intents, &sound.purse.account, &anchored).is_ok());
}

/// Points the change at another place of the wallet, with the right origin.
fn move_change(case: &mut Case, branch: Branch, number: u32) {
    let descriptor = Descriptor::of_account(&case.purse.account, branch).expect("a descriptor");
    let key = descriptor.deriver().public_key(index(number)).expect("a key");
    let source = (descriptor.origin().fingerprint, descriptor.full_path(index(number)));
    let output = &mut case.psbt.outputs[case.change];
    output.bip32_derivation.clear();
    output.bip32_derivation.insert(key, source);
    case.psbt.unsigned_tx.output[case.change].script_pubkey = case.purse.script(branch, number);
}

#[test]
fn each_refusal_of_a_signer_about_outputs() {
    let kind = ScriptKind::Wpkh;
    let stolen = refusal(kind, |case| case.psbt.unsigned_tx.output[case.change].script_pubkey = foreign(66));
    assert!(matches!(stolen, Some(SpendRefusal::OutputUnknown { .. })), "change to a stranger: {stolen:?}");
    let unnamed = refusal(kind, |case| case.psbt.outputs[case.change].bip32_derivation.clear());
    assert!(matches!(unnamed, Some(SpendRefusal::OutputUnknown { .. })), "change that nobody could find");
    let external = refusal(kind, |case| move_change(case, Branch::External, 3));
    assert!(matches!(external, Some(SpendRefusal::OutputUnknown { .. })), "change to a deposit address");
    assert_eq!(refusal(kind, |case| move_change(case, Branch::Internal, 100)), None);
    let far = refusal(kind, |case| move_change(case, Branch::Internal, 101));
    assert!(matches!(far, Some(SpendRefusal::ChangeTooFar { .. })), "{far:?}");
    let more = refusal(kind, |case| {
        let output = (0..3).find(|output| *output != case.change).expect("a payment");
        case.psbt.unsigned_tx.output[output].value += Amount::from_sat(1);
    });
    assert!(matches!(more, Some(SpendRefusal::OutputUnknown { .. })), "an intent overpaid: {more:?}");
    let second = refusal(kind, |case| {
        let (output, described) =
            (case.psbt.unsigned_tx.output[case.change].clone(), case.psbt.outputs[case.change].clone());
        case.psbt.unsigned_tx.output.push(output);
        case.psbt.outputs.push(described);
    });
    assert_eq!(second, Some(SpendRefusal::ChangeTooMany { output: 3 }));
    let unpaid = refusal(kind, |case| case.intents.push(SpendIntent { script: foreign(5), amount_sat: 700 }));
    assert_eq!(unpaid, Some(SpendRefusal::IntentUnpaid { intent: 2 }));
    let double = refusal(kind, |case| case.intents.push(case.intents[0].clone()));
    assert_eq!(double, Some(SpendRefusal::IntentUnpaid { intent: 2 }), "one output pays one of two equal intents");
    let dropped = refusal(kind, |case| drop(case.intents.pop()));
    assert!(matches!(dropped, Some(SpendRefusal::OutputUnknown { .. })), "a payment without an intent");
}

#[test]
fn each_refusal_of_a_signer_about_the_fee() {
    let kind = ScriptKind::Wpkh;
    let huge = refusal(kind, |case| {
        case.psbt.unsigned_tx.output[case.change].value = Amount::from_sat(2_100_000_000_000_000);
    });
    assert_eq!(huge, Some(SpendRefusal::AmountOutOfRange));
    let inflated = refusal(kind, |case| case.psbt.unsigned_tx.output[case.change].value = Amount::from_sat(1_000_000));
    assert_eq!(inflated, Some(SpendRefusal::OutputsExceedInputs));
    let sound = case(kind);
    let ask = |rules: SpendRules| check_spend(&sound.psbt, &sound.intents, &sound.purse.account, &rules);
    let fee_sat = ask(rules()).expect("a sound plan").fee_sat;
    assert_eq!(
        ask(SpendRules { fee_rate_max: SatPerKvb(9_990), ..rules() }),
        Err(SpendRefusal::FeeRateAboveCap { fee_sat })
    );
    assert!(ask(SpendRules { fee_rate_max: SatPerKvb(10_000), ..rules() }).is_ok());
    assert_eq!(ask(SpendRules { fee_sat_max: fee_sat - 1, ..rules() }), Err(SpendRefusal::FeeAboveCap { fee_sat }));
    assert!(ask(SpendRules { fee_sat_max: fee_sat, ..rules() }).is_ok());
    let share = SpendRules { fee_share_ppm_max: 10_000, ..rules() };
    assert_eq!(ask(share), Err(SpendRefusal::FeeShareAboveCap { fee_sat }), "one per cent of 80,000 is less");
    let dropped = refusal(kind, |case| {
        case.psbt.unsigned_tx.output.remove(case.change);
        case.psbt.outputs.remove(case.change);
    });
    assert!(dropped.is_none(), "without change the rest is the fee, within these caps");
}

#[test]
fn signing_refuses_what_names_a_key_of_ours_and_spends_another_script() {
    let mut case = case(ScriptKind::Wpkh);
    case.psbt.unsigned_tx.input[0].previous_output.vout = 0;
    case.psbt.inputs[0].witness_utxo = None;
    let signed = sign_psbt(&mut case.psbt, &case.purse.secrets, &[2; 32]);
    assert_eq!(signed, Err(SignError::ScriptMismatch { input: 0 }));
    case.psbt.inputs[0].non_witness_utxo = None;
    let signed = sign_psbt(&mut case.psbt, &case.purse.secrets, &[2; 32]);
    assert_eq!(signed, Err(SignError::PreviousMissing { input: 0 }));
}
