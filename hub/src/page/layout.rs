//! What stands around every page.

use maud::{DOCTYPE, Markup, html};

use super::Viewer;

/// Which of the pages one is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// The list of all LAs, and each of them.
    Fleet,
    /// Commands.
    Commands,
    /// Usage and cost.
    Usage,
    /// Alerts and silences.
    Alerts,
    /// The audit record.
    Audit,
    /// None of them.
    None,
}

const SECTIONS: [(Section, &str, &str); 5] = [
    (Section::Fleet, "/ui/", "Fleet"),
    (Section::Commands, "/ui/commands", "Commands"),
    (Section::Usage, "/ui/usage", "Usage and cost"),
    (Section::Alerts, "/ui/alerts", "Alerts"),
    (Section::Audit, "/ui/audit", "Audit"),
];

/// A whole page; `live`: where its changes come from.
pub(super) fn layout(viewer: Option<&Viewer>, title: &str, at: Section, live: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en-GB" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · SFDATA Hub" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/ui/style.css";
                script src="/ui/live.js" defer {}
            }
            body data-live=[live] {
                a class="skip" href="#main" { "Skip to the content" }
                header {
                    span class="brand" { "SFDATA Hub" }
                    nav aria-label="Pages" {
                        ul {
                            @for (section, path, name) in SECTIONS {
                                li { a href=(path) aria-current=[(section == at).then_some("page")] { (name) } }
                            }
                        }
                    }
                    @if let Some(viewer) = viewer { span class="who" { "Signed in as " (viewer.name()) } }
                }
                main id="main" tabindex="-1" {
                    h1 { (title) }
                    @if live.is_some() { p id="live" role="status" { "As it was when this page was loaded" } }
                    (body)
                }
            }
        }
    }
}

/// A table that scrolls by itself where the screen is narrow.
pub(super) fn scroll(label: &str, table: &Markup) -> Markup {
    html! { div class="scroll" role="region" aria-label=(label) tabindex="0" { (table) } }
}
