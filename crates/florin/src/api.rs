//! The HTTP interface: `/api/v1` for operators, described by an OpenAPI document that is made from the code. It decides
//! nothing about money: handlers read what came in, ask the engine, and show what it answered.

pub mod ask;
pub mod books;
mod broker;
mod chains;
pub mod code;
mod corrections;
mod customers;
mod deposits;
mod description;
pub mod event_json;
mod events;
pub mod faults;
mod framing;
mod history;
mod intake;
pub mod leadership;
mod operations;
mod pages;
mod past;
mod plans;
mod policy;
pub mod problem;
mod records;
mod room;
mod server;
pub mod token;
pub mod view;
mod wallets;
mod withdrawals;

pub use server::{Limits, Server};

use crate::platform::{NameAnswer, Platform};
use ask::{KEY_HEADER, SEQ_HEADER};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use florin_core::command::{Command, Origin, Outcome};
use florin_core::id::{CustomerId, Digest, Seq};
use florin_core::state::State;
use florin_engine::lanes::Ask;
use florin_engine::writer::Answer;
use leadership::Door;
use problem::Problem;
use room::{Room, Rooms};
use serde::Serialize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use token::Token;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Info, License, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long a request waits for the engine's answer. A store that hangs may take for ever, and a caller wants to know what to
/// do next long before that. Kept longer than [`crate::platform::APPEND_LATE_MS`], so that the status says why.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long it is looked for the hash of the journal's head, which a status goes without where the store does not answer.
const HEAD_MAX: Duration = Duration::from_secs(2);

/// How long a read waits for the row that it was told to see.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether the row is there.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Paths that need no token: they tell nothing about the platform.
const OPEN_PATHS: [&str; 2] = ["/api/v1/health", "/api/v1/openapi.json"];

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    platform: Arc<Platform>,
    token: Token,
    rooms: Rooms,
    /// One look at the journal's head at a time: a store that hangs must not keep a thread for each who asks.
    head: Arc<Semaphore>,
    answer_max: Duration,
    stopping: AtomicBool,
    document: std::sync::OnceLock<String>,
}

/// What a handler gives.
pub(crate) type Reply<T> = Result<Answered<T>, Problem>;

/// A success.
#[derive(Debug)]
pub(crate) struct Answered<T> {
    status: StatusCode,
    value: T,
}

/// Something was made.
pub(crate) fn created<T>(value: T) -> Reply<T> {
    Ok(Answered { status: StatusCode::CREATED, value })
}

/// Something is shown, or done.
pub(crate) fn seen<T>(value: T) -> Reply<T> {
    Ok(Answered { status: StatusCode::OK, value })
}

impl<T: Serialize> IntoResponse for Answered<T> {
    fn into_response(self) -> Response {
        let Ok(body) = serde_json::to_vec(&self.value) else { return Problem::new("internal").into_response() };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

impl Api {
    fn new(platform: Arc<Platform>, token: Token, limits: Limits) -> Api {
        Api {
            platform,
            token,
            rooms: Rooms::new(limits.requests),
            head: Arc::new(Semaphore::new(1)),
            answer_max: limits.answer,
            stopping: AtomicBool::new(false),
            document: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Reads the durable state. Nobody else can write meanwhile, so what is done here is short.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        self.platform.read(read)
    }

    /// The last durable row's number.
    pub(crate) fn at(&self) -> Seq {
        self.platform.at()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Asks the engine, and waits until the answer is durable and the read model has folded it; not for ever: then nobody
    /// knows what becomes of the command, and the caller is told that.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Outcome, Problem> {
        let (tell, told) = oneshot::channel();
        self.platform.submit(ask, move |answer| drop(tell.send(answer)));
        // Whoever stops drops what it has not answered.
        let Ok(told) = tokio::time::timeout(self.answer_max, told).await else {
            return Err(Problem::new("answer_timeout"));
        };
        let told = told.map_err(|_| Problem::new("stopping"))??;
        match told.answer {
            Answer::Done(outcome) | Answer::Repeated(outcome) => Ok(outcome),
            other => Err(Problem::of_answer(&other).unwrap_or_else(|| Problem::new("internal"))),
        }
    }

    /// Asks the engine to execute a command.
    pub(crate) async fn execute(&self, origin: Origin, command: Command) -> Result<Outcome, Problem> {
        self.ask(Ask::Request(florin_core::command::Request { origin, command })).await
    }

    /// The hash of a durable row; `None` where the journal does not say it in time.
    pub(crate) async fn row_hash(self: &Arc<Self>, seq: Seq) -> Option<Digest> {
        let look = async {
            let permit = Arc::clone(&self.head).acquire_owned().await.ok()?;
            let api = self.clone();
            let look = move || {
                let hash = api.platform().row_hash(seq);
                drop(permit);
                hash
            };
            tokio::task::spawn_blocking(look).await.ok()?
        };
        tokio::time::timeout(HEAD_MAX, look).await.ok()?
    }

    /// Keeps a customer's name, outside the journal.
    pub(crate) async fn name_customer(self: &Arc<Self>, id: CustomerId, name: String) -> Result<NameAnswer, Problem> {
        self.blocking(move |platform| platform.people().put_name(id, &name)).await
    }

    /// Erases a customer's name.
    pub(crate) async fn forget_name(self: &Arc<Self>, id: CustomerId) -> Result<(), Problem> {
        self.blocking(move |platform| platform.people().forget_name(id)).await
    }

    /// The names of customers, in the order of their ids.
    pub(crate) async fn names(self: &Arc<Self>, ids: Vec<CustomerId>) -> Result<Vec<Option<String>>, Problem> {
        self.blocking(move |platform| platform.people().names(&ids)).await
    }

    /// Does what may wait for a disk.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Platform) -> Result<T, crate::failure::Failure> + Send + 'static,
    ) -> Result<T, Problem> {
        let api = self.clone();
        match tokio::task::spawn_blocking(move || work(api.platform())).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failure)) => {
                tracing::error!(%failure, "a store does not answer");
                Err(Problem::new("store_unavailable"))
            }
            Err(_) => Err(Problem::new("internal")),
        }
    }
}

/// The routes and the document that describes them.
pub fn router(platform: Arc<Platform>, token: Token) -> (Router, OpenApi) {
    let (router, api) = assemble(platform, token, Limits::default());
    let document = api.document();
    (router, document)
}

fn assemble(platform: Arc<Platform>, token: Token, limits: Limits) -> (Router, Arc<Api>) {
    let api = Arc::new(Api::new(platform, token, limits));
    let (router, _) = described();
    let router = router
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_this_method)
        .layer(axum::middleware::from_fn_with_state(api.clone(), guard))
        .with_state(api.clone());
    (router, api)
}

impl Api {
    fn document(&self) -> OpenApi {
        described().1
    }

    fn document_text(&self) -> &str {
        self.document
            .get_or_init(|| self.document().to_pretty_json().expect("a description of types and paths is JSON"))
    }
}

/// All routes with their description.
fn described() -> (Router<Arc<Api>>, OpenApi) {
    let info = Info::builder()
        .title("Florin")
        .version("1")
        .description(Some(
            "Wallets, deposits, withdrawals and quotes on one journal. Amounts are text in the unit people name. \
             Every change needs an Idempotency-Key (a UUID of version 7): sent again, it is done once and answered alike. \
             Answers carry Florin-Seq, the journal row they rest on; a read that is sent with it sees at least that row. \
             Errors are problem documents (RFC 9457) with a stable code.",
        ))
        .license(Some(License::new("MIT OR Apache-2.0")))
        .build();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let document = OpenApiBuilder::new()
        .info(info)
        .components(Some(Components::builder().security_scheme("operator", scheme).build()))
        .security(Some([SecurityRequirement::new::<_, _, String>("operator", [])]))
        .build();
    let (router, mut document) = OpenApiRouter::with_openapi(document)
        .merge(customers::routes())
        .merge(corrections::routes())
        .merge(deposits::routes())
        .merge(broker::routes())
        .merge(withdrawals::routes())
        .merge(plans::routes())
        .merge(wallets::routes())
        .merge(chains::routes())
        .merge(events::routes())
        .merge(history::routes())
        .merge(policy::routes())
        .merge(operations::routes())
        .routes(routes!(show_document))
        .split_for_parts();
    description::complete(&mut document);
    (router, document)
}

/// Shows this document. Needs no token.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "operations", security(()),
    responses((status = 200, content_type = "application/json", body = Object)))]
async fn show_document(Shared(api): Shared<Arc<Api>>) -> Response {
    let text = api.document_text().to_owned();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn nothing_here() -> Problem {
    Problem::new("not_found")
}

async fn not_this_method() -> Problem {
    Problem::new("method_not_allowed")
}

/// What every request passes: token, room, its body, the command's name, the row to be seen. A defect in a handler becomes a 500.
async fn guard(Shared(api): Shared<Arc<Api>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if framing::Framing::is_ambiguous(&parts.extensions) {
        return intake::refuse_and_end(body, Problem::new("framing_ambiguous")).await;
    }
    if !OPEN_PATHS.contains(&parts.uri.path()) && !api.token.is_in(&parts.headers) {
        return intake::refuse(body, Problem::new("unauthorized")).await;
    }
    let Some(_place) = api.rooms.enter(Room::of(&parts.method, parts.uri.path())) else {
        return intake::refuse(body, Problem::new("overloaded")).await;
    };
    let request = match intake::take(body).await {
        Ok(body) => Request::from_parts(parts, body),
        Err(response) => return response,
    };
    let is_command = ask::is_command(request.method());
    // Whether there has to be one is for the route: where nothing is at a path, that is what is said.
    if let Err(problem) = ask::command_id(request.headers()) {
        return problem.into_response();
    }
    let key = request.headers().get(KEY_HEADER).cloned();
    let wanted = match ask::row_to_see(request.headers()) {
        Ok(wanted) => wanted,
        Err(problem) => return problem.into_response(),
    };
    let door = Door::of(request.method(), request.uri().path());
    if let Err(problem) = door.refuse(&api) {
        return problem.into_response();
    }
    if let Err(problem) = see_row(&api, wanted).await {
        return problem.into_response();
    }
    let before = api.at();
    let answered = CatchUnwind(Box::pin(next.run(request))).await;
    if let Err(problem) = door.refuse_answer(&api) {
        return problem.into_response();
    }
    let mut response = answered.unwrap_or_else(|| Problem::new("internal").into_response());
    let at = if is_command { api.at() } else { before };
    response.headers_mut().insert(SEQ_HEADER, HeaderValue::from(at.0));
    if let Some(key) = key.filter(|_| is_command) {
        response.headers_mut().insert(KEY_HEADER, key);
    }
    response
}

/// Waits for the row that a request names, so that whoever was told of a change sees it here too.
async fn see_row(api: &Api, wanted: Seq) -> Result<(), Problem> {
    let end = Instant::now() + CATCH_UP_MAX;
    while api.at() < wanted {
        if Instant::now() >= end || api.is_stopping() {
            return Err(Problem::new("not_caught_up"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// A future whose panic becomes `None`: one request's defect must not take the connection's others with it.
struct CatchUnwind<F>(std::pin::Pin<Box<F>>);

impl<F: Future> Future for CatchUnwind<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
            Ok(std::task::Poll::Ready(value)) => std::task::Poll::Ready(Some(value)),
            Err(_) => {
                tracing::error!("a handler panicked");
                std::task::Poll::Ready(None)
            }
        }
    }
}
