//! What is asked of the signer and what it answers, in the platform's one encoding. It must never carry a secret.

use crate::refusal::Refusal;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use florin_core::amount::Amount;
use florin_core::custody::{Approval, Intent};
use florin_core::id::{Digest, Epoch, LedgerTime, PlanId, Seq, TxId, WalletId};
use florin_core::wire::{Bytes, Message};

/// The version of this protocol. [`Hello`], and the numbers of the refusals that may answer it, are the same in every version: by
/// them two builds find out that they differ.
pub const PROTOCOL: u32 = 3;

florin_core::message! {
    /// The engine's place in its journal. The signer keeps the highest and refuses lower ones.
    #[derive(Copy)]
    pub struct Fence {
        /// The platform: the journal's id.
        1: platform: [u8; 16],
        /// The leadership.
        2: epoch: Epoch,
        /// The last durable row.
        3: seq: Seq,
        /// Its hash.
        4: head: Digest,
        /// Its ledger time.
        5: time: LedgerTime,
    }
}

florin_core::message! {
    /// The last row that the signer was shown, as the asker's journal has it: looked up there, and never repeated from what
    /// the signer said. By it the signer knows an old copy that was written on beyond the row. It proves nothing against
    /// an engine that lies; limits and approvals hold that one.
    #[derive(Copy)]
    pub struct KnownRow {
        /// Its number.
        1: seq: Seq,
        /// Its hash.
        2: hash: Digest,
    }
}

florin_core::message! {
    /// An output that a transaction spends.
    #[derive(Copy, PartialOrd, Ord)]
    pub struct Input {
        /// The transaction that made it.
        1: txid: TxId,
        /// Its place in it.
        2: vout: u32,
    }
}

florin_core::message! {
    /// A payment that is asked for, with operators' approvals where it needs them.
    pub struct PaymentRequest {
        /// The intent.
        1: intent: Intent,
        /// Signatures over its digest.
        2: approvals: Vec<Approval>,
    }
}

florin_core::message! {
    /// Opens a conversation.
    pub struct Hello {
        /// The protocol's version that the caller speaks.
        1: protocol: u32,
    }
}

florin_core::message! {
    /// Asks for the descriptors of the policy's wallets.
    pub struct DescriptorsWanted {
        /// What the asker knows of the signer's memory, as in every question but [`Hello`]; absent where it knows nothing.
        1: memory: Option<MemoryHead>,
    }
}

florin_core::message! {
    /// Asks for one version of a plan to be signed.
    pub struct SignPlan {
        /// Where the journal stands.
        1: fence: Fence,
        /// The plan.
        2: plan: PlanId,
        /// The wallet that pays.
        3: wallet: WalletId,
        /// The version, counted from 0.
        4: version: u32,
        /// The input that every version spends.
        5: anchor: Input,
        /// What it pays.
        6: payments: Vec<PaymentRequest>,
        /// The transaction, as a PSBT (BIP-174) with full previous transactions, and key origins of inputs and change.
        7: psbt: Bytes,
        /// What links the fence to the last one; absent where the signer was shown no row.
        8: known: Option<KnownRow>,
        /// What the asker knows of the signer's memory.
        9: memory: Option<MemoryHead>,
    }
}

florin_core::message! {
    /// Asks the signer to give up for ever on a plan. The answer to one that it has signed is the newest signed version.
    pub struct VoidPlan {
        /// Where the journal stands.
        1: fence: Fence,
        /// The plan.
        2: plan: PlanId,
        /// What links the fence to the last one.
        3: known: Option<KnownRow>,
        /// What the asker knows of the signer's memory.
        4: memory: Option<MemoryHead>,
    }
}

florin_core::message! {
    /// Asks how the signer stands.
    pub struct StatusWanted {
        /// What the asker knows of the signer's memory.
        1: memory: Option<MemoryHead>,
    }
}

florin_core::message! {
    /// Asks for a signature over the journal's head.
    pub struct CheckpointHead {
        /// The head.
        1: fence: Fence,
        /// What links it to the last one.
        2: known: Option<KnownRow>,
        /// What the asker knows of the signer's memory.
        3: memory: Option<MemoryHead>,
    }
}

florin_core::oneof! {
    /// A request.
    pub enum Request {
        /// Opens a conversation.
        1: Hello(Hello),
        /// Descriptors of the wallets.
        2: Descriptors(DescriptorsWanted),
        /// A signature.
        3: SignPlan(SignPlan),
        /// A plan given up.
        4: VoidPlan(VoidPlan),
        /// How the signer stands.
        5: Status(StatusWanted),
        /// A signed checkpoint.
        6: CheckpointHead(CheckpointHead),
    }
}

impl Request {
    /// What the asker knows of the signer's memory, if it says so.
    pub fn memory(&self) -> Option<MemoryHead> {
        match self {
            Request::Hello(_) => None,
            Request::Descriptors(wanted) => wanted.memory,
            Request::SignPlan(plan) => plan.memory,
            Request::VoidPlan(void) => void.memory,
            Request::Status(wanted) => wanted.memory,
            Request::CheckpointHead(head) => head.memory,
        }
    }

    /// The same question by one who knows this of the signer's memory. [`Hello`] is asked before anything is known.
    #[must_use]
    pub fn knowing(mut self, known: MemoryHead) -> Request {
        let memory = match &mut self {
            Request::Hello(_) => return self,
            Request::Descriptors(wanted) => &mut wanted.memory,
            Request::SignPlan(plan) => &mut plan.memory,
            Request::VoidPlan(void) => &mut void.memory,
            Request::Status(wanted) => &mut wanted.memory,
            Request::CheckpointHead(head) => &mut head.memory,
        };
        *memory = Some(known);
        self
    }
}

florin_core::message! {
    /// The head of the signer's own memory: every decision advances it. Whoever asks keeps the last one it saw and names it in
    /// its next question: a signer whose memory was restored from an old copy does not have it, whatever came after.
    #[derive(Copy)]
    pub struct MemoryHead {
        /// Drawn when the memory was created: a replaced memory has another.
        1: memory: [u8; 16],
        /// How many decisions it holds.
        2: counter: u64,
        /// The hash chain over them.
        3: hash: Digest,
    }
}

/// Why the engine must not go on with this signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemoryDoubt {
    /// It is not the memory that was known.
    #[error("the signer has another memory than before")]
    Replaced,
    /// It has forgotten decisions: it was restored from an old copy.
    #[error("the signer's memory is behind what it once knew")]
    Behind,
    /// It remembers other decisions: an old copy was written on, or two signers had one memory.
    #[error("the signer's memory contradicts what it once knew")]
    Conflict,
    /// It does not say that it has what was known.
    #[error("the signer does not say that its memory has what it once knew")]
    Unproven,
}

impl MemoryDoubt {
    /// The stable code of this doubt.
    pub fn code(self) -> &'static str {
        match self {
            MemoryDoubt::Replaced => "signer_memory_replaced",
            MemoryDoubt::Behind => "signer_memory_behind",
            MemoryDoubt::Conflict => "signer_memory_conflict",
            MemoryDoubt::Unproven => "signer_memory_unproven",
        }
    }
}

florin_core::message! {
    /// The answer to a request.
    pub struct Reply {
        /// The signer's memory after it.
        1: head: MemoryHead,
        /// What came of it.
        2: outcome: Outcome,
        /// What the question said of the memory, found in it: the decision of that number has that hash. Absent where the question
        /// said nothing, and where it is not so.
        3: remembered: Option<MemoryHead>,
    }
}

impl Reply {
    /// Whether the signer that answered so still knows all it knew at `known`, which the question named. Every answer is held
    /// against it before it is used. A later number alone is no answer: an old copy that is written on has one before long.
    ///
    /// # Errors
    /// [`MemoryDoubt`], most precise first.
    pub fn check(&self, known: &MemoryHead) -> Result<(), MemoryDoubt> {
        if let Outcome::Refused(Refused { reason, .. }) = &self.outcome {
            match reason {
                Refusal::MemoryReplaced => return Err(MemoryDoubt::Replaced),
                Refusal::MemoryBehind => return Err(MemoryDoubt::Behind),
                Refusal::MemoryConflict => return Err(MemoryDoubt::Conflict),
                _ => {}
            }
        }
        if self.head.memory != known.memory {
            return Err(MemoryDoubt::Replaced);
        }
        if self.head.counter < known.counter {
            return Err(MemoryDoubt::Behind);
        }
        if self.head.counter == known.counter && self.head.hash != known.hash {
            return Err(MemoryDoubt::Conflict);
        }
        if self.remembered != Some(*known) {
            return Err(MemoryDoubt::Unproven);
        }
        Ok(())
    }
}

florin_core::oneof! {
    /// What came of a request.
    pub enum Outcome {
        /// To [`Hello`].
        1: Welcome(Welcome),
        /// To [`DescriptorsWanted`].
        2: Descriptors(Descriptors),
        /// To [`SignPlan`].
        3: Signed(Signed),
        /// To [`VoidPlan`].
        4: Voided(VoidReceipt),
        /// To [`StatusWanted`].
        5: Status(Status),
        /// To [`CheckpointHead`].
        6: Checkpoint(Checkpoint),
        /// To anything.
        7: Refused(Refused),
    }
}

florin_core::message! {
    /// Who the signer is.
    pub struct Welcome {
        /// The protocol's version that it speaks.
        1: protocol: u32,
        /// The platform it serves.
        2: platform: [u8; 16],
        /// The public key of its checkpoints and void receipts.
        3: key: [u8; 32],
        /// The highest place in the journal that it has seen; an engine below it must stop.
        4: highest: Option<Fence>,
        /// Whether its keys are for play.
        5: demo: bool,
    }
}

florin_core::message! {
    /// One wallet of the policy.
    pub struct WalletDescriptors {
        /// The wallet.
        1: wallet: WalletId,
        /// The network's first block.
        2: genesis: florin_core::id::BlockHash,
        /// Receiving addresses.
        3: external: String,
        /// Change.
        4: internal: String,
    }
}

florin_core::message! {
    /// The wallets of the policy.
    pub struct Descriptors {
        /// In order of id.
        1: wallets: Vec<WalletDescriptors>,
    }
}

florin_core::message! {
    /// A signed version of a plan: the same for ever.
    pub struct Signed {
        /// The plan.
        1: plan: PlanId,
        /// The version.
        2: version: u32,
        /// The transaction as the network carries it.
        3: transaction: Bytes,
        /// Its id.
        4: txid: TxId,
        /// What it pays in fees.
        5: fee: Amount,
    }
}

florin_core::message! {
    /// The signer's word that it has not signed a plan and never will.
    pub struct VoidReceipt {
        /// The platform.
        1: platform: [u8; 16],
        /// The plan.
        2: plan: PlanId,
        /// The signer's key.
        3: key: [u8; 32],
        /// Its signature.
        4: signature: [u8; 64],
    }
}

florin_core::message! {
    /// How the signer stands.
    pub struct Status {
        /// The highest place in the journal that it has seen.
        1: highest: Option<Fence>,
        /// Plans signed.
        2: plans_signed: u64,
        /// Plans voided.
        3: plans_voided: u64,
        /// What is left of the automatic limits.
        4: wallets: Vec<WalletStatus>,
    }
}

florin_core::message! {
    /// What is left of a wallet's automatic limits.
    pub struct WalletStatus {
        /// The wallet.
        1: wallet: WalletId,
        /// In this hour.
        2: hour_left: Amount,
        /// In this day.
        3: day_left: Amount,
    }
}

florin_core::message! {
    /// The signer's signature over the journal's head.
    pub struct Checkpoint {
        /// The head.
        1: fence: Fence,
        /// The signer's key.
        2: key: [u8; 32],
        /// Its signature.
        3: signature: [u8; 64],
    }
}

florin_core::message! {
    /// A refusal. Nothing was signed, and nothing has changed but the highest place seen.
    #[derive(Copy)]
    pub struct Refused {
        /// Why.
        1: reason: Refusal,
        /// Which payment, input or output, counted from 0, where one is to blame.
        2: place: Option<u32>,
    }
}

impl Refused {
    pub(crate) fn whole(reason: Refusal) -> Refused {
        Refused { reason, place: None }
    }
    pub(crate) fn at(reason: Refusal, place: usize) -> Refused {
        Refused { reason, place: u32::try_from(place).ok() }
    }
}

impl Checkpoint {
    /// Signs a head.
    pub(crate) fn sign(fence: Fence, key: &SigningKey) -> Checkpoint {
        let signature = key.sign(&checkpoint_text(&fence)).to_bytes();
        Checkpoint { fence, key: key.verifying_key().to_bytes(), signature }
    }

    /// Whether this is a signature by `key` over this head. Callers pin the key; the one in the record proves nothing.
    pub fn is_by(&self, key: &[u8; 32]) -> bool {
        is_signed(key, &checkpoint_text(&self.fence), &self.signature)
    }
}

impl VoidReceipt {
    /// Signs a receipt.
    pub(crate) fn sign(platform: [u8; 16], plan: PlanId, key: &SigningKey) -> VoidReceipt {
        let signature = key.sign(&void_text(&platform, plan)).to_bytes();
        VoidReceipt { platform, plan, key: key.verifying_key().to_bytes(), signature }
    }

    /// Whether this is a receipt by `key` for this plan. Callers pin the key; the one in the record proves nothing.
    pub fn is_by(&self, key: &[u8; 32]) -> bool {
        is_signed(key, &void_text(&self.platform, self.plan), &self.signature)
    }
}

fn checkpoint_text(fence: &Fence) -> Vec<u8> {
    let mut text = b"florin/checkpoint/1".to_vec();
    fence.encode_to(&mut text);
    text
}

fn void_text(platform: &[u8; 16], plan: PlanId) -> Vec<u8> {
    let mut text = b"florin/void/1".to_vec();
    text.extend_from_slice(platform);
    text.extend_from_slice(&plan.0.to_be_bytes());
    text
}

fn is_signed(key: &[u8; 32], text: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(text, &Signature::from_bytes(signature)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_is_doubted_when_it_is_replaced_behind_or_other() {
        let head =
            |memory: u8, counter, hash: u8| MemoryHead { memory: [memory; 16], counter, hash: Digest([hash; 32]) };
        let known = head(1, 5, 9);
        let shown = |head, remembered| {
            let refused = Outcome::Refused(Refused::whole(Refusal::FenceBehind));
            Reply { head, outcome: refused, remembered }.check(&known)
        };
        assert_eq!(shown(known, Some(known)), Ok(()));
        assert_eq!(shown(head(1, 6, 3), Some(known)), Ok(()));
        assert_eq!(shown(head(2, 6, 9), Some(known)), Err(MemoryDoubt::Replaced));
        assert_eq!(shown(head(1, 4, 9), Some(known)), Err(MemoryDoubt::Behind));
        assert_eq!(shown(head(1, 5, 8), Some(known)), Err(MemoryDoubt::Conflict));
        assert_eq!(shown(head(1, 900, 3), None), Err(MemoryDoubt::Unproven), "a later number alone is no answer");
        assert_eq!(shown(head(1, 900, 3), Some(head(1, 5, 8))), Err(MemoryDoubt::Unproven));
        let said = [
            (Refusal::MemoryReplaced, MemoryDoubt::Replaced),
            (Refusal::MemoryBehind, MemoryDoubt::Behind),
            (Refusal::MemoryConflict, MemoryDoubt::Conflict),
        ];
        for (reason, doubt) in said {
            let outcome = Outcome::Refused(Refused::whole(reason));
            assert_eq!(Reply { head: head(1, 6, 3), outcome, remembered: None }.check(&known), Err(doubt));
        }
    }

    #[test]
    fn what_is_signed_is_what_docs_journal_format_says() {
        let (platform, head) = ([7; 16], Digest([9; 32]));
        let (epoch, seq, time) = (Epoch(1), Seq(300), LedgerTime(5));
        let text = checkpoint_text(&Fence { platform, epoch, seq, head, time });
        let written = [
            &b"florin/checkpoint/1\x0a\x10"[..],
            &platform,
            &[0x10, 1, 0x18, 0xac, 0x02, 0x22, 0x20],
            &head.0,
            &[0x28, 5],
        ];
        assert_eq!(text, written.concat());
        let written = [&b"florin/void/1"[..], &platform, &[0, 0, 0, 0, 0, 0, 1, 44]];
        assert_eq!(void_text(&platform, PlanId(300)), written.concat());
    }

    #[test]
    fn receipts_and_checkpoints_fit_one_plan_one_head_and_one_key() {
        let (key, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let (public, foreign) = (key.verifying_key().to_bytes(), other.verifying_key().to_bytes());
        let receipt = VoidReceipt::sign([7; 16], PlanId(3), &key);
        assert!(receipt.is_by(&public) && !receipt.is_by(&foreign));
        assert!(!VoidReceipt { plan: PlanId(4), ..receipt.clone() }.is_by(&public));
        assert!(!VoidReceipt { platform: [8; 16], ..receipt }.is_by(&public));
        let fence =
            Fence { platform: [7; 16], epoch: Epoch(1), seq: Seq(2), head: Digest([3; 32]), time: LedgerTime(4) };
        let checkpoint = Checkpoint::sign(fence, &key);
        assert!(checkpoint.is_by(&public) && !checkpoint.is_by(&foreign));
        assert!(!Checkpoint { fence: Fence { seq: Seq(3), ..fence }, ..checkpoint }.is_by(&public));
    }
}
