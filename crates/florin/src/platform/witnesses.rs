//! Who names rows of the journal from outside of it, and what is said where the journal is not the one that they know. It
//! judges nothing and repairs nothing.

use crate::failure::Failure;
use florin_engine::load::Place;
use florin_engine::witness::{Contradiction, Witness, WitnessFault};
use florin_signer::client::Client;
use florin_signer::protocol::{Hello, Outcome, PROTOCOL, Request};
use florin_store::projection::Projection;
use std::path::PathBuf;
use std::time::Duration;

/// How long the signer may take to say which row it was shown last. It is asked before a lead is taken, and a platform without
/// its signer runs: it signs nothing, and the signing worker compares once the signer is back.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The search tables: their cursor is the last row that they took in.
pub(super) struct SearchTables(pub(super) Projection);

impl Witness for SearchTables {
    fn name(&self) -> &'static str {
        "the cursor of the search tables"
    }

    fn newest(&mut self) -> Result<Option<Place>, WitnessFault> {
        let (seq, hash) = self.0.cursor().map_err(|fault| WitnessFault { code: fault.code(), cause: fault.into() })?;
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
        let reply = reply.map_err(|fault| WitnessFault { code: fault.code(), cause: fault.into() })?;
        match reply.outcome {
            // One of another platform knows nothing of this journal; whoever asks it for more is told.
            Outcome::Welcome(welcome) if welcome.platform == self.platform => {
                Ok(welcome.highest.map(|fence| Place { seq: fence.seq, hash: fence.head }))
            }
            _ => Ok(None),
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
