//! Requests' bodies, taken in to their end before anything is answered. A connection is good for another request only behind the last byte of this one; an
//! answer that overtakes the body ends it, and the caller learns of that by its next request's failure. Never keeps more of a body than a handler may read.

use crate::api::ask::BODY_BYTES_MAX;
use crate::api::problem::Problem;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use std::pin::Pin;
use std::time::Duration;

/// How much of a body is taken in that is refused in any case. Whoever sends more finds the connection closed before the end.
const DISCARD_BYTES_MAX: usize = 1 << 20;

/// How long a body may take. The longest has 64 KiB.
const WAIT: Duration = Duration::from_secs(30);

/// What became of a body.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// It is here.
    Whole(Vec<u8>),
    /// It is at its end, and longer than a handler reads.
    Long,
    /// It goes on where nobody reads any more.
    Endless,
    /// It broke off.
    Broken,
    /// It did not come to its end in time.
    Late,
}

impl Taken {
    /// Whether the connection stands behind the request's last byte.
    fn is_at_end(&self) -> bool {
        matches!(self, Taken::Whole(_) | Taken::Long)
    }
}

/// Takes a body in, for a handler.
///
/// # Errors
/// The answer to a body that is too large, broken or late.
pub(crate) async fn take(body: Body) -> Result<Body, Response> {
    let taken = within(WAIT, read(body)).await;
    let is_at_end = taken.is_at_end();
    let problem = match taken {
        Taken::Whole(bytes) => return Ok(Body::from(bytes)),
        Taken::Long | Taken::Endless => Problem::new("too_large"),
        Taken::Broken => Problem::new("body_invalid").detail("the body breaks off"),
        Taken::Late => Problem::new("body_late"),
    };
    Err(answered(problem, is_at_end))
}

/// Refuses a request whose body nobody looks at.
pub(crate) async fn refuse(body: Body, problem: Problem) -> Response {
    answered(problem, within(WAIT, read(body)).await.is_at_end())
}

/// As [`refuse`], and ends the connection: what follows on it may be part of the same request.
pub(crate) async fn refuse_and_end(body: Body, problem: Problem) -> Response {
    let _ = within(WAIT, read(body)).await;
    answered(problem, false)
}

fn answered(problem: Problem, is_at_end: bool) -> Response {
    let mut response = problem.into_response();
    if !is_at_end {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn within(wait: Duration, read: impl Future<Output = Taken>) -> Taken {
    tokio::time::timeout(wait, read).await.unwrap_or(Taken::Late)
}

async fn read(mut body: Body) -> Taken {
    let (mut kept, mut length) = (Vec::new(), 0usize);
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(frame) = frame else { return Taken::Broken };
        let Some(bytes) = frame.data_ref() else { continue };
        length = length.saturating_add(bytes.len());
        if length > DISCARD_BYTES_MAX {
            return Taken::Endless;
        }
        if length <= BODY_BYTES_MAX {
            kept.extend_from_slice(bytes);
        }
    }
    if length <= BODY_BYTES_MAX { Taken::Whole(kept) } else { Taken::Long }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(future)
    }

    #[test]
    fn bodies_are_kept_as_far_as_a_handler_reads() {
        for (length, wanted) in [
            (0, Taken::Whole(Vec::new())),
            (BODY_BYTES_MAX, Taken::Whole(vec![7; BODY_BYTES_MAX])),
            (BODY_BYTES_MAX + 1, Taken::Long),
            (DISCARD_BYTES_MAX, Taken::Long),
            (DISCARD_BYTES_MAX + 1, Taken::Endless),
        ] {
            assert_eq!(run(read(Body::from(vec![7; length]))), wanted, "{length} bytes");
        }
    }

    #[test]
    fn a_body_that_never_ends_is_late() {
        assert_eq!(run(within(Duration::from_millis(1), std::future::pending())), Taken::Late);
        assert_eq!(run(within(WAIT, async { Taken::Long })), Taken::Long);
    }

    #[test]
    fn only_an_answer_behind_the_whole_request_leaves_the_connection_open() {
        let closes = |response: &Response| response.headers().contains_key(header::CONNECTION);
        let taken = |length| run(take(Body::from(vec![b' '; length]))).expect_err("it is too long");
        assert!(!closes(&taken(BODY_BYTES_MAX + 1)));
        assert!(closes(&taken(DISCARD_BYTES_MAX + 1)));
        let refused = |length| run(refuse(Body::from(vec![b' '; length]), Problem::new("unauthorized")));
        assert!(!closes(&refused(BODY_BYTES_MAX + 1)));
        assert!(closes(&refused(DISCARD_BYTES_MAX + 1)));
    }
}
