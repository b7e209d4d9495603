//! Plans whose input a fork took are named by the lookout alone, for as long as it is gone.

use super::*;
use florin_core::custody::{Payment, Plan};
use florin_engine::alarm::Alarm;
use florin_engine::lanes::Ask;
use florin_engine::workers::lookout::{Lookout, Missing};

const CODE: &str = "plan_input_missing";

impl Paying {
    /// Follows nodes to a tip, and ends the halts that this brings.
    fn turn_to(&mut self, tip: BlockHash) {
        self.nodes.iter().for_each(|node| node.state().mempool.clear());
        set_tips(&self.nodes, tip);
        self.platform.settle(&mut self.follower);
        for halt in self.platform.state().halts().clone() {
            self.platform.must(Ask::internal(Command::Resume(halt)));
        }
    }

    /// Mines a transaction on a block, and so many blocks in all.
    fn branch(&self, parent: BlockHash, transactions: Vec<bitcoin::Transaction>, blocks: usize) -> BlockHash {
        let first = self.blocks.mine(parent, 7, transactions);
        self.blocks.extend(first, 7, blocks - 1)
    }

    /// The payment from which both customers have their coins.
    fn paid(&self) -> bitcoin::Transaction {
        let coin = self.platform.state().coins().values().next().expect("a coin");
        self.blocks.get(coin.at.hash).expect("its block").1.txdata[1].clone()
    }

    fn plan(&self, number: u64) -> &Plan {
        &self.platform.state().plans()[&PlanId(number)]
    }

    /// What a lookout has to say after two steps: what is over has left by then.
    fn named(&mut self, lookout: &mut Lookout) -> Vec<Alarm> {
        for _ in 0..2 {
            assert_eq!(self.platform.step(lookout), [], "it asks for nothing");
        }
        lookout.alarms()
    }
}

#[test]
fn a_signed_plan_is_named_from_when_its_coin_was_gone_until_it_returns() {
    let (mut world, mut lookout) = (paying(), Lookout::default());
    world.withdraw(10, 1, 40_000);
    world.platform.settle(&mut world.planner);
    world.platform.settle(&mut world.signing);
    assert_eq!(world.plan_status(), [PlanStatus::Signed]);
    assert_eq!(world.named(&mut lookout), []);

    let paid = world.paid();
    let fork = world.branch(world.blocks.genesis(), vec![], 20);
    world.turn_to(fork);
    world.platform.now_ms += 20_000;
    let named = world.named(&mut lookout);
    let [alarm] = named.as_slice() else { panic!("one plan is named once: {named:?}") };
    let input = world.plan(1).inputs[0];
    assert_eq!((alarm.code, alarm.subject.as_str()), (CODE, "plan 1"));
    let text = format!("its input {}:{} is gone with its block", input.txid, input.vout);
    assert!(alarm.detail.starts_with(&text) && alarm.detail.contains("'florin plan conflict"), "{}", alarm.detail);
    let since = world.platform.state().deposits()[&input].missing_since.expect("the payment is missing");
    assert_eq!(alarm.since_ms, since.0);
    assert_eq!(world.named(&mut Lookout::default()), named, "a restart changes nothing");

    let back = world.branch(fork, vec![paid], 1);
    world.turn_to(back);
    assert_eq!(world.named(&mut lookout), [], "it goes on by itself");
}

#[test]
fn a_plan_that_is_not_signed_is_named_by_nobody_else_and_given_up_when_it_expires() {
    let (mut world, mut lookout) = (paying(), Lookout::default());
    world.withdraw(10, 1, 40_000);
    world.platform.settle(&mut world.planner);
    let fork = world.branch(world.blocks.genesis(), vec![], 20);
    world.turn_to(fork);
    for _ in 0..2 {
        world.platform.step(&mut world.signing);
    }
    assert_eq!(world.named(&mut lookout).iter().map(|alarm| alarm.code).collect::<Vec<_>>(), [CODE]);
    assert_eq!(alarm_codes(&world.signing), Vec::<&str>::new());
    assert_eq!(world.signer.0.lock().unwrap().asked, [], "nobody signs what can't be said");

    world.platform.wait(3_700_000);
    world.platform.step(&mut world.signing);
    assert_eq!(world.plan_status(), [PlanStatus::Voided]);
    assert_eq!(world.named(&mut lookout), []);
}

#[test]
fn a_plan_that_spends_change_is_named_once_that_can_never_come_with_the_word_that_ends_it() {
    let (mut world, mut lookout) = (paying(), Lookout::default());
    world.withdraw(10, 2, 150_000);
    world.platform.settle(&mut world.planner);
    world.platform.settle(&mut world.signing);
    world.platform.step(&mut world.broadcaster);
    let (sent, before) = (world.nodes[0].state().sent[0].clone(), world.platform.tip().hash);
    world.turn_to(world.blocks.mine(before, 0, vec![sent]));
    // At this rate the other coin alone does not reach.
    world.nodes.iter().for_each(|node| node.state().estimate = Some(10_000));
    world.withdraw(11, 1, 99_000);
    world.platform.settle(&mut world.planner);
    world.platform.settle(&mut world.signing);
    let change = world.plan(2).inputs.iter().copied().find(|input| Some(input.txid) == world.plan(1).versions[0].txid);
    let change = change.expect("it spends the first one's change");

    let fork = world.branch(before, vec![], 2);
    world.turn_to(fork);
    assert_eq!(world.named(&mut lookout), [], "the first plan may be in a block again");
    let missing = Missing::of(world.platform.state(), world.plan(2)).expect("it is missing");
    assert!(missing.is_under_way() && missing.to_string().ends_with("is the change of plan 1, which is in no block"));

    let spent = florin_engine::terms::library_outpoint(world.plan(1).inputs[0]);
    let thief = bitcoin::TxIn { previous_output: spent, ..bitcoin::TxIn::default() };
    let theft = network::transaction(vec![thief], vec![(bitcoin::ScriptBuf::from_bytes(vec![0x51]), 199_000)]);
    let end = world.branch(fork, vec![theft], 7);
    world.turn_to(end);
    assert_eq!(world.plan_status(), [PlanStatus::Conflicted, PlanStatus::Signed]);
    let named = world.named(&mut lookout);
    let [alarm] = named.as_slice() else { panic!("{named:?}") };
    let Payment { txid, at } = world.plan(1).paid.clone().expect("what ended it");
    let input = format!("{}:{}", change.txid, change.vout);
    let word =
        format!("'florin plan conflict 2 --input {input} --txid {txid} --height {} --block {}'", at.height, at.hash);
    assert!(alarm.subject == "plan 2" && alarm.detail.contains(&word), "{} {}", alarm.subject, alarm.detail);

    let by = Payment { txid, at };
    world.platform.must(Ask::internal(Command::ProveConflict { plan: PlanId(2), input: change, by }));
    assert_eq!(world.plan_status(), [PlanStatus::Conflicted; 2], "that word is the right one");
    assert_eq!(world.named(&mut lookout), []);
}
