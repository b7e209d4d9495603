//! `florin-sim`: runs seeds, prints each one's trace hash, fails where an invariant does, and shrinks what fails.

use florin_sim::coverage::{SEEDS_MIN, SHARES, Totals, UNREACHED};
use florin_sim::run::{Report, run};
use florin_sim::schedule::{Kind, Schedule, parse_ranges};
use florin_sim::shrink::{RUNS_MAX, shrink, story};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// Actions in a run.
const ACTIONS: u64 = 2_000;

/// The most threads that run seeds: more than any machine has cores to spare.
const JOBS_MAX: usize = 256;

/// The most failing seeds that are shrunk: the first say most.
const SHRUNK_MAX: usize = 3;

/// The most steps of a shrunk run that are listed one by one.
const STORY_MAX: usize = 60;

const HELP: &str = "florin-sim: the whole platform under a simulated world, from a seed

usage: florin-sim [--seed N | --seeds N | --seeds FROM-TO] [options]

  --seed N         run this seed
  --seeds N        run the seeds 1 to N (100)
  --seeds FROM-TO  run these seeds
  --actions N      actions in each run (2000)
  --jobs N         run so many seeds at once (1); what is printed stays the same
  --counts         print what happened, and how often
  --quiet          print no line for a seed that passes
  --no-shrink      print a failing seed as it is
  --only STEPS     do only these steps, such as 3,17-40 (one seed)
  --without KIND   leave out all actions of a kind; may be given more than once
  --help           this text

A failing seed is shrunk to a few steps, and printed with the line that runs it again. From 100 seeds on the run also fails
where a refusal of the rules or a fault never happened, or where fewer than a tenth of the seeds reached a final withdrawal,
a reorganisation after credit, or a restart after a crash.
";

struct Args {
    seeds: Vec<u64>,
    actions: u64,
    jobs: usize,
    counts: bool,
    quiet: bool,
    shrinks: bool,
    only: Option<BTreeSet<u64>>,
    without: BTreeSet<Kind>,
    help: bool,
}

fn seeds(text: &str) -> Option<Vec<u64>> {
    match text.split_once('-') {
        Some((from, to)) => Some((from.parse().ok()?..=to.parse().ok()?).collect()),
        None => Some((1..=text.parse().ok()?).collect()),
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args {
        seeds: (1..=100).collect(),
        actions: ACTIONS,
        jobs: 1,
        counts: false,
        quiet: false,
        shrinks: true,
        only: None,
        without: BTreeSet::new(),
        help: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let odd = |text: &str| format!("{word}: '{text}' can't be read");
        match word.as_str() {
            "--seed" => {
                let text = value()?;
                args.seeds = vec![text.parse().map_err(|_| odd(&text))?];
            }
            "--seeds" => {
                let text = value()?;
                args.seeds = seeds(&text).ok_or_else(|| odd(&text))?;
            }
            "--actions" => {
                let text = value()?;
                args.actions = text.parse().map_err(|_| odd(&text))?;
            }
            "--jobs" => {
                let text = value()?;
                args.jobs = text.parse().ok().filter(|jobs| (1..=JOBS_MAX).contains(jobs)).ok_or_else(|| odd(&text))?;
            }
            "--only" => {
                let text = value()?;
                args.only = Some(parse_ranges(&text).ok_or_else(|| odd(&text))?);
            }
            "--without" => {
                let text = value()?;
                args.without.insert(Kind::parse(&text).ok_or_else(|| odd(&text))?);
            }
            "--counts" => args.counts = true,
            "--quiet" => args.quiet = true,
            "--no-shrink" => args.shrinks = false,
            "--help" | "-h" => args.help = true,
            _ => return Err(format!("'{word}' is not an option")),
        }
    }
    if args.only.is_some() && args.seeds.len() != 1 {
        return Err("--only goes with one --seed".into());
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "{fault}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let mut out = std::io::stdout();
    if args.help {
        let _ = write!(out, "{HELP}");
        return ExitCode::SUCCESS;
    }
    match run_all(&args, &mut out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// Runs all seeds on some threads, and hands their reports on in the order of the seeds.
fn run_seeds(args: &Args, mut take: impl FnMut(Report) -> std::io::Result<()>) -> std::io::Result<()> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let work = |sender: mpsc::Sender<(usize, Report)>| {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(&seed) = args.seeds.get(place) else { break };
            let (only, without) = (args.only.clone(), args.without.clone());
            let report = run(&Schedule { seed, actions: args.actions, only, without }, None);
            // Nobody listens any more where nothing can be printed.
            if sender.send((place, report)).is_err() {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            let (work, sender) = (&work, sender.clone());
            scope.spawn(move || work(sender));
        }
        drop(sender);
        // Those that ended before one of a lower place.
        let mut early = BTreeMap::new();
        let mut wanted = 0;
        for (place, report) in receiver {
            early.insert(place, report);
            while let Some(report) = early.remove(&wanted) {
                wanted += 1;
                take(report)?;
            }
        }
        Ok(())
    })
}

fn run_all(args: &Args, out: &mut dyn Write) -> std::io::Result<bool> {
    let mut totals = Totals::default();
    let mut failed = Vec::new();
    run_seeds(args, |report| {
        let seed = report.schedule.seed;
        totals.add(&report.counts);
        if let Some(wrong) = &report.wrong {
            writeln!(out, "seed {seed}: FAILED in step {}: {}", wrong.step, wrong.what)?;
            writeln!(out, "  again: {}", report.schedule.command_line())?;
            if args.shrinks && failed.len() < SHRUNK_MAX {
                print_shrunk(&report, out)?;
            }
            failed.push(seed);
        } else if !args.quiet {
            writeln!(out, "seed {seed}: {}", report.trace)?;
        }
        out.flush()
    })?;
    if args.counts {
        for (what, count) in &totals.counts {
            writeln!(out, "{count:>10}  {what}")?;
        }
    }
    let vacuous = totals.vacuous();
    print_end(args, &totals, &vacuous, &failed, out)?;
    Ok(failed.is_empty() && vacuous.is_empty())
}

fn print_shrunk(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    out.flush()?;
    let small = shrink(report, None, RUNS_MAX);
    let steps = story(&small.schedule);
    let wrong = small.wrong.as_ref().map_or("", |wrong| wrong.what.as_str());
    writeln!(out, "  shrunk to {} steps: {wrong}", steps.len())?;
    for (step, kind) in steps.iter().take(STORY_MAX) {
        writeln!(out, "    {step:>5} {}", kind.name())?;
    }
    writeln!(out, "  again: {}", small.schedule.command_line())
}

fn print_end(
    args: &Args,
    totals: &Totals,
    vacuous: &[String],
    failed: &[u64],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    for sentence in vacuous {
        writeln!(out, "VACUOUS: {sentence}")?;
    }
    if totals.seeds >= SEEDS_MIN {
        for (name, reason) in UNREACHED {
            writeln!(out, "not reached on purpose: {name}: {reason}")?;
        }
    }
    let shares: Vec<String> =
        SHARES.iter().map(|(what, name, _)| format!("{name}: {} %", totals.percent(what))).collect();
    writeln!(out, "{}", shares.join(", "))?;
    if !failed.is_empty() {
        let seeds: Vec<String> = failed.iter().map(u64::to_string).collect();
        writeln!(out, "failed seeds: {}", seeds.join(" "))?;
    }
    writeln!(out, "{} passed, {} failed, {} actions each", args.seeds.len() - failed.len(), failed.len(), args.actions)
}
