//! Arrivals as `hubctl arrivals` shows them: what waits, what is parked and why.

use serde_json::{Value, json};
use sfdata_common::Timestamp;
use sfdata_proto::v1::{ArrivalsHealth, ArrivalsListResult, ParkedArrival, WaitingArrival};

use crate::{
    health::none_if_empty,
    table::{Cell, Tone, row},
    words,
};

/// What an agent reports of arrivals.
pub(crate) fn health(health: &ArrivalsHealth) -> Value {
    json!({
        "source": health.source,
        "waiting": health.waiting,
        "parked": health.parked,
        "oldest": words::time(health.oldest_unix_ms),
        "last": words::time(health.last_unix_ms),
        "error": none_if_empty(&health.error),
    })
}

/// The same on one line.
pub(crate) fn line(health: &ArrivalsHealth, now: Timestamp) -> String {
    let since = match health.oldest_unix_ms {
        0 => String::new(),
        oldest => format!(" (the oldest for {})", words::age(oldest, now)),
    };
    let last = match health.last_unix_ms {
        0 => "never handed one on".to_owned(),
        last => format!("handed on {} ago", words::age(last, now)),
    };
    format!("{} waiting{since}, {} parked; {last}; by {}", health.waiting, health.parked, health.source)
}

/// All that was told.
pub(crate) fn list(list: &ArrivalsListResult) -> Value {
    json!({
        "waiting_count": list.waiting_count,
        "parked_count": list.parked_count,
        "waiting": list.waiting.iter().map(waiting).collect::<Vec<_>>(),
        "parked": list.parked.iter().map(parked).collect::<Vec<_>>(),
    })
}

fn waiting(waiting: &WaitingArrival) -> Value {
    json!({
        "id": waiting.id,
        "key": waiting.key,
        "size_bytes": waiting.size_bytes,
        "since": words::time(waiting.since_unix_ms),
        "job": none_if_empty(&waiting.job),
    })
}

fn parked(parked: &ParkedArrival) -> Value {
    json!({
        "id": parked.id,
        "reason": words::park_reason(parked.reason()),
        "detail": parked.detail,
        "parked": words::time(parked.parked_unix_ms),
        "key": none_if_empty(&parked.key),
        "excerpt": none_if_empty(&parked.excerpt),
    })
}

/// Columns of [`list_rows`].
pub(crate) const LIST_COLUMNS: [&str; 5] = ["ARRIVAL", "STATE", "SINCE", "KEY", "DETAIL"];

/// One line each; one line where there is none, and one for those that were not told.
pub(crate) fn list_rows(list: &ArrivalsListResult) -> Vec<Vec<Cell>> {
    let wait = |one: &WaitingArrival| {
        let detail = if one.job.is_empty() { "wakes Dagster".to_owned() } else { format!("launches {}", one.job) };
        row![one.id, "waiting", words::second(one.since_unix_ms), one.key, detail]
    };
    let park = |one: &ParkedArrival| {
        let mut row = row![one.id];
        row.push(Cell::new(format!("parked: {}", words::park_reason(one.reason())), Tone::Bad));
        row.extend(row![words::second(one.parked_unix_ms), one.key, one.detail]);
        row
    };
    let mut rows: Vec<_> = list.waiting.iter().map(wait).chain(list.parked.iter().map(park)).collect();
    let told = rows.len();
    let all = (list.waiting_count + list.parked_count) as usize;
    if all > told {
        rows.push(row!["", "", "", "", format!("and {} more", all - told)]);
    } else if told == 0 {
        rows.push(row!["", "nothing", "", "", ""]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use sfdata_proto::v1::ParkReason;

    use super::*;
    use crate::table::Table;

    #[test]
    fn an_agents_arrivals_are_one_line() {
        let mut health = ArrivalsHealth { waiting: 2, source: "queue".into(), ..Default::default() };
        let now = Timestamp::from_second(1000).unwrap();
        assert_eq!(line(&health, now), "2 waiting, 0 parked; never handed one on; by queue");
        (health.oldest_unix_ms, health.last_unix_ms) = (880_000, 990_000);
        assert_eq!(line(&health, now), "2 waiting (the oldest for 2m), 0 parked; handed on 10s ago; by queue");
    }

    #[test]
    fn a_list_tells_what_waits_what_is_parked_and_how_much_is_not_told() {
        let waits = WaitingArrival { id: "a1".into(), key: "ssda903/a.csv".into(), ..Default::default() };
        let launches = WaitingArrival { id: "a2".into(), job: "ingest".into(), ..waits.clone() };
        let detail = "it is no JSON".into();
        let reason = ParkReason::Unreadable.into();
        let parked = ParkedArrival { id: "a3".into(), reason, detail, ..Default::default() };
        let list = ArrivalsListResult {
            waiting: vec![waits, launches],
            parked: vec![parked],
            waiting_count: 2,
            parked_count: 3,
        };
        let mut table = Table::new(&LIST_COLUMNS);
        list_rows(&list).into_iter().for_each(|row| table.push(row));
        insta::assert_snapshot!(table.render(false), @r"
        ARRIVAL  STATE               SINCE  KEY            DETAIL
        a1       waiting             -      ssda903/a.csv  wakes Dagster
        a2       waiting             -      ssda903/a.csv  launches ingest
        a3       parked: unreadable  -      -              it is no JSON
        -        -                   -      -              and 2 more
        ");
        assert_eq!(super::list(&list)["parked"][0]["key"], Value::Null);
    }
}
