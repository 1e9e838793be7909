//! What a notice says: as JSON for programs, as text for people.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::store::records::{Alert, Notice};

/// Alerts that a text spells out of each kind; whoever wants all looks at the list.
const SPELT: usize = 50;
/// Bytes of a subject: SNS takes no more.
const SUBJECT: usize = 100;

/// For the webhook. Alerts have `agent` (null for the hub itself), `rule`, `name`, `since` and `summary`.
pub(super) fn json(hub: &str, id: &str, notice: &Notice) -> Value {
    let all = |alerts: &[Alert]| alerts.iter().map(alert).collect::<Vec<_>>();
    json!({
        "id": id,
        "hub": hub,
        "at": time(notice.at),
        "firing": all(&notice.firing),
        "resolved": all(&notice.resolved),
        "text": text(notice),
    })
}

fn alert(alert: &Alert) -> Value {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    json!({
        "agent": given(&alert.agent),
        "rule": alert.rule,
        "name": given(&alert.name),
        "since": time(alert.since),
        "summary": alert.summary,
    })
}

fn time(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// On one line: what matters most.
pub(super) fn subject(hub: &str, notice: &Notice) -> String {
    let (firing, resolved) = (notice.firing.len(), notice.resolved.len());
    let mut text = match (firing, resolved) {
        (0, 0) => format!("[sfdata {hub}] a test"),
        (0, _) => format!("[sfdata {hub}] {resolved} over"),
        (1, 0) => format!("[sfdata {hub}] {}", sentence(&notice.firing[0])),
        (_, 0) => format!("[sfdata {hub}] {firing} alerts: {}", sentence(&notice.firing[0])),
        _ => format!("[sfdata {hub}] {firing} alerts, {resolved} over: {}", sentence(&notice.firing[0])),
    };
    text.retain(|c| c.is_ascii_graphic() || c == ' ');
    text.truncate(SUBJECT);
    text
}

/// In whole sentences, one alert on each line.
pub(super) fn text(notice: &Notice) -> String {
    let mut text = String::new();
    for (head, alerts) in [("Wants attention:", &notice.firing), ("Over:", &notice.resolved)] {
        if alerts.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{head}");
        for alert in alerts.iter().take(SPELT) {
            let _ = writeln!(text, "  {} ({}, since {})", sentence(alert), alert.rule, time(alert.since));
        }
        if alerts.len() > SPELT {
            let _ = writeln!(text, "  and {} more", alerts.len() - SPELT);
        }
    }
    if text.is_empty() {
        text.push_str("A test: nothing is wrong.\n");
    }
    text.push_str("\nhubctl alerts list shows all that is wrong now; hubctl alerts silence keeps something silent.\n");
    text
}

fn sentence(alert: &Alert) -> String {
    let who = if alert.agent.is_empty() { "the hub" } else { &alert.agent };
    format!("{who} {}", alert.summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(agent: &str, rule: &str, summary: &str) -> Alert {
        let (agent, rule, summary) = (agent.into(), rule.into(), summary.into());
        Alert { agent, rule, summary, since: 1_700_000_000_000, ..Default::default() }
    }

    #[test]
    fn a_notice_reads_well_and_its_subject_is_one_short_line() {
        let notice = Notice {
            at: 1_700_000_400_000,
            firing: vec![
                alert("northshire", "no-delivery", "has delivered no ssda903 for 34d"),
                alert("", "audit-broken", "has an audit record that does not hold"),
            ],
            resolved: vec![alert("ely", "away", "has not been heard of for 8m")],
            left: vec![],
        };
        insta::assert_snapshot!(format!("{}\n\n{}", subject("core", &notice), text(&notice)), @r#"
        [sfdata core] 2 alerts, 1 over: northshire has delivered no ssda903 for 34d

        Wants attention:
          northshire has delivered no ssda903 for 34d (no-delivery, since 2023-11-14T22:13:20Z)
          the hub has an audit record that does not hold (audit-broken, since 2023-11-14T22:13:20Z)
        Over:
          ely has not been heard of for 8m (away, since 2023-11-14T22:13:20Z)

        hubctl alerts list shows all that is wrong now; hubctl alerts silence keeps something silent.
        "#);
        assert_eq!(json("core", "1", &notice)["firing"][1]["agent"], Value::Null);
        let long = alert("a", "b", &"é\r\nBcc: x".repeat(100));
        let odd = subject("core", &Notice { firing: vec![long], ..Default::default() });
        assert!(odd.len() <= SUBJECT && !odd.contains('\r') && !odd.contains('\n'), "{odd}");
    }

    #[test]
    fn many_alerts_are_counted_and_not_all_spelt_out() {
        let notice = Notice { firing: vec![alert("a", "b", "c"); 300], ..Default::default() };
        assert!(text(&notice).contains("and 250 more"), "{}", text(&notice));
        assert_eq!(json("core", "1", &notice)["firing"].as_array().map(Vec::len), Some(300));
    }
}
