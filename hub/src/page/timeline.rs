//! How one LA was in the last two days: in pictures, and the same in tables for whom a picture tells nothing.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use maud::{Markup, html};
use sfdata_common::{
    health::word,
    history::{health_line, power, power_line, watched},
    words::long,
};
use sfdata_proto::v1::{
    GetHistoryRequest, GetHistoryResponse, HealthWord, HistorySpan, HistoryStep, PowerPhase,
    operator_service_server::OperatorService as _,
};
use tonic::Status;

use super::{
    Page, Viewer,
    charts::{Lane, Lanes},
    layout::scroll,
    text,
};
use crate::history::level::Level;

/// How far it goes back, in seconds.
const BACK: i64 = 48 * 3600;
/// Causes that have a lane of their own; the tables have all.
const CAUSES: usize = 8;

/// What of it changes while somebody looks. Each part has an id, and takes the place of the one before.
pub(super) struct Timeline {
    pictures: Markup,
    sums: Markup,
    hours: Markup,
}

impl Timeline {
    /// As it is now.
    pub(super) async fn now(page: &Page, viewer: &Viewer, id: &str, now: Timestamp) -> Result<Self, Status> {
        let until = now.as_second() + 1;
        let from = Level::Slot.begin(Level::Slot.at(until - BACK));
        let ask = async |step: HistoryStep| {
            let (from_unix_ms, until_unix_ms) = (from * 1000, until * 1000);
            let asked = GetHistoryRequest { agent_id: id.to_owned(), from_unix_ms, until_unix_ms, step: step.into() };
            Ok::<GetHistoryResponse, Status>(page.operators.get_history(viewer.ask(asked)).await?.into_inner())
        };
        let slots = ask(HistoryStep::FiveMinutes).await?;
        let hours = ask(HistoryStep::Hour).await?;
        let pictures = html! {
            div id="timeline" {
                (Lanes { label: "Health in the last 48 hours", from, until, lanes: health_lanes(&slots.spans) }.show())
                (Lanes { label: "Power in the last 48 hours, by phase and cause", from, until, lanes: power_lanes(&slots.spans) }.show())
            }
        };
        Ok(Self { pictures, sums: sums(&slots.total.unwrap_or_default()), hours: by_hour(&hours.spans) })
    }

    /// The whole section.
    pub(super) fn section(&self) -> Markup {
        let head = |names: &[&str]| html! { thead { tr { @for name in names { th scope="col" { (name) } } } } };
        html! {
            h2 { "The last 48 hours" }
            (self.pictures)
            (scroll("Time in each state", &html! {
                table { (head(&["Of", "State", "Time", "Share"])) (self.sums) }
            }))
            details {
                summary { "Hour by hour" }
                (scroll("Hour by hour", &html! {
                    table { (head(&["From (UTC)", "Health", "Power", "Woken", "Most tasks", "Most arrivals waiting"])) (self.hours) }
                }))
            }
        }
    }

    /// What takes the place of what was.
    pub(super) fn parts(&self) -> Markup {
        html! { (self.pictures) (self.sums) (self.hours) }
    }
}

/// Time by state, of all that was looked at.
fn sums(total: &HistorySpan) -> Markup {
    let all = watched(total);
    let row = |of: &str, state: &str, seconds: u32| {
        let share = 100.0 * f64::from(seconds) / f64::from(all.max(1));
        html! {
            tr {
                th scope="row" { (of) } td { (text(state)) }
                td class="number" { (long(Duration::from_secs(seconds.into()))) } td class="number" { (format!("{share:.1} %")) }
            }
        }
    };
    html! {
        tbody id="time-in-states" {
            @if all == 0 { tr { td colspan="4" { "Nothing is known of that time yet." } } }
            @for time in &total.health { (row("Health", &word(time.word()), time.seconds)) }
            @for time in &total.power { (row("Power", &power(time.phase(), &time.cause), time.seconds)) }
        }
    }
}

fn by_hour(spans: &[HistorySpan]) -> Markup {
    html! {
        tbody id="hours" {
            @for span in spans.iter().rev() {
                tr {
                    th scope="row" { (Timestamp::from_millisecond(span.begin_unix_ms).unwrap_or_default().strftime("%d %b %H:%M")) }
                    td { (health_line(span)) }
                    td { (text(&power_line(span))) }
                    td class="number" { (span.wakes) }
                    td class="number" { (span.tasks_most) }
                    td class="number" { (span.arrivals_most) }
                }
            }
        }
    }
}

fn health_lanes(spans: &[HistorySpan]) -> Vec<Lane> {
    let of = |span: &HistorySpan| span.health.iter().map(|time| (time.word(), time.seconds)).collect();
    let colour = |word: HealthWord| match word {
        HealthWord::Healthy => 2,
        HealthWord::Failing => 1,
        HealthWord::Degraded => 4,
        HealthWord::Away => 3,
        HealthWord::Held => 5,
        HealthWord::Asleep | HealthWord::Unspecified => 6,
    };
    let lanes = bars(spans, of).into_iter();
    lanes.map(|(state, bars)| Lane { name: word(state), colour: colour(state), bars }).collect()
}

fn power_lanes(spans: &[HistorySpan]) -> Vec<Lane> {
    let mut causes: BTreeMap<&str, u32> = BTreeMap::new();
    let awake = spans.iter().flat_map(|span| &span.power).filter(|time| time.phase() == PowerPhase::Awake);
    awake.for_each(|time| *causes.entry(&time.cause).or_default() += time.seconds);
    let mut causes: Vec<(&str, u32)> = causes.into_iter().collect();
    causes.sort_by_key(|(_, seconds)| std::cmp::Reverse(*seconds));
    let apart: Vec<&str> = causes.iter().take(CAUSES).map(|(cause, _)| *cause).collect();
    let of = |span: &HistorySpan| {
        let lane = |phase: PowerPhase, cause: &str| match phase {
            PowerPhase::Awake if apart.contains(&cause) => (phase, power(phase, cause)),
            PowerPhase::Awake => (phase, power(phase, "other causes")),
            _ => (phase, power(phase, "")), // what it wakes for it is awake for
        };
        span.power.iter().map(|time| (lane(time.phase(), &time.cause), time.seconds)).collect()
    };
    let colour = |phase: PowerPhase| match phase {
        PowerPhase::Awake => 0,
        PowerPhase::Waking => 4,
        PowerPhase::Draining => 3,
        PowerPhase::Asleep | PowerPhase::Unspecified => 6,
    };
    let lanes = bars(spans, of).into_iter();
    lanes.map(|((phase, name), bars)| Lane { name: text(&name), colour: colour(phase), bars }).collect()
}

/// When each state was: a span is parted by how long each was, what goes on from the span before first. Their order within five
/// minutes is not known.
fn bars<S: Ord + Clone>(
    spans: &[HistorySpan],
    of: impl Fn(&HistorySpan) -> Vec<(S, u32)>,
) -> BTreeMap<S, Vec<(i64, i64)>> {
    let mut bars: BTreeMap<S, Vec<(i64, i64)>> = BTreeMap::new();
    let mut last: Option<S> = None;
    for span in spans {
        let mut times = of(span);
        times.sort_by_key(|(state, _)| last.as_ref() != Some(state));
        let mut at = span.begin_unix_ms.div_euclid(1000);
        for (state, seconds) in times.into_iter().filter(|(_, seconds)| *seconds > 0) {
            let until = at + i64::from(seconds);
            let of_state = bars.entry(state.clone()).or_default();
            match of_state.last_mut().filter(|(_, end)| *end == at) {
                Some((_, end)) => *end = until,
                None => of_state.push((at, until)),
            }
            (at, last) = (until, Some(state));
        }
    }
    bars
}

#[cfg(test)]
mod tests {
    use sfdata_proto::v1::{HealthTime, PowerTime};

    use super::*;

    fn span(number: i64, power: &[(PowerPhase, &str, u32)]) -> HistorySpan {
        let power = power.iter().map(|(phase, cause, seconds)| PowerTime {
            phase: (*phase).into(),
            cause: (*cause).into(),
            seconds: *seconds,
        });
        let health = vec![HealthTime { word: HealthWord::Healthy.into(), seconds: 300 }];
        HistorySpan { begin_unix_ms: number * 300_000, power: power.collect(), health, ..Default::default() }
    }

    #[test]
    fn what_goes_on_is_one_bar_and_what_was_not_seen_is_a_gap() {
        use PowerPhase::{Asleep, Awake, Draining, Waking};
        let spans = [
            span(0, &[(Asleep, "", 300)]),
            span(1, &[(Asleep, "", 100), (Waking, "runs", 60), (Awake, "runs", 140)]),
            span(2, &[(Asleep, "", 40), (Awake, "runs", 200), (Draining, "runs", 60)]),
            span(9, &[(Asleep, "", 120)]),
        ];
        let lanes = power_lanes(&spans);
        let told: Vec<(&str, &[(i64, i64)])> = lanes.iter().map(|lane| (&*lane.name, &*lane.bars)).collect();
        let expected: [(&str, &[(i64, i64)]); 4] = [
            ("asleep", &[(0, 400), (800, 840), (2700, 2820)]),
            ("waking", &[(400, 460)]),
            ("awake for runs", &[(460, 800)]),
            ("draining", &[(840, 900)]),
        ];
        assert_eq!(told, expected);
        assert_eq!(health_lanes(&spans)[0].bars, [(0, 900), (2700, 3000)]);
        assert!(bars(&[], |_| Vec::<((), u32)>::new()).is_empty());
    }

    #[test]
    fn many_causes_share_a_lane_and_every_second_has_its_place() {
        let names: Vec<String> = (0..20).map(|number| format!("<cause-{number:02}>\u{1b}")).collect();
        let spans: Vec<HistorySpan> =
            (0..200).map(|at: i64| span(at, &[(PowerPhase::Awake, &names[at as usize % 20], 300)])).collect();
        let lanes = power_lanes(&spans);
        assert_eq!(lanes.len(), CAUSES + 1);
        let seconds: i64 = lanes.iter().flat_map(|lane| &lane.bars).map(|(from, until)| until - from).sum();
        assert_eq!(seconds, 200 * 300);
        assert!(lanes.iter().any(|lane| lane.name == "awake for other causes"));
        let drawn = Lanes { label: "Power", from: 0, until: 60_000, lanes }.show().into_string();
        assert_eq!(drawn.matches("<rect").count(), 10 * (CAUSES + 1), "{drawn}");
        assert!(!drawn.contains("<cause") && !drawn.contains('\u{1b}'), "{drawn}");
    }

    #[test]
    fn one_lane_is_drawn_as_well_and_none_is_nothing() {
        let lane = Lane { name: "healthy".into(), colour: 2, bars: vec![(1_000, 90_000)] };
        let lanes = Lanes { label: "Health", from: 0, until: 172_800, lanes: vec![lane] };
        let drawn = lanes.show().into_string();
        assert!(drawn.contains("healthy") && drawn.contains("02 Jan") && drawn.contains("06:00"), "{drawn}");
        assert_eq!(Lanes { lanes: vec![], ..lanes }.show().into_string(), "");
        assert!(sums(&HistorySpan::default()).into_string().contains("Nothing is known"));
    }
}
