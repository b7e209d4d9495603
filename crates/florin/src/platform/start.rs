//! The block at which following starts, as the nodes have it: its header, and whether it has the height that is said. No chain is
//! defined before that is known: a journal never takes its first block back. Where one is, nobody is asked for the height again.

use super::chain::{ChainPart, NodePart};
use crate::failure::Failure;
use bitcoin::block::Header;
use florin_chain::bitcoin::header::parse_header;
use florin_core::id::{BlockHash, Height};
use florin_engine::ports::NodeFault;
use florin_engine::terms::core_hash;
use std::collections::BTreeSet;

/// The header with this hash, from any node: a header proves its own hash.
pub(super) fn header(nodes: &[NodePart], hash: BlockHash) -> Result<Header, Failure> {
    for part in nodes {
        match (part.connect)().header(hash) {
            Ok(Some(bytes)) => match parse_header(&bytes) {
                Ok(header) if core_hash(header.block_hash()) == hash => return Ok(header),
                _ => tracing::warn!(node = part.name, "the node gave another header than the one asked for"),
            },
            Ok(None) => tracing::warn!(node = part.name, "the node does not know the block at which following starts"),
            Err(fault) => tracing::warn!(node = part.name, %fault, "the node does not answer"),
        }
    }
    Err(unknown())
}

/// Asks all nodes, at once, which block they have at the height that is said. A header does not prove its height. What a node of
/// another network has there tells nothing; the watcher names it.
///
/// The start stands where a quorum of failure groups has it, or where some do and no other contradicts them: nodes that are
/// away are not waited for, since who could be deceived here is an operator who wrote a wrong number, by nobody but himself.
///
/// # Errors
/// `start_height_mismatch`, `start_unknown`.
pub(super) fn confirm(chain: &ChainPart) -> Result<(), Failure> {
    let (start, genesis) = (chain.start.at, core_hash(chain.network.genesis_hash()));
    if start.hash == genesis {
        return Ok(());
    }
    let ask = |part: &NodePart| -> Result<Option<BlockHash>, NodeFault> {
        let mut node = (part.connect)();
        if node.block_hash(Height(0))? != Some(genesis) {
            tracing::warn!(node = part.name, "the node follows another network");
            return Ok(None);
        }
        node.block_hash(start.height)
    };
    let answers = std::thread::scope(|scope| {
        let asked: Vec<_> = chain.nodes.iter().map(|part| (part, scope.spawn(move || ask(part)))).collect();
        let answered = asked.into_iter().filter_map(|(part, thread)| match thread.join() {
            Ok(Ok(hash)) => hash.map(|hash| (part.group.clone(), hash)),
            Ok(Err(fault)) => {
                tracing::warn!(node = part.name, %fault, "the node does not answer");
                None
            }
            Err(_) => None,
        });
        answered.collect::<Vec<_>>()
    });
    judge(&answers, (start.height.0, start.hash), chain.quorum)
}

/// What follows from which block the nodes that answered have there, each with its failure group.
fn judge(answers: &[(String, BlockHash)], (height, hash): (u32, BlockHash), quorum: usize) -> Result<(), Failure> {
    let (agree, differ): (Vec<_>, Vec<_>) = answers.iter().partition(|(_, other)| *other == hash);
    let groups: BTreeSet<&str> = agree.iter().map(|(group, _)| group.as_str()).collect();
    match differ.first() {
        Some((group, other)) if groups.len() < quorum => Err(Failure::new(
            "start_height_mismatch",
            format!("bitcoin.start_hash is not the block of bitcoin.start_height: of group '{group}', block {height} is {other}"),
        )
        .hint("say the height and the hash of one block: 'bitcoin-cli getblockhash HEIGHT'")),
        None if groups.is_empty() => Err(unknown()),
        Some(_) | None => Ok(()),
    }
}

fn unknown() -> Failure {
    Failure::new("start_unknown", "no node has the block of bitcoin.start_hash in its chain")
        .hint("start the nodes first, and let them catch up")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Trust;
    use crate::platform::{CONFIRMED_MS, Parts, Platform, SNAPSHOT_ROWS, Stores, SystemClock};
    use florin_chain::bitcoin::network::Network;
    use florin_core::id::Digest;
    use florin_core::id::TxId;
    use florin_engine::ports::{Node, NodeInfo, SendResult, TestAccept};
    use florin_engine::writer::CoreRules;
    use std::path::Path;
    use std::sync::Arc;

    const OURS: BlockHash = BlockHash([1; 32]);
    const OTHER: BlockHash = BlockHash([2; 32]);

    fn code(quorum: usize, answers: &[(&str, BlockHash)]) -> Option<&'static str> {
        let answers: Vec<_> = answers.iter().map(|(group, hash)| ((*group).to_owned(), *hash)).collect();
        judge(&answers, (5, OURS), quorum).err().map(|failure| failure.code())
    }

    #[test]
    fn a_start_that_nodes_have_otherwise_is_refused_unless_a_quorum_has_it() {
        let mismatch = Some("start_height_mismatch");
        assert_eq!(code(1, &[("a", OTHER)]), mismatch);
        assert_eq!(code(2, &[("a", OTHER), ("b", OTHER)]), mismatch);
        assert_eq!(code(2, &[("a", OURS), ("b", OTHER)]), mismatch);
        assert_eq!(code(2, &[("a", OURS), ("a", OURS), ("b", OTHER)]), mismatch, "a group has one voice");
        assert_eq!(code(2, &[("a", OURS), ("b", OTHER), ("c", OURS)]), None);
        assert_eq!(code(2, &[("a", OURS), ("b", OURS)]), None);
        assert_eq!(code(2, &[("a", OURS)]), None, "who is away says nothing against it");
        assert_eq!(code(1, &[]), Some("start_unknown"));
    }

    /// A node that has headers and no blocks, and a chain of the first of them.
    #[derive(Clone)]
    struct Headers(Vec<Header>, usize);

    impl Node for Headers {
        fn info(&mut self) -> Result<NodeInfo, NodeFault> {
            Err(NodeFault::Timeout)
        }
        fn block_hash(&mut self, height: Height) -> Result<Option<BlockHash>, NodeFault> {
            Ok(self.0[..self.1].get(height.0 as usize).map(|header| core_hash(header.block_hash())))
        }
        fn header(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
            let found = self.0.iter().find(|header| core_hash(header.block_hash()) == hash);
            Ok(found.map(bitcoin::consensus::serialize))
        }
        fn block(&mut self, _: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
            Err(NodeFault::Timeout)
        }
        fn mempool(&mut self) -> Result<Option<Vec<TxId>>, NodeFault> {
            Err(NodeFault::Timeout)
        }
        fn transaction(&mut self, _: TxId, _: Option<BlockHash>) -> Result<Option<Vec<u8>>, NodeFault> {
            Err(NodeFault::Timeout)
        }
        fn send(&mut self, _: &[u8]) -> Result<SendResult, NodeFault> {
            Err(NodeFault::Timeout)
        }
        fn test_accept(&mut self, _: &[u8]) -> Result<TestAccept, NodeFault> {
            Err(NodeFault::Timeout)
        }
        fn fee_estimate(&mut self, _: u16) -> Result<Option<u64>, NodeFault> {
            Err(NodeFault::Timeout)
        }
    }

    /// Nine headers of a chain that begins with the first block of `network`.
    fn headers(network: bitcoin::Network) -> Vec<Header> {
        let mut headers = vec![bitcoin::constants::genesis_block(network).header];
        for _ in 0..8 {
            let last = headers[headers.len() - 1];
            headers.push(Header { prev_blockhash: last.block_hash(), time: last.time + 600, ..last });
        }
        headers
    }

    /// What is followed from a block of regtest on, with nodes of these kinds, each in a group of its own, of which two must agree.
    fn chain(height: u32, of: usize, nodes: &[Headers]) -> Result<ChainPart, Failure> {
        let part = |(index, node): (usize, &Headers)| {
            let (name, node) = (format!("node {index}"), node.clone());
            NodePart { name: name.clone(), group: name, connect: Arc::new(move || Box::new(node.clone())) }
        };
        let mut chain = ChainPart::from_genesis(Network::Regtest, 2, nodes.iter().enumerate().map(part).collect());
        let hash = core_hash(headers(bitcoin::Network::Regtest)[of].block_hash());
        chain.start_at(height, hash).map(|()| chain)
    }

    /// Starts a platform in a folder, and stops it; gives the height at which its chain starts.
    fn started(folder: &Path, chain: Result<ChainPart, Failure>) -> Result<u32, &'static str> {
        let parts = Parts {
            node: "test".into(),
            platform: [7; 16],
            config: Digest::ZERO,
            trust: Trust::Quorum,
            clock: Arc::new(SystemClock),
            stores: Stores::open_sqlite(folder).expect("the files can be made"),
            chain: Some(chain.map_err(|failure| failure.code())?),
            signer: None,
            wallets: None,
            rules: Box::new(CoreRules),
            leads_at_once: true,
            lead_after_quiet_ms: None,
            takeover_ms: 120_000,
            confirmed_ms: CONFIRMED_MS,
            snapshot_rows: SNAPSHOT_ROWS,
            url: None,
            fatal: Arc::new(|fatal| panic!("{fatal}")),
        };
        let platform = Platform::start(parts).map_err(|failure| failure.code())?;
        let start = platform.read(|state| state.chains()[&crate::platform::CHAIN].tip().map(|tip| tip.at.height.0));
        assert!(platform.stop(), "everything is durable");
        Ok(start.expect("it has a start"))
    }

    #[test]
    fn a_chain_starts_only_at_the_height_that_its_block_has() {
        let all = headers(bitcoin::Network::Regtest);
        let first = |height: u32, of: usize, known: usize, long: usize| {
            let folder = tempfile::tempdir().expect("a folder");
            let node = Headers(all[..known].to_vec(), long);
            started(folder.path(), chain(height, of, &[node.clone(), node]))
        };
        assert_eq!(first(7, 7, 9, 9), Ok(7));
        assert_eq!(first(5, 7, 9, 9), Err("start_height_mismatch"));
        assert_eq!(first(8, 7, 8, 8), Err("start_unknown"), "they may still get there, or not");
        assert_eq!(first(7, 7, 9, 5), Err("start_unknown"), "they know its header, and fetch the chain");
        assert_eq!(first(7, 7, 5, 5), Err("start_unknown"));
    }

    #[test]
    fn a_platform_that_ran_before_starts_whatever_its_nodes_have_at_the_first_height() {
        let all = headers(bitcoin::Network::Regtest);
        let (right, reindexing) = (Headers(all.clone(), 9), Headers(all.clone(), 1));
        let folder = tempfile::tempdir().expect("a folder");
        let mut beside = all.clone();
        beside[7].time += 1;
        let start = |nodes: &[Headers]| started(folder.path(), chain(7, 7, nodes));
        let of_two = [right.clone(), Headers(beside, 9)];
        assert_eq!(start(&[reindexing.clone(), reindexing.clone()]), Err("start_unknown"));
        assert_eq!(start(&of_two), Err("start_height_mismatch"));
        assert_eq!(start(&[right.clone(), right]), Ok(7), "what was refused before left no chain behind");
        assert_eq!(start(&[reindexing.clone(), reindexing]), Ok(7));
        assert_eq!(start(&of_two), Ok(7));
    }

    #[test]
    fn nodes_of_another_network_say_nothing_about_the_first_block() {
        let right = Headers(headers(bitcoin::Network::Regtest), 9);
        let other = Headers(headers(bitcoin::Network::Signet), 9);
        let folder = tempfile::tempdir().expect("a folder");
        let nodes = [right, other.clone(), other];
        assert_eq!(started(folder.path(), chain(7, 7, &nodes)), Ok(7));
        assert_eq!(started(folder.path(), chain(7, 7, &nodes)), Ok(7), "and again");
    }
}
