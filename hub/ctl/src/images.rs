//! Images in a registry, as JSON and in tables.

use serde_json::{Value, json};
use sfdata_proto::v1::{ImageFindings, ImagesListResult, RegistryImage};

use crate::{
    table::{Cell, Tone},
    words,
};

/// What there is.
pub(crate) fn list(list: &ImagesListResult) -> Value {
    let one = |repository: &str, image: &RegistryImage| {
        json!({
            "image": format!("{}/{repository}@{}", list.registry, image.digest),
            "digest": image.digest,
            "tags": image.tags,
            "pushed": words::time(image.pushed_unix_ms),
            "bytes": image.size_bytes,
            "platforms": image.platforms,
            "findings": image.findings.as_ref().map(findings),
        })
    };
    json!({
        "registry": list.registry,
        "repositories": list.repositories.iter().map(|repository| json!({
            "name": repository.name,
            "images": repository.images.iter().map(|image| one(&repository.name, image)).collect::<Vec<_>>(),
            "left_out": repository.left_out,
        })).collect::<Vec<_>>(),
    })
}

fn findings(found: &ImageFindings) -> Value {
    json!({
        "scanned": words::time(found.scanned_unix_ms),
        "critical": found.critical,
        "high": found.high,
        "medium": found.medium,
        "low": found.low,
        "informational": found.informational,
        "undefined": found.undefined,
    })
}

/// Columns of [`rows`].
pub(crate) const COLUMNS: [&str; 7] = ["REPOSITORY", "TAGS", "DIGEST", "PUSHED", "SIZE", "PLATFORMS", "FINDINGS"];

/// One line an image; a repository without any has one as well.
pub(crate) fn rows(list: &ImagesListResult) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for repository in &list.repositories {
        if repository.images.is_empty() {
            let empty = [repository.name.as_str(), "", "no image yet", "", "", "", ""];
            rows.push(empty.map(Cell::from).into());
        }
        rows.extend(repository.images.iter().map(|image| row(&repository.name, image)));
    }
    rows
}

fn row(repository: &str, image: &RegistryImage) -> Vec<Cell> {
    let size = if image.size_bytes == 0 { String::new() } else { words::bytes(image.size_bytes) };
    vec![
        Cell::from(repository),
        Cell::from(image.tags.join(", ")),
        Cell::from(&image.digest),
        Cell::from(words::second(image.pushed_unix_ms)),
        Cell::from(size),
        Cell::from(image.platforms.join(", ")),
        found(image.findings.as_ref()),
    ]
}

/// `2 critical, 5 high`; what matters less is in the JSON.
fn found(findings: Option<&ImageFindings>) -> Cell {
    let Some(found) = findings else { return Cell::new("not scanned", Tone::Pending) };
    let counts = [(found.critical, "critical"), (found.high, "high"), (found.medium, "medium")];
    let some: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    match (some.is_empty(), found.critical + found.high) {
        (true, _) => Cell::new("none above low", Tone::Good),
        (false, 0) => Cell::new(some.join(", "), Tone::Plain),
        (false, _) => Cell::new(some.join(", "), Tone::Bad),
    }
}

/// What was not told.
pub(crate) fn left_out(list: &ImagesListResult) -> Vec<String> {
    let cut = list.repositories.iter().filter(|repository| repository.left_out > 0);
    cut.map(|of| format!("{} has {} more images; those without a tag are left out first", of.name, of.left_out))
        .collect()
}
