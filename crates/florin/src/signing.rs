//! The engine's port to the signer, served by the signer's own protocol. It translates, and holds the signer's memory against what it showed before: a signer that has forgotten must not be asked again.

use florin_core::id::{LedgerTime, PlanId};
use florin_core::wire::Bytes;
use florin_engine::ports::{self, SignerAnswer, SignerFault, SignerStatus};
use florin_signer::client::{Client, ClientError};
use florin_signer::protocol::{
    Fence, Input, MemoryDoubt, MemoryHead, Outcome, PaymentRequest, Reply, Request, SignPlan, StatusWanted, VoidPlan,
};

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
#[derive(Debug)]
pub struct RemoteSigner<T> {
    transport: T,
    known: Option<MemoryHead>,
}

impl<T: Transport> RemoteSigner<T> {
    /// A signer whose memory was last seen at `known`.
    pub fn new(transport: T, known: Option<MemoryHead>) -> RemoteSigner<T> {
        RemoteSigner { transport, known }
    }

    fn ask(&mut self, request: &Request) -> Result<Outcome, SignerFault> {
        let reply = self.transport.ask(request)?;
        if let Some(known) = &self.known {
            reply.head.follows(known).map_err(|doubt| SignerFault::Malformed(Box::new(Odd::Memory(doubt))))?;
        }
        self.known = Some(reply.head);
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
