//! An LA's health in words, the same on a terminal, on a page and in an alert.

use std::time::Duration;

use jiff::Timestamp;
use sfdata_proto::v1::{HealthReason, HealthReasonKind, HealthWord};

use crate::words::{kebab, span};

/// `healthy`, `asleep`, `degraded`, `failing`, `away`, `held`.
pub fn word(word: HealthWord) -> String {
    kebab(word.as_str_name(), "HEALTH_WORD_")
}

/// What wants attention first comes first.
pub fn rank(word: HealthWord) -> u8 {
    match word {
        HealthWord::Failing => 0,
        HealthWord::Away => 1,
        HealthWord::Degraded => 2,
        HealthWord::Held => 3,
        HealthWord::Unspecified => 4,
        HealthWord::Healthy => 5,
        HealthWord::Asleep => 6,
    }
}

/// `away`, `run-failed`, `no-delivery` ...
pub fn kind(kind: HealthReasonKind) -> String {
    kebab(kind.as_str_name(), "HEALTH_REASON_KIND_")
}

/// What follows an LA's name: `has delivered no ssda903 for 34d`.
pub fn sentence(reason: &HealthReason, now: Timestamp) -> String {
    let HealthReason { name, count, at_unix_ms, .. } = reason;
    let at = Timestamp::from_millisecond(*at_unix_ms).ok().filter(|_| *at_unix_ms != 0);
    let ago = at.map(|at| span(Duration::try_from(now.duration_since(at)).unwrap_or_default()));
    let since = |word: &str| ago.as_ref().map_or_else(String::new, |ago| format!(" {word} {ago}"));
    match reason.kind() {
        HealthReasonKind::Unspecified => "has something that this version does not know".to_owned(),
        HealthReasonKind::Away => format!("has not been heard of{}", since("for")),
        HealthReasonKind::NeverJoined => "was invited and has never joined".to_owned(),
        HealthReasonKind::Locked => format!("is locked out{}", since("since")),
        HealthReasonKind::Diverged => "does not agree with the hub on what was sent; nothing is sent".to_owned(),
        HealthReasonKind::Held => format!("is held by its LA{}", since("for")),
        HealthReasonKind::Unreadable => format!("cannot read its {name}"),
        HealthReasonKind::ServiceDown => format!("has {name} down: {}", several(*count, "task", "did not come up")),
        HealthReasonKind::PowerFault => format!("has the fault {name}"),
        HealthReasonKind::RunFailed => format!("has {} of {name} failed since the last success", runs(*count)),
        HealthReasonKind::NoDelivery => match &ago {
            Some(ago) => format!("has delivered no {name} for {ago}"),
            None => format!("has never delivered {name}"),
        },
        HealthReasonKind::ArrivalsParked => format!("has {}", several(*count, "arrival", "parked")),
        HealthReasonKind::ArrivalsWaiting => {
            format!("has {}{}", several(*count, "arrival", "waiting"), since("for"))
        }
        HealthReasonKind::ClockSkew => format!("has a clock that is {count} ms off"),
        HealthReasonKind::CertificateExpires => {
            let left = at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default()).unwrap_or_default();
            format!("has a certificate that ends in {} and was not renewed", span(left))
        }
        HealthReasonKind::DatabaseNeverPauses => format!("has a database, {name}, that never pauses by itself"),
        HealthReasonKind::VersionDiffers => format!("has another agent than most, which have {name}"),
        HealthReasonKind::ImageDiffers => format!("has another image in {name} than most"),
    }
}

fn runs(count: u64) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}

fn several(count: u64, of: &str, what: &str) -> String {
    format!("{count} {of}{} {what}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_sentence() {
        let now = Timestamp::from_second(100 * 86_400).unwrap();
        let text = |kind: HealthReasonKind| {
            let at_unix_ms = match kind {
                HealthReasonKind::CertificateExpires => now.as_millisecond() + 5 * 3_600_000,
                _ => 66 * 86_400_000,
            };
            sentence(&HealthReason { kind: kind.into(), name: "ssda903".into(), count: 3, at_unix_ms }, now)
        };
        let all: Vec<String> = (0..).map_while(|number| HealthReasonKind::try_from(number).ok()).map(text).collect();
        insta::assert_snapshot!(all.join("\n"));
    }
}
