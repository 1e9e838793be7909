//! What is kept of a fleet that is looked at for days, by clocks that are set, over restarts.

use proptest::prelude::*;
use sfdata_proto::v1::{self as wire, HealthWord, HistorySpan, PowerPhase, PowerState};

use super::*;
use crate::metrics::Metrics;

/// 2026-07-16, twelve o'clock.
const NOON: i64 = 20_650 * 24 * 3600 + 12 * 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn agent(id: &str, word: HealthWord, phase: PowerPhase, cause: &str) -> AgentSummary {
    AgentSummary {
        agent_id: id.into(),
        state: AgentState::Connected.into(),
        health_word: word.into(),
        health: Some(wire::Health {
            power: Some(PowerState { phase: phase.into(), cause: cause.into(), ..Default::default() }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn asleep() -> AgentSummary {
    agent("ely", HealthWord::Asleep, PowerPhase::Asleep, "")
}

fn awake(cause: &str) -> AgentSummary {
    agent("ely", HealthWord::Healthy, PowerPhase::Awake, cause)
}

struct Bench {
    history: History,
    home: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::create(home.path(), Metrics::default()).unwrap();
        Self { history: History::new(store), home }
    }

    /// Look every five seconds, the first time at `from`, and write as the hub does.
    async fn watch(&self, from: i64, until: i64, mut agent: impl FnMut(i64) -> AgentSummary) {
        for second in (from..=until).step_by(5) {
            self.history.look(&[agent(second)], at(second)).unwrap();
            self.history.pass(at(second)).await.unwrap();
        }
    }

    fn read(&self, level: Level, around: i64) -> Vec<HistorySpan> {
        let number = level.at(around);
        let spans = number.saturating_sub(2_000)..number + 2_000;
        let found = self.history.read(&"ely".parse().unwrap(), level, spans).unwrap();
        found.into_iter().map(|(number, times)| times.span(level.begin(number))).collect()
    }

    fn watched(&self, level: Level, around: i64) -> u32 {
        self.read(level, around).iter().flat_map(|span| &span.health).map(|time| time.seconds).sum()
    }

    /// Everything in the store.
    fn written(&self) -> Vec<(Vec<u8>, HistorySpan)> {
        let all = Level::ALL.into_iter().flat_map(|level| self.history.store.scan(level.kind()));
        all.map(Result::unwrap).collect()
    }

    /// As after the hub was killed, or stopped in order.
    async fn restart(self, in_order: Option<i64>) -> Self {
        if let Some(now) = in_order {
            self.history.close(at(now)).await.unwrap();
        }
        let Self { history, home } = self;
        history.store.close().await;
        drop(history);
        Self { history: History::new(Store::open(home.path(), Metrics::default()).unwrap()), home }
    }
}

fn power(spans: &[HistorySpan]) -> Vec<(PowerPhase, String, u32)> {
    let sum = Times::sum(&spans.iter().cloned().map(Times::from).collect::<Vec<_>>());
    sum.span(0).power.into_iter().map(|time| (time.phase(), time.cause.clone(), time.seconds)).collect()
}

#[tokio::test]
async fn each_level_tells_the_same_and_the_present_as_far_as_it_has_come() {
    let bench = Bench::new();
    let cause = |second: i64| match second - NOON {
        0..1800 => asleep(),
        1800..3000 => awake("arrivals"),
        _ => awake("person"),
    };
    bench.watch(NOON, NOON + 3730, cause).await;
    for level in Level::ALL {
        let spans = bench.read(level, NOON);
        assert_eq!(
            spans.len(),
            match level {
                Level::Slot => 13,
                Level::Hour => 2,
                Level::Day => 1,
            }
        );
        assert_eq!(spans[0].begin_unix_ms, level.begin(level.at(NOON)), "a whole span's begin");
        let told = [
            (PowerPhase::Asleep, String::new(), 1800),
            (PowerPhase::Awake, "arrivals".into(), 1200),
            (PowerPhase::Awake, "person".into(), 730),
        ];
        assert_eq!(power(&spans), told, "{level:?}");
        assert_eq!(spans.iter().map(|span| span.wakes).sum::<u32>(), 1, "{level:?}");
        assert_eq!(bench.watched(level, NOON), 3730);
    }
    // What is over is written; who is killed now loses the present slot alone.
    let bench = bench.restart(None).await;
    assert_eq!(Level::ALL.map(|level| bench.watched(level, NOON)), [3600; 3]);
    bench.watch(NOON + 3800, NOON + 3950, cause).await;
    let bench = bench.restart(Some(NOON + 3950)).await;
    assert_eq!(Level::ALL.map(|level| bench.watched(level, NOON)), [3750; 3]);
    // The slot that a stop cut in two is one again.
    bench.watch(NOON + 3955, NOON + 4300, cause).await;
    assert_eq!(Level::ALL.map(|level| bench.watched(level, NOON)), [4095; 3]);
    let before = bench.written();
    for _ in 0..3 {
        bench.history.close(at(NOON + 4300)).await.unwrap();
        bench.history.pass(at(NOON + 4300)).await.unwrap();
    }
    let again = bench.written();
    assert!(again.len() > before.len(), "the present slot");
    bench.history.close(at(NOON + 4300)).await.unwrap();
    assert_eq!(bench.written(), again, "to write again changes nothing");
}

#[tokio::test]
async fn clocks_that_are_set_and_times_that_agents_tell_lose_little_and_add_nothing() {
    let bench = Bench::new();
    let liar = |_| {
        let mut agent = awake("runs");
        let health = agent.health.as_mut().unwrap();
        health.taken_unix_ms = 4_102_444_800_000; // 2100
        health.power.as_mut().unwrap().since_unix_ms = i64::MIN;
        agent
    };
    bench.watch(NOON, NOON + 600, liar).await;
    assert_eq!(bench.watched(Level::Day, NOON), 600);
    // The hub's own clock: five days ahead, back, back an hour, to 1970 and back again.
    let ahead = NOON + 5 * 24 * 3600;
    bench.watch(ahead, ahead + 10, liar).await;
    bench.watch(NOON + 615, NOON + 625, liar).await;
    assert_eq!(bench.watched(Level::Hour, NOON), 600 + 10 + 10, "what was between two clocks is not known");
    bench.watch(NOON, NOON + 600, liar).await;
    assert_eq!(bench.watched(Level::Slot, NOON), 620, "an hour that comes twice has no more seconds than one");
    bench.watch(0, 10, liar).await;
    bench.watch(NOON + 700, NOON + 710, liar).await;
    assert_eq!(bench.watched(Level::Slot, NOON), 630);
    assert_eq!(bench.watched(Level::Day, 0), 10);
    assert_eq!(bench.history.read(&"ely".parse().unwrap(), Level::Day, 0..u32::MAX).unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_old_goes_and_a_clock_set_far_back_takes_nothing_from_what_was_summed_up() {
    let bench = Bench::new();
    bench.watch(NOON, NOON + 3600, |_| asleep()).await;
    let later = |days: i64| at(NOON + 3600 + days * 24 * 3600);
    let counts = |bench: &Bench| Level::ALL.map(|level| bench.read(level, NOON).len());
    bench.history.pass(later(0)).await.unwrap();
    bench.history.forget(later(1)).await.unwrap();
    assert_eq!(counts(&bench), [12, 1, 1]);
    bench.history.forget(later(3)).await.unwrap();
    assert_eq!(counts(&bench), [0, 1, 1]);
    bench.watch(NOON, NOON + 400, |_| asleep()).await;
    bench.history.close(at(NOON + 400)).await.unwrap();
    assert_eq!([bench.watched(Level::Slot, NOON), bench.watched(Level::Hour, NOON)], [400, 3600]);
    let bench = bench.restart(None).await;
    bench.history.forget(later(61)).await.unwrap();
    assert_eq!(counts(&bench)[1..], [0, 1]);
    bench.history.forget(later(3 * 366 + 1)).await.unwrap();
    assert_eq!(counts(&bench)[2], 0);
}

#[tokio::test]
async fn of_a_hub_that_has_just_started_nobody_knows_who_is_away() {
    let mut bench = Bench::new();
    let away = |_| AgentSummary { state: AgentState::Away.into(), health_word: HealthWord::Away.into(), ..asleep() };
    bench.watch(NOON, NOON + 35, away).await;
    assert_eq!(bench.watched(Level::Slot, NOON), 0);
    bench.history.began -= limits::AWAY_AFTER;
    bench.watch(NOON + 40, NOON + 70, away).await;
    let spans = bench.read(Level::Slot, NOON);
    assert_eq!(spans[0].health, [wire::HealthTime { word: HealthWord::Away.into(), seconds: 30 }]);
    assert!(spans[0].power.is_empty(), "what it was at before says nothing of now");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is seen, whenever the hub is restarted, and however often it writes: the levels tell the same, and each second
    /// that was seen counts once.
    #[test]
    fn levels_agree_and_each_second_counts_once(
        looks in prop::collection::vec((1_i64..400, 0_usize..6, 0_u8..8), 1..60),
        start in 0_i64..7200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let causes = ["arrivals", "person", "", "runs", "look", "command"];
            let (mut bench, mut now, mut truth, mut fresh) = (Bench::new(), NOON + start, 0, true);
            for (step, cause, what) in looks {
                now += step;
                let seen = if what % 2 == 0 { asleep() } else { awake(causes[cause]) };
                bench.history.look(&[seen], at(now)).unwrap();
                truth += if fresh || step > 60 { 0 } else { step };
                fresh = false;
                match what {
                    0..4 => bench.history.pass(at(now)).await.unwrap(),
                    4 => bench.history.close(at(now)).await.unwrap(),
                    5 => (bench, fresh) = (bench.restart(Some(now)).await, true),
                    _ => {}
                }
                let told = Level::ALL.map(|level| bench.watched(level, now));
                assert_eq!(told, [u32::try_from(truth).unwrap(); 3]);
                let power = Level::ALL.map(|level| power(&bench.read(level, now)));
                assert!(power[0] == power[1] && power[1] == power[2], "{power:?}");
            }
        });
    }
}
