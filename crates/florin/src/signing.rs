//! The engine's port to the signer, served by the signer's own protocol. It translates, and holds the signer to its key and to the memory that it showed before: one that has forgotten, or is not the one that was known, must not be believed.

mod evidence;
pub mod known;
pub mod shown;
pub mod wallets;

use florin_core::id::{LedgerTime, PlanId};
use florin_core::wire::{Bytes, Message};
use florin_engine::load::Place;
use florin_engine::ports::{self, SignerAnswer, SignerFault, SignerRefusal, SignerStatus};
use florin_signer::client::{Client, ClientError};
use florin_signer::protocol::{
    Checkpoint, CheckpointHead, Fence, Hello, Input, KnownRow, MemoryDoubt, Outcome, PROTOCOL, PaymentRequest, Refused,
    Reply, Request, SignPlan, StatusWanted, VoidPlan, VoidReceipt,
};
use florin_signer::refusal;
use known::{Doubt, KnownSigner, SignerKeeper, known_or_first};
use shown::{ShownFault, ShownFile};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Replaces a small file as a whole, durably. Whoever does so at the same time has a draft of its own.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let (draft, mut file) = draft_of(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&draft, path));
    if let Err(fault) = written {
        // What keeps it from being removed is no worse than what went wrong.
        let _ = std::fs::remove_file(&draft);
        return Err(fault);
    }
    // The new name is durable with its folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A new file beside another one. A number that is taken is a crash's, or of a process that has this number elsewhere.
fn draft_of(path: &Path) -> std::io::Result<(PathBuf, File)> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    loop {
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.{}.new", std::process::id(), DRAFTS.fetch_add(1, Ordering::Relaxed)));
        match File::create_new(&draft) {
            Err(fault) if fault.kind() == ErrorKind::AlreadyExists => {}
            made => return Ok((draft.into(), made?)),
        }
    }
}

/// A signer behind a transport.
pub struct RemoteSigner<T> {
    transport: T,
    /// Whether it has said who it is since this process began.
    met: bool,
    keeper: Box<dyn SignerKeeper>,
    /// The platform that asks, where it is known before anything is asked.
    platform: Option<[u8; 16]>,
    shown: Option<ShownFile>,
}

impl<T> std::fmt::Debug for RemoteSigner<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "RemoteSigner(met: {})", self.met)
    }
}

impl<T: Transport> RemoteSigner<T> {
    /// A signer of whom is known what `keeper` says, and whose every step is kept there before it is used.
    pub fn keeping(transport: T, keeper: Box<dyn SignerKeeper>) -> RemoteSigner<T> {
        RemoteSigner { transport, met: false, keeper, platform: None, shown: None }
    }

    /// The same, keeping a record of the last row that the signer is shown.
    #[must_use]
    pub fn recording(self, shown: ShownFile) -> RemoteSigner<T> {
        RemoteSigner { shown: Some(shown), ..self }
    }

    /// The same, for the one platform that asks: another's signer is never taken for the one that is met first.
    #[must_use]
    pub fn serving(self, platform: [u8; 16]) -> RemoteSigner<T> {
        RemoteSigner { platform: Some(platform), ..self }
    }

    /// Asks one that is the signer it was, and remembers all that it knew. `read` judges the answer: of one that is not believed
    /// nothing is kept, or a foreign signer could put itself in the place of the right one.
    fn ask<A>(
        &mut self,
        request: Request,
        read: impl FnOnce(Outcome, &KnownSigner) -> Result<A, SignerFault>,
    ) -> Result<A, SignerFault> {
        let known = self.known()?;
        let reply = self.transport.ask(&request.knowing(known.head))?;
        check(&reply, &known)?;
        let answer = read(reply.outcome, &known)?;
        self.keep(KnownSigner { head: reply.head, ..known }, Some(known))?;
        Ok(answer)
    }

    /// What every node knows by now: others ask it, too.
    fn known(&mut self) -> Result<KnownSigner, SignerFault> {
        match self.keeper.load()? {
            Some(known) if self.met => Ok(known),
            _ => self.meet(),
        }
    }

    /// Asks who it is: at the first contact of all, what it says is what it will be held to. Where one was met before and the
    /// record of it is gone, nobody is believed.
    fn meet(&mut self) -> Result<KnownSigner, SignerFault> {
        let reply = self.transport.ask(&Request::Hello(Hello { protocol: PROTOCOL }))?;
        let welcome = match reply.outcome {
            Outcome::Welcome(welcome) => welcome,
            Outcome::Refused(refused) => return Err(doubt(refused.reason.code(), refused.reason)),
            _ => return Err(odd()),
        };
        if self.platform.is_some_and(|platform| platform != welcome.platform) {
            return Err(Doubt::PlatformMismatch.fault());
        }
        let met = KnownSigner { head: reply.head, platform: welcome.platform, key: welcome.key };
        let known = match known_or_first(self.keeper.as_mut())? {
            Some(known) => known,
            None => self.keep(met, None)?,
        };
        who(&met, &known)?;
        self.met = true;
        Ok(known)
    }

    /// Makes what it knows now durable, and holds it against what another node may have learnt meanwhile.
    fn keep(&mut self, now: KnownSigner, known: Option<KnownSigner>) -> Result<KnownSigner, SignerFault> {
        if known == Some(now) {
            return Ok(now);
        }
        let stands = self.keeper.keep(&now)?;
        who(&now, &stands)?;
        if stands.head.memory != now.head.memory {
            return Err(forgotten(MemoryDoubt::Replaced));
        }
        if stands.head.counter == now.head.counter && stands.head.hash != now.head.hash {
            return Err(forgotten(MemoryDoubt::Conflict));
        }
        Ok(stands)
    }

    /// The highest place in the journal that it has seen.
    pub(crate) fn highest(&mut self) -> Result<Option<Fence>, SignerFault> {
        self.ask(Request::Status(StatusWanted { memory: None }), |outcome, _| match outcome {
            Outcome::Status(status) => Ok(status.highest),
            Outcome::Refused(refused) => Err(doubt(refused.reason.code(), refused.reason)),
            _ => Err(odd()),
        })
    }

    /// Its signature over the journal's head, or its refusal.
    pub(crate) fn checkpoint(
        &mut self,
        fence: Fence,
        known: Option<KnownRow>,
    ) -> Result<Result<Checkpoint, Refused>, SignerFault> {
        let request = Request::CheckpointHead(CheckpointHead { fence, known, memory: None });
        self.ask(request, |outcome, known| checkpoint_of(outcome, &fence, known))
    }

    /// Asks about a plan.
    fn ask_about(&mut self, request: Request, at: &ports::Fence, plan: PlanId) -> Result<SignerAnswer, SignerFault> {
        self.ask_at(request, at, |outcome, known| answer(outcome, plan, known))
    }

    /// Asks from a place of a journal, which must be the one that the signer serves.
    fn ask_at<A>(
        &mut self,
        request: Request,
        at: &ports::Fence,
        read: impl FnOnce(Outcome, &KnownSigner) -> Result<A, SignerFault>,
    ) -> Result<A, SignerFault> {
        if self.known()?.platform != at.platform {
            return Err(Doubt::PlatformMismatch.fault());
        }
        if let Some(shown) = &self.shown {
            let place = Place { seq: at.seq, hash: at.head };
            let unkept = |fault: ShownFault| SignerFault::Unrecorded { code: fault.code(), cause: fault.into() };
            shown.raise(place).map_err(unkept)?;
        }
        self.ask(request, read)
    }
}

/// The signature over exactly this head by the key that is known, or the refusal.
fn checkpoint_of(
    outcome: Outcome,
    fence: &Fence,
    known: &KnownSigner,
) -> Result<Result<Checkpoint, Refused>, SignerFault> {
    match outcome {
        Outcome::Checkpoint(checkpoint) if checkpoint.fence == *fence && checkpoint.is_by(&known.key) => {
            Ok(Ok(checkpoint))
        }
        Outcome::Refused(refused) => Ok(Err(refused)),
        _ => Err(odd()),
    }
}

/// Whether an answer is of a signer that still knows all that is known of it.
fn check(reply: &Reply, known: &KnownSigner) -> Result<(), SignerFault> {
    reply.check(&known.head).map_err(|found| match (&reply.outcome, found) {
        // It could not read the question, and says so.
        (Outcome::Refused(refused), MemoryDoubt::Unproven) => doubt(refused.reason.code(), refused.reason),
        (_, found) => forgotten(found),
    })
}

/// Whether a signer is the one that is known.
fn who(signer: &KnownSigner, known: &KnownSigner) -> Result<(), SignerFault> {
    if signer.platform != known.platform {
        return Err(Doubt::PlatformChanged.fault());
    }
    if signer.key != known.key {
        return Err(Doubt::KeyChanged.fault());
    }
    Ok(())
}

fn forgotten(memory: MemoryDoubt) -> SignerFault {
    doubt(memory.code(), memory)
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
        return Err(Doubt::ReceiptForeign.fault());
    }
    if receipt.key != known.key || !receipt.is_by(&known.key) {
        return Err(Doubt::ReceiptUnsigned.fault());
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
            memory: None,
        });
        self.ask_about(asked, &request.fence, request.plan)
    }

    fn void_plan(&mut self, at: &ports::Fence, plan: PlanId) -> Result<SignerAnswer, SignerFault> {
        let request = VoidPlan { fence: fence(at), plan, known: known_row(at), memory: None };
        self.ask_about(Request::VoidPlan(request), at, plan)
    }

    fn show(&mut self, at: &ports::Fence) -> Result<Option<SignerRefusal>, SignerFault> {
        let fence = fence(at);
        let request = Request::CheckpointHead(CheckpointHead { fence, known: known_row(at), memory: None });
        let answered = self.ask_at(request, at, |outcome, known| checkpoint_of(outcome, &fence, known))?;
        Ok(answered.err().map(|refused| refusal(&refused)))
    }

    fn status(&mut self) -> Result<SignerStatus, SignerFault> {
        let highest = self.highest()?.unwrap_or(Fence {
            platform: [0; 16],
            epoch: florin_core::id::Epoch(0),
            seq: florin_core::id::Seq::START,
            head: florin_core::id::Digest::ZERO,
            time: LedgerTime(0),
        });
        // A signer that answers has its keys: it does not start without them.
        Ok(SignerStatus { epoch: highest.epoch, seq: highest.seq, head: highest.head, is_unlocked: true })
    }
}

#[cfg(test)]
mod tests;
