//! Owns a Bitcoin network in process: nodes that check everything alone, a miner, forks and faults, and the nodes' own JSON-RPC.
//! Must never use the platform's code: it judges what the platform makes.
//!
//! # Use
//!
//! A simulator holds a [`network::Network`] by itself and drives it: [`network::Network::set_clock`], [`network::Network::rpc`],
//! [`network::Network::step`]. A demo puts it behind `Arc<Mutex<_>>` and an [`http::Server`] for each node. Nothing here reads a clock or
//! uses chance: the same calls give the same run.
//!
//! ```
//! use florin_devnet::fees::FeeRate;
//! use florin_devnet::miner::{Content, Miner};
//! use florin_devnet::network::{Network, NodeId};
//! use florin_devnet::outside::{AddressForm, OutsideWallet};
//! use florin_devnet::policy::RelayPolicy;
//!
//! let mut network = Network::new(3, &RelayPolicy::default(), 1_700_000_000);
//! let outside = OutsideWallet::new([1; 32]);
//! let mut miner = Miner::new(outside.script(AddressForm::Segwit), 1);
//! let node = NodeId(0);
//! network.mine(node, &mut miner, 101)?;
//! network.settle();
//!
//! // A payment is sent, mined, and taken back by a branch that holds its double spend.
//! let target = outside.script(AddressForm::Taproot);
//! let rate = FeeRate::from_sat_per_kvb(1_000);
//! let payment = outside.pay(network.node(node), &[(target, 50_000)], rate)?;
//! network.send(node, payment.clone())?;
//! let fork = network.node(node).tip();
//! let mined = network.mine(node, &mut miner, 1)?.remove(0);
//! assert_eq!(mined.subsidy_sat, 5_000_000_000);
//! let theft = outside.double_spend(network.node(node), &payment, rate)?;
//! network.mine_on(node, &mut miner, fork, 2, Content::Transactions(vec![theft]))?;
//! network.settle();
//! assert_eq!(network.node(NodeId(2)).height(), 103);
//! assert!(network.send(node, payment).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it differs from bitcoind
//!
//! The conformance tests hold both side by side: blocks, refusals in the same words, replacement, reorgs, answers field by field, and seeded
//! random runs. Where the two are known to differ:
//!
//! - **Scripts** are run by the Miniscript interpreter. A spend it can't follow is refused, also in a block: scripts that are no Miniscript,
//!   taproot annexes, one-byte leaf scripts, unknown witness versions, signatures with a high S value or an unusual sighash type, hybrid keys.
//!   It never accepts what bitcoind refuses, as far as is known. The words for faults of other than single-key scripts may differ, and messages
//!   do not name the input.
//! - **Rules** are regtest's as they stand: all soft forks are active from the first block, the bits never change, and no deployment is signalled.
//! - **Mempool**: orders within clusters are found by the best ancestor set, without bitcoind's further search; a full mempool is measured in
//!   virtual bytes, and its floor falls back at the next block instead of slowly; no packages, no ephemeral dust, and no eviction of a sibling among
//!   version 3 transactions; several transactions in `testmempoolaccept` are judged one after the other; nothing is prioritised.
//! - **Peers** speak six messages of their own instead of the Bitcoin protocol, fetch missing blocks one by one, and never disconnect.
//! - **Pruning** hides old blocks but keeps them, so that deep reorgs work.
//! - **RPC**: the methods of [`rpc::handle`] only. `size_on_disk` is 0 and `verificationprogress` 1; `initialblockdownload` follows the tip's age
//!   both ways; fees are not estimated but set; `getrawtransaction` has no index; a missing parameter's error names it instead of printing help.
//! - **HTTP**: a request is answered in one piece, chunked requests are refused, and at most 64 connections are served.

pub mod bitcoind;
pub mod checks;
pub mod coins;
pub mod fault;
pub mod fees;
pub mod http;
pub mod mempool;
pub mod miner;
pub mod network;
pub mod node;
pub mod outside;
pub mod params;
pub mod policy;
pub mod reject;
pub mod rpc;
pub mod script;
pub mod tree;
