//! What operators look at and turn: status, books, assets, halts, time, metrics. Nothing here moves money.

use crate::api::ask::{Nothing, Order, Params, choice};
use crate::api::books::{self, BooksReport, house_balance};
use crate::api::leadership::LeaderView;
use crate::api::pages::{ListParams, Page, number};
use crate::api::problem::Problem;
use crate::api::view::{AssetView, DoneView, HaltView, asset_of};
use crate::api::{Api, Reply, created, seen};
use crate::platform::status::{ChainStatusView, NodeCounts, Status};
use axum::extract::State as Shared;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use florin_core::asset::{Halt, HaltAction, HaltReason};
use florin_core::command::Command;
use florin_core::custody::{DepositStatus, WithdrawalStatus};
use florin_core::id::{AssetId, Seq};
use florin_core::ledger::HouseAccount;
use florin_core::state::State;
use florin_engine::lanes::Lane;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Bound;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(show_status))
        .routes(routes!(show_health))
        .routes(routes!(show_metrics))
        .routes(routes!(show_books))
        .routes(routes!(list_assets))
        .routes(routes!(halt, list_halts))
        .routes(routes!(resume))
        .routes(routes!(confirm_time))
}

/// How the platform stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusView {
    /// This node's name.
    node: String,
    /// This build.
    build: String,
    /// Whether this node leads and takes commands.
    leading: bool,
    /// Whether this node answers account reads: it is sure that it knows the newest rows.
    answers_account_reads: bool,
    /// How many milliseconds ago that was last confirmed, where it ever was.
    confirmed_age_ms: Option<u64>,
    /// The other node that leads, where one is known to live.
    leader: Option<LeaderView>,
    /// The platform's id: that of its journal.
    platform: String,
    /// The last row seen.
    seq: u64,
    /// Its hash; absent where the journal does not say it.
    head_hash: Option<String>,
    /// The leadership in force.
    epoch: u64,
    /// The ledger time, in Unix milliseconds.
    ledger_time_ms: u64,
    /// Where the clock jumped to, in Unix milliseconds, while no operator has confirmed it.
    time_jumped_to_ms: Option<u64>,
    /// How far nodes are believed: `quorum` or `single`.
    trust: String,
    /// Each chain with its nodes.
    chains: Vec<ChainStatusView>,
    /// How many rows the search tables are behind.
    projector_lag_rows: Option<u64>,
    /// How many commands wait.
    waiting: Vec<LaneView>,
    /// The row that is being written into the journal now, if there is one.
    appending: Option<AppendingView>,
    /// What is known of snapshots.
    snapshots: SnapshotsView,
    /// What is halted.
    halts: Vec<HaltView>,
    /// How many commands made a rule fail since this node started; none of them had an effect.
    quarantined: usize,
    /// What needs somebody's eyes.
    alarms: Vec<AlarmView>,
}

/// A lane of commands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LaneView {
    /// Its name.
    lane: String,
    /// How many wait.
    waiting: usize,
    /// How many may.
    max: usize,
}

/// A row that is being written into the journal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppendingView {
    /// Its number.
    seq: u64,
    /// How often it was sent to the store.
    attempts: u32,
    /// How many milliseconds ago it was sent first.
    age_ms: u64,
}

/// What is known of snapshots, by the rows that they are of; 0 stands for none.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SnapshotsView {
    /// The one that this node started from.
    started_from: u64,
    /// The last one.
    last: u64,
}

/// Something that needs somebody's eyes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlarmView {
    /// Its stable code.
    code: String,
    /// What it is about.
    subject: String,
    /// In words.
    detail: String,
    /// Since when, in Unix milliseconds.
    since_ms: u64,
}

/// Shows how the platform stands.
#[utoipa::path(get, path = "/api/v1/status", tag = "operations",
    responses((status = 200, body = StatusView), (status = "default", body = Problem)))]
async fn show_status(Shared(api): Shared<Arc<Api>>, Params(Nothing {}): Params<Nothing>) -> Reply<StatusView> {
    let status = api.platform().status();
    let mut view = api.read(|state| status_view(state, status));
    let seq = Seq(view.seq);
    view.head_hash = api.row_hash(seq).await.map(|hash| hash.to_string());
    seen(view)
}

fn status_view(state: &State, status: Status) -> StatusView {
    let counters = state.counters();
    let lane =
        |&(lane, waiting): &(Lane, usize)| LaneView { lane: lane.name().to_owned(), waiting, max: Lane::max(lane) };
    let alarm = |alarm: florin_engine::alarm::Alarm| AlarmView {
        code: alarm.code.to_owned(),
        subject: alarm.subject,
        detail: alarm.detail,
        since_ms: alarm.since_ms,
    };
    StatusView {
        node: status.node,
        build: status.build,
        leading: status.leading,
        answers_account_reads: status.answers_account_reads,
        confirmed_age_ms: status.confirmed_age.map(milliseconds),
        leader: status.leader,
        platform: florin_core::id::CommandId(counters.platform).to_string(),
        seq: counters.seq.0,
        head_hash: None,
        epoch: counters.epoch.0,
        ledger_time_ms: counters.time.0,
        time_jumped_to_ms: counters.jumped_to.map(|to| to.0),
        trust: status.trust.to_owned(),
        chains: status.chains,
        projector_lag_rows: status.projected.map(|projected| counters.seq.0.saturating_sub(projected.0)),
        waiting: status.waiting.iter().map(lane).collect(),
        appending: status.appending.map(|appending| AppendingView {
            seq: appending.seq.0,
            attempts: appending.attempts,
            age_ms: milliseconds(appending.age),
        }),
        snapshots: SnapshotsView { started_from: status.snapshots.started_from.0, last: status.snapshots.last.0 },
        halts: state.halts().iter().map(|halt| HaltView::new(state, halt)).collect(),
        quarantined: status.quarantined,
        alarms: status.alarms.into_iter().map(alarm).collect(),
    }
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the platform serves.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthView {
    /// `ok`.
    status: String,
}

/// Says whether this node leads and takes commands, and its journal takes rows. Needs no token and tells nothing else.
#[utoipa::path(get, path = "/api/v1/health", tag = "operations", security(()),
    responses((status = 200, body = HealthView), (status = 503, body = Problem)))]
async fn show_health(Shared(api): Shared<Arc<Api>>) -> Reply<HealthView> {
    let engine = api.platform().engine();
    if engine.appending().is_some_and(|appending| appending.is_late) {
        return Err(Problem::new("journal_not_written"));
    }
    if !engine.is_leading() {
        return Err(Problem::new("not_leading"));
    }
    seen(HealthView { status: "ok".to_owned() })
}

/// Shows the books of each asset, and whether they are balanced.
#[utoipa::path(get, path = "/api/v1/books", tag = "operations",
    responses((status = 200, body = BooksReport), (status = "default", body = Problem)))]
async fn show_books(Shared(api): Shared<Arc<Api>>, Params(Nothing {}): Params<Nothing>) -> Reply<BooksReport> {
    seen(api.read(books::report))
}

/// Lists assets with their policies, in the order in which they were defined.
#[utoipa::path(get, path = "/api/v1/assets", tag = "operations", params(ListParams),
    responses((status = 200, body = Page<AssetView>), (status = "default", body = Problem)))]
async fn list_assets(Shared(api): Shared<Arc<Api>>, Params(params): Params<ListParams>) -> Reply<Page<AssetView>> {
    let limit = params.limit()?;
    let start = params.start(|text| number(text).map(AssetId))?;
    seen(api.read(|state| {
        let rest = state.assets().range((start, Bound::Unbounded));
        Page::first(rest.map(|(id, asset)| (id.0.to_string(), AssetView::new(state, asset))), limit)
    }))
}

/// What to halt.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewHalt {
    /// The asset's code; all assets where absent.
    asset: Option<String>,
    /// `credit`, `quote`, `withdraw` or `sign`.
    action: String,
}

/// What to resume.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resumption {
    /// The halt's asset; absent where it is of all.
    asset: Option<String>,
    /// Its action.
    action: String,
    /// Its reason; `operator` where absent.
    reason: Option<String>,
}

fn halt_of(state: &State, asset: Option<&str>, action: &str, reason: Option<&str>) -> Result<Halt, Problem> {
    Ok(Halt {
        asset: asset.map(|code| asset_of(state, code).map(|asset| asset.id)).transpose()?,
        action: choice("action", action, HaltAction::ALL, HaltAction::name)?,
        reason: match reason {
            None => HaltReason::Operator,
            Some(reason) => choice("reason", reason, HaltReason::ALL, HaltReason::name)?,
        },
    })
}

/// Halts an action at once.
#[utoipa::path(post, path = "/api/v1/halts", tag = "operations", request_body = NewHalt,
    responses((status = 201, body = HaltView), (status = "default", body = Problem)))]
async fn halt(Shared(api): Shared<Arc<Api>>, order: Order<NewHalt>) -> Reply<HaltView> {
    let new = &order.body;
    let halt = api.read(|state| halt_of(state, new.asset.as_deref(), &new.action, None))?;
    api.execute(order.origin, Command::Halt(halt.clone())).await?;
    created(api.read(|state| HaltView::new(state, &halt)))
}

/// Lists what is halted.
#[utoipa::path(get, path = "/api/v1/halts", tag = "operations",
    responses((status = 200, body = Page<HaltView>), (status = "default", body = Problem)))]
async fn list_halts(Shared(api): Shared<Arc<Api>>, Params(Nothing {}): Params<Nothing>) -> Reply<Page<HaltView>> {
    let items = api.read(|state| state.halts().iter().map(|halt| HaltView::new(state, halt)).collect());
    seen(Page { items, next: None })
}

/// Ends exactly one halt.
#[utoipa::path(post, path = "/api/v1/halts/resume", tag = "operations", request_body = Resumption,
    responses((status = 200, body = DoneView), (status = "default", body = Problem)))]
async fn resume(Shared(api): Shared<Arc<Api>>, order: Order<Resumption>) -> Reply<DoneView> {
    let body = &order.body;
    let halt = api.read(|state| halt_of(state, body.asset.as_deref(), &body.action, body.reason.as_deref()))?;
    api.execute(order.origin, Command::Resume(halt)).await?;
    seen(DoneView { done: true })
}

/// Confirms the clock after a jump.
#[utoipa::path(post, path = "/api/v1/time/confirm", tag = "operations",
    responses((status = 200, body = DoneView), (status = "default", body = Problem)))]
async fn confirm_time(Shared(api): Shared<Arc<Api>>, order: Order<Nothing>) -> Reply<DoneView> {
    api.execute(order.origin, Command::ConfirmTime).await?;
    seen(DoneView { done: true })
}

/// Shows metrics in Prometheus' text format.
#[utoipa::path(get, path = "/api/v1/metrics", tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain"), (status = "default", body = Problem)))]
async fn show_metrics(Shared(api): Shared<Arc<Api>>) -> Response {
    let status = api.platform().status();
    let text = api.read(|state| metrics(state, &status));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// One family of metrics in Prometheus' text format.
struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl<'a> Family<'a> {
    fn gauge(out: &'a mut String, name: &'static str, help: &str) -> Family<'a> {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        Family { out, name }
    }

    fn value(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) -> &mut Self {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(name, text)| format!("{name}=\"{}\"", quoted(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.out, "{}{labels} {value}", self.name);
        self
    }
}

fn metrics(state: &State, status: &Status) -> String {
    let mut text = String::new();
    let counters = state.counters();
    let seq = counters.seq.0;
    Family::gauge(&mut text, "florin_build_info", "The build and how far nodes are believed.")
        .value(&[("build", &status.build), ("node", &status.node), ("trust", status.trust)], 1);
    Family::gauge(&mut text, "florin_leading", "Whether this node leads.").value(&[], u8::from(status.leading));
    Family::gauge(&mut text, "florin_account_reads", "Whether this node answers account reads.")
        .value(&[], u8::from(status.answers_account_reads));
    if let Some(age) = status.confirmed_age {
        Family::gauge(&mut text, "florin_confirmed_age_ms", "How long ago it was last sure to know the newest rows.")
            .value(&[], milliseconds(age));
    }
    Family::gauge(&mut text, "florin_journal_seq", "The last row seen.").value(&[], seq);
    Family::gauge(&mut text, "florin_journal_epoch", "The leadership in force.").value(&[], counters.epoch.0);
    Family::gauge(&mut text, "florin_ledger_time_ms", "The ledger time in Unix milliseconds.")
        .value(&[], counters.time.0);
    if let Some(projected) = status.projected {
        Family::gauge(&mut text, "florin_projector_lag_rows", "How many rows the search tables are behind.")
            .value(&[], seq.saturating_sub(projected.0));
    }
    let mut waiting = Family::gauge(&mut text, "florin_commands_waiting", "How many commands wait, by lane.");
    for (lane, count) in &status.waiting {
        waiting.value(&[("lane", lane.name())], count);
    }
    let (attempts, age) = status.appending.map_or((0, 0), |row| (row.attempts, milliseconds(row.age)));
    Family::gauge(&mut text, "florin_append_attempts", "How often the row that is being written was sent; 0: none is.")
        .value(&[], attempts);
    Family::gauge(&mut text, "florin_append_age_ms", "How long ago the row that is being written was sent first.")
        .value(&[], age);
    Family::gauge(&mut text, "florin_snapshot_seq", "The row of the last snapshot.")
        .value(&[], status.snapshots.last.0);
    Family::gauge(&mut text, "florin_quarantined_commands", "Commands that made a rule fail since the node started.")
        .value(&[], status.quarantined);
    let mut alarms = Family::gauge(&mut text, "florin_alarm", "1 for each alarm that stands.");
    for alarm in &status.alarms {
        alarms.value(&[("code", alarm.code), ("subject", &alarm.subject)], 1);
    }
    chain_metrics(&mut text, status);
    state_metrics(&mut text, state);
    text
}

fn chain_metrics(text: &mut String, status: &Status) {
    let mut heights = Family::gauge(text, "florin_chain_height", "Heights: of the journalled tip and the best header.");
    for chain in &status.chains {
        let name = chain.name.as_str();
        if let Some(tip) = &chain.tip {
            heights.value(&[("chain", name), ("of", "journal")], tip.height);
        }
        if let Some(best) = &chain.best {
            heights.value(&[("chain", name), ("of", "headers")], best.height);
        }
    }
    let mut nodes = Family::gauge(text, "florin_node_good", "Whether nothing is wrong with a node.");
    for chain in &status.chains {
        for node in &chain.nodes {
            let labels = [("chain", chain.name.as_str()), ("node", &node.name), ("group", &node.group)];
            nodes.value(&labels, u8::from(node.state == "good"));
        }
    }
    let mut states =
        Family::gauge(text, "florin_node_state", "1 for how each node stands, with the code of what is wrong.");
    for chain in &status.chains {
        for node in &chain.nodes {
            let (name, code) = (chain.name.as_str(), node.code.unwrap_or("none"));
            let labels =
                [("chain", name), ("node", &node.name), ("group", &node.group), ("state", &node.state), ("code", code)];
            states.value(&labels, 1);
        }
    }
    let mut counts = Family::gauge(text, "florin_nodes", "How many nodes there are, and how many are good.");
    for chain in &status.chains {
        let NodeCounts { all, good } = chain.node_counts();
        counts.value(&[("chain", &chain.name), ("of", "all")], all);
        counts.value(&[("chain", &chain.name), ("of", "good")], good);
    }
}

/// How many there are of each, in one walk.
fn tally<T: Ord>(found: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    found.for_each(|one| *counts.entry(one).or_insert(0) += 1);
    counts
}

fn state_metrics(text: &mut String, state: &State) {
    Family::gauge(text, "florin_customers", "How many customers there are.").value(&[], state.customers().len());
    let standing = tally(state.deposits().values().map(|deposit| deposit.status));
    let mut deposits = Family::gauge(text, "florin_deposits", "Deposits that are not archived, by status.");
    for status in DepositStatus::ALL {
        deposits.value(&[("status", &status.name())], standing.get(status).unwrap_or(&0));
    }
    let standing = tally(state.withdrawals().values().map(|withdrawal| withdrawal.status));
    let mut withdrawals = Family::gauge(text, "florin_withdrawals", "Withdrawals that are not archived, by status.");
    for status in WithdrawalStatus::ALL {
        withdrawals.value(&[("status", &status.name())], standing.get(status).unwrap_or(&0));
    }
    Family::gauge(text, "florin_halts", "How many halts are in force.").value(&[], state.halts().len());
    let mut balanced = Family::gauge(text, "florin_books_balanced", "Whether an asset's books are balanced.");
    let judged = books::judge(state);
    for asset in state.assets().values() {
        balanced.value(&[("asset", &asset.code)], u8::from(judged.is_balanced(asset.id)));
    }
    let mut house =
        Family::gauge(text, "florin_house_units", "Balances of the house's accounts, in smallest units, by side.");
    for asset in state.assets().values() {
        for account in HouseAccount::ALL {
            let (debit, credit) = house_balance(state, asset, *account);
            let name = account.name();
            house.value(&[("asset", &asset.code), ("account", &name), ("side", "debit")], debit.units());
            house.value(&[("asset", &asset.code), ("account", &name), ("side", "credit")], credit.units());
        }
    }
}
