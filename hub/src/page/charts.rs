//! Charts as SVG, and the short history of each LA that the fleet's page shows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use jiff::{Timestamp, tz::TimeZone};
use maud::{Markup, PreEscaped, html};
use plotters::{
    backend::SVGBackend,
    chart::ChartBuilder,
    coord::{
        Shift,
        combinators::BindKeyPoints as _,
        ranged1d::{IntoSegmentedCoord as _, SegmentValue},
    },
    drawing::{DrawingArea, IntoDrawingArea as _},
    element::Rectangle,
    series::LineSeries,
    style::{Color as _, RGBColor, TRANSPARENT},
};
use sfdata_common::{
    ids::AgentId,
    usage::{Hour, days::day_number},
};
use sfdata_proto::v1::UsageGroup;
use tokio::sync::Mutex;
use tonic::Status;

use crate::{
    api::operator::Operators,
    store,
    usage::estimate::{self, MICROS, Question},
};

/// How long a short history is shown before it is reckoned anew; agents tell of usage every few minutes at most.
const FRESH: Duration = Duration::from_secs(300);
/// Days of a short history.
const DAYS: u32 = 30;
/// A small chart, in pixels.
const SPARK: (u32, u32) = (60, 16);
/// A large one.
const LARGE: (u32, u32) = (900, 240);
/// Between a column's edge and its place's, in pixels.
const GAP: u32 = 2;
/// Height of a lane.
const LANE: u32 = 24;
/// Between the marks of a time line, in seconds.
const MARKS: i64 = 6 * 3600;
/// Characters of a lane's name that are shown.
const LANE_NAME: usize = 24;
/// Axes, in a grey that is seen on white and on black.
const GREY: RGBColor = RGBColor(128, 128, 128);
/// Series, told apart with any kind of sight (Okabe and Ito, 2008), each seen on white and on black.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(150, 130, 0),
    RGBColor(70, 150, 200),
    RGBColor(120, 120, 120),
];

/// Thirty days of one LA.
pub(super) struct Brief {
    /// Hours that the platform was awake.
    pub(super) awake_hours: f64,
    /// In the prices' currency.
    pub(super) cost: f64,
    /// Hours by day.
    pub(super) awake_chart: Markup,
    /// Cost by day.
    pub(super) cost_chart: Markup,
}

/// Of every LA.
#[derive(Default)]
pub(super) struct Briefs {
    /// By id.
    pub(super) agents: HashMap<String, Brief>,
    currency: Option<String>,
    reckoned: Option<Instant>,
}

impl Briefs {
    /// `, USD`, where there is a price list.
    pub(super) fn unit(&self) -> String {
        self.currency.as_ref().map_or_else(String::new, |currency| format!(", {currency}"))
    }

    fn is_fresh(&self) -> bool {
        self.reckoned.is_some_and(|at| at.elapsed() < FRESH)
    }
}

/// The short histories, reckoned when somebody looks and they are old.
#[derive(Default)]
pub(super) struct Overview {
    briefs: ArcSwap<Briefs>,
    reckoning: Arc<Mutex<()>>,
}

impl Overview {
    /// As last reckoned.
    pub(super) fn known(&self) -> Arc<Briefs> {
        self.briefs.load_full()
    }

    /// Fresh, or old while somebody else reckons them anew; only the first viewer ever waits.
    pub(super) async fn briefs(self: &Arc<Self>, operators: &Operators) -> Result<Arc<Briefs>, Status> {
        let known = self.known();
        if known.is_fresh() {
            return Ok(known);
        }
        let Ok(turn) = Arc::clone(&self.reckoning).try_lock_owned() else { return Ok(known) };
        let (overview, operators) = (Arc::clone(self), operators.clone());
        let reckoning = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            overview.briefs.store(Arc::new(reckon(&operators)?));
            Ok::<_, store::Error>(())
        });
        if known.reckoned.is_some() {
            return Ok(known);
        }
        match reckoning.await {
            Ok(Ok(())) => Ok(self.known()),
            _ => Err(Status::internal("the usage could not be summed up; see the hub's log")),
        }
    }
}

fn reckon(operators: &Operators) -> Result<Briefs, store::Error> {
    let now = Timestamp::now();
    let until = Hour::of(now).day() + 1;
    let from = until - DAYS;
    let agents = operators.usage.agents()?;
    let days = operators.usage.days(&agents, from, until)?;
    let mut briefs =
        Briefs { reckoned: Some(Instant::now()), currency: operators.costs.currency(), ..Briefs::default() };
    for days in days.chunk_by(|(a, ..), (b, ..)| a == b) {
        let Some((agent, ..)) = days.first() else { continue };
        let question = Question {
            from,
            until,
            group: UsageGroup::Day,
            prices: &operators.costs.prices,
            budgets: &|_: &AgentId| None,
            bills: &[],
            now,
        };
        let answer = estimate::answer(&question, days);
        let (mut awake, mut costs) = ([0.0; DAYS as usize], [0.0; DAYS as usize]);
        for row in &answer.rows {
            let day = row.name.parse().map(day_number).unwrap_or_default();
            let place = usize::try_from(day.saturating_sub(from)).unwrap_or(usize::MAX);
            if let (Some(hours), Some(cost)) = (awake.get_mut(place), costs.get_mut(place)) {
                (*hours, *cost) = (row.awake_hours, row.cost_micros as f64 / MICROS);
            }
        }
        let brief = Brief {
            awake_hours: awake.iter().sum(),
            cost: costs.iter().sum(),
            awake_chart: spark(&awake),
            cost_chart: spark(&costs),
        };
        briefs.agents.insert(agent.to_string(), brief);
    }
    Ok(briefs)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Text of a drawing; one that fails is left out, since every number is beside it in words.
fn drawing(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Option<()>) -> Markup {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let whole = draw(&area).and_then(|()| area.present().ok());
    drop(area);
    PreEscaped(whole.map(|()| svg.replace('\n', "")).unwrap_or_default())
}

/// One line, without axes: a number beside it says what it comes to.
fn spark(values: &[f64]) -> Markup {
    let top = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let svg = drawing(SPARK, |area| {
        let last = u32::try_from(values.len()).ok()?.saturating_sub(1);
        let mut chart = ChartBuilder::on(area).build_cartesian_2d(0..last, 0.0..top).ok()?;
        chart.draw_series(LineSeries::new((0..).zip(values.iter().copied()), COLOURS[0])).ok()?;
        Some(())
    });
    html! { span aria-hidden="true" { (svg) } }
}

/// Columns with their parts one upon the other.
pub(super) struct Columns<'a> {
    /// What it shows, for those who don't see it.
    pub(super) label: &'a str,
    /// What the numbers are.
    pub(super) unit: &'a str,
    /// Names of the columns.
    pub(super) names: Vec<String>,
    /// Names of the parts, and what each has in each column.
    pub(super) parts: BTreeMap<String, Vec<f64>>,
}

impl Columns<'_> {
    /// With a legend where there is more than one part.
    pub(super) fn show(&self) -> Markup {
        let empty = self.parts.values().flatten().all(|value| *value <= 0.0);
        html! {
            figure {
                figcaption { (self.label) ", " (self.unit) }
                @if empty {
                    p { "Nothing is known of that time." }
                } @else {
                    div class="chart" role="img" aria-label={ (self.label) ": the table below has the numbers" } { (self.draw()) }
                    @if self.parts.len() > 1 {
                        ul class="legend" {
                            @for (number, name) in self.parts.keys().enumerate() {
                                li { span class={ "key k" (number % COLOURS.len()) } aria-hidden="true" {} (name) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn draw(&self) -> Markup {
        let count = self.names.len();
        let sum = |column: usize| -> f64 { self.parts.values().filter_map(|part| part.get(column)).sum() };
        let top = (0..count).map(sum).fold(f64::MIN_POSITIVE, f64::max) * 1.05;
        drawing(LARGE, |area| {
            let mut chart = ChartBuilder::on(area)
                .margin(8)
                .x_label_area_size(28)
                .y_label_area_size(56)
                .build_cartesian_2d((0..count.saturating_sub(1)).into_segmented(), 0.0..top)
                .ok()?;
            let name = |at: &SegmentValue<usize>| match at {
                SegmentValue::CenterOf(at) => self.names.get(*at).cloned().unwrap_or_default(),
                _ => String::new(),
            };
            chart
                .configure_mesh()
                .disable_x_mesh()
                .x_labels(12)
                .y_labels(5)
                .label_style(("sans-serif", 12))
                .x_label_formatter(&name)
                .axis_style(GREY)
                .light_line_style(TRANSPARENT)
                .bold_line_style(GREY.mix(0.3))
                .draw()
                .ok()?;
            let mut below = vec![0.0; count];
            for (number, part) in self.parts.values().enumerate() {
                let colour = COLOURS[number % COLOURS.len()];
                let blocks = below.iter_mut().zip(part).enumerate().filter(|(_, (_, value))| **value > 0.0);
                let blocks = blocks.map(|(column, (below, value))| {
                    let from = *below;
                    *below += *value;
                    let corners = [(SegmentValue::Exact(column), from), (SegmentValue::Exact(column + 1), *below)];
                    let mut block = Rectangle::new(corners, colour.filled());
                    block.set_margin(0, 0, GAP, GAP);
                    block
                });
                chart.draw_series(blocks.collect::<Vec<_>>()).ok()?;
            }
            Some(())
        })
    }
}

/// When something was so: a lane for each state, so that no colour need be told from another.
pub(super) struct Lanes<'a> {
    /// What it shows.
    pub(super) label: &'a str,
    /// Begin and end, in seconds since the Unix epoch.
    pub(super) from: i64,
    /// After the last moment.
    pub(super) until: i64,
    /// From above.
    pub(super) lanes: Vec<Lane>,
}

/// One state.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lane {
    /// Its name.
    pub(super) name: String,
    /// A place among the colours.
    pub(super) colour: usize,
    /// From when until when it was so.
    pub(super) bars: Vec<(i64, i64)>,
}

impl Lanes<'_> {
    /// With what it shows; nothing where there are no lanes.
    pub(super) fn show(&self) -> Markup {
        html! {
            @if !self.lanes.is_empty() {
                figure {
                    figcaption { (self.label) ", times in UTC" }
                    div class="chart" role="img" aria-label={ (self.label) ": the tables below tell the same" } { (self.draw()) }
                }
            }
        }
    }

    fn draw(&self) -> Markup {
        let count = u32::try_from(self.lanes.len()).unwrap_or_default();
        drawing((LARGE.0, count * LANE + 44), |area| {
            let first = self.from.div_euclid(MARKS) + 1;
            let marks = (first..).map(|mark| mark * MARKS).take_while(|mark| *mark < self.until).collect();
            // A lane is two high, so that its name stands in its middle.
            let middles = (0..count).map(|lane| 2 * lane + 1).collect();
            let mut chart = ChartBuilder::on(area)
                .margin(8)
                .x_label_area_size(28)
                .y_label_area_size(170)
                .build_cartesian_2d(
                    (self.from..self.until).with_key_points(marks),
                    (0..2 * count).with_key_points(middles),
                )
                .ok()?;
            let name = |middle: &u32| {
                let lane = self.lanes.iter().rev().nth(*middle as usize / 2);
                lane.map(|lane| cut(&lane.name)).unwrap_or_default()
            };
            chart
                .configure_mesh()
                .disable_y_mesh()
                .x_labels(20)
                .y_labels(self.lanes.len())
                .label_style(("sans-serif", 12))
                .x_label_formatter(&|at: &i64| mark(*at))
                .y_label_formatter(&name)
                .axis_style(GREY)
                .light_line_style(TRANSPARENT)
                .bold_line_style(GREY.mix(0.3))
                .draw()
                .ok()?;
            for (lane, below) in self.lanes.iter().rev().zip((0_u32..).step_by(2)) {
                let bars = lane.bars.iter().map(|(from, until)| {
                    let corners = [(*from, below + 2), (*until, below)];
                    let mut bar = Rectangle::new(corners, COLOURS[lane.colour % COLOURS.len()].filled());
                    bar.set_margin(GAP, GAP, 0, 0);
                    bar
                });
                chart.draw_series(bars.collect::<Vec<_>>()).ok()?;
            }
            Some(())
        })
    }
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(LANE_NAME) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_owned(),
    }
}

/// The day at its beginning, else the hour.
fn mark(second: i64) -> String {
    let at = Timestamp::from_second(second).unwrap_or_default().to_zoned(TimeZone::UTC);
    let midnight = second.rem_euclid(24 * 3600) == 0;
    at.strftime(if midnight { "%d %b" } else { "%H:%M" }).to_string()
}
