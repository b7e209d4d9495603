//! How a node stands, and why, in words that can be shown. Words of a node are cut and cleaned: they may hold anything.

use crate::ports::{NodeFault, NodeInfo};

/// The longest that is shown of what a node or a connection to it says, in characters.
pub(super) const WORDS_MAX: usize = 300;

/// How a node stands, most severe first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeCondition {
    /// It follows another network.
    WrongNetwork {
        /// The network's name in the node's own words.
        network: String,
    },
    /// It gave bytes that are not what they were asked for as, or headers that break the rules.
    Lying {
        /// What it did.
        what: String,
    },
    /// It did not answer.
    Unreachable {
        /// The fault's code.
        code: &'static str,
        /// The fault's own words, with what caused it.
        what: String,
    },
    /// It was not asked yet.
    NotAsked,
    /// It is on another branch.
    OtherBranch {
        /// The last block that it shares with the best one.
        fork_height: u32,
    },
    /// It has thrown away blocks that the journal has not seen yet.
    Pruned {
        /// The lowest block whose bytes it has.
        below: u32,
        /// The block that comes next in the journal.
        next: u32,
    },
    /// It fetches the chain.
    Syncing,
    /// It is behind the best chain.
    Lagging {
        /// By how many blocks.
        blocks: u32,
    },
    /// It does not say what waits in its mempool. Blocks are followed all the same.
    MempoolUnread {
        /// The fault's own words, with what caused it.
        what: String,
    },
    /// Nothing is wrong with it.
    Good,
}

impl NodeCondition {
    /// A stable word for it: the code of its alarm, or of the fault; `None` where nothing is wrong.
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            NodeCondition::WrongNetwork { .. } => "node_wrong_network",
            NodeCondition::Lying { .. } => "node_lies",
            NodeCondition::Unreachable { code, .. } => code,
            NodeCondition::NotAsked => "node_not_asked",
            NodeCondition::OtherBranch { .. } => "node_on_other_branch",
            NodeCondition::Pruned { .. } => "node_pruned",
            NodeCondition::Syncing => "node_syncing",
            NodeCondition::Lagging { .. } => "node_lags",
            NodeCondition::MempoolUnread { .. } => "node_mempool_unread",
            NodeCondition::Good => return None,
        })
    }

    /// Why, in words; `None` where nothing is wrong.
    pub fn reason(&self) -> Option<String> {
        Some(match self {
            NodeCondition::WrongNetwork { network } => {
                format!("it follows another network, which it calls '{network}'")
            }
            NodeCondition::Lying { what } | NodeCondition::Unreachable { what, .. } => what.clone(),
            NodeCondition::NotAsked => "it was not asked yet".to_owned(),
            NodeCondition::OtherBranch { fork_height } => {
                format!("its chain leaves the best one after block {fork_height}")
            }
            NodeCondition::Pruned { below, next } => {
                format!("it has no block below {below} any more, and the journal needs block {next} next")
            }
            NodeCondition::Syncing => "it fetches the chain".to_owned(),
            NodeCondition::Lagging { blocks } => format!("it is {blocks} blocks behind the best chain"),
            NodeCondition::MempoolUnread { what } => format!("what waits in its mempool can't be listed: {what}"),
            NodeCondition::Good => return None,
        })
    }
}

/// A node's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its failure group.
    pub group: String,
    /// How it stands.
    pub condition: NodeCondition,
    /// What it says of itself.
    pub info: Option<NodeInfo>,
}

/// What a fault says, with all that caused it, in one line.
pub(super) fn words(fault: &NodeFault) -> String {
    let mut text = fault.to_string();
    let mut source = std::error::Error::source(fault);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    shown(&text)
}

/// What comes from a node, fit to be shown: it may hold anything, and be as long as it likes.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(WORDS_MAX).collect()
}
