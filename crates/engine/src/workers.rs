//! What the platform does by itself: plan, sign, broadcast, look out, tick. Every worker finds its work in the durable state, so that
//! a crash at any point loses nothing and repeats only what may be repeated. None of them decides about money.

pub mod broadcaster;
pub mod doubts;
pub mod lookout;
pub mod overtaking;
pub mod planner;
pub mod pricing;
mod rates;
pub mod signing;
pub mod ticker;

use crate::alarm::Alarm;
use crate::lanes::Ask;
use crate::read_model::ReadModel;
use crate::witness::Contradiction;

/// The durable state, to be looked at for a moment. Nobody talks to a node or a signer while looking.
pub trait View {
    /// Shows the read model as it is now.
    fn with(&self, look: &mut dyn FnMut(&ReadModel));
}

impl View for ReadModel {
    fn with(&self, look: &mut dyn FnMut(&ReadModel)) {
        look(self);
    }
}

/// Looks at the read model and takes something from it.
pub fn see<T>(view: &dyn View, look: impl FnOnce(&ReadModel) -> T) -> T {
    let mut look = Some(look);
    let mut seen = None;
    view.with(&mut |model| {
        if let Some(look) = look.take() {
            seen = Some(look(model));
        }
    });
    seen.expect("a view shows the read model once")
}

/// Something that looks at the durable state, talks to the world, and asks the writer for what follows from both.
///
/// A step blocks at most as long as its ports do. What it asks for may be refused, because the state has moved on: the
/// next step starts from the state as it is then.
pub trait Worker: Send {
    /// Its name, in statuses and as the name of its thread.
    fn name(&self) -> &'static str;
    /// Does what is due at `now_ms` and says what is to be asked of the writer.
    fn step(&mut self, view: &dyn View, now_ms: u64) -> Vec<Ask>;
    /// What waits, and why.
    fn alarms(&self) -> Vec<Alarm>;
    /// What it has learnt against the journal itself. The process ends with it once what the step asked for is answered: an old
    /// copy does harm with whatever it takes in.
    fn contradiction(&self) -> Option<&Contradiction> {
        None
    }
}
