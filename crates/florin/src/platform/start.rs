//! The block at which following starts, as the nodes have it: its header, and whether it has the height that is said. Nothing is
//! written before that is known: a journal never takes its first block back.

use super::chain::NodePart;
use crate::failure::Failure;
use bitcoin::block::Header;
use florin_chain::bitcoin::header::parse_header;
use florin_core::id::{BlockHash, Height};
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

/// Asks all nodes, at once, which block they have at the height that is said. A header does not prove its height.
///
/// The start stands where a quorum of failure groups has it, or where some do and no other contradicts them: nodes that are
/// away are not waited for, since who could be deceived here is an operator who wrote a wrong number, by nobody but himself.
///
/// # Errors
/// `start_height_mismatch`, `start_unknown`.
pub(super) fn confirm(nodes: &[NodePart], start: (u32, BlockHash), quorum: usize) -> Result<(), Failure> {
    let height = Height(start.0);
    let answers = std::thread::scope(|scope| {
        let ask = |part: &NodePart| (part.connect)().block_hash(height);
        let asked: Vec<_> = nodes.iter().map(|part| (part, scope.spawn(move || ask(part)))).collect();
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
    judge(&answers, start, quorum)
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
    use florin_core::id::TxId;
    use florin_engine::ports::{Node, NodeFault, NodeInfo, SendResult, TestAccept};
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

    /// A node that has a chain of headers and no blocks.
    struct Headers(Vec<Header>);

    impl Node for Headers {
        fn info(&mut self) -> Result<NodeInfo, NodeFault> {
            Err(NodeFault::Timeout)
        }
        fn block_hash(&mut self, height: Height) -> Result<Option<BlockHash>, NodeFault> {
            Ok(self.0.get(height.0 as usize).map(|header| core_hash(header.block_hash())))
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

    #[test]
    fn a_chain_starts_only_at_the_height_that_its_block_has() {
        use crate::platform::ChainPart;
        use florin_chain::bitcoin::network::Network;

        let mut headers = vec![bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header];
        for _ in 0..8 {
            let last = headers[headers.len() - 1];
            headers.push(Header { prev_blockhash: last.block_hash(), time: last.time + 600, ..last });
        }
        let hash_of = |height: usize| core_hash(headers[height].block_hash());
        let part = |group: &str, headers: Vec<Header>| NodePart {
            name: group.to_owned(),
            group: group.to_owned(),
            connect: Arc::new(move || Box::new(Headers(headers.clone()))),
        };
        let started = |height: u32, hash: BlockHash, known: usize| {
            let nodes = vec![part("a", headers[..known].to_vec()), part("b", headers[..known].to_vec())];
            let mut chain = ChainPart::from_genesis(Network::Regtest, 2, nodes);
            chain.start_at(height, hash).map(|()| chain.start.at.height.0).map_err(|failure| failure.code())
        };
        assert_eq!(started(7, hash_of(7), 9), Ok(7));
        assert_eq!(started(5, hash_of(7), 9), Err("start_height_mismatch"));
        assert_eq!(started(8, hash_of(7), 8), Err("start_unknown"), "they may still get there, or not");
        assert_eq!(started(7, hash_of(7), 5), Err("start_unknown"));
    }
}
