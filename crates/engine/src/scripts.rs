//! Which script stands at a wallet's next index, derived from the wallet's public descriptors. Never sees a private key,
//! and hands out no index: the core does.

use florin_chain::bitcoin::derive::ScriptDeriver;
use florin_chain::bitcoin::descriptor::{Descriptor, DescriptorError};
use florin_chain::bitcoin::keys::{AddressIndex, KeyError};
use florin_chain::bitcoin::network::Network;
use florin_core::custody::{Branch, ChainFamily, Wallet};
use florin_core::id::{BlockHash, WalletId};
use florin_core::state::State;
use florin_core::wire::Bytes;
use std::collections::BTreeMap;

/// Why a script can't be derived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptFault {
    /// The wallet's chain is of a family without descriptors.
    #[error("addresses of this chain are not derived from descriptors")]
    Family,
    /// The chain's first block is of no network that this build knows.
    #[error("the chain's network is not known to this build")]
    Network,
    /// The wallet's descriptor is not one.
    #[error("the wallet's descriptor can't be used")]
    Descriptor(#[source] DescriptorError),
    /// All indices of the branch were handed out.
    #[error("the wallet's branch is used up")]
    Exhausted,
    /// There is no key at the index.
    #[error("the wallet has no key at the next index")]
    Key(#[source] KeyError),
}

impl ScriptFault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            ScriptFault::Family => "address_family_unknown",
            ScriptFault::Network => "address_network_unknown",
            ScriptFault::Descriptor(error) => error.code(),
            ScriptFault::Exhausted => "address_branch_exhausted",
            ScriptFault::Key(_) => "address_no_key",
        }
    }
}

/// The Bitcoin network with this first block.
pub fn network_of(genesis: BlockHash) -> Option<Network> {
    Network::ALL.into_iter().find(|network| {
        let hash = network.genesis_hash();
        let bytes: &[u8] = hash.as_ref();
        bytes == genesis.0.as_slice()
    })
}

/// A wallet's descriptor of one branch, read.
///
/// # Errors
/// [`ScriptFault`], in its order.
pub fn descriptor_of(state: &State, wallet: &Wallet, branch: Branch) -> Result<Descriptor, ScriptFault> {
    let chain = &state.chains().get(&wallet.chain).ok_or(ScriptFault::Network)?.chain;
    if chain.family != ChainFamily::Bitcoin {
        return Err(ScriptFault::Family);
    }
    let network = network_of(chain.genesis).ok_or(ScriptFault::Network)?;
    let text = match branch {
        Branch::External => &wallet.descriptor_external,
        Branch::Internal => &wallet.descriptor_internal,
    };
    Descriptor::parse(network, text).map_err(ScriptFault::Descriptor)
}

/// Derives scripts; keeps what one branch's scripts have in common.
#[derive(Debug, Default)]
pub struct Scripts {
    // By text, not by wallet: a wallet that was decided and never became durable may give its id to another one.
    derivers: BTreeMap<String, ScriptDeriver>,
}

impl Scripts {
    /// The next index of a wallet's branch and its script; `None` for a wallet that does not exist.
    ///
    /// # Errors
    /// [`ScriptFault`], in its order.
    pub fn next(
        &mut self,
        state: &State,
        wallet: WalletId,
        branch: Branch,
    ) -> Result<Option<(u32, Bytes)>, ScriptFault> {
        let Some(record) = state.wallets().get(&wallet) else { return Ok(None) };
        let index = match branch {
            Branch::External => record.next_external,
            Branch::Internal => record.next_internal,
        };
        self.at(state, record, branch, index).map(|script| Some((index, script)))
    }

    /// The script at an index of a wallet's branch.
    ///
    /// # Errors
    /// [`ScriptFault`], in its order.
    pub fn at(&mut self, state: &State, wallet: &Wallet, branch: Branch, index: u32) -> Result<Bytes, ScriptFault> {
        let text = match branch {
            Branch::External => &wallet.descriptor_external,
            Branch::Internal => &wallet.descriptor_internal,
        };
        if !self.derivers.contains_key(text) {
            self.derivers.insert(text.clone(), descriptor_of(state, wallet, branch)?.deriver());
        }
        let deriver = self.derivers.get(text).expect("it was put there if it was missing");
        let index = AddressIndex::new(index).ok_or(ScriptFault::Exhausted)?;
        let script = deriver.script(index).map_err(ScriptFault::Key)?;
        Ok(Bytes(script.as_bytes().to_vec()))
    }
}
