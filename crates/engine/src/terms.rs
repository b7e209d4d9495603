//! The same things in the core's terms and in those of the `bitcoin` crate. Nothing is checked or changed on the way.

use bitcoin::hashes::Hash;
use florin_core::custody::OutPoint;
use florin_core::id::{BlockHash, ChainId, TxId};

/// A block's hash in the terms of the `bitcoin` crate.
pub fn library_hash(hash: BlockHash) -> bitcoin::BlockHash {
    bitcoin::BlockHash::from_byte_array(hash.0)
}

/// A block's hash in the core's terms.
pub fn core_hash(hash: bitcoin::BlockHash) -> BlockHash {
    BlockHash(hash.to_byte_array())
}

/// A transaction's id in the core's terms.
pub fn core_txid(txid: bitcoin::Txid) -> TxId {
    TxId(txid.to_byte_array())
}

/// An output in the core's terms.
pub fn core_outpoint(chain: ChainId, outpoint: bitcoin::OutPoint) -> OutPoint {
    OutPoint { chain, txid: core_txid(outpoint.txid), vout: outpoint.vout }
}

/// An output in the terms of the `bitcoin` crate.
pub fn library_outpoint(outpoint: OutPoint) -> bitcoin::OutPoint {
    bitcoin::OutPoint { txid: bitcoin::Txid::from_byte_array(outpoint.txid.0), vout: outpoint.vout }
}
