//! What a year of LAs comes to under each policy, as `metric: value` lines; see `tests/load/README.md`.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
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
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    months: u32,
    /// The first seed; each further trace has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Agents are killed, sources unreadable, answers slow and stale, wakes slow, Spot has no room.
    #[arg(long)]
    faults: bool,
    /// A trace of your own instead of generated ones, repeated with other chances.
    #[arg(long, value_name = "FILE", conflicts_with = "any")]
    trace: Option<PathBuf>,
    /// Traces of any LA instead of typical ones: other pipelines, other habits, a month each.
    #[arg(long)]
    any: bool,
    /// Write the generated trace of the seed, and do nothing else.
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    write_trace: Option<PathBuf>,
}

const POLICIES: [&str; 4] = ["always_on", "night_window", "ours", "lower_limit"];

fn main() -> ExitCode {
    let args = Args::parse();
    let generate = |seed| if args.any { Trace::any(seed) } else { Trace::typical(seed) };
    if let Some(path) = &args.write_trace {
        return match fs::write(path, generate(args.seed).write()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &format!("writing {}: {error}", path.display())),
        };
    }
    let own = match args.trace.as_deref().map(read).transpose() {
        Ok(own) => own,
        Err(error) => return fail(2, &format!("{error:#}")),
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
            let verdicts = [
                run::always_on(&trace, args.faults, seed),
                run::night_window(&trace, seed),
                ours,
                run::lower_limit(&trace, seed),
            ];
            for ((policy, sum), verdict) in POLICIES.into_iter().zip(&mut sums).zip(verdicts) {
                // The night window's are what it is.
                for fault in verdict.faults.iter().filter(|_| policy != "night_window") {
                    eprintln!("seed {seed}, {policy}: {fault}");
                }
                sum.add(verdict);
            }
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
    ExitCode::SUCCESS
}

fn read(path: &Path) -> Result<Trace> {
    let reading = || format!("reading {}", path.display());
    Trace::parse(&fs::read_to_string(path).with_context(reading)?).with_context(reading)
}

fn fail(code: u8, text: &str) -> ExitCode {
    eprintln!("error: {text}");
    ExitCode::from(code)
}
