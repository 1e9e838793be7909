//! What can be wrong with the hub itself, and with who may talk to it: everything that is of no one agent.

use jiff::Timestamp;
use sfdata_proto::v1::{OperatorFlag, OperatorSummary};

use super::{CA_LEFT, Parts};

/// One condition that holds: its rule, what of (empty where there is one alone), and a sentence.
pub(super) type Own = (&'static str, String, String);

/// All of them, but for the audit record.
pub(super) fn conditions(parts: &Parts, operators: &[OperatorSummary], now: Timestamp) -> Vec<Own> {
    let Parts { disk, metrics, lifetime, .. } = parts;
    let mut own = Vec::new();
    if let Err(low) = disk.check() {
        let text = format!("has {} MiB left on its disk and takes no new command", low.free_bytes >> 20);
        own.push(("disk-low", String::new(), text));
    }
    if metrics.signer_failing.get() != 0 {
        let text = "cannot sign dispatches: KMS is away or does not let it, and commands wait; its log tells why";
        own.push(("signer-away", String::new(), text.to_owned()));
    }
    if metrics.backup_failing.get() != 0 {
        let text = "cannot take its backups: its log tells why, as a folder that is full";
        own.push(("backup-failing", String::new(), text.to_owned()));
    }
    let certificates = [
        ("ca", metrics.ca_expires.get(), CA_LEFT, "begin another one, see hubctl trust"),
        ("hub", metrics.certificate_expires.get(), *lifetime / 4, "it was not renewed; its log tells why"),
    ];
    for (name, expires, left, what) in certificates {
        let until = expires.saturating_sub(now.as_second());
        if expires > 0 && until < left.as_secs().try_into().unwrap_or(i64::MAX) {
            let text = format!("has a certificate that ends in {} days: {what}", days(until));
            own.push(("hub-certificate-expires", name.to_owned(), text));
        }
    }
    own.extend(of_operators(operators, now));
    own
}

fn of_operators(operators: &[OperatorSummary], now: Timestamp) -> Vec<Own> {
    let mut own = Vec::new();
    for operator in operators {
        for flag in operator.flags() {
            let (rule, text) = match flag {
                OperatorFlag::Unspecified => continue,
                OperatorFlag::Unused => {
                    let idle = days(now.as_second() - since(operator) / 1000);
                    (
                        "operator-unused",
                        format!("lets in an operator who was not seen for {idle} days: lock who has left"),
                    )
                }
                OperatorFlag::KeyExpires => {
                    let left = days(operator.key_expires_unix_ms / 1000 - now.as_second());
                    (
                        "operator-key-expires",
                        format!("has an operator whose key ends in {left} days: hubctl key rotate"),
                    )
                }
            };
            own.push((rule, operator.name.clone(), text));
        }
    }
    own
}

/// Since when an operator is out of sight.
fn since(operator: &OperatorSummary) -> i64 {
    operator.last_seen_unix_ms.max(operator.joined_unix_ms)
}

fn days(seconds: i64) -> i64 {
    seconds / (24 * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_who_is_out_of_sight_and_a_key_that_ends_are_told_by_name_and_days() {
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let day = |days: i64| now.as_millisecond() + days * 24 * 3_600_000;
        let operator = |name: &str, seen, flags: &[OperatorFlag]| OperatorSummary {
            name: name.into(),
            joined_unix_ms: day(-400),
            last_seen_unix_ms: seen,
            key_expires_unix_ms: day(9),
            flags: flags.iter().map(|flag| (*flag).into()).collect(),
            ..Default::default()
        };
        let told = of_operators(
            &[
                operator("alice", day(0), &[]),
                operator("bob", day(-91), &[OperatorFlag::Unused]),
                // Never seen since then.
                operator("carol", 0, &[OperatorFlag::Unused, OperatorFlag::KeyExpires]),
            ],
            now,
        );
        let short: Vec<_> = told.iter().map(|(rule, of, text)| (*rule, of.as_str(), text.as_str())).collect();
        assert_eq!(short.len(), 3, "{short:?}");
        for ((rule, of, text), (wanted, whose, days)) in short.into_iter().zip([
            ("operator-unused", "bob", " 91 days"),
            ("operator-unused", "carol", " 400 days"),
            ("operator-key-expires", "carol", " 9 days"),
        ]) {
            assert!((rule, of) == (wanted, whose) && text.contains(days), "{rule} {of} {text}");
        }
    }
}
