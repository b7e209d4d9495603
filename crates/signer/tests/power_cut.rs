//! Power cuts, failing syncs and kills of a process that writes decisions into a signer's memory: it forgets nothing that it could
//! have answered, since an answer leaves only after its decision is recorded.

#[path = "../../store/tests/power_cut/bench.rs"]
mod bench;

use bench::{EXIT_STORAGE, RECORDS_MAX, Subject, content};
use florin_core::amount::Amount;
use florin_core::id::{Digest, Epoch, LedgerTime, PlanId, Seq, TxId, WalletId, WithdrawalId};
use florin_core::wire::Bytes;
use florin_signer::memory::{Charge, Decision, Memory, MemoryError, PaidWithdrawal, PlanMemory, Signature, Void};
use florin_signer::protocol::{Fence, Input, Signed, VoidReceipt};
use std::path::Path;

const PLATFORM: [u8; 16] = [7; 16];

const MEMORY: Subject = Subject { file: "memory.sqlite3", opening: 3_000, make, last };

fn fence(number: u64) -> Fence {
    let (epoch, seq, time) = (Epoch(1), Seq(number), LedgerTime(number));
    Fence { platform: PLATFORM, epoch, seq, head: Digest([1; 32]), time }
}

fn input(number: u64) -> Input {
    let mut txid = [0; 32];
    txid[..8].copy_from_slice(&number.to_be_bytes());
    Input { txid: TxId(txid), vout: 0 }
}

fn signed(number: u64) -> Signed {
    let (plan, transaction) = (PlanId(number), Bytes(content(number)));
    Signed { plan, version: 0, transaction, txid: input(number).txid, fee: Amount::new(1) }
}

fn receipt(number: u64) -> VoidReceipt {
    VoidReceipt { platform: PLATFORM, plan: PlanId(number), key: [3; 32], signature: [number as u8; 64] }
}

/// What is decided depends on its number alone. Every fifth plan is given up, the others are signed.
fn decision(number: u64) -> Decision {
    if number.is_multiple_of(5) {
        return Decision::Void(Void { fence: fence(number), receipt: receipt(number) });
    }
    let mut withdrawal = [0; 16];
    withdrawal[..8].copy_from_slice(&number.to_be_bytes());
    let (script, amount) = (Bytes(vec![1]), Amount::new(100));
    Decision::Signature(Signature {
        fence: fence(number),
        wallet: WalletId(1),
        anchor: input(number),
        inputs: vec![input(number)],
        payments: vec![PaidWithdrawal { withdrawal: WithdrawalId(withdrawal), script: script.clone(), amount }],
        charges: vec![Charge { script, amount: 100 }],
        change_index: Some(number as u32),
        time: LedgerTime(number),
        signed: signed(number),
    })
}

fn make(path: &Path) {
    drop(Memory::create(path, PLATFORM).expect("a memory is made"));
}

/// In the process that dies: records decision after decision and says each number once it is durable.
fn record_if_told() {
    let Some(folder) = bench::told() else { return };
    let failed = |fault: MemoryError| -> ! {
        eprintln!("{fault}: {:?}", std::error::Error::source(&fault).map(ToString::to_string));
        // Whatever is wrong with the content is another end than a disk that fails.
        std::process::exit(if fault.code() == "memory_database" { EXIT_STORAGE } else { 3 });
    };
    let mut memory = Memory::open(&folder.join(MEMORY.file), PLATFORM).unwrap_or_else(|fault| failed(fault));
    for _ in 0..RECORDS_MAX {
        let number = memory.head().counter + 1;
        memory.record(&decision(number)).unwrap_or_else(|fault| failed(fault));
        bench::say(number);
    }
    std::process::exit(0);
}

/// The number of the last decision; each one up to it is known by all that it said.
fn last(path: &Path) -> u64 {
    let memory = Memory::open(path, PLATFORM).expect("the memory is whole after a crash");
    let last = memory.head().counter;
    for number in 1..=last {
        let plan = PlanId(number);
        let known = memory.plan(plan).expect("read").expect("known");
        match decision(number) {
            Decision::Void(void) => assert_eq!(known, PlanMemory::Voided(void.receipt), "plan {number}"),
            Decision::Signature(signature) => {
                assert_eq!(known, PlanMemory::Signed { anchor: signature.anchor }, "plan {number}");
                assert!(memory.signed(plan, 0).expect("read") == Some(signature.signed), "plan {number}");
                assert_eq!(memory.outpoint_plan(&signature.anchor).expect("read"), Some(plan));
                assert_eq!(memory.payments(plan).expect("read"), signature.payments);
                assert_eq!(memory.charged(plan).expect("read"), signature.charges);
            }
            Decision::Seen(_) => unreachable!("none is made here"),
        }
    }
    assert_eq!(memory.highest().map(|fence| fence.seq.0), Some(last).filter(|last| *last > 0));
    last
}

#[test]
fn power_cuts_make_the_signer_forget_nothing() {
    record_if_told();
    bench::power_cuts(&MEMORY, "power_cuts_make_the_signer_forget_nothing");
}

#[test]
fn a_failed_sync_ends_the_process_and_no_later_decision_stands_on_lost_ones() {
    record_if_told();
    bench::failed_syncs(&MEMORY, "a_failed_sync_ends_the_process_and_no_later_decision_stands_on_lost_ones");
}

#[test]
fn a_failed_sync_before_a_power_cut_makes_the_signer_forget_nothing() {
    record_if_told();
    bench::failed_syncs_before_cuts(&MEMORY, "a_failed_sync_before_a_power_cut_makes_the_signer_forget_nothing");
}

#[test]
fn kills_make_the_signer_forget_nothing() {
    record_if_told();
    bench::kills(&MEMORY, "kills_make_the_signer_forget_nothing");
}
