//! How many requests may be under way at once, each kind with room of its own: a flood of customers' requests must not keep
//! an operator from halting what it floods, nor hide how the platform stands. It never looks at what a request says.

use crate::api::OPEN_PATHS;
use axum::http::Method;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests of the rest under way at once. One takes some kilobytes; a thousand waiting for the journal mean that more help
/// nobody.
pub(crate) const REQUESTS_MAX: usize = 1_024;

/// What a request is for, as far as its room is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// What anybody may ask without a token. Whoever fills it keeps nobody with a token out.
    Open,
    /// How the platform stands.
    Watch,
    /// What operators decide: halts, time, approvals, prices, policies, plans, wallets.
    Operator,
    /// Cancels.
    Cancel,
    /// Everything else.
    Rest,
}

/// Reads that operators and monitors look at when something is wrong.
const WATCHED: [&str; 3] = ["/api/v1/status", "/api/v1/metrics", "/api/v1/halts"];

impl Room {
    const ALL: [Room; 5] = [Room::Open, Room::Watch, Room::Operator, Room::Cancel, Room::Rest];

    pub(crate) fn of(method: &Method, path: &str) -> Room {
        if OPEN_PATHS.contains(&path) {
            return Room::Open;
        }
        if method != Method::POST {
            return if WATCHED.contains(&path) { Room::Watch } else { Room::Rest };
        }
        let parts: Vec<&str> = path.trim_start_matches("/api/v1/").split('/').collect();
        match parts[..] {
            ["halts"] | ["halts", "resume"] | ["time", "confirm"] | ["prices"] | ["wallets"] => Room::Operator,
            ["plans", _, "conflict"] | ["wallets", _, "retire"] | ["assets", _, "policy"] => Room::Operator,
            ["withdrawals", _, "approvals"] => Room::Operator,
            ["withdrawals", _, "cancel"] => Room::Cancel,
            _ => Room::Rest,
        }
    }

    /// How many may be in it. People and monitors are few, and people who all want to cancel are more than operators.
    fn max(self, requests: usize) -> usize {
        match self {
            Room::Open | Room::Watch | Room::Operator => 64,
            Room::Cancel => 256,
            Room::Rest => requests,
        }
    }
}

/// All rooms.
#[derive(Debug)]
pub(crate) struct Rooms([Semaphore; Room::ALL.len()]);

impl Rooms {
    /// Rooms with `requests` places for the rest.
    pub(crate) fn new(requests: usize) -> Rooms {
        Rooms(Room::ALL.map(|room| Semaphore::new(room.max(requests))))
    }

    /// A place in a room, for as long as it is kept; `None` where it is full.
    pub(crate) fn enter(&self, room: Room) -> Option<SemaphorePermit<'_>> {
        self.0[room as usize].try_acquire().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_monitors_and_cancels_have_rooms_of_their_own() {
        let (get, post) = (Method::GET, Method::POST);
        for (method, path, room) in [
            (&get, "/api/v1/health", Room::Open),
            (&get, "/api/v1/status", Room::Watch),
            (&get, "/api/v1/metrics", Room::Watch),
            (&get, "/api/v1/halts", Room::Watch),
            (&post, "/api/v1/halts", Room::Operator),
            (&post, "/api/v1/halts/resume", Room::Operator),
            (&post, "/api/v1/time/confirm", Room::Operator),
            (&post, "/api/v1/plans/7/conflict", Room::Operator),
            (&post, "/api/v1/assets/BTC/policy", Room::Operator),
            (&post, "/api/v1/withdrawals/7/approvals", Room::Operator),
            (&post, "/api/v1/withdrawals/7/cancel", Room::Cancel),
            (&post, "/api/v1/withdrawals", Room::Rest),
            (&post, "/api/v1/bank-receipts", Room::Rest),
            (&post, "/api/v1/corrections", Room::Rest),
            (&post, "/api/v1/wallets/1/addresses", Room::Rest),
            (&get, "/api/v1/withdrawals/7/cancel", Room::Rest),
            (&post, "/api/v1/status", Room::Rest),
        ] {
            assert_eq!(Room::of(method, path), room, "{method} {path}");
        }
    }

    #[test]
    fn a_full_room_keeps_nobody_out_of_another() {
        let rooms = Rooms::new(REQUESTS_MAX);
        let rest: Vec<_> = std::iter::from_fn(|| rooms.enter(Room::Rest)).collect();
        assert_eq!(rest.len(), REQUESTS_MAX);
        for room in Room::ALL {
            assert_eq!(rooms.enter(room).is_some(), room != Room::Rest, "{room:?}");
        }
        drop(rest);
        assert!(rooms.enter(Room::Rest).is_some());
    }
}
