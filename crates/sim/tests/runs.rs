//! Whole runs: the same seed gives the same run, seeds pass, and what fails is shrunk to what is needed. It never judges the platform itself.

use florin::signing::Transport;
use florin_core::id::Digest;
use florin_signer::protocol::{CheckpointHead, Fence, Hello, KnownRow, Outcome, PROTOCOL, Reply, Request};
use florin_sim::run::{Invariant, run};
use florin_sim::schedule::{Kind, Schedule};
use florin_sim::shrink::{shrink, story};
use florin_sim::world::World;
use std::collections::BTreeSet;

#[test]
fn the_same_seed_gives_the_same_run() {
    let schedule = Schedule::whole(5, 500);
    let (first, second) = (run(&schedule, None), run(&schedule, None));
    assert_eq!(first.wrong, None, "{}", schedule.command_line());
    assert_eq!(first.trace, second.trace);
    assert_eq!(first.counts, second.counts);
    assert_ne!(first.trace, run(&Schedule::whole(6, 500), None).trace);
}

#[test]
fn seeds_pass_and_come_to_rest() {
    for seed in 1..=3 {
        let report = run(&Schedule::whole(seed, 800), None);
        assert_eq!(report.wrong, None, "{}", report.schedule.command_line());
        for what in ["calm", "compared with the chain", "compared with the state", "compared with the fold"] {
            assert!(report.counts.contains_key(what), "seed {seed} never was '{what}'");
        }
    }
}

/// An invariant that is wrong on purpose: no node is ever cut off.
fn no_node_is_cut_off(world: &World) -> Result<(), String> {
    match world.counts.get("prepared node cut off") {
        Some(_) => Err("a node was cut off".into()),
        None => Ok(()),
    }
}

#[test]
fn a_failing_run_is_shrunk_to_the_step_that_matters_and_fails_again() {
    let extra: Option<Invariant> = Some(no_node_is_cut_off);
    let failing = (1..40).map(|seed| run(&Schedule::whole(seed, 150), extra)).find(|report| report.wrong.is_some());
    let failing = failing.expect("in one of 40 seeds a node is cut off");
    let small = shrink(&failing, extra, 200);
    let steps = story(&small.schedule);
    assert_eq!(
        steps.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(),
        [Kind::Node],
        "{}",
        small.schedule.command_line()
    );
    let again = run(&small.schedule, extra);
    assert_eq!(again.wrong, small.wrong);
    assert_eq!(again.wrong.map(|wrong| wrong.step), Some(steps[0].0));
}

/// No invariant at all: it shows the signer a row that the journal does not have, once the signer knows one of its rows.
fn show_the_signer_another_row(world: &World) -> Result<(), String> {
    let mut link = world.signer.clone();
    let Ok(Reply { outcome: Outcome::Welcome(welcome), .. }) = link.ask(&Request::Hello(Hello { protocol: PROTOCOL }))
    else {
        return Ok(());
    };
    if let Some(shown) = welcome.highest.filter(|shown| shown.head != Digest([9; 32])) {
        let fence = Fence { seq: shown.seq.next(), head: Digest([9; 32]), ..shown };
        let known = Some(KnownRow { seq: shown.seq, hash: shown.head });
        // A signer that dies over it, or does not hear it, is shown it again after the next step.
        drop(link.ask(&Request::CheckpointHead(CheckpointHead { fence, known, memory: None })));
    }
    Ok(())
}

#[test]
fn a_worker_that_contradicts_the_journal_ends_the_run() {
    let report = run(&Schedule::whole(2, 400), Some(show_the_signer_another_row));
    let wrong = report.wrong.expect("the signer names a row that the journal has otherwise");
    assert!(
        wrong.what.starts_with("the journal was never set back, and a worker says: the signer names"),
        "{}",
        wrong.what
    );
}

#[test]
fn a_run_that_passes_is_not_shrunk() {
    let passing = run(&Schedule::whole(1, 20), None);
    assert_eq!(passing.wrong, None);
    assert_eq!(shrink(&passing, None, 10).schedule, passing.schedule);
}

#[test]
fn steps_that_are_left_out_leave_the_others_as_they_were() {
    let whole = Schedule::whole(3, 60);
    let last: BTreeSet<u64> = [60].into();
    let alone = Schedule { only: Some(last), ..whole.clone() };
    assert_eq!(story(&alone).first(), story(&whole).last());
    let without = Schedule { without: [Kind::Turn].into(), ..whole.clone() };
    let kept: Vec<_> = story(&whole).into_iter().filter(|(_, kind)| *kind != Kind::Turn).collect();
    assert_eq!(story(&without), kept);
}
