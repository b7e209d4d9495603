//! How the platform stands, in words for people and metrics. Nothing is decided by it.

use crate::api::leadership::LeaderView;
use crate::api::view::BlockView;
use florin_core::id::Seq;
use florin_engine::alarm::Alarm;
use florin_engine::follower::FollowerStatus;
use florin_engine::follower::condition::{NodeCondition, NodeStatus};
use florin_engine::lanes::Lane;
use florin_engine::runtime::{Appending, SnapshotStatus};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// How the platform stands.
#[derive(Debug)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// This build.
    pub build: String,
    /// Whether this node leads.
    pub leading: bool,
    /// Whether it is sure enough that it knows the newest rows to answer account reads.
    pub answers_account_reads: bool,
    /// How long ago that was last confirmed, where it ever was.
    pub confirmed_age: Option<Duration>,
    /// The other node that leads, where one is known to live.
    pub leader: Option<LeaderView>,
    /// How far nodes are believed.
    pub trust: &'static str,
    /// Each chain.
    pub chains: Vec<ChainStatusView>,
    /// Up to where the search tables are written.
    pub projected: Option<Seq>,
    /// How many commands wait, by lane.
    pub waiting: Vec<(Lane, usize)>,
    /// The row that is being appended, if there is one.
    pub appending: Option<Appending>,
    /// What is known of snapshots.
    pub snapshots: SnapshotStatus,
    /// How many commands this process has quarantined and remembers.
    pub quarantined: usize,
    /// What needs somebody's eyes.
    pub alarms: Vec<Alarm>,
}

/// How a chain is followed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChainStatusView {
    /// The chain's name.
    pub name: String,
    /// The journalled tip.
    pub tip: Option<BlockView>,
    /// The tip of the valid headers with the most work.
    pub best: Option<BlockView>,
    /// Up to which height the quorum follows them.
    pub agreed_height: Option<u32>,
    /// When the quorum last answered, in Unix milliseconds.
    pub fresh_ms: Option<u64>,
    /// Each node.
    pub nodes: Vec<NodeView>,
}

/// A node.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its failure group.
    pub group: String,
    /// `good`, `mempool_unread`, `lagging`, `syncing`, `pruned`, `other_branch`, `not_asked`, `unreachable`, `lying` or `wrong_network`.
    pub state: String,
    /// The stable code of what is wrong with it, as in docs/errors.md.
    pub code: Option<&'static str>,
    /// Why, in words.
    pub reason: Option<String>,
    /// The height of its last block, as it says.
    pub height: Option<u32>,
    /// The lowest block whose bytes it has, where it prunes.
    pub pruned_below: Option<u32>,
}

/// How many nodes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeCounts {
    /// All.
    pub all: usize,
    /// Those with which nothing is wrong.
    pub good: usize,
}

impl ChainStatusView {
    /// The view of what a follower knows.
    pub fn new(name: &str, status: &FollowerStatus) -> ChainStatusView {
        let block = |height: u32, hash: String| BlockView { height, hash };
        ChainStatusView {
            name: name.to_owned(),
            tip: status.cursor.map(|at| block(at.height.0, at.hash.to_string())),
            best: status.best.map(|(height, hash)| block(height, hash.to_string())),
            agreed_height: status.agreed_height,
            fresh_ms: status.fresh_ms,
            nodes: status.nodes.iter().map(NodeView::new).collect(),
        }
    }

    /// How many nodes it has, and how many are good.
    pub fn node_counts(&self) -> NodeCounts {
        let good = self.nodes.iter().filter(|node| node.state == "good").count();
        NodeCounts { all: self.nodes.len(), good }
    }
}

impl NodeView {
    fn new(status: &NodeStatus) -> NodeView {
        NodeView {
            name: status.name.clone(),
            group: status.group.clone(),
            state: word(&status.condition).to_owned(),
            code: status.condition.code(),
            reason: status.condition.reason(),
            height: status.info.as_ref().map(|info| info.height.0),
            pruned_below: status.info.as_ref().and_then(|info| info.pruned_below).map(|height| height.0),
        }
    }
}

fn word(condition: &NodeCondition) -> &'static str {
    match condition {
        NodeCondition::WrongNetwork { .. } => "wrong_network",
        NodeCondition::Lying { .. } => "lying",
        NodeCondition::Unreachable { .. } => "unreachable",
        NodeCondition::NotAsked => "not_asked",
        NodeCondition::OtherBranch { .. } => "other_branch",
        NodeCondition::Pruned { .. } => "pruned",
        NodeCondition::Syncing => "syncing",
        NodeCondition::Lagging { .. } => "lagging",
        NodeCondition::MempoolUnread { .. } => "mempool_unread",
        NodeCondition::Good => "good",
    }
}
