//! Errors as the interface tells them: RFC 9457 problem documents with a stable code. It never shows a cause's own words: they may hold what is not for others.

use crate::api::code;
use crate::api::leadership::LeaderView;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use florin_core::amount::AmountError;
use florin_core::decide::Refusal;
use florin_engine::lanes::Lane;
use florin_engine::writer::{Answer, SubmitRefusal};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of RFC 9457.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// How many seconds a caller waits before it tries again where the reason passes by itself.
const RETRY_S: &str = "1";

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// A name for this kind of problem: `urn:florin:error:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// What this kind of problem is.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The stable code; programs decide by it.
    code: &'static str,
    /// What exactly is wrong here.
    detail: String,
    /// The way out, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    /// The node that leads, where another one does and is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<Box<LeaderView>>,
}

impl Problem {
    /// A problem with a code of the interface's own, as [`code::OWN`] describes it.
    pub fn new(code: &'static str) -> Problem {
        let title = code::own(code).map_or("the request was refused", |own| own.meaning);
        Problem::titled(code, title.to_owned())
    }

    /// A problem with a code from elsewhere and that place's own sentence.
    pub fn titled(code: &'static str, title: String) -> Problem {
        Problem {
            kind: format!("urn:florin:error:{code}"),
            detail: title.clone(),
            title,
            status: code::status_of(code),
            code,
            hint: code::way_out(code),
            leader: None,
        }
    }

    /// Says what exactly is wrong here.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Problem {
        self.detail = detail.into();
        self
    }

    /// Says which node leads.
    #[must_use]
    pub fn led_by(mut self, leader: LeaderView) -> Problem {
        self.detail = match &leader.url {
            Some(url) => format!("node '{}' leads, at {url}", leader.node),
            None => format!("node '{}' leads", leader.node),
        };
        self.leader = Some(Box::new(leader));
        self
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The problem of an answer that is no success; `None` for one that is.
    pub fn of_answer(answer: &Answer) -> Option<Problem> {
        match answer {
            Answer::Done(_) | Answer::Repeated(_) => None,
            Answer::Refused(refusal) => Some(refusal.into()),
            Answer::NoScript(fault) => Some(Problem::titled(fault.code(), fault.to_string())),
            Answer::Quarantined => Some(Problem::new("quarantined")),
            Answer::NotCommitted => Some(Problem::new("not_committed")),
        }
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Problem {
        Problem::titled(refusal.code(), refusal.to_string())
    }
}

impl From<SubmitRefusal> for Problem {
    fn from(refusal: SubmitRefusal) -> Problem {
        let problem = Problem::new(refusal.code());
        match refusal {
            SubmitRefusal::NotLeading => problem,
            SubmitRefusal::Full(lane) => {
                let what = match lane {
                    Lane::Operator => "commands of operators and chains",
                    Lane::Cancel => "cancellations",
                    Lane::Rest => "commands",
                };
                problem.detail(format!("{} {what} wait already", lane.max()))
            }
        }
    }
}

impl From<AmountError> for Problem {
    fn from(error: AmountError) -> Problem {
        Problem::titled(error.code(), error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("a problem is text and numbers");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_S));
            }
            _ => {}
        }
        response
    }
}
