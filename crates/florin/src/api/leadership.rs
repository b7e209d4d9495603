//! What a node may say to its caller as leader or follower: commands are for the leader, and what customers have is told only
//! while this node is sure that it knows the newest rows. It never decides who leads.

use crate::api::problem::Problem;
use crate::api::{Api, ask};
use axum::http::Method;
use serde::Serialize;
use utoipa::ToSchema;

/// Reads that tell nobody's money, and are answered however old this node's knowledge is: how it stands, what exists, market
/// data, and the feed, whose readers resume where they were. Every other read is an account read.
const OTHER_READS: [&str; 8] = [
    "/api/v1/health",
    "/api/v1/openapi.json",
    "/api/v1/status",
    "/api/v1/metrics",
    "/api/v1/events",
    "/api/v1/assets",
    "/api/v1/prices",
    "/api/v1/halts",
];

/// A node that leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeaderView {
    /// Its name.
    pub node: String,
    /// Where callers reach it, where its configuration says so.
    pub url: Option<String>,
}

/// What a request wants, as far as leadership is concerned.
pub(crate) struct Door {
    is_command: bool,
    is_account_read: bool,
}

impl Door {
    pub(crate) fn of(method: &Method, path: &str) -> Door {
        let is_command = ask::is_command(method);
        Door { is_command, is_account_read: !is_command && !OTHER_READS.contains(&path) }
    }

    /// Refuses a command where this node follows, and says who leads, if that is known; and an account read where this node
    /// does not know whether what it knows is current.
    pub(crate) fn refuse(&self, api: &Api) -> Result<(), Problem> {
        if self.is_command && api.platform().is_following() {
            let problem = Problem::new("not_leading");
            return Err(match api.platform().leader() {
                Some(leader) => problem.led_by(leader),
                None => problem,
            });
        }
        self.refuse_answer(api)
    }

    /// Refuses an account read once more when its answer is made: the process may have stood still meanwhile.
    pub(crate) fn refuse_answer(&self, api: &Api) -> Result<(), Problem> {
        if self.is_account_read && !api.platform().is_current() {
            Err(Problem::new("reads_unconfirmed"))
        } else {
            Ok(())
        }
    }
}
