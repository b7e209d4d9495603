//! Who names rows of the journal from outside of it, and what is said where the journal is not the one that they know. It
//! judges nothing and repairs nothing.

use crate::api::code;
use crate::failure::Failure;
use florin_engine::load::Place;
use florin_engine::witness::{Contradiction, Unreadable, Witness, WitnessFault};
use florin_signer::client::{Client, ClientError};
use florin_signer::protocol::{Hello, Outcome, PROTOCOL, Request};
use florin_store::projection::Projection;
use std::path::PathBuf;
use std::time::Duration;

/// How long the signer may take to say which row it was shown last. It is asked before a lead is taken, and a platform without
/// its signer runs: it signs nothing, and the signing worker compares once the signer is back and ends the process.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The search tables: their cursor is the last row that they took in.
pub(super) struct SearchTables(pub(super) Projection);

impl Witness for SearchTables {
    fn name(&self) -> &'static str {
        "the cursor of the search tables"
    }

    fn newest(&mut self) -> Result<Option<Place>, WitnessFault> {
        let cursor = self.0.cursor();
        let (seq, hash) =
            cursor.map_err(|fault| WitnessFault::Unreadable { code: fault.code(), cause: fault.into() })?;
        Ok(Some(Place { seq, hash }))
    }
}

/// The signer's memory: the highest row that it was shown.
pub(crate) struct SignerMemory {
    client: Client,
    platform: [u8; 16],
}

impl SignerMemory {
    pub(crate) fn new(socket: PathBuf, platform: [u8; 16]) -> SignerMemory {
        SignerMemory { client: Client::new(socket, TIMEOUT), platform }
    }
}

impl Witness for SignerMemory {
    fn name(&self) -> &'static str {
        "the signer's memory"
    }

    fn newest(&mut self) -> Result<Option<Place>, WitnessFault> {
        let reply = self.client.ask(&Request::Hello(Hello { protocol: PROTOCOL }));
        let reply = reply.map_err(|fault| {
            let code = fault.code();
            match fault {
                // One whose memory failed closes without an answer, and one that is locked does not listen.
                fault @ (ClientError::Unreachable(_) | ClientError::ConnectTimeout | ClientError::Frame(_)) => {
                    WitnessFault::Silent { code, cause: fault.into() }
                }
                fault @ ClientError::Reply(_) => WitnessFault::Unreadable { code, cause: fault.into() },
            }
        })?;
        named(reply.outcome, self.platform)
    }
}

/// The row that a signer names when it says who it is.
fn named(outcome: Outcome, platform: [u8; 16]) -> Result<Option<Place>, WitnessFault> {
    match outcome {
        // One of another platform knows nothing of this journal; whoever asks it for more is told.
        Outcome::Welcome(welcome) if welcome.platform != platform => Ok(None),
        Outcome::Welcome(welcome) => Ok(welcome.highest.map(|fence| Place { seq: fence.seq, hash: fence.head })),
        // One of another version has its memory, and nobody else may know as much.
        Outcome::Refused(refused) => {
            Err(WitnessFault::Unreadable { code: refused.reason.code(), cause: refused.reason.to_string().into() })
        }
        Outcome::Descriptors(_)
        | Outcome::Status(_)
        | Outcome::Signed(_)
        | Outcome::Voided(_)
        | Outcome::Checkpoint(_) => {
            let cause = "it answers another question".into();
            Err(WitnessFault::Unreadable { code: "signer_answer_malformed", cause })
        }
    }
}

/// The end of a start with a journal that is not the one that was known.
pub(super) fn refusal(found: &Contradiction) -> Failure {
    match found {
        Contradiction::Behind { .. } => Failure::new("journal_behind", format!("{found}, and nothing was written to it")).hint(
            "put the newer journal back, as a whole; where it is lost, don't run on this copy: it gives addresses out twice, and nothing in this build makes up for what it lacks",
        ),
        Contradiction::Forked { .. } => Failure::new("journal_forked", format!("{found}, and nothing was written to it")).hint(
            "put back the journal that has the row, as a whole; keep a copy of this one, since what it says beyond the fork happened, too, and nothing in this build joins the two",
        ),
    }
}

/// The end of a start where nobody knows which row somebody names.
pub(super) fn unread(found: Unreadable) -> Failure {
    let way_out = code::way_out(found.code())
        .unwrap_or("see its code in errors.md, and that signer and platform are of one build");
    let sentence =
        format!("{} may name a later row than the journal has, and nothing was written to it", found.witness);
    Failure::new(found.code(), sentence).because(found.fault).hint(way_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::id::{Digest, Epoch, LedgerTime, Seq};
    use florin_signer::protocol::{Fence, Refused, Welcome};
    use florin_signer::refusal::Refusal;

    fn heard(outcome: Outcome) -> Result<Option<u64>, &'static str> {
        named(outcome, [7; 16]).map(|place| place.map(|place| place.seq.0)).map_err(|fault| {
            assert!(matches!(fault, WitnessFault::Unreadable { .. }), "it answers: {fault:?}");
            fault.code()
        })
    }

    #[test]
    fn a_signer_of_another_protocol_is_not_taken_for_a_silent_one() {
        let refused = Refused { reason: Refusal::ProtocolUnknown, place: None };
        assert_eq!(heard(Outcome::Refused(refused)), Err("protocol_unknown"));
    }

    #[test]
    fn a_signer_names_the_highest_row_of_the_platform_that_it_serves() {
        let (epoch, seq, head, time) = (Epoch(1), Seq(9), Digest([1; 32]), LedgerTime(0));
        let welcome = |platform, is_shown: bool| {
            let highest = is_shown.then_some(Fence { platform, epoch, seq, head, time });
            Outcome::Welcome(Welcome { protocol: PROTOCOL, platform, key: [2; 32], highest, demo: true })
        };
        assert_eq!(heard(welcome([7; 16], true)), Ok(Some(9)));
        assert_eq!(heard(welcome([7; 16], false)), Ok(None));
        assert_eq!(heard(welcome([8; 16], true)), Ok(None), "it knows another journal");
    }
}
