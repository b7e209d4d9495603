//! The engine's port to the signer, served by the signer's own protocol. It translates, and holds the signer's memory against what it showed before: a signer that has forgotten must not be asked again.

use florin_core::id::{LedgerTime, PlanId};
use florin_core::wire::{Bytes, Message};
use florin_engine::ports::{self, SignerAnswer, SignerFault, SignerStatus};
use florin_signer::client::{Client, ClientError};
use florin_signer::protocol::{
    Fence, Input, MemoryDoubt, MemoryHead, Outcome, PaymentRequest, Reply, Request, SignPlan, StatusWanted, VoidPlan,
};
use std::io::Write;
use std::path::PathBuf;

/// Whatever carries a request to a signer: a socket, or, in simulations, a call.
pub trait Transport: Send {
    /// Asks once. The request may have had its effect even where this fails.
    ///
    /// # Errors
    /// Any [`SignerFault`].
    fn ask(&mut self, request: &Request) -> Result<Reply, SignerFault>;
}

impl Transport for Client {
    fn ask(&mut self, request: &Request) -> Result<Reply, SignerFault> {
        Client::ask(self, request).map_err(|fault| match fault {
            ClientError::ConnectTimeout => SignerFault::Timeout,
            fault => SignerFault::Transport(Box::new(fault)),
        })
    }
}

/// Where the signer's memory was last seen, kept so that a restart does not forget it.
pub trait HeadKeeper: Send {
    /// The last head kept, if any.
    ///
    /// # Errors
    /// What is wrong with the record: then nothing may be asked, since a signer that forgot could not be told.
    fn load(&mut self) -> std::io::Result<Option<MemoryHead>>;
    /// Makes a head durable.
    ///
    /// # Errors
    /// Faults of the storage.
    fn save(&mut self, head: &MemoryHead) -> std::io::Result<()>;
}

/// A head in a small file, replaced as a whole.
#[derive(Debug, Clone)]
pub struct HeadFile(pub PathBuf);

impl HeadKeeper for HeadFile {
    fn load(&mut self) -> std::io::Result<Option<MemoryHead>> {
        match std::fs::read(&self.0) {
            Ok(bytes) => MemoryHead::decode(&bytes).map(Some).map_err(std::io::Error::other),
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn save(&mut self, head: &MemoryHead) -> std::io::Result<()> {
        let draft = self.0.with_extension("new");
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(&head.encode())?;
        file.sync_all()?;
        std::fs::rename(&draft, &self.0)?;
        // The new name is durable with its folder.
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(std::path::Path::new(".")))?.sync_all()
    }
}

/// What a signer answered that does not answer the question.
#[derive(Debug, thiserror::Error)]
enum Odd {
    /// Another kind of answer, or one about another plan.
    #[error("the answer belongs to another question")]
    Other,
    /// Its memory is not the one it was.
    #[error("the signer's memory is in doubt")]
    Memory(#[source] MemoryDoubt),
}

/// A signer behind a transport.
pub struct RemoteSigner<T> {
    transport: T,
    known: Option<MemoryHead>,
    keeper: Option<Box<dyn HeadKeeper>>,
}

impl<T> std::fmt::Debug for RemoteSigner<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "RemoteSigner(last seen at {:?})", self.known)
    }
}

impl<T: Transport> RemoteSigner<T> {
    /// A signer whose memory was last seen at `known`.
    pub fn new(transport: T, known: Option<MemoryHead>) -> RemoteSigner<T> {
        RemoteSigner { transport, known, keeper: None }
    }

    /// A signer whose memory was last seen where `keeper` says, and whose every step is kept there before it is used.
    ///
    /// # Errors
    /// Where the record can't be read.
    pub fn keeping(transport: T, mut keeper: Box<dyn HeadKeeper>) -> std::io::Result<RemoteSigner<T>> {
        let known = keeper.load()?;
        Ok(RemoteSigner { transport, known, keeper: Some(keeper) })
    }

    fn ask(&mut self, request: &Request) -> Result<Outcome, SignerFault> {
        let reply = self.transport.ask(request)?;
        if let Some(known) = &self.known {
            reply.head.follows(known).map_err(|doubt| SignerFault::Malformed(Box::new(Odd::Memory(doubt))))?;
        }
        if self.known != Some(reply.head) {
            if let Some(keeper) = &mut self.keeper {
                keeper.save(&reply.head).map_err(|fault| SignerFault::Transport(Box::new(fault)))?;
            }
            self.known = Some(reply.head);
        }
        Ok(reply.outcome)
    }
}

fn odd() -> SignerFault {
    SignerFault::Malformed(Box::new(Odd::Other))
}

fn fence(fence: &ports::Fence) -> Fence {
    Fence { platform: fence.platform, epoch: fence.epoch, seq: fence.seq, head: fence.head, time: fence.time }
}

fn answer(outcome: Outcome, plan: PlanId) -> Result<SignerAnswer, SignerFault> {
    match outcome {
        Outcome::Signed(signed) if signed.plan == plan => {
            Ok(SignerAnswer::Signed { signed: Bytes(signed.transaction.0), txid: signed.txid })
        }
        Outcome::Voided(receipt) if receipt.plan == plan => Ok(SignerAnswer::Voided),
        Outcome::Refused(refused) => Ok(SignerAnswer::Refused { code: refused.reason.code().to_owned() }),
        Outcome::Signed(_)
        | Outcome::Voided(_)
        | Outcome::Welcome(_)
        | Outcome::Descriptors(_)
        | Outcome::Status(_)
        | Outcome::Checkpoint(_) => Err(odd()),
    }
}

impl<T: Transport> ports::Signer for RemoteSigner<T> {
    fn sign_plan(&mut self, request: &ports::SignRequest) -> Result<SignerAnswer, SignerFault> {
        let payment = |intent: &ports::IntentToSign| PaymentRequest {
            intent: intent.intent.clone(),
            approvals: intent.approvals.clone(),
        };
        let asked = Request::SignPlan(SignPlan {
            fence: fence(&request.fence),
            plan: request.plan,
            wallet: request.wallet,
            version: request.version,
            anchor: Input { txid: request.anchor.txid, vout: request.anchor.vout },
            payments: request.intents.iter().map(payment).collect(),
            psbt: Bytes(request.psbt.clone()),
        });
        answer(self.ask(&asked)?, request.plan)
    }

    fn void_plan(&mut self, at: &ports::Fence, plan: PlanId) -> Result<SignerAnswer, SignerFault> {
        answer(self.ask(&Request::VoidPlan(VoidPlan { fence: fence(at), plan }))?, plan)
    }

    fn status(&mut self) -> Result<SignerStatus, SignerFault> {
        match self.ask(&Request::Status(StatusWanted {}))? {
            Outcome::Status(status) => {
                let highest = status.highest.unwrap_or(Fence {
                    platform: [0; 16],
                    epoch: florin_core::id::Epoch(0),
                    seq: florin_core::id::Seq::START,
                    head: florin_core::id::Digest::ZERO,
                    time: LedgerTime(0),
                });
                // A signer that answers has its keys: it does not start without them.
                Ok(SignerStatus { epoch: highest.epoch, seq: highest.seq, is_unlocked: true })
            }
            _ => Err(odd()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::id::Digest;
    use florin_engine::ports::Signer;
    use florin_signer::protocol::Status;
    use std::collections::VecDeque;

    /// A signer that shows these heads, one in each answer.
    struct Shows(VecDeque<MemoryHead>);

    impl Transport for Shows {
        fn ask(&mut self, _: &Request) -> Result<Reply, SignerFault> {
            let head = self.0.pop_front().expect("one head for each question");
            let status = Status { highest: None, plans_signed: 0, plans_voided: 0, wallets: Vec::new() };
            Ok(Reply { head, outcome: Outcome::Status(status) })
        }
    }

    fn head(memory: u8, counter: u64, hash: u8) -> MemoryHead {
        MemoryHead { memory: [memory; 16], counter, hash: Digest([hash; 32]) }
    }

    fn signer(file: &HeadFile, heads: &[MemoryHead]) -> RemoteSigner<Shows> {
        let transport = Shows(heads.iter().copied().collect());
        RemoteSigner::keeping(transport, Box::new(file.clone())).expect("the record can be read")
    }

    #[test]
    fn a_signer_that_forgot_is_not_believed_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = HeadFile(folder.path().join("signer.head"));
        let mut first = signer(&file, &[head(1, 5, 5), head(1, 5, 5), head(1, 7, 7)]);
        for _ in 0..3 {
            first.status().expect("memory goes on");
        }
        for forgotten in [head(1, 6, 6), head(1, 7, 8), head(2, 9, 9)] {
            let mut next = signer(&file, &[forgotten, head(1, 8, 8)]);
            assert!(matches!(next.status(), Err(SignerFault::Malformed(_))), "{forgotten:?}");
            // What was refused was not kept: the honest memory still follows.
            next.status().expect("memory goes on");
            HeadFile(file.0.clone()).save(&head(1, 7, 7)).expect("set back for the next case");
        }
    }

    #[test]
    fn a_damaged_record_stops_everything() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = HeadFile(folder.path().join("signer.head"));
        std::fs::write(&file.0, b"nonsense").expect("written");
        assert!(RemoteSigner::keeping(Shows(VecDeque::new()), Box::new(file)).is_err());
    }
}
