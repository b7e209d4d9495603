//! Every refusal of a signing request, and that the first in order is the one told; it must never skip one.

mod support;

use bitcoin::bip32::ChildNumber;
use bitcoin::sighash::EcdsaSighashType;
use florin_chain::bitcoin::keys::ScriptKind;
use florin_core::amount::Amount;
use florin_core::id::{AssetId, BlockHash, Digest, LedgerTime, PlanId, Seq, TxId, WalletId};
use florin_core::wire::Bytes;
use florin_signer::judge::PLAN_VERSIONS_MAX;
use florin_signer::protocol::{
    CheckpointHead, Hello, Input, KnownRow, MemoryHead, Outcome, PROTOCOL, Request, VoidPlan,
};
use florin_signer::refusal::{Culprit, Refusal};
use florin_signer::session::Signer;
use std::collections::BTreeSet;
use support::*;

const VOIDED: u64 = 20;
const EARLIER: u64 = 12;
const FULL: u64 = 13;
const CLOCK: LedgerTime = LedgerTime(NOW.0 + 2 * HOUR);

/// A signer with a past: 900,000 each to two strangers two hours ago, 700,000 to a third now; a voided plan; a plan with
/// as many versions as there may be.
fn past(wallet: &Wallet) -> Signer {
    let mut signer = signer(ScriptKind::Wpkh);
    let mut signed = |draft: &Draft, clock| sign(&mut signer, wallet, draft, clock).expect("signed");
    signed(&draft(10, vec![wallet.coin(10, 5_000_000)], vec![pay(10, stranger(1), 900_000)]), NOW);
    signed(&draft(11, vec![wallet.coin(11, 5_000_000)], vec![pay(11, stranger(2), 900_000)]), NOW);
    let mut later = draft(EARLIER, vec![wallet.coin(12, 5_000_000)], vec![pay(12, stranger(3), 700_000)]);
    later.fence = fence(2, CLOCK);
    signed(&later, CLOCK);
    let mut full = draft(FULL, vec![wallet.coin(13, 50_000)], vec![pay(13, stranger(4), 10_000)]);
    full.fence = fence(2, CLOCK);
    for version in 0..PLAN_VERSIONS_MAX as u32 {
        full.version = version;
        full.locktime = version;
        signed(&full, CLOCK);
    }
    let void = Request::VoidPlan(VoidPlan { fence: fence(2, CLOCK), plan: PlanId(VOIDED), known: None, memory: None });
    assert!(matches!(ask(&mut signer, &void, CLOCK).outcome, Outcome::Voided(_)));
    signer
}

fn good_pays() -> Vec<Pay> {
    vec![pay(30, stranger(30), 60_000), pay(31, stranger(31), 40_000)]
}

fn good(wallet: &Wallet) -> Draft {
    let coins = vec![wallet.coin(30, 5_000_000), wallet.coin(31, 1_000_000)];
    let mut good = draft(30, coins, good_pays());
    good.fence = fence(2, CLOCK);
    good
}

type Bend = (Refusal, fn(&mut Draft));

/// One way to break each rule, in the order of the rules.
const BENDS: [Bend; 45] = [
    (Refusal::RequestInvalid, |draft| draft.fence.seq = Seq(u64::MAX)),
    (Refusal::MemoryReplaced, |draft| draft.memory = Some(remembered([8; 16], 1))),
    (Refusal::MemoryBehind, |draft| draft.memory = Some(remembered(MEMORY, i64::MAX as u64))),
    (Refusal::MemoryConflict, |draft| draft.memory = Some(remembered(MEMORY, 1))),
    (Refusal::PlatformMismatch, |draft| draft.fence.platform = [0x12; 16]),
    (Refusal::FenceBehind, |draft| draft.fence.seq = Seq(1)),
    (Refusal::FenceConflict, |draft| draft.fence.head = Digest([0; 32])),
    (Refusal::ClockAhead, |draft| draft.fence.time = CLOCK.plus_ms(60_001)),
    (Refusal::WalletUnknown, |draft| draft.wallet = 2),
    (Refusal::PlanVoided, |draft| draft.plan = VOIDED),
    (Refusal::VersionsExhausted, |draft| (draft.plan, draft.version) = (FULL, 1_000)),
    (Refusal::PaymentsMissing, |draft| draft.pays.clear()),
    (Refusal::PaymentsTooMany, |draft| draft.pays = (0..501).map(|number| pay(number, stranger(1), 1)).collect()),
    (Refusal::IntentPlatformMismatch, |draft| each(draft, |pay| pay.intent.platform = [0x12; 16])),
    (Refusal::IntentWalletMismatch, |draft| each(draft, |pay| pay.intent.wallet = WalletId(2))),
    (Refusal::GenesisMismatch, |draft| each(draft, |pay| pay.intent.genesis = BlockHash([0; 32]))),
    (Refusal::IntentAssetMismatch, |draft| each(draft, |pay| pay.intent.asset = AssetId(3))),
    (Refusal::IntentExpired, |draft| each(draft, |pay| pay.intent.expiry = LedgerTime(CLOCK.0 - 1))),
    (Refusal::DestinationUnknown, |draft| each(draft, |pay| pay.intent.script = Bytes(vec![0x51]))),
    (Refusal::WithdrawalRepeated, |draft| draft.pays.extend(draft.pays.first().cloned())),
    (Refusal::TransactionInvalid, |draft| draft.cut = true),
    (Refusal::SighashForbidden, |draft| {
        draft.edits.push(|psbt| psbt.inputs[0].sighash_type = Some(EcdsaSighashType::None.into()));
    }),
    (Refusal::InputUnproven, |draft| draft.edits.push(|psbt| psbt.inputs[0].non_witness_utxo = None)),
    (Refusal::InputForeign, |draft| {
        draft.edits.push(|psbt| {
            for (_, path) in psbt.inputs[0].bip32_derivation.values_mut() {
                *path = path.child(ChildNumber::Normal { index: 0 });
            }
        });
    }),
    (Refusal::AnchorUnspent, |draft| draft.anchor = Some(Input { txid: TxId([7; 32]), vout: 0 })),
    (Refusal::OutputUnknown, |draft| draft.extra_outputs.push((stranger(99), 1_000))),
    (Refusal::ChangeFar, |draft| draft.change_index = Some(5 + 20_001)),
    (Refusal::ChangeRepeated, |draft| draft.change_split = true),
    (Refusal::PaymentAbsent, |draft| draft.payment_outputs_dropped = 1),
    (Refusal::AmountsExceeded, |draft| draft.change_extra = 10_000_000),
    (Refusal::FeeRateAboveCap, |draft| {
        draft.coins.truncate(1);
        (draft.pays, draft.fee) = (good_pays(), 9_900);
    }),
    (Refusal::FeeAboveCap, |draft| {
        draft.coins = (40..56).map(|number| Wallet::new(ScriptKind::Wpkh).coin(number, 1_000_000)).collect();
        draft.fee = FEE_CAP + 1;
    }),
    (Refusal::FeeAboveShare, |draft| {
        draft.coins = good(&Wallet::new(ScriptKind::Wpkh)).coins;
        (draft.pays, draft.fee) = (good_pays(), 10_001);
    }),
    (Refusal::FeeAboveIntent, |draft| each(draft, |pay| pay.intent.fee_max = Amount::new(999))),
    (Refusal::AnchorChanged, |draft| {
        draft.coins = good(&Wallet::new(ScriptKind::Wpkh)).coins;
        (draft.plan, draft.version, draft.anchor) = (EARLIER, 1, None);
    }),
    (Refusal::OutpointTaken, |draft| {
        draft.coins.push(Wallet::new(ScriptKind::Wpkh).coin(10, 5_000_000));
        draft.anchor = None;
        draft.plan = 30;
    }),
    (Refusal::WithdrawalTaken, |draft| {
        draft.pays.truncate(1);
        each(draft, |pay| pay.intent.withdrawal = support::pay(10, vec![], 0).intent.withdrawal);
    }),
    (Refusal::PaymentsChanged, |draft| {
        draft.coins = vec![Wallet::new(ScriptKind::Wpkh).coin(12, 5_000_000)];
        (draft.plan, draft.version, draft.anchor) = (EARLIER, 1, None);
    }),
    (Refusal::ApprovalKeyUnknown, |draft| large(draft, &[Approving::Right(4), Approving::Right(1)])),
    (Refusal::ApprovalRepeated, |draft| large(draft, &[Approving::Right(1); 2])),
    (Refusal::ApprovalInvalid, |draft| large(draft, &[Approving::Right(1), Approving::Wrong(2)])),
    (Refusal::LimitPayment, |draft| draft.pays = vec![pay(40, stranger(40), LIMIT_PAYMENT + 1)]),
    (Refusal::LimitHour, |draft| {
        draft.pays = vec![pay(40, stranger(40), 650_000), pay(41, stranger(41), 650_000)];
    }),
    (Refusal::LimitDay, |draft| draft.pays = vec![pay(40, stranger(40), 600_000)]),
    (Refusal::LimitDestination, |draft| draft.pays = vec![pay(40, stranger(1), 201_000)]),
];

/// A head that no memory of these tests ever had.
fn remembered(memory: [u8; 16], counter: u64) -> MemoryHead {
    MemoryHead { memory, counter, hash: Digest([0x5a; 32]) }
}

fn each(draft: &mut Draft, change: impl Fn(&mut Pay)) {
    draft.pays.iter_mut().for_each(change);
}

/// Payments above the automatic limit, each with these approvals.
fn large(draft: &mut Draft, approvals: &[Approving]) {
    each(draft, |pay| {
        pay.intent.amount = Amount::new(u128::from(LIMIT_PAYMENT) + 1);
        pay.approvals = approvals.to_vec();
    });
}

#[test]
fn each_broken_rule_is_told_and_what_breaks_none_is_signed() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = past(&wallet);
    for (refusal, bend) in BENDS {
        let mut bent = good(&wallet);
        bend(&mut bent);
        assert_eq!(reason(sign(&mut signer, &wallet, &bent, CLOCK)), Some(refusal), "{}", refusal.code());
    }
    let untouched = sign(&mut signer, &wallet, &good(&wallet), CLOCK).expect("a good request is signed after all that");
    assert_eq!(untouched.fee, Amount::new(1_000));
}

#[test]
fn a_refusal_that_blames_one_payment_or_coin_says_which() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = past(&wallet);
    let mut named = 0;
    for (refusal, bend) in BENDS {
        let mut bent = good(&wallet);
        bend(&mut bent);
        let count = match refusal.culprit() {
            Culprit::Payment => bent.pays.len(),
            Culprit::Coin => bent.coins.len(),
            Culprit::Automatic | Culprit::Plan | Culprit::Nobody => continue,
        };
        let refused = sign(&mut signer, &wallet, &bent, CLOCK).expect_err("it is broken");
        assert!(refused.place.is_some_and(|place| (place as usize) < count), "{refused:?}");
        named += 1;
    }
    assert_eq!(named, 18);
    let mut late = good(&wallet);
    late.pays = vec![pay(40, stranger(40), 1_000), pay(41, stranger(1), 201_000)];
    let refused = sign(&mut signer, &wallet, &late, CLOCK).expect_err("the second destination has its limit");
    assert_eq!((refused.reason, refused.place), (Refusal::LimitDestination, Some(1)));
}

#[test]
fn of_two_broken_rules_the_first_is_told() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = past(&wallet);
    let order: Vec<Refusal> = BENDS.iter().map(|(refusal, _)| *refusal).collect();
    assert!(order.is_sorted());
    let mut pairs = 0;
    for (first, (refusal, bend)) in BENDS.iter().enumerate() {
        for (_, later) in &BENDS[first + 1..] {
            let mut bent = good(&wallet);
            later(&mut bent);
            bend(&mut bent);
            let told = reason(sign(&mut signer, &wallet, &bent, CLOCK));
            assert_eq!(told, Some(*refusal), "{} before pair {pairs}", refusal.code());
            pairs += 1;
        }
    }
    assert_eq!(pairs, 45 * 44 / 2);
}

#[test]
fn the_remaining_refusal_belongs_to_the_greeting() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = past(&wallet);
    let hello = ask(&mut signer, &Request::Hello(Hello { protocol: PROTOCOL + 1 }), CLOCK).outcome;
    assert!(matches!(hello, Outcome::Refused(refused) if refused.reason == Refusal::ProtocolUnknown));
    let mut covered: BTreeSet<Refusal> = BENDS.iter().map(|(refusal, _)| *refusal).collect();
    covered.insert(Refusal::ProtocolUnknown);
    assert_eq!(covered, Refusal::ALL.iter().copied().collect());
}

#[test]
fn a_fence_counts_for_voids_and_checkpoints_too() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = past(&wallet);
    let behind = fence(1, CLOCK);
    let requests = [
        Request::VoidPlan(VoidPlan { fence: behind, plan: PlanId(77), known: None, memory: None }),
        Request::CheckpointHead(CheckpointHead { fence: behind, known: None, memory: None }),
    ];
    for request in requests {
        let told = ask(&mut signer, &request, CLOCK).outcome;
        assert!(matches!(told, Outcome::Refused(refused) if refused.reason == Refusal::FenceBehind));
    }
}

#[test]
fn an_old_copy_that_was_written_on_is_refused_for_plans_voids_and_checkpoints() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = past(&wallet);
    let later = fence(9, CLOCK);
    let told = |signer: &mut Signer, known: Option<KnownRow>| {
        let mut plan = good(&wallet);
        plan.fence = later;
        let mut plan = plan.request(&wallet);
        plan.known = known;
        let requests = [
            Request::SignPlan(plan),
            Request::VoidPlan(VoidPlan { fence: later, plan: PlanId(77), known, memory: None }),
            Request::CheckpointHead(CheckpointHead { fence: later, known, memory: None }),
        ];
        requests.map(|request| match raw(signer, &request, CLOCK).outcome {
            Outcome::Refused(refused) => Some(refused.reason),
            _ => None,
        })
    };
    let highest = fence(2, CLOCK);
    let row = |seq, hash| Some(KnownRow { seq: Seq(seq), hash });
    let other = row(2, Digest([0; 32]));
    assert_eq!(told(&mut signer, other), [Some(Refusal::FenceConflict); 3], "the journal has another row there");
    assert_eq!(told(&mut signer, None), [Some(Refusal::FenceBehind); 3], "the last row seen is not known");
    let early = row(1, fence(1, CLOCK).head);
    assert_eq!(told(&mut signer, early), [Some(Refusal::FenceBehind); 3], "only one before it is");
    let unseen = row(3, fence(3, CLOCK).head);
    assert_eq!(told(&mut signer, unseen), [Some(Refusal::FenceConflict); 3], "nobody has shown this one");
    let status =
        ask(&mut signer, &Request::Status(florin_signer::protocol::StatusWanted { memory: None }), CLOCK).outcome;
    let Outcome::Status(status) = status else { panic!("a status was wanted") };
    assert_eq!(status.highest, Some(highest), "what is refused leaves no trace");
    assert_eq!(told(&mut signer, row(2, highest.head)), [None; 3]);
}
