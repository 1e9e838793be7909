//! What a year of LAs comes to under each policy, as `metric: value` lines; see `tests/load/README.md`.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use sfdata_sim::{
    agent::OURS,
    clock::HOUR,
    judge::{Verdict, quantile},
    price::cost,
    run,
    trace::Trace,
    world::Weather,
};

/// Simulate LA-months under each policy: always on, 23:00 to 05:00 on weekdays, ours, and the oracle's lower limit.
#[derive(Parser)]
struct Args {
    /// So many LA-months, rounded up to whole traces.
    #[arg(long, default_value_t = 120)]
    months: u32,
    /// The first seed; each further trace has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Agents are killed, sources unreadable, answers slow and stale, wakes slow, Spot has no room.
    #[arg(long)]
    faults: bool,
    /// A trace of your own instead of generated ones, repeated with other chances.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Traces of any LA instead of typical ones: other pipelines, other habits, a month each.
    #[arg(long)]
    any: bool,
    /// Write the generated trace of the seed, and do nothing else.
    #[arg(long)]
    write_trace: Option<PathBuf>,
}

const POLICIES: [&str; 4] = ["always_on", "night_window", "ours", "lower_limit"];

fn main() -> Result<()> {
    let args = Args::parse();
    let generate = |seed| if args.any { Trace::any(seed) } else { Trace::typical(seed) };
    if let Some(path) = &args.write_trace {
        return fs::write(path, generate(args.seed).write()).with_context(|| format!("writing {}", path.display()));
    }
    let own = match &args.trace {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            Some(Trace::parse(&text).with_context(|| format!("reading {}", path.display()))?)
        }
        None => None,
    };
    let first = own.clone().unwrap_or_else(|| generate(args.seed));
    let traces = (f64::from(args.months) / run::months(first.until - first.from)).ceil().max(1.0) as u64;
    let next = AtomicU64::new(0);
    let work = || {
        let mut sums: [Verdict; 4] = Default::default();
        let mut took = Duration::ZERO;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= traces {
                return (sums, took);
            }
            let seed = args.seed + index;
            let trace = own.clone().unwrap_or_else(|| generate(seed));
            let weather = Weather { faults: args.faults, spot: seed % 2 == 1 };
            let (ours, time) = run::ours(&trace, weather, seed, OURS);
            took += time;
            sums[0].add(run::always_on(&trace, seed));
            sums[1].add(run::night_window(&trace, seed));
            sums[2].add(ours);
            sums[3].add(run::lower_limit(&trace, seed));
        }
    };
    let mut sums: [Verdict; 4] = Default::default();
    let mut took = Duration::ZERO;
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (verdicts, time) = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            took += time;
            for (sum, verdict) in sums.iter_mut().zip(verdicts) {
                sum.add(verdict);
            }
        }
    });
    let ours = cost(&sums[2]);
    let (part, times) = (ours / cost(&sums[0]), ours / cost(&sums[3]));
    println!("la_months: {:.0}", run::months(sums[2].span));
    for (policy, sum) in POLICIES.into_iter().zip(&mut sums) {
        let months = run::months(sum.span);
        println!("{policy}.hours_awake: {:.1}", sum.awake as f64 / HOUR as f64 / months);
        println!("{policy}.cost_usd: {:.2}", cost(sum) / months);
        println!("{policy}.missed_ticks: {}", sum.missed_ticks);
        println!("{policy}.stopped_runs: {}", sum.stopped_runs);
        println!("{policy}.broken_chains: {}", sum.broken_chains);
        println!("{policy}.arrival_to_start_p50_s: {}", quantile(&mut sum.to_start, 0.5) / 1000);
        println!("{policy}.arrival_to_start_p99_s: {}", quantile(&mut sum.to_start, 0.99) / 1000);
    }
    let [_, _, sum, _] = &mut sums;
    let months = run::months(sum.span);
    println!("ours.two_daemons: {}", sum.two_daemons);
    println!("ours.ticks: {}", sum.ticks);
    println!("ours.runs: {}", sum.runs);
    println!("ours.chains: {}", sum.chains);
    println!("ours.arrival_to_queued_p50_s: {}", quantile(&mut sum.to_queued, 0.5) / 1000);
    println!("ours.arrival_to_queued_p99_s: {}", quantile(&mut sum.to_queued, 0.99) / 1000);
    println!("ours.wakes_per_day: {:.2}", f64::from(sum.wakes) / months / (365.0 / 12.0));
    println!("ours.turned_back: {}", sum.turned_back);
    for (cause, time) in &sum.by_cause {
        println!("ours.hours_awake.{cause}: {:.2}", *time as f64 / HOUR as f64 / months);
    }
    println!("ours.decision_us: {:.2}", took.as_secs_f64() * 1e6 / sum.decisions.max(1) as f64);
    println!("ours.cost_of_always_on: {part:.3}");
    println!("ours.cost_of_lower_limit: {times:.3}");
    for fault in &sum.faults {
        eprintln!("{fault}");
    }
    Ok(())
}
