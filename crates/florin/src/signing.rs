//! The engine's port to the signer, served by the signer's own protocol. It translates, and holds the signer to its key and to the memory that it showed before: one that has forgotten, or is not the one that was known, must not be believed.

pub mod shown;
pub mod wallets;

use florin_core::id::{LedgerTime, PlanId};
use florin_core::wire::{Bytes, Message};
use florin_engine::load::Place;
use florin_engine::ports::{self, SignerAnswer, SignerFault, SignerRefusal, SignerStatus};
use florin_signer::client::{Client, ClientError};
use florin_signer::protocol::{
    CheckpointHead, Fence, Hello, Input, KnownRow, MemoryHead, Outcome, PROTOCOL, PaymentRequest, Refused, Reply,
    Request, SignPlan, StatusWanted, VoidPlan, VoidReceipt,
};
use florin_signer::refusal;
use shown::{ShownFault, ShownFile};
use std::io::Write;
use std::path::{Path, PathBuf};

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

florin_core::message! {
    /// What is known of the signer: who it is, and where its memory was last seen. Who it is was learnt at the first contact,
    /// and holds from then on.
    #[derive(Copy)]
    pub struct KnownSigner {
        /// The head of its memory.
        1: head: MemoryHead,
        /// The platform that it serves.
        2: platform: [u8; 16],
        /// The public key of its void receipts and checkpoints.
        3: key: [u8; 32],
    }
}

/// What is known of the signer, kept so that a restart does not forget it.
pub trait HeadKeeper: Send {
    /// The last record kept, if any.
    ///
    /// # Errors
    /// What is wrong with the record: then nothing may be asked, since a signer that forgot could not be told.
    fn load(&mut self) -> std::io::Result<Option<KnownSigner>>;
    /// Makes a record durable.
    ///
    /// # Errors
    /// Faults of the storage.
    fn save(&mut self, known: &KnownSigner) -> std::io::Result<()>;
}

/// A record in a small file, replaced as a whole.
#[derive(Debug, Clone)]
pub struct HeadFile(pub PathBuf);

impl HeadKeeper for HeadFile {
    fn load(&mut self) -> std::io::Result<Option<KnownSigner>> {
        match std::fs::read(&self.0) {
            Ok(bytes) => KnownSigner::decode(&bytes).map(Some).map_err(std::io::Error::other),
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn save(&mut self, known: &KnownSigner) -> std::io::Result<()> {
        replace(&self.0, &known.encode())
    }
}

/// Replaces a small file as a whole, durably.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let mut file = std::fs::File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    // The new name is durable with its folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A signer behind a transport.
pub struct RemoteSigner<T> {
    transport: T,
    known: Option<KnownSigner>,
    /// Whether it has said who it is since this process began.
    met: bool,
    keeper: Option<Box<dyn HeadKeeper>>,
    shown: Option<ShownFile>,
}

impl<T> std::fmt::Debug for RemoteSigner<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "RemoteSigner(last seen at {:?})", self.known)
    }
}

impl<T: Transport> RemoteSigner<T> {
    /// A signer of whom `known` is known. What the first contact teaches lasts as long as this value.
    pub fn new(transport: T, known: Option<KnownSigner>) -> RemoteSigner<T> {
        RemoteSigner { transport, known, met: false, keeper: None, shown: None }
    }

    /// A signer of whom is known what `keeper` says, and whose every step is kept there before it is used.
    ///
    /// # Errors
    /// Where the record can't be read.
    pub fn keeping(transport: T, mut keeper: Box<dyn HeadKeeper>) -> std::io::Result<RemoteSigner<T>> {
        let known = keeper.load()?;
        Ok(RemoteSigner { transport, known, met: false, keeper: Some(keeper), shown: None })
    }

    /// The same, keeping a record of the last row that the signer is shown.
    #[must_use]
    pub fn recording(self, shown: ShownFile) -> RemoteSigner<T> {
        RemoteSigner { shown: Some(shown), ..self }
    }

    /// Asks one that is the signer it was, and remembers all that it knew.
    fn ask(&mut self, request: &Request) -> Result<(Outcome, KnownSigner), SignerFault> {
        let known = match self.known {
            Some(known) if self.met => known,
            _ => self.meet()?,
        };
        let reply = self.transport.ask(request)?;
        follows(&reply.head, &known)?;
        let known = KnownSigner { head: reply.head, ..known };
        self.keep(known)?;
        Ok((reply.outcome, known))
    }

    /// Asks who it is: at the first contact of all, what it says is what it will be held to.
    fn meet(&mut self) -> Result<KnownSigner, SignerFault> {
        let reply = self.transport.ask(&Request::Hello(Hello { protocol: PROTOCOL }))?;
        let welcome = match reply.outcome {
            Outcome::Welcome(welcome) => welcome,
            Outcome::Refused(refused) => return Err(doubt(refused.reason.code(), refused.reason)),
            _ => return Err(odd()),
        };
        if let Some(known) = &self.known {
            if welcome.platform != known.platform {
                return Err(doubt("signer_platform_changed", "it serves another platform than before"));
            }
            if welcome.key != known.key {
                return Err(doubt("signer_key_changed", "it has another key than before"));
            }
            follows(&reply.head, known)?;
        }
        let known = KnownSigner { head: reply.head, platform: welcome.platform, key: welcome.key };
        self.keep(known)?;
        self.met = true;
        Ok(known)
    }

    fn keep(&mut self, known: KnownSigner) -> Result<(), SignerFault> {
        if self.known != Some(known) {
            if let Some(keeper) = &mut self.keeper {
                keeper.save(&known).map_err(|fault| SignerFault::Transport(Box::new(fault)))?;
            }
            self.known = Some(known);
        }
        Ok(())
    }

    /// Asks about a plan.
    fn ask_about(&mut self, request: &Request, at: &ports::Fence, plan: PlanId) -> Result<SignerAnswer, SignerFault> {
        let (outcome, known) = self.ask_at(request, at)?;
        answer(outcome, plan, &known)
    }

    /// Asks from a place of a journal, which must be the one that the signer serves.
    fn ask_at(&mut self, request: &Request, at: &ports::Fence) -> Result<(Outcome, KnownSigner), SignerFault> {
        if !self.met {
            self.meet()?;
        }
        if self.known.is_some_and(|known| known.platform != at.platform) {
            return Err(doubt("signer_platform_mismatch", "it serves another platform than this one"));
        }
        if let Some(shown) = &self.shown {
            let place = Place { seq: at.seq, hash: at.head };
            let unkept = |fault: ShownFault| SignerFault::Unrecorded { code: fault.code(), cause: fault.into() };
            shown.raise(place).map_err(unkept)?;
        }
        self.ask(request)
    }
}

fn follows(head: &MemoryHead, known: &KnownSigner) -> Result<(), SignerFault> {
    head.follows(&known.head).map_err(|memory| doubt(memory.code(), memory))
}

fn doubt(code: &'static str, what: impl ToString) -> SignerFault {
    SignerFault::NotBelieved { code, what: what.to_string() }
}

/// The signer answered another question, or about another plan.
#[derive(Debug, thiserror::Error)]
#[error("the answer belongs to another question")]
struct Other;

fn odd() -> SignerFault {
    SignerFault::Malformed(Box::new(Other))
}

fn fence(fence: &ports::Fence) -> Fence {
    Fence { platform: fence.platform, epoch: fence.epoch, seq: fence.seq, head: fence.head, time: fence.time }
}

fn known_row(fence: &ports::Fence) -> Option<KnownRow> {
    Some(fence.known).filter(|row| *row != Place::START).map(|row| KnownRow { seq: row.seq, hash: row.hash })
}

fn answer(outcome: Outcome, plan: PlanId, known: &KnownSigner) -> Result<SignerAnswer, SignerFault> {
    match outcome {
        Outcome::Signed(signed) if signed.plan == plan => {
            Ok(SignerAnswer::Signed { signed: Bytes(signed.transaction.0), txid: signed.txid })
        }
        Outcome::Voided(receipt) => check_receipt(&receipt, plan, known),
        Outcome::Refused(refused) => Ok(SignerAnswer::Refused(refusal(&refused))),
        Outcome::Signed(_)
        | Outcome::Welcome(_)
        | Outcome::Descriptors(_)
        | Outcome::Status(_)
        | Outcome::Checkpoint(_) => Err(odd()),
    }
}

/// The signer's refusal in the engine's words. A refusal that blames one payment or coin and does not say which blames the plan.
fn refusal(refused: &Refused) -> SignerRefusal {
    let standing = match refused.reason.standing() {
        refusal::Standing::Passing => ports::Standing::Passing,
        refusal::Standing::Lasting => ports::Standing::Lasting,
    };
    let culprit = match (refused.reason.culprit(), refused.place) {
        (refusal::Culprit::Payment, Some(place)) => ports::Culprit::Payment(place),
        (refusal::Culprit::Coin, Some(place)) => ports::Culprit::Coin(place),
        (refusal::Culprit::Payment | refusal::Culprit::Coin | refusal::Culprit::Plan, _) => ports::Culprit::Plan,
        (refusal::Culprit::Automatic, _) => ports::Culprit::Automatic,
        (refusal::Culprit::Nobody, _) => ports::Culprit::Nobody,
    };
    SignerRefusal { code: refused.reason.code().to_owned(), standing, culprit }
}

/// A void receipt lets the money of a plan be given back: it counts only with the signature of the key that is known, over this
/// platform and this plan. The key that it names itself proves nothing.
fn check_receipt(receipt: &VoidReceipt, plan: PlanId, known: &KnownSigner) -> Result<SignerAnswer, SignerFault> {
    if receipt.plan != plan {
        return Err(odd());
    }
    if receipt.platform != known.platform {
        return Err(doubt("void_receipt_foreign", "its void receipt is for another platform"));
    }
    if receipt.key != known.key || !receipt.is_by(&known.key) {
        return Err(doubt("void_receipt_unsigned", "its void receipt is not signed by its key"));
    }
    Ok(SignerAnswer::Voided { receipt: Bytes(receipt.encode()) })
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
            known: known_row(&request.fence),
        });
        self.ask_about(&asked, &request.fence, request.plan)
    }

    fn void_plan(&mut self, at: &ports::Fence, plan: PlanId) -> Result<SignerAnswer, SignerFault> {
        self.ask_about(&Request::VoidPlan(VoidPlan { fence: fence(at), plan, known: known_row(at) }), at, plan)
    }

    fn show(&mut self, at: &ports::Fence) -> Result<Option<SignerRefusal>, SignerFault> {
        let fence = fence(at);
        let request = Request::CheckpointHead(CheckpointHead { fence, known: known_row(at) });
        match self.ask_at(&request, at)? {
            (Outcome::Checkpoint(checkpoint), known) if checkpoint.fence == fence && checkpoint.is_by(&known.key) => {
                Ok(None)
            }
            (Outcome::Refused(refused), _) => Ok(Some(refusal(&refused))),
            _ => Err(odd()),
        }
    }

    fn status(&mut self) -> Result<SignerStatus, SignerFault> {
        match self.ask(&Request::Status(StatusWanted {}))? {
            (Outcome::Status(status), _) => {
                let highest = status.highest.unwrap_or(Fence {
                    platform: [0; 16],
                    epoch: florin_core::id::Epoch(0),
                    seq: florin_core::id::Seq::START,
                    head: florin_core::id::Digest::ZERO,
                    time: LedgerTime(0),
                });
                // A signer that answers has its keys: it does not start without them.
                Ok(SignerStatus { epoch: highest.epoch, seq: highest.seq, head: highest.head, is_unlocked: true })
            }
            _ => Err(odd()),
        }
    }
}

#[cfg(test)]
mod tests;
