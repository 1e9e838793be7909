//! What happens to one LA in a year, and its pipelines: read from CSV, or generated from a seed. The form is in
//! `tests/load/README.md`.

use anyhow::{Context, Result, bail};

use crate::clock::{DAY, HOUR, MINUTE, Ms, SECOND, date, days, london, weekday};

/// Pipelines, and what happens in order of time.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Jobs by index.
    pub jobs: Vec<Job>,
    /// Schedules that are on from the beginning, and those that a deploy brings.
    pub schedules: Vec<Schedule>,
    /// Sensors.
    pub sensors: Vec<Sensor>,
    /// What happens.
    pub events: Vec<(Ms, What)>,
    /// Where it begins.
    pub from: Ms,
    /// Where it ends.
    pub until: Ms,
}

/// One job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// How long its runs take.
    pub seconds: i64,
}

/// One schedule, in London's time.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// The job that it starts.
    pub job: usize,
    /// The first tick of a day, after midnight.
    pub at: Ms,
    /// Further ticks of the day, so far apart; 0 for none.
    pub every: Ms,
    /// Monday to Friday only.
    pub workdays: bool,
    /// Not there before a deploy brings it.
    pub deployed: bool,
}

impl Schedule {
    /// The first tick after this instant.
    pub fn after(&self, at: Ms) -> Ms {
        let mut day = crate::clock::london_day(at) - 1;
        loop {
            if !self.workdays || weekday(day) < 5 {
                // Those well before `at` are left out; the clocks change by an hour.
                let before = at - HOUR - london(day, self.at);
                let mut of_day = self.at + if self.every > 0 { (before / self.every).max(0) * self.every } else { 0 };
                while of_day < DAY {
                    let tick = london(day, of_day);
                    if tick > at {
                        return tick;
                    }
                    if self.every == 0 {
                        break;
                    }
                    of_day += self.every;
                }
            }
            day += 1;
        }
    }
}

/// One sensor.
#[derive(Debug, Clone)]
pub struct Sensor {
    /// Its name.
    pub name: String,
    /// At least so long between two ticks.
    pub interval: Ms,
    /// The job whose successful runs it looks for; none if it looks at something outside of Dagster.
    pub watches: Option<usize>,
    /// The job that it starts.
    pub job: usize,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file arrives, for a job.
    Arrival(usize),
    /// Something outside of Dagster happens that a sensor looks for.
    Outside(usize),
    /// A person has Dagster's page open for so long.
    Visit(Ms),
    /// A person starts a run from the page.
    Launch(usize),
    /// A person starts a backfill of so many runs, once Dagster is there.
    Backfill(usize, u32),
    /// `hubctl power stay-awake`.
    StayAwake(Ms),
    /// Somebody starts the services by hand.
    ByHand,
    /// New code, which brings a schedule or brings nothing.
    Deploy(Option<usize>),
}

/// No number of a trace is larger.
const MOST: i64 = 1_000_000;

fn either(word: &str, yes: &str, no: &str) -> Result<bool> {
    if word == yes || word == no { Ok(word == yes) } else { bail!("{yes} or {no} is expected, not {word}") }
}

impl Trace {
    /// Read one.
    pub fn parse(text: &str) -> Result<Self> {
        let mut trace = Self::default();
        let mut lines = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() && line != "time,what,name,value" {
                trace.read(line).with_context(|| format!("line {number} (`{line}`)"))?;
            }
            lines.resize(trace.events.len(), number);
        }
        if trace.until <= trace.from {
            bail!("the trace needs a line `TIME,from,,` and a later `TIME,until,,`");
        }
        let mut events = trace.events.iter().zip(lines);
        if let Some(((at, _), line)) = events.find(|((at, _), _)| *at < trace.from || *at >= trace.until) {
            bail!("line {line}: {} is not between `from` and `until`", crate::clock::stamp(*at));
        }
        trace.events.sort_by_key(|(at, _)| *at);
        Ok(trace)
    }

    fn read(&mut self, line: &str) -> Result<()> {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [time, what, name, value] = fields[..] else { bail!("four fields are expected: time,what,name,value") };
        let at = || -> Result<Ms> {
            Ok(time.parse::<jiff::Timestamp>().context("the time is like 2027-01-01T00:00:00Z")?.as_millisecond())
        };
        let parts: Vec<&str> = value.split_whitespace().collect();
        let part = |index: usize, is: &str| {
            parts.get(index).copied().with_context(|| format!("the value lacks {is}, its word {}", index + 1))
        };
        let number = |index: usize, is: &str| -> Result<i64> {
            let word = part(index, is)?;
            let number = word.parse().ok().filter(|number| (1..=MOST).contains(number));
            number.with_context(|| format!("{is} is a whole number from 1 to {MOST}, not {word}"))
        };
        let minutes = || number(0, "how many minutes").map(|minutes| minutes * MINUTE);
        let job = |name: &str| {
            self.jobs.iter().position(|one| one.name == name).with_context(|| format!("there is no job {name} above"))
        };
        let event = match what {
            "from" => return at().map(|at| self.from = at),
            "until" => return at().map(|at| self.until = at),
            "job" | "schedule" | "sensor" if name.is_empty() => bail!("a {what} needs a name"),
            "job" => {
                self.jobs.push(Job { name: name.into(), seconds: number(0, "how many seconds its runs take")? });
                return Ok(());
            }
            "schedule" => {
                let time = part(1, "the time of day")?;
                let of_day =
                    time.split_once(':').and_then(|(hour, minute)| Some((hour.parse().ok()?, minute.parse().ok()?)));
                let Some((hour @ 0..24, minute @ 0..60)) = of_day else {
                    bail!("the time of day is like 02:00, not {time}")
                };
                self.schedules.push(Schedule {
                    name: name.into(),
                    job: job(part(0, "the job")?)?,
                    at: hour * HOUR + minute * MINUTE,
                    every: if parts.len() > 4 { number(4, "minutes between two ticks")? * MINUTE } else { 0 },
                    workdays: either(part(2, "workdays or daily")?, "workdays", "daily")?,
                    deployed: either(part(3, "deployed or on")?, "deployed", "on")?,
                });
                return Ok(());
            }
            "sensor" => {
                let watches = match part(1, "the job that it watches, or outside")? {
                    "outside" => None,
                    watched => Some(job(watched)?),
                };
                let interval = number(0, "how many seconds are between two ticks")? * SECOND;
                self.sensors.push(Sensor {
                    name: name.into(),
                    interval,
                    watches,
                    job: job(part(2, "the job that it starts")?)?,
                });
                return Ok(());
            }
            "arrival" => What::Arrival(job(name)?),
            "outside" => What::Outside(
                self.sensors
                    .iter()
                    .position(|one| one.name == name)
                    .with_context(|| format!("there is no sensor {name} above"))?,
            ),
            "visit" => What::Visit(minutes()?),
            "launch" => What::Launch(job(name)?),
            "backfill" => What::Backfill(job(name)?, number(0, "how many runs")? as u32),
            "stay-awake" => What::StayAwake(minutes()?),
            "by-hand" => What::ByHand,
            "deploy" if name.is_empty() => What::Deploy(None),
            "deploy" => What::Deploy(Some(
                self.schedules
                    .iter()
                    .position(|one| one.name == name)
                    .with_context(|| format!("there is no schedule {name} above"))?,
            )),
            other => bail!(
                "`{other}` is none of from, until, job, schedule, sensor, arrival, outside, visit, launch, backfill, stay-awake, \
                 by-hand, deploy"
            ),
        };
        let at = at()?;
        self.events.push((at, event));
        Ok(())
    }

    /// Write it.
    pub fn write(&self) -> String {
        let mut text = String::from("time,what,name,value\n");
        let job = |index: usize| self.jobs[index].name.as_str();
        let mut line = |at: Option<Ms>, what: &str, name: &str, value: String| {
            let time = at.map(|at| crate::clock::stamp(at).to_string()).unwrap_or_default();
            text += &format!("{time},{what},{name},{value}\n");
        };
        line(Some(self.from), "from", "", String::new());
        line(Some(self.until), "until", "", String::new());
        for one in &self.jobs {
            line(None, "job", &one.name, one.seconds.to_string());
        }
        for one in &self.schedules {
            let days = if one.workdays { "workdays" } else { "daily" };
            let (hour, minute) = (one.at / HOUR, one.at % HOUR / MINUTE);
            let from = if one.deployed { "deployed" } else { "on" };
            let every = if one.every > 0 { format!(" {}", one.every / MINUTE) } else { String::new() };
            line(None, "schedule", &one.name, format!("{} {hour:02}:{minute:02} {days} {from}{every}", job(one.job)));
        }
        for one in &self.sensors {
            let watches = one.watches.map_or("outside", job);
            line(None, "sensor", &one.name, format!("{} {watches} {}", one.interval / SECOND, job(one.job)));
        }
        for (at, what) in &self.events {
            let (word, name, value) = match what {
                What::Arrival(index) => ("arrival", job(*index), String::new()),
                What::Outside(index) => ("outside", self.sensors[*index].name.as_str(), String::new()),
                What::Visit(span) => ("visit", "", (span / MINUTE).to_string()),
                What::Launch(index) => ("launch", job(*index), String::new()),
                What::Backfill(index, count) => ("backfill", job(*index), count.to_string()),
                What::StayAwake(span) => ("stay-awake", "", (span / MINUTE).to_string()),
                What::ByHand => ("by-hand", "", String::new()),
                What::Deploy(schedule) => {
                    ("deploy", schedule.map_or("", |index| self.schedules[index].name.as_str()), String::new())
                }
            };
            line(Some(*at), word, name, value);
        }
        text
    }

    /// A year of a typical LA: a nightly synchronization that two sensors at 3600 s carry on, statutory returns uploaded in
    /// their windows and carried on by the same sensors, visits on workdays, a backfill and a deploy now and then.
    pub fn typical(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x7EA2);
        let job = |name: &str, seconds| Job { name: name.into(), seconds };
        let mut trace = Self {
            jobs: vec![
                job("sync", 900),
                job("ssda903", 1500),
                job("cin", 1200),
                job("annex_a", 900),
                job("clean", 900),
                job("publish", 600),
                job("report", 300),
            ],
            from: days(2027, 1, 1) * DAY,
            until: days(2028, 1, 1) * DAY,
            ..Self::default()
        };
        let nightly = HOUR * rng.i64(1..5) + MINUTE * 15 * rng.i64(0..4);
        let schedule = |name: &str, job, at, workdays, deployed| Schedule {
            name: name.into(),
            job,
            at,
            every: 0,
            workdays,
            deployed,
        };
        trace.schedules.push(schedule("nightly", 0, nightly, false, false));
        trace.schedules.push(schedule("weekly_report", 6, 6 * HOUR + 30 * MINUTE, true, true));
        let sensor = |name: &str, watches, job| Sensor {
            name: name.into(),
            interval: 3600 * SECOND,
            watches: Some(watches),
            job,
        };
        for (index, dataset) in ["sync", "ssda903", "cin", "annex_a"].into_iter().enumerate() {
            trace.sensors.push(sensor(&format!("after_{dataset}"), index, 4));
        }
        trace.sensors.push(sensor("after_clean", 4, 5));
        let mut deployed = false;
        for day in trace.from / DAY..trace.until / DAY {
            let (_, month, of_month) = date(day);
            let workday = weekday(day) < 5;
            let during = |rng: &mut fastrand::Rng| london(day, 9 * HOUR + rng.i64(0..8 * HOUR));
            // SSDA903: yearly return April to June, and after each quarter; CIN: April to July; Annex A: monthly, first days.
            let mut upload = |rng: &mut fastrand::Rng, job: usize, chance: f64| {
                if workday && rng.f64() < chance {
                    let at = during(rng);
                    for copy in 0..rng.i64(1..4) {
                        trace.events.push((at + copy * rng.i64(5..90) * SECOND, What::Arrival(job)));
                    }
                }
            };
            let quarter = matches!(month, 1 | 7 | 10) && of_month <= 14;
            upload(
                &mut rng,
                1,
                if (4..=6).contains(&month) {
                    0.35
                } else if quarter {
                    0.3
                } else {
                    0.02
                },
            );
            upload(&mut rng, 2, if (4..=7).contains(&month) { 0.25 } else { 0.01 });
            upload(&mut rng, 3, if of_month <= 7 { 0.3 } else { 0.02 });
            if workday && rng.f64() < 0.25 {
                let at = during(&mut rng);
                let stays = rng.i64(2..30) * MINUTE;
                trace.events.push((at, What::Visit(stays)));
                if rng.f64() < 0.2 {
                    trace.events.push((at + stays / 2, What::Launch(rng.usize(0..trace.jobs.len()))));
                }
            }
            if workday && rng.f64() < 0.01 {
                trace.events.push((during(&mut rng), What::Backfill(rng.usize(0..4), rng.u32(2..12))));
            }
            if workday && rng.f64() < 0.01 {
                trace.events.push((during(&mut rng), What::StayAwake(rng.i64(1..4) * HOUR)));
            }
            if rng.f64() < 0.003 {
                trace.events.push((during(&mut rng), What::ByHand));
            }
            if workday && rng.f64() < 0.03 {
                let brings = (!deployed).then_some(1);
                deployed = true;
                trace.events.push((during(&mut rng), What::Deploy(brings)));
            }
        }
        trace.events.sort_by_key(|(at, _)| *at);
        trace
    }

    /// Any LA: other pipelines, other habits; a month of it.
    pub fn any(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0xA11);
        let mut trace = Self::default();
        let starts = [days(2027, 3, 10), days(2027, 10, 12), days(2027, rng.i64(1..13), 1)];
        trace.from = starts[rng.usize(0..3)] * DAY;
        trace.until = trace.from + 30 * DAY;
        let jobs = rng.usize(2..7);
        for index in 0..jobs {
            trace.jobs.push(Job { name: format!("job{index}"), seconds: rng.i64(10..3600) });
        }
        for index in 0..rng.usize(0..4) {
            let every = if rng.f64() < 0.25 { MINUTE * [5, 15, 60, 240][rng.usize(0..4)] } else { 0 };
            let at = if every > 0 { 0 } else { MINUTE * rng.i64(0..1440) };
            let (job, workdays, deployed) = (rng.usize(0..jobs), rng.bool(), rng.f64() < 0.3);
            trace.schedules.push(Schedule { name: format!("schedule{index}"), job, at, every, workdays, deployed });
        }
        // Chains go upwards, so that they end.
        for job in 1..jobs {
            if rng.f64() < 0.7 {
                let interval = SECOND * [30, 60, 300, 900, 3600][rng.usize(0..5)];
                let watches = (rng.f64() < 0.85).then(|| rng.usize(0..job));
                trace.sensors.push(Sensor { name: format!("sensor{job}"), interval, watches, job });
            }
        }
        let times = |rng: &mut fastrand::Rng, most: usize| -> Vec<Ms> {
            (0..rng.usize(0..most + 1)).map(|_| trace.from + rng.i64(HOUR..30 * DAY)).collect()
        };
        let mut events = Vec::new();
        for at in times(&mut rng, 60) {
            let job = rng.usize(0..jobs);
            events.extend((0..rng.i64(1..5)).map(|copy| (at + copy * rng.i64(1..200) * SECOND, What::Arrival(job))));
        }
        events.extend(times(&mut rng, 20).into_iter().map(|at| (at, What::Visit(rng.i64(1..60) * MINUTE))));
        events.extend(times(&mut rng, 10).into_iter().map(|at| (at, What::Launch(rng.usize(0..jobs)))));
        events.extend(times(&mut rng, 3).into_iter().map(|at| (at, What::Backfill(rng.usize(0..jobs), rng.u32(1..8)))));
        events.extend(times(&mut rng, 2).into_iter().map(|at| (at, What::StayAwake(rng.i64(1..600) * MINUTE))));
        events.extend(times(&mut rng, 3).into_iter().map(|at| (at, What::ByHand)));
        events.extend(times(&mut rng, 2).into_iter().map(|at| (at, What::Deploy(None))));
        let outside: Vec<usize> = (0..trace.sensors.len()).filter(|at| trace.sensors[*at].watches.is_none()).collect();
        for sensor in outside {
            events.extend(times(&mut rng, 6).into_iter().map(|at| (at, What::Outside(sensor))));
        }
        for (index, _) in trace.schedules.iter().enumerate().filter(|(_, one)| one.deployed) {
            events.push((trace.from + rng.i64(HOUR..20 * DAY), What::Deploy(Some(index))));
        }
        events.retain(|(at, _)| *at < trace.until);
        trace.events = events;
        trace.events.sort_by_key(|(at, _)| *at);
        trace
    }
}
