//! `hubctl top`: the fleet on a full screen, live.
//!
//! Keys and the hub's word come over one channel, and the screen is drawn anew when something came, of which only what
//! differs is written. All that waits is taken in first: on a slow terminal a list that has grown old is never drawn.
//! However it ends, asked to from outside or by a panic, the terminal is as it was before.

mod view;

use std::{thread, time::Duration};

use anyhow::Context as _;
use clap::Args;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event as Input, KeyEvent},
};
use sfdata_common::{Timestamp, retry::Reconnect, shutdown};
use sfdata_proto::v1::{AgentSummary, WatchAgentsRequest, operator_service_client::OperatorServiceClient};
use tokio::sync::mpsc;
use tonic::{Status, transport::Channel};

use self::view::{Then, View};
use super::agents;
use crate::{cli::Context, client::Hub, exit::Exit, status};

/// Ages on the screen are never older than this.
const REDRAW: Duration = Duration::from_secs(5);
/// What waits to be drawn; who makes more waits as well.
const EVENTS: usize = 16;

/// Watch the whole fleet on a full screen
#[derive(Debug, Args)]
#[command(after_help = "\
Keys:
  up, down     Choose an LA (also k, j, PgUp, PgDn, Home, End)
  Enter        All about it; Esc goes back
  /            Show what has these letters alone, as you type; Esc shows all again
  s, r         Sort by health, agent, seen, queue in turn; the other way round
  q            Leave

Where there is no terminal, or with -o json, it does what hubctl agents list --watch does.")]
pub(crate) struct Top {}

/// What the screen follows.
enum Event {
    Key(KeyEvent),
    Resized,
    Fleet(Vec<AgentSummary>),
    Lost,
    Denied(Status),
}

impl Top {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        if !context.output.is_screen() {
            return agents::watch(context, &hub).await;
        }
        let asked_to_stop = shutdown::on_signal().context("cannot listen for signals")?;
        // From here on a panic restores the terminal as well.
        let shown = match ratatui::try_init() {
            Ok(mut terminal) => tokio::select! {
                shown = show(&mut terminal, &hub, context.output.has_colour()) => shown,
                () = asked_to_stop.cancelled() => Ok(Exit::Done),
            },
            Err(error) => Err(error).context("this terminal cannot show a full screen"),
        };
        ratatui::restore();
        shown
    }
}

async fn show(terminal: &mut DefaultTerminal, hub: &Hub, colour: bool) -> anyhow::Result<Exit> {
    let (sender, mut events) = mpsc::channel(EVENTS);
    tokio::spawn(follow(hub.fleet(), sender.clone()));
    thread::spawn(move || read_keys(&sender));
    let mut view = View::new(hub.address(), colour);
    loop {
        terminal.draw(|frame| view.draw(frame, Timestamp::now()))?;
        let mut next = match tokio::time::timeout(REDRAW, events.recv()).await {
            Ok(Some(event)) => Some(event),
            Ok(None) => return Ok(Exit::Done),
            Err(_) => None,
        };
        while let Some(event) = next {
            match event {
                Event::Key(key) if view.press(key) == Then::Leave => return Ok(Exit::Done),
                Event::Key(_) | Event::Resized => {}
                Event::Fleet(agents) => view.hear(agents),
                Event::Lost => view.lose(),
                Event::Denied(status) => return Err(hub.words("watch the agents", &status).into()),
            }
            next = events.try_recv().ok();
        }
    }
}

/// Until nobody listens, or there is no terminal any more.
fn read_keys(events: &mpsc::Sender<Event>) {
    while let Ok(input) = event::read() {
        let event = match input {
            Input::Key(key) if key.is_press() => Event::Key(key),
            Input::Resize(..) => Event::Resized,
            _ => continue,
        };
        if events.blocking_send(event).is_err() {
            return;
        }
    }
}

/// Until nobody listens, or the hub says no; a broken connection is made anew.
async fn follow(mut hub: OperatorServiceClient<Channel>, events: mpsc::Sender<Event>) {
    let mut reconnect = Reconnect::default();
    loop {
        let mut heard = async || {
            let mut stream = hub.watch_agents(WatchAgentsRequest {}).await?.into_inner();
            while let Some(answer) = stream.message().await? {
                reconnect = Reconnect::default();
                if events.send(Event::Fleet(answer.agents)).await.is_err() {
                    break;
                }
            }
            Ok::<_, Status>(())
        };
        let event = match heard().await {
            Err(status) if !status::is_passing(&status) => Event::Denied(status),
            Ok(()) | Err(_) => Event::Lost,
        };
        let over = matches!(event, Event::Denied(_));
        if events.send(event).await.is_err() || over {
            return;
        }
        tokio::time::sleep(reconnect.next_delay()).await;
    }
}
