//! `florin-sim`: runs seeds, prints each one's trace hash, and fails where an invariant does.

use florin_sim::run::run;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

/// Actions in a run.
const ACTIONS: u64 = 2_000;

const HELP: &str = "florin-sim: the whole platform under a simulated world, from a seed

usage: florin-sim [--seed N | --seeds N] [--actions N] [--counts]

  --seed N      run this seed
  --seeds N     run the seeds 1 to N (100)
  --actions N   actions in each run (2000)
  --counts      print what happened, and how often
";

struct Args {
    seeds: Vec<u64>,
    actions: u64,
    counts: bool,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args { seeds: (1..=100).collect(), actions: ACTIONS, counts: false };
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let text = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            text.parse().map_err(|_| format!("{word}: '{text}' is not a number"))
        };
        match word.as_str() {
            "--seed" => args.seeds = vec![number()?],
            "--seeds" => args.seeds = (1..=number()?).collect(),
            "--actions" => args.actions = number()?,
            "--counts" => args.counts = true,
            _ => return Err(format!("'{word}' is not an option")),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "{fault}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    let mut failed = 0;
    for seed in &args.seeds {
        let report = run(*seed, args.actions);
        for (what, count) in &report.counts {
            *totals.entry(what.clone()).or_default() += count;
        }
        let _ = match &report.wrong {
            None => writeln!(out, "seed {seed}: {}", report.trace),
            Some(wrong) => {
                failed += 1;
                writeln!(
                    out,
                    "seed {seed}: FAILED in step {}: {}\n  again: florin-sim --seed {seed} --actions {}",
                    wrong.step, wrong.what, args.actions
                )
            }
        };
    }
    if args.counts {
        for (what, count) in &totals {
            let _ = writeln!(out, "{count:>10}  {what}");
        }
    }
    let _ = writeln!(out, "{} passed, {failed} failed", args.seeds.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
