//! Everything that is attacked, by name.

use super::{
    engine::{Judged, Made, Target},
    signed, stored, texts, tokens,
};

/// All targets.
pub(super) const TARGETS: [Target; 26] = [
    // From the wire, signed.
    Target { name: "delivery", make: signed::delivery },
    Target { name: "command", make: signed::command },
    Target { name: "bundle", make: signed::bundle },
    Target { name: "receipt", make: signed::receipt },
    // From the wire, not signed.
    Target { name: "link_messages", make: signed::link_messages },
    Target { name: "report", make: signed::report },
    Target { name: "usage", make: signed::usage },
    Target { name: "sealed", make: tokens::sealed },
    Target { name: "traceparent", make: tokens::traceparent },
    // On the way in.
    Target { name: "join_token", make: tokens::join_token },
    Target { name: "bundle_pem", make: tokens::bundle_pem },
    Target { name: "hub_identity_pem", make: tokens::hub_identity_pem },
    Target { name: "certificate", make: tokens::certificate },
    Target { name: "certificate_request", make: tokens::certificate_request },
    Target { name: "sts_request", make: tokens::sts_request },
    Target { name: "sts_reply", make: tokens::sts_reply },
    // Of people, AWS and Dagster.
    Target { name: "names", make: texts::names },
    Target { name: "policy", make: texts::policy },
    Target { name: "hub_toml", make: texts::hub_toml },
    Target { name: "agent_toml", make: texts::agent_toml },
    Target { name: "arrivals", make: texts::arrivals },
    Target { name: "bucket_policy", make: texts::bucket_policy },
    Target { name: "task_definition", make: texts::task_definition },
    Target { name: "dagster", make: texts::dagster },
    // From the disk.
    Target { name: "hub_disk", make: stored::hub_disk },
    Target { name: "agent_disk", make: stored::agent_disk },
];

/// A target of bytes.
pub(super) fn of_bytes(seeds: Vec<Vec<u8>>, judge: impl FnMut(&[u8]) -> Judged + 'static) -> Made {
    Made { seeds, words: &[], judge: Box::new(judge) }
}

/// A target of text; what is no text never reaches it.
pub(super) fn of_text(
    seeds: Vec<String>,
    words: &'static [&'static str],
    mut judge: impl FnMut(&str) -> Judged + 'static,
) -> Made {
    let judge = move |bytes: &[u8]| judge(&String::from_utf8_lossy(bytes));
    Made { seeds: seeds.into_iter().map(String::into_bytes).collect(), words, judge: Box::new(judge) }
}

/// Let in, or refused by this name.
pub(super) fn named<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| roughly(&error), |_| "let in".to_owned())
}

/// An error without what it may have of the input: its first words.
pub(super) fn roughly(error: &impl std::fmt::Display) -> String {
    error
        .to_string()
        .split([' ', ':'])
        .filter(|word| word.bytes().all(|b| b.is_ascii_lowercase()))
        .take(6)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A promise that holds, or its name.
pub(super) fn promise(holds: bool, which: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(which.to_owned()) }
}
