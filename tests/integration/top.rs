//! The real `hubctl top` in a pseudo terminal: what it shows, and that it leaves the terminal as it was.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::Duration;

use rustix::process::Signal;
use sfdata_common::trust::Role;
use sfdata_tests::{crowd::Crowd, eventually, fleet::Fleet, screen::Screen, web};

const SOON: Duration = Duration::from_secs(20);
/// Leave the screen that was drawn on, and show the cursor again (xterm control sequences, DECSET and DECRST).
const RESTORED: [&str; 2] = ["\x1b[?1049l", "\x1b[?25h"];

/// It ends by itself, in order, and the terminal is as it was.
async fn leaves_the_terminal_as_it_was(mut screen: Screen) {
    let status = eventually("it ends", SOON, async || screen.ended()).await;
    assert!(status.success(), "{status}");
    eventually("the terminal is restored", SOON, async || {
        let drawn = screen.drawn();
        RESTORED.iter().all(|word| drawn.contains(word)).then_some(())
    })
    .await;
    assert!(screen.is_for_lines().unwrap(), "keys are shown and lines are whole again");
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_the_fleet_and_leaves_the_terminal_as_it_was() {
    let mut fleet = Fleet::without_aws(0).await;
    let _crowd = Crowd::join(&mut fleet, 3).await.unwrap();
    let home = web::join(&mut fleet, "vera", Role::Viewer).await.unwrap();
    let start = || Screen::start("hubctl", &["--home", &home, "top"], 140, 30).unwrap();
    let shows = async |screen: &Screen, word: &str| {
        eventually(&format!("{word} is drawn"), SOON, async || screen.drawn().contains(word).then_some(())).await;
    };

    let mut screen = start();
    for word in ["council-000", "council-002"] {
        shows(&screen, word).await;
    }
    assert!(!screen.is_for_lines().unwrap(), "it draws and takes single keys");
    screen.press("q").unwrap();
    leaves_the_terminal_as_it_was(screen).await;

    for signal in [Signal::TERM, Signal::INT] {
        let screen = start();
        shows(&screen, "council-001").await;
        screen.signal(signal).unwrap();
        leaves_the_terminal_as_it_was(screen).await;
    }
    fleet.stop().await;
}
