//! Looks out for plans that may never confirm, because a coin that they spend is gone with its block. It reads the journal's
//! records alone and asks for nothing, and it never says that a plan is lost: what is missing may return.

use super::{View, Worker, see};
use crate::alarm::{Alarm, Alarms};
use crate::lanes::Ask;
use florin_core::custody::{OutPoint, Plan, PlanStatus};
use florin_core::id::PlanId;
use florin_core::state::State;

/// An input of an open plan that is not in the books.
#[derive(Debug)]
pub struct Missing<'a> {
    plan: PlanId,
    /// The input.
    pub input: OutPoint,
    /// The plan of ours whose change it was.
    maker: Option<&'a Plan>,
}

impl<'a> Missing<'a> {
    /// The first input of a plan that is not in the books; `None` for a plan that does not wait for its block.
    pub fn of(state: &'a State, plan: &Plan) -> Option<Missing<'a>> {
        if !is_open(plan) {
            return None;
        }
        let input = *plan.inputs.iter().find(|input| !state.coins().contains_key(input))?;
        let makes = |plan: &&Plan| plan.versions.iter().any(|version| version.txid == Some(input.txid));
        Some(Missing { plan: plan.id, input, maker: state.plans().values().find(makes) })
    }

    /// Whether it comes back by itself as soon as another plan of ours is in a block again.
    pub fn is_under_way(&self) -> bool {
        self.maker.is_some_and(is_open)
    }
}

fn is_open(plan: &Plan) -> bool {
    matches!(plan.status, PlanStatus::Signing | PlanStatus::Signed)
}

/// What is missing, and what can be done about it.
impl std::fmt::Display for Missing<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (plan, input) = (self.plan, format!("{}:{}", self.input.txid, self.input.vout));
        match self.maker {
            Some(maker) if self.is_under_way() => {
                write!(out, "its input {input} is the change of plan {}, which is in no block", maker.id)
            }
            Some(Plan { id, status: PlanStatus::Conflicted, paid: Some(by), .. }) => write!(
                out,
                "its input {input} was to be the change of plan {id}, which can never confirm; \
                 'florin plan conflict {plan} --input {input} --txid {} --height {} --block {}' ends this one too",
                by.txid, by.at.height, by.at.hash,
            ),
            Some(_) | None => write!(
                out,
                "its input {input} is gone with its block, and it goes on when that returns; once another transaction has \
                 taken its place in a final block, end it: 'florin plan conflict --help'"
            ),
        }
    }
}

/// Names the plans of all chains that may never confirm.
#[derive(Debug, Default)]
pub struct Lookout {
    alarms: Alarms,
}

impl Worker for Lookout {
    fn name(&self) -> &'static str {
        "lookout"
    }

    fn step(&mut self, view: &dyn View, now_ms: u64) -> Vec<Ask> {
        self.alarms.settle();
        see(view, |model| {
            let state = model.state();
            for plan in state.plans().values() {
                let Some(missing) = Missing::of(state, plan).filter(|missing| !missing.is_under_way()) else {
                    continue;
                };
                // The journal knows since when a payment to us is missing, and a restart does not change that.
                let deposit = state.deposits().get(&missing.input);
                let since_ms = deposit.and_then(|deposit| deposit.missing_since).map_or(now_ms, |since| since.0);
                self.alarms.say(since_ms, "plan_input_missing", format!("plan {}", plan.id), &missing);
            }
        });
        Vec::new()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.all()
    }
}
