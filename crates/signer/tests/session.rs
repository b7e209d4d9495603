//! Sessions over time: crashes, restored backups, repeated and replaced versions, signatures; it must never depend on a
//! clock of its own.

mod support;

use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, XOnlyPublicKey, ecdsa, schnorr};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{CompressedPublicKey, ScriptBuf, Transaction, TxOut};
use florin_chain::bitcoin::keys::ScriptKind;
use florin_core::custody::Intent;
use florin_core::id::{Digest, LedgerTime, PlanId};
use florin_core::wire::{Message as _, Value as _};
use florin_signer::judge::Uncounted;
use florin_signer::memory::Memory;
use florin_signer::protocol::{
    CheckpointHead, DescriptorsWanted, Hello, MemoryHead, Outcome, PROTOCOL, Request, Signed, StatusWanted, VoidPlan,
    VoidReceipt,
};
use florin_signer::refusal::Refusal;
use florin_signer::session::Signer;
use std::collections::BTreeSet;
use std::path::Path;
use support::*;

fn on_disk(path: &Path) -> Signer {
    let memory = if path.exists() { Memory::open(path, PLATFORM) } else { Memory::create(path, PLATFORM) };
    signer_with(ScriptKind::Wpkh, memory.expect("a memory"))
}

fn small(wallet: &Wallet, plan: u32) -> Draft {
    draft(u64::from(plan), vec![wallet.coin(plan, 200_000)], vec![pay(plan, stranger(plan as u8), 50_000)])
}

fn key(signer: &mut Signer) -> [u8; 32] {
    match ask(signer, &Request::Hello(Hello { protocol: PROTOCOL }), NOW).outcome {
        Outcome::Welcome(welcome) => welcome.key,
        other => panic!("{other:?}"),
    }
}

fn void(signer: &mut Signer, plan: u64, seq: u64) -> Result<VoidReceipt, Signed> {
    match ask(
        signer,
        &Request::VoidPlan(VoidPlan { fence: fence(seq, NOW), plan: PlanId(plan), known: None, memory: None }),
        NOW,
    )
    .outcome
    {
        Outcome::Voided(receipt) => Ok(receipt),
        Outcome::Signed(signed) => Err(signed),
        other => panic!("{other:?}"),
    }
}

/// Checks each input's script with nothing but the transaction and the coins: what a node would do.
fn check_scripts(transaction: &Transaction, coins: &[Coin], kind: ScriptKind) {
    let secp = Secp256k1::verification_only();
    let previous: Vec<TxOut> = coins.iter().map(|coin| coin.output().clone()).collect();
    assert_eq!(transaction.input.len(), coins.len());
    for (place, (input, output)) in transaction.input.iter().zip(&previous).enumerate() {
        let mut cache = SighashCache::new(transaction);
        let witness = input.witness.to_vec();
        if kind == ScriptKind::Tr {
            let hash =
                cache.taproot_key_spend_signature_hash(place, &Prevouts::All(&previous), TapSighashType::Default);
            let message = Message::from_digest(hash.expect("a hash").to_byte_array());
            let key = XOnlyPublicKey::from_slice(&output.script_pubkey.as_bytes()[2..]).expect("a key");
            let signature = schnorr::Signature::from_slice(&witness[0]).expect("64 bytes");
            assert!(witness.len() == 1 && input.script_sig.is_empty());
            secp.verify_schnorr(&signature, &message, &key).expect("valid");
            continue;
        }
        let parts: Vec<Vec<u8>> = if kind == ScriptKind::Pkh {
            let pushes = input.script_sig.instructions_minimal();
            pushes.map(|push| push.expect("a push").push_bytes().expect("bytes").as_bytes().to_vec()).collect()
        } else {
            witness
        };
        let [signature, key] = parts.as_slice() else { panic!("{} parts", parts.len()) };
        let public = CompressedPublicKey::from_slice(key).expect("a key");
        let inner = ScriptBuf::new_p2wpkh(&public.wpubkey_hash());
        let all = EcdsaSighashType::All;
        let message = match kind {
            ScriptKind::Pkh => {
                assert_eq!(ScriptBuf::new_p2pkh(&public.pubkey_hash()), output.script_pubkey);
                let hash = cache.legacy_signature_hash(place, &output.script_pubkey, all.to_u32());
                Message::from_digest(hash.expect("a hash").to_byte_array())
            }
            _ => {
                if kind == ScriptKind::ShWpkh {
                    assert_eq!(inner.to_p2sh(), output.script_pubkey);
                    assert_eq!(input.script_sig.as_bytes()[1..], *inner.as_bytes());
                } else {
                    assert_eq!(inner, output.script_pubkey);
                }
                let hash = cache.p2wpkh_signature_hash(place, &inner, output.value, all);
                Message::from_digest(hash.expect("a hash").to_byte_array())
            }
        };
        assert_eq!(signature.last(), Some(&1), "SIGHASH_ALL");
        let der = ecdsa::Signature::from_der(&signature[..signature.len() - 1]).expect("DER");
        secp.verify_ecdsa(&message, &der, &PublicKey::from_slice(key).expect("a key")).expect("valid");
    }
}

#[test]
fn every_script_kind_is_signed_as_its_script_demands() {
    for kind in ScriptKind::ALL {
        let wallet = Wallet::new(kind);
        let coins = vec![wallet.coin(4, 300_000), wallet.coin(7, 200_000), wallet.coin(8, 100_000)];
        let mut request = draft(1, coins.clone(), vec![pay(1, stranger(1), 100_000)]);
        request.fee = 5_000;
        let mut signer = signer(kind);
        let signed = sign(&mut signer, &wallet, &request, NOW).unwrap_or_else(|refused| panic!("{kind:?} {refused:?}"));
        let transaction: Transaction = deserialize(&signed.transaction.0).expect("a transaction");
        assert_eq!(transaction.compute_txid().to_byte_array(), signed.txid.0);
        check_scripts(&transaction, &coins, kind);
        let mut unsigned = transaction.clone();
        for input in &mut unsigned.input {
            (input.script_sig, input.witness) = Default::default();
        }
        assert_eq!(unsigned, request.transaction(&wallet));
    }
}

#[test]
fn taproot_inputs_need_no_previous_transaction_and_others_do() {
    for kind in ScriptKind::ALL {
        let wallet = Wallet::new(kind);
        let mut request = draft(1, vec![wallet.coin(4, 300_000)], vec![pay(1, stranger(1), 100_000)]);
        request.edits.push(|psbt| {
            let whole = psbt.inputs[0].non_witness_utxo.take().expect("a parent");
            psbt.inputs[0].witness_utxo = Some(whole.output[0].clone());
        });
        let told = reason(sign(&mut signer(kind), &wallet, &request, NOW));
        assert_eq!(told, (kind != ScriptKind::Tr).then_some(Refusal::InputUnproven), "{kind:?}");
    }
}

#[test]
fn a_signed_version_has_the_same_bytes_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("memory");
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = on_disk(&path);
    // The reply to this one is lost: the process dies after recording.
    let first = sign(&mut signer, &wallet, &small(&wallet, 1), NOW).expect("signed");
    drop(signer);
    let mut signer = on_disk(&path);
    assert_eq!(sign(&mut signer, &wallet, &small(&wallet, 1), NOW), Ok(first.clone()));
    // Whatever else the request says now, the version has been signed: expired, other outputs, no PSBT at all.
    let mut other = small(&wallet, 1);
    other.pays = vec![pay(9, stranger(9), 60_000)];
    other.cut = true;
    assert_eq!(sign(&mut signer, &wallet, &other, LedgerTime(NOW.0 + 5000 * HOUR)), Ok(first.clone()));
    // Another signer with the same keys makes the same signatures.
    assert_eq!(sign(&mut support::signer(ScriptKind::Wpkh), &wallet, &small(&wallet, 1), NOW), Ok(first));
}

#[test]
fn what_was_not_recorded_was_not_signed() {
    // The disk fails at the decision: no reply, and after the restart the plan can still be voided.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("memory");
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let memory = Memory::create(&path, PLATFORM).and_then(Memory::on_full_disk).expect("a memory");
    let mut signer = signer_with(ScriptKind::Wpkh, memory);
    let request = Request::SignPlan(small(&wallet, 1).request(&wallet));
    let fault = signer.handle(&request, NOW).err().map(|fault| fault.code());
    assert_eq!(fault, Some("memory_database"));
    assert_eq!(signer.handle(&request, NOW).err().map(|fault| fault.code()), Some("memory_poisoned"));
    drop(signer);
    let mut signer = on_disk(&path);
    assert!(void(&mut signer, 1, 1).is_ok(), "nothing of the failed decision is left");
    assert_eq!(reason(sign(&mut signer, &wallet, &small(&wallet, 1), NOW)), Some(Refusal::PlanVoided));
}

#[test]
fn a_voided_plan_is_never_signed_and_a_signed_one_never_voided() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("memory");
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = on_disk(&path);
    let receipt = void(&mut signer, 1, 1).expect("voided");
    let public = key(&mut signer);
    assert!(receipt.is_by(&public) && receipt.plan == PlanId(1));
    sign(&mut signer, &wallet, &small(&wallet, 2), NOW).expect("signed");
    let newest = Draft { version: 1, fee: 2_000, ..small(&wallet, 2) };
    let newest = sign(&mut signer, &wallet, &newest, NOW).expect("signed");
    drop(signer);
    let mut signer = on_disk(&path);
    assert_eq!(void(&mut signer, 1, 1), Ok(receipt), "the same receipt again");
    assert_eq!(void(&mut signer, 2, 1), Err(newest), "too late: here is what was signed");
    assert_eq!(reason(sign(&mut signer, &wallet, &small(&wallet, 1), NOW)), Some(Refusal::PlanVoided));
    // The coins and the withdrawal of a voided plan are free for another.
    let mut again = small(&wallet, 1);
    again.plan = 3;
    sign(&mut signer, &wallet, &again, NOW).expect("signed under another plan");
}

#[test]
fn an_engine_restored_from_an_old_backup_is_refused() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = signer(ScriptKind::Wpkh);
    let mut at = |seq: u64, epoch: u64, plan: u32, head: Option<Digest>| {
        let mut request = small(&wallet, plan);
        request.fence = fence(seq, NOW);
        request.fence.epoch.0 = epoch;
        request.fence.head = head.unwrap_or(request.fence.head);
        reason(sign(&mut signer, &wallet, &request, NOW))
    };
    assert_eq!(at(100, 5, 1, None), None);
    assert_eq!(at(99, 5, 2, None), Some(Refusal::FenceBehind));
    assert_eq!(at(101, 4, 2, None), Some(Refusal::FenceBehind), "a deposed leader");
    assert_eq!(at(100, 5, 2, Some(Digest([1; 32]))), Some(Refusal::FenceConflict), "another history");
    assert_eq!(at(100, 6, 2, None), Some(Refusal::FenceConflict), "one row has one epoch");
    assert_eq!(at(100, 5, 2, None), None, "the same place again is no rollback");
    assert_eq!(at(101, 6, 3, None), None);
    // A refused request moves the fence as well: the row it names exists.
    let mut refused = small(&wallet, 4);
    refused.fence = fence(200, NOW);
    refused.fence.epoch.0 = 6;
    refused.cut = true;
    assert_eq!(reason(sign(&mut signer, &wallet, &refused, NOW)), Some(Refusal::TransactionInvalid));
    refused.cut = false;
    refused.fence.seq.0 = 199;
    assert_eq!(reason(sign(&mut signer, &wallet, &refused, NOW)), Some(Refusal::FenceBehind));
}

/// Everything that may be asked by one who knows this of the memory, and what each is refused for.
fn refused_to_all(signer: &mut Signer, wallet: &Wallet, known: MemoryHead, seq: u64) -> Vec<Option<Refusal>> {
    let at = fence(seq, NOW);
    let plan = Draft { fence: at, ..small(wallet, 90) };
    let requests = [
        Request::Status(StatusWanted { memory: None }),
        Request::Descriptors(DescriptorsWanted { memory: None }),
        Request::SignPlan(plan.request(wallet)),
        Request::VoidPlan(VoidPlan { fence: at, plan: PlanId(91), known: None, memory: None }),
        Request::CheckpointHead(CheckpointHead { fence: at, known: None, memory: None }),
    ];
    let asked = requests.map(|request| {
        let reply = ask(signer, &request.knowing(known), NOW);
        let refused = match reply.outcome {
            Outcome::Refused(refused) => Some(refused.reason),
            _ => None,
        };
        let doubt = reply.check(&known).err().map(|doubt| doubt.code());
        assert_eq!(doubt, refused.map(|reason| format!("signer_{}", reason.code())).as_deref());
        refused
    });
    asked.to_vec()
}

#[test]
fn a_memory_restored_from_an_old_copy_stays_refused_whatever_it_decides_after() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, copy) = (folder.path().join("memory"), folder.path().join("copy"));
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = on_disk(&path);
    let head = |signer: &mut Signer| ask(signer, &Request::Hello(Hello { protocol: PROTOCOL }), NOW).head;
    let empty = head(&mut signer);
    sign(&mut signer, &wallet, &small(&wallet, 1), NOW).expect("signed");
    let before = head(&mut signer);
    drop(signer);
    std::fs::copy(&path, &copy).expect("copied");
    let mut signer = on_disk(&path);
    for plan in 2..6 {
        sign(&mut signer, &wallet, &small(&wallet, plan), NOW).expect("signed");
    }
    let known = head(&mut signer);
    for earlier in [empty, before, known] {
        let reply = ask(&mut signer, &Request::Status(StatusWanted { memory: Some(earlier) }), NOW);
        assert_eq!((reply.check(&earlier), reply.remembered), (Ok(()), Some(earlier)), "it goes on from there");
    }
    assert_eq!(refused_to_all(&mut signer, &wallet, known, 1), [None; 5]);
    drop(signer);
    std::fs::copy(&copy, &path).expect("restored");
    let mut signer = on_disk(&path);
    for row in 2..40 {
        // It falls behind, comes level and overtakes: what it lacks is refused all the same, and nothing of it is decided.
        let shown = head(&mut signer);
        let reason = if shown.counter < known.counter { Refusal::MemoryBehind } else { Refusal::MemoryConflict };
        assert_eq!(refused_to_all(&mut signer, &wallet, known, row), [Some(reason); 5], "at {}", shown.counter);
        assert_eq!(head(&mut signer), shown, "who is refused leaves no trace");
        // Somebody who knows nothing has it decide.
        let at = Request::CheckpointHead(CheckpointHead { fence: fence(row, NOW), known: None, memory: None });
        assert!(matches!(ask(&mut signer, &at, NOW).outcome, Outcome::Checkpoint(_)));
    }
    let shown = head(&mut signer);
    assert!(shown.counter > known.counter + 20);
    assert_eq!(
        ask(&mut signer, &Request::Status(StatusWanted { memory: Some(before) }), NOW).check(&before),
        Ok(()),
        "what the copy had it still has"
    );
    drop(signer);
    std::fs::remove_file(&path).expect("removed");
    let mut signer = on_disk(&path);
    assert_eq!(refused_to_all(&mut signer, &wallet, known, 1), [Some(Refusal::MemoryReplaced); 5]);
}

#[test]
fn a_number_that_no_memory_holds_is_refused_before_anything_is_looked_up() {
    let mut signer = signer(ScriptKind::Wpkh);
    let known = MemoryHead { memory: MEMORY, counter: u64::MAX, hash: Digest([0; 32]) };
    let reply = ask(&mut signer, &Request::Status(StatusWanted { memory: Some(known) }), NOW);
    assert!(matches!(reply.outcome, Outcome::Refused(refused) if refused.reason == Refusal::RequestInvalid));
    assert_eq!(reply.remembered, None);
}

#[test]
fn a_bump_keeps_anchor_and_payments_and_is_charged_for_what_it_adds() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = signer(ScriptKind::Wpkh);
    let left = |signer: &mut Signer| match ask(signer, &Request::Status(StatusWanted { memory: None }), NOW).outcome {
        Outcome::Status(status) => status.wallets[0].hour_left.units(),
        other => panic!("{other:?}"),
    };
    let mut version = small(&wallet, 1);
    let first = sign(&mut signer, &wallet, &version, NOW).expect("signed");
    assert_eq!(left(&mut signer), u128::from(LIMIT_HOUR) - 51_000);
    version.version = 1;
    version.fee = 4_000;
    version.coins.push(wallet.coin(2, 100_000));
    let second = sign(&mut signer, &wallet, &version, NOW).expect("signed");
    assert_ne!(first.txid, second.txid);
    assert_eq!(left(&mut signer), u128::from(LIMIT_HOUR) - 54_000);
    version.version = 2;
    version.fee = 2_000;
    sign(&mut signer, &wallet, &version, NOW).expect("a cheaper version adds nothing");
    assert_eq!(left(&mut signer), u128::from(LIMIT_HOUR) - 54_000);
    // The coin that only the second version spent belongs to the plan all the same.
    let mut other = small(&wallet, 2);
    other.coins = version.coins[1..].to_vec();
    assert_eq!(reason(sign(&mut signer, &wallet, &other, NOW)), Some(Refusal::OutpointTaken));
}

#[test]
fn approvals_lift_the_limits_for_exactly_their_intent() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = signer(ScriptKind::Wpkh);
    let mut large = draft(1, vec![wallet.coin(1, 900_000_000)], vec![pay(1, stranger(1), 500_000_000)]);
    large.pays[0].approvals = vec![Approving::Right(3)];
    assert_eq!(
        reason(sign(&mut signer, &wallet, &large, NOW)),
        Some(Refusal::LimitPayment),
        "one of two is not enough"
    );
    large.pays[0].approvals = vec![Approving::Right(3), Approving::Right(1)];
    let approvals = large.request(&wallet).payments[0].approvals.clone();
    let changes: [fn(&mut Intent); 5] = [
        |intent| intent.amount = florin_core::amount::Amount::new(500_000_001),
        |intent| intent.script.0[5] ^= 1,
        |intent| intent.withdrawal.0[15] ^= 1,
        |intent| intent.fee_max = florin_core::amount::Amount::new(20_001),
        |intent| intent.expiry = LedgerTime(intent.expiry.0 + 1),
    ];
    for change in changes {
        let mut replayed = large.clone();
        replayed.pays[0].approvals.clear();
        replayed.pays[0].raw_approvals = approvals.clone();
        change(&mut replayed.pays[0].intent);
        assert_eq!(reason(sign(&mut signer, &wallet, &replayed, NOW)), Some(Refusal::ApprovalInvalid));
    }
    sign(&mut signer, &wallet, &large, NOW).expect("two of three approved");
    // Nothing was charged: the whole hour is still there.
    let mut rest =
        draft(2, vec![wallet.coin(2, 5_000_000)], vec![pay(2, stranger(2), 990_000), pay(3, stranger(3), 990_000)]);
    rest.fee = 8_000;
    sign(&mut signer, &wallet, &rest, NOW).expect("within the limits");
}

/// Five coins' worth to one stranger, with these approvals.
fn approved_by(wallet: &Wallet, approvals: &[Approving]) -> Draft {
    let mut large = draft(1, vec![wallet.coin(1, 900_000_000)], vec![pay(1, stranger(1), 500_000_000)]);
    large.pays[0].approvals = approvals.to_vec();
    large
}

#[test]
fn an_approval_that_does_not_count_spoils_nothing_and_adds_nothing() {
    use Approving::{Right, Wrong};
    let wallet = Wallet::new(ScriptKind::Wpkh);
    // A key that is in no policy, an operator's signature over something else, and one that is there already.
    let bad = [
        (Right(4), Refusal::ApprovalKeyUnknown),
        (Wrong(2), Refusal::ApprovalInvalid),
        (Right(3), Refusal::ApprovalRepeated),
        (Wrong(3), Refusal::ApprovalRepeated),
        (Wrong(4), Refusal::ApprovalKeyUnknown),
    ];
    for (approval, reason_told) in bad {
        // Behind a good one, so that what repeats it is the repetition.
        for place in 1..=2 {
            let mut approvals = vec![Right(3), Right(1)];
            approvals.insert(place, approval);
            let signed = sign(&mut signer(ScriptKind::Wpkh), &wallet, &approved_by(&wallet, &approvals), NOW);
            assert_eq!(reason(signed), None, "{approval:?} at {place}: two of three approved");
        }
        let refused = sign(&mut signer(ScriptKind::Wpkh), &wallet, &approved_by(&wallet, &[Right(3), approval]), NOW);
        let refused = refused.expect_err("one of two is not enough");
        assert_eq!((refused.reason, refused.place), (reason_told, Some(0)), "{approval:?}");
    }
    let signed =
        sign(&mut signer(ScriptKind::Wpkh), &wallet, &approved_by(&wallet, &[Wrong(3), Right(3), Right(1)]), NOW);
    assert_eq!(reason(signed), None, "a broken signature takes nothing from the operator's good one");
    let many: Vec<Approving> = [vec![Right(4); 64], vec![Right(3), Right(1)]].concat();
    let told = reason(sign(&mut signer(ScriptKind::Wpkh), &wallet, &approved_by(&wallet, &many), NOW));
    assert_eq!(told, Some(Refusal::ApprovalKeyUnknown), "no more are looked at than there may be operators");
}

#[test]
fn the_first_of_several_reasons_is_told_whichever_payment_it_is_of() {
    use Approving::{Right, Wrong};
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut made = draft(1, vec![wallet.coin(1, 900_000_000)], vec![]);
    for approvals in [vec![], vec![Wrong(1)], vec![Right(1), Wrong(2), Right(4)], vec![Right(1), Right(2), Right(4)]] {
        let number = made.pays.len() as u32 + 1;
        let mut payment = pay(number, stranger(number as u8), 2_000_000);
        payment.approvals = approvals;
        made.pays.push(payment);
    }
    let refused = sign(&mut signer(ScriptKind::Wpkh), &wallet, &made, NOW).expect_err("only the last one is approved");
    assert_eq!((refused.reason, refused.place), (Refusal::ApprovalKeyUnknown, Some(2)));
    made.pays.remove(2);
    let refused = sign(&mut signer(ScriptKind::Wpkh), &wallet, &made, NOW).expect_err("only the last one is approved");
    assert_eq!((refused.reason, refused.place), (Refusal::ApprovalInvalid, Some(1)));
    made.pays.remove(1);
    let refused = sign(&mut signer(ScriptKind::Wpkh), &wallet, &made, NOW).expect_err("only the last one is approved");
    assert_eq!((refused.reason, refused.place), (Refusal::LimitPayment, Some(0)));
}

#[test]
fn a_payment_with_too_few_approvals_is_charged_like_one_without_any() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = signer(ScriptKind::Wpkh);
    let mut small = draft(1, vec![wallet.coin(1, 5_000_000)], vec![pay(1, stranger(1), LIMIT_PAYMENT)]);
    small.pays[0].approvals = vec![Approving::Right(1), Approving::Right(4), Approving::Wrong(2)];
    sign(&mut signer, &wallet, &small, NOW).expect("within the limit of one payment");
    let Outcome::Status(status) = ask(&mut signer, &Request::Status(StatusWanted { memory: None }), NOW).outcome else {
        panic!("a status was wanted")
    };
    let left = u128::from(LIMIT_HOUR - LIMIT_PAYMENT - 1_000);
    assert_eq!(status.wallets[0].hour_left.units(), left);
    small.plan = 2;
    small.coins = vec![wallet.coin(2, 5_000_000)];
    small.pays[0].intent.withdrawal.0[15] ^= 1;
    assert_eq!(reason(sign(&mut signer, &wallet, &small, NOW)), Some(Refusal::LimitHour));
}

#[test]
fn an_operator_who_left_the_policy_spoils_nothing_and_is_told_of() {
    use std::cell::RefCell;
    thread_local! { static TOLD: RefCell<Vec<Uncounted>> = const { RefCell::new(Vec::new()) } }
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let memory = Memory::volatile(PLATFORM, [9; 16]).expect("a memory");
    let signer = Signer::new(&keys(), policy_of(ScriptKind::Wpkh, 2), memory);
    let mut signer = signer.unwrap_or_else(|error| panic!("{}", error.code()));
    signer = signer.telling(|uncounted| TOLD.with_borrow_mut(|told| told.push(*uncounted)));
    let (retired, first, second) = (Approving::Right(3), Approving::Right(1), Approving::Right(2));
    let request = approved_by(&wallet, &[retired, first]);
    assert_eq!(reason(sign(&mut signer, &wallet, &request, NOW)), Some(Refusal::ApprovalKeyUnknown));
    sign(&mut signer, &wallet, &approved_by(&wallet, &[retired, first, second]), NOW).expect("two of two approved");
    let uncounted = Uncounted {
        withdrawal: request.pays[0].intent.withdrawal,
        key: operator(3).verifying_key().to_bytes(),
        reason: Refusal::ApprovalKeyUnknown,
    };
    assert_eq!(TOLD.take(), [uncounted; 2], "both where it was refused and where it was paid all the same");
}

#[test]
fn windows_slide_and_ledger_time_does_not_move_them() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut signer = signer(ScriptKind::Wpkh);
    let mut plan = 0;
    let mut spend = |clock: u64, ledger: u64| {
        plan += 1;
        let mut request = draft(
            plan,
            vec![wallet.coin(plan as u32, 2_000_000)],
            vec![pay(plan as u32, stranger(plan as u8), 999_000)],
        );
        request.fence = fence(plan, LedgerTime(NOW.0 + ledger));
        reason(sign(&mut signer, &wallet, &request, LedgerTime(NOW.0 + clock)))
    };
    assert_eq!(spend(0, 0), None);
    assert_eq!(spend(HOUR - 1, 0), None, "two payments of a million with their fees fill the hour");
    assert_eq!(spend(HOUR - 1, HOUR + 59_999), Some(Refusal::LimitHour), "ledger time ahead renews nothing");
    assert_eq!(spend(HOUR, 0), None, "the first one has left the window");
    assert_eq!(spend(HOUR, 0), Some(Refusal::LimitHour));
    assert_eq!(spend(2 * HOUR, 0), Some(Refusal::LimitDay));
    assert_eq!(spend(24 * HOUR - 1, 0), Some(Refusal::LimitDay));
    assert_eq!(spend(24 * HOUR, 0), None);
    assert_eq!(spend(0, 0), Some(Refusal::LimitDay), "a clock set back gives nothing either");
}

#[test]
fn no_two_signatures_share_a_nonce_unless_they_are_the_same() {
    for kind in [ScriptKind::Wpkh, ScriptKind::Tr] {
        let wallet = Wallet::new(kind);
        let mut signer = signer(kind);
        let (mut points, mut messages) = (BTreeSet::new(), 0);
        for plan in 0..300u32 {
            let mut request =
                draft(u64::from(plan), vec![wallet.coin(plan, 50_000)], vec![pay(plan, stranger(plan as u8), 1_000)]);
            request.fee = 100;
            // Restarts in between, as if restored from a snapshot: the memory is new, the keys are the same.
            if plan % 50 == 49 {
                signer = support::signer(kind);
            }
            let signed = sign(&mut signer, &wallet, &request, NOW).unwrap_or_else(|refused| panic!("{refused:?}"));
            let again = sign(&mut support::signer(kind), &wallet, &request, NOW);
            assert_eq!(again.as_ref(), Ok(&signed));
            let transaction: Transaction = deserialize(&signed.transaction.0).expect("a transaction");
            let signature = transaction.input[0].witness.nth(0).expect("a signature").to_vec();
            let point = match kind {
                ScriptKind::Tr => signature[..32].to_vec(),
                _ => signature[4..4 + usize::from(signature[3])].to_vec(),
            };
            messages += 1;
            assert!(points.insert(point), "plan {plan}");
        }
        assert_eq!(points.len(), messages);
    }
}

#[test]
fn descriptors_status_and_checkpoints_are_answered() {
    let wallet = Wallet::new(ScriptKind::Tr);
    let mut signer = signer(ScriptKind::Tr);
    let Outcome::Descriptors(found) =
        ask(&mut signer, &Request::Descriptors(DescriptorsWanted { memory: None }), NOW).outcome
    else {
        panic!("descriptors were wanted")
    };
    assert_eq!(found.wallets.len(), 1);
    assert_eq!(found.wallets[0].external, wallet.external.to_string());
    assert_eq!(found.wallets[0].internal, wallet.internal.to_string());
    let head = fence(7, NOW);
    let Outcome::Checkpoint(checkpoint) =
        ask(&mut signer, &Request::CheckpointHead(CheckpointHead { fence: head, known: None, memory: None }), NOW)
            .outcome
    else {
        panic!("a checkpoint was wanted")
    };
    assert!(checkpoint.is_by(&key(&mut signer)) && checkpoint.fence == head);
    let reply = ask(&mut signer, &Request::Status(StatusWanted { memory: None }), NOW);
    assert!(matches!(&reply.outcome, Outcome::Status(status) if status.highest == Some(head)));
    assert_eq!(florin_signer::protocol::Reply::decode(&reply.encode()), Ok(reply));
}

#[test]
fn a_bent_bit_in_any_byte_of_a_psbt_is_refused_or_changes_nothing_that_matters() {
    for kind in ScriptKind::ALL {
        let wallet = Wallet::new(kind);
        let coins = vec![wallet.coin(4, 300_000), wallet.coin(7, 200_000)];
        let good = draft(1, coins.clone(), vec![pay(1, stranger(1), 100_000), pay(2, stranger(2), 50_000)]);
        let asked = good.transaction(&wallet);
        let spent: Vec<_> = asked.input.iter().map(|input| input.previous_output).collect();
        let mut request = good.request(&wallet);
        let (mut refused, mut harmless) = (0, 0);
        let mut signer = signer(kind);
        // One bit of each byte, another one in the next.
        for bit in (0..request.psbt.0.len()).map(|byte| 8 * byte + byte % 8) {
            request.psbt.0[bit / 8] ^= 1 << (bit % 8);
            let outcome = ask(&mut signer, &Request::SignPlan(request.clone()), NOW).outcome;
            request.psbt.0[bit / 8] ^= 1 << (bit % 8);
            let Outcome::Signed(signed) = outcome else {
                refused += 1;
                continue;
            };
            harmless += 1;
            signer = support::signer(kind);
            let transaction: Transaction = deserialize(&signed.transaction.0).expect("a transaction");
            // The fee may differ within its caps, and so the change; nothing else may.
            assert_eq!(transaction.output[..2], asked.output[..2], "bit {bit}");
            assert_eq!(transaction.output[2].script_pubkey, asked.output[2].script_pubkey, "bit {bit}");
            assert!(
                (485_000 - 150_000..500_000 - 150_000).contains(&transaction.output[2].value.to_sat()),
                "bit {bit}"
            );
            assert_eq!(transaction.output.len(), 3, "bit {bit}");
            assert_eq!(transaction.input.iter().map(|input| input.previous_output).collect::<Vec<_>>(), spent);
            check_scripts(&transaction, &coins, kind);
        }
        eprintln!("{}: {refused} refused, {harmless} harmless", kind.name());
        // Lock time, fee, the parents' witnesses and the keys that origins are filed under may differ; most may not.
        assert!(refused > 3 * harmless && harmless > 0, "{refused} refused, {harmless} harmless");
    }
}

#[test]
fn bent_and_cut_requests_never_panic() {
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let mut request = small(&wallet, 1);
    request.pays[0].approvals = vec![Approving::Right(1), Approving::Right(2)];
    let bytes = Request::SignPlan(request.request(&wallet)).encode();
    let mut signer = signer(ScriptKind::Wpkh);
    let mut read = 0;
    for place in 0..bytes.len() {
        assert!(Request::decode(&bytes[..place]).is_err(), "cut at {place}");
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bent = bytes.clone();
            bent[place] = value;
            if let Ok(bent) = Request::decode(&bent) {
                read += 1;
                ask(&mut signer, &bent, NOW);
            }
        }
    }
    assert!(read > 100, "{read} bent requests could be read");
}

#[test]
fn the_protocol_and_the_records_are_what_they_were() {
    // Engines and memories of other builds read these messages: a change here is a new version of PROTOCOL or of the
    // memory's format, never a new digest alone.
    let mut schema = florin_core::wire::Schema::default();
    Request::schema(&mut schema);
    florin_signer::protocol::Reply::schema(&mut schema);
    florin_signer::memory::Decision::schema(&mut schema);
    florin_signer::sealed::Header::schema(&mut schema);
    let text = schema.print("florin.signer.v1", "");
    for name in ["SignPlan", "VoidReceipt", "Refused", "enum Refusal", "PaidWithdrawal", "Header"] {
        assert!(text.contains(name), "{name}");
    }
    let (_, definitions) = text.split_once("package florin.signer.v1;").expect("a package");
    let digest = bitcoin::hashes::sha256::Hash::hash(definitions.as_bytes()).to_string();
    expect_test::expect!["9f772f7348fccb68a7131a7e75247b9b8929eef9c5aab26bdd1120ff6e7a7b19"].assert_eq(&digest);
}
