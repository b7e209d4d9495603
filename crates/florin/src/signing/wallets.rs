//! Which wallets the signer has keys for, by their public descriptors. It asks and compares nothing: who registers a wallet decides what an answer means.

use super::known::{Doubt, SignerKeeper, known_or_first};
use super::{Transport, check, odd};
use florin_engine::ports::SignerFault;
use florin_signer::protocol::{DescriptorsWanted, Hello, Outcome, PROTOCOL, Request, WalletDescriptors};
use std::sync::{Arc, Mutex, PoisonError};

/// Asks the signer for the wallets of its policy. It may wait for the signer.
pub type AskWallets = Arc<dyn Fn() -> Result<Vec<WalletDescriptors>, SignerFault> + Send + Sync>;

/// A way to ask a signer for its wallets, over connections of its own. It has to serve `platform` and, where a signer is known
/// already, to be that one.
pub fn ask_wallets(
    transport: impl Transport + 'static,
    keeper: impl SignerKeeper + 'static,
    platform: [u8; 16],
) -> AskWallets {
    let both = Mutex::new((transport, keeper));
    Arc::new(move || {
        let (transport, keeper) = &mut *both.lock().unwrap_or_else(PoisonError::into_inner);
        let Outcome::Welcome(welcome) = transport.ask(&Request::Hello(Hello { protocol: PROTOCOL }))?.outcome else {
            return Err(odd());
        };
        if welcome.platform != platform {
            return Err(Doubt::PlatformMismatch.fault());
        }
        let known = known_or_first(keeper)?;
        if known.is_some_and(|known| known.key != welcome.key) {
            return Err(Doubt::KeyChanged.fault());
        }
        let memory = known.map(|known| known.head);
        let reply = transport.ask(&Request::Descriptors(DescriptorsWanted { memory }))?;
        known.map_or(Ok(()), |known| check(&reply, &known))?;
        match reply.outcome {
            Outcome::Descriptors(descriptors) => Ok(descriptors.wallets),
            _ => Err(odd()),
        }
    })
}
