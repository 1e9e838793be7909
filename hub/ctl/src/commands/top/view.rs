//! What is on the screen and what keys do to it; without a terminal.

use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Row, Table as Rows, TableState},
};
use sfdata_common::{
    Timestamp,
    health::{rank, word},
};
use sfdata_proto::v1::{AgentSummary, HealthWord};

use crate::{
    commands::agents::{COLUMNS, row, tables},
    table::{Cell, Tone, clean},
};

/// Left out where the screen is narrow, the first one first.
const SPARE: [&str; 5] = ["VERSION", "SEEN", "SERVICES", "DATABASE", "STATE"];
/// What the last column needs to say anything.
const NOTE: usize = 24;
const KEYS: &str = "up/down choose  Enter open  / filter  s sort  r reverse  q leave";

/// What to do after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Stay,
    Leave,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Health,
    Agent,
    Seen,
    Queue,
}

/// The screen.
pub(super) struct View {
    address: String,
    colour: bool,
    agents: Vec<AgentSummary>,
    /// Whether the hub has told of the fleet, and whether it still does.
    heard: bool,
    lost: bool,
    sort: Sort,
    reversed: bool,
    filter: String,
    typing: bool,
    /// The agent that is chosen; it stays so wherever it moves.
    chosen: Option<String>,
    opened: bool,
    scrolled: u16,
    table: TableState,
    page: usize,
}

impl View {
    /// Before anything is known.
    pub(super) fn new(address: &str, colour: bool) -> Self {
        Self {
            address: address.to_owned(),
            colour,
            agents: Vec::new(),
            heard: false,
            lost: false,
            sort: Sort::Health,
            reversed: false,
            filter: String::new(),
            typing: false,
            chosen: None,
            opened: false,
            scrolled: 0,
            table: TableState::default(),
            page: 1,
        }
    }

    /// The hub told of the fleet.
    pub(super) fn hear(&mut self, agents: Vec<AgentSummary>) {
        (self.agents, self.heard, self.lost) = (agents, true, false);
    }

    /// The hub is not heard any more; what is shown grows old.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Then {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Then::Leave } else { Then::Stay };
        }
        if self.typing {
            match key.code {
                KeyCode::Char(c) => self.filter.push(c),
                KeyCode::Backspace => _ = self.filter.pop(),
                KeyCode::Enter => self.typing = false,
                KeyCode::Esc => (self.typing, self.filter) = (false, String::new()),
                _ => {}
            }
            return Then::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Then::Leave,
            KeyCode::Esc if self.opened => self.opened = false,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Enter => (self.opened, self.scrolled) = (self.chosen.is_some(), 0),
            KeyCode::Up | KeyCode::Char('k') => self.go(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.go(|at, _| at + 1),
            KeyCode::PageUp => self.go(|at, page| at.saturating_sub(page)),
            KeyCode::PageDown => self.go(|at, page| at + page),
            KeyCode::Home | KeyCode::Char('g') => self.go(|_, _| 0),
            KeyCode::End | KeyCode::Char('G') => self.go(|_, _| usize::from(u16::MAX)),
            KeyCode::Char('/') if !self.opened => self.typing = true,
            KeyCode::Char('s') if !self.opened => self.sort = self.sort.next(),
            KeyCode::Char('r') if !self.opened => self.reversed = !self.reversed,
            _ => {}
        }
        Then::Stay
    }

    fn go(&mut self, to: impl Fn(usize, usize) -> usize) {
        if self.opened {
            self.scrolled = to(self.scrolled.into(), self.page).try_into().unwrap_or(u16::MAX);
            return;
        }
        let shown = self.shown(Timestamp::now());
        let at = self.at(&shown).unwrap_or(0);
        let next = to(at, self.page).min(shown.len().saturating_sub(1));
        self.chosen = shown.get(next).map(|(agent, _)| agent.agent_id.clone());
    }

    /// Who is on the list, in its order, with their rows.
    fn shown(&self, now: Timestamp) -> Vec<(&AgentSummary, Vec<Cell>)> {
        let wanted = self.filter.to_lowercase();
        let rows = self.agents.iter().map(|agent| (agent, row(agent, now)));
        let fits = |cells: &[Cell]| cells.iter().any(|cell| cell.text().to_lowercase().contains(&wanted));
        let mut shown: Vec<_> = rows.filter(|(_, cells)| fits(cells)).collect();
        shown.sort_by(|(one, _), (other, _)| {
            let order = match self.sort {
                Sort::Agent => std::cmp::Ordering::Equal,
                Sort::Health => rank(one.health_word()).cmp(&rank(other.health_word())),
                Sort::Seen => one.last_seen_unix_ms.cmp(&other.last_seen_unix_ms),
                Sort::Queue => other.commands.cmp(&one.commands),
            };
            let order = order.then_with(|| one.agent_id.cmp(&other.agent_id));
            if self.reversed { order.reverse() } else { order }
        });
        shown
    }

    fn at(&self, shown: &[(&AgentSummary, Vec<Cell>)]) -> Option<usize> {
        shown.iter().position(|(agent, _)| Some(&agent.agent_id) == self.chosen.as_ref())
    }

    /// Draw it.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, now: Timestamp) {
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
        self.page = usize::from(body.height).saturating_sub(2).max(1);
        frame.render_widget(self.head(), head);
        frame.render_widget(Line::from(self.foot()), foot);
        if self.opened && self.draw_one(frame, body, now) {
            return;
        }
        self.opened = false;
        self.draw_all(frame, body, now);
    }

    fn head(&self) -> Line<'static> {
        let counts = [HealthWord::Failing, HealthWord::Away, HealthWord::Degraded, HealthWord::Held]
            .into_iter()
            .chain([HealthWord::Healthy, HealthWord::Asleep])
            .map(|word| (word, self.agents.iter().filter(|agent| agent.health_word() == word).count()))
            .filter(|(_, count)| *count > 0)
            .map(|(one, count)| format!("{count} {}", word(one)));
        let counts: Vec<String> = counts.collect();
        let link = match (self.lost, self.heard) {
            (true, _) => Span::styled("NOT CONNECTED, trying again; this is how it was", self.style(Tone::Bad)),
            (false, false) => Span::raw("waiting for the hub"),
            (false, true) => Span::styled("live", self.style(Tone::Good)),
        };
        let text = format!("  {} LAs  {}  {}", self.agents.len(), counts.join(", "), clean(&self.address));
        Line::from(vec![link, Span::raw(text)])
    }

    fn foot(&self) -> String {
        let order = if self.reversed { ", reversed" } else { "" };
        match (self.typing, self.opened) {
            (true, _) => format!("/{}_", self.filter),
            (false, true) => "up/down scroll  Esc back  q leave".to_owned(),
            (false, false) if self.filter.is_empty() => format!("by {}{order}  {KEYS}", self.sort.name()),
            (false, false) => format!("/{}  by {}{order}  Esc shows all  {KEYS}", self.filter, self.sort.name()),
        }
    }

    /// Whether there is such a one.
    fn draw_one(&mut self, frame: &mut Frame<'_>, area: Rect, now: Timestamp) -> bool {
        let Some(agent) = self.agents.iter().find(|agent| Some(&agent.agent_id) == self.chosen.as_ref()) else {
            return false;
        };
        let text = tables(agent, now).iter().map(|table| table.render(false)).collect::<Vec<_>>().join("\n");
        let lines = text.lines().count().try_into().unwrap_or(u16::MAX);
        self.scrolled = self.scrolled.min(lines.saturating_sub(area.height));
        frame.render_widget(Paragraph::new(text).scroll((self.scrolled, 0)), area);
        true
    }

    fn draw_all(&mut self, frame: &mut Frame<'_>, area: Rect, now: Timestamp) {
        let shown = self.shown(now);
        let at = self.at(&shown).unwrap_or(0);
        let chosen = shown.get(at).map(|(agent, _)| agent.agent_id.clone());
        let width = |column: usize| {
            let cells = shown.iter().map(|(_, cells)| cells[column].text().chars().count());
            cells.max().unwrap_or(0).max(COLUMNS[column].len())
        };
        let mut columns: Vec<usize> = (0..COLUMNS.len()).collect();
        let needs = |columns: &[usize]| {
            let but_note = &columns[..columns.len() - 1];
            but_note.iter().map(|column| width(*column) + 2).sum::<usize>() + NOTE
        };
        for spare in SPARE {
            if needs(&columns) > usize::from(area.width) {
                columns.retain(|column| COLUMNS[*column] != spare);
            }
        }
        let widths = columns.iter().map(|column| match COLUMNS[*column] {
            "NOTE" => Constraint::Fill(1),
            _ => Constraint::Length(width(*column).try_into().unwrap_or(u16::MAX)),
        });
        let widths: Vec<Constraint> = widths.collect();
        let span = |cell: &Cell| Span::styled(cell.text().to_owned(), self.style(cell.tone()));
        let rows: Vec<Row<'_>> =
            shown.iter().map(|(_, cells)| Row::new(columns.iter().map(|column| span(&cells[*column])))).collect();
        let head =
            Row::new(columns.iter().map(|column| COLUMNS[*column])).style(Style::new().add_modifier(Modifier::BOLD));
        let table = Rows::new(rows, widths)
            .header(head)
            .column_spacing(2)
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        self.chosen = chosen;
        self.table.select(self.chosen.is_some().then_some(at));
        frame.render_stateful_widget(table, area, &mut self.table);
    }

    fn style(&self, tone: Tone) -> Style {
        let colour = match tone {
            Tone::Plain => None,
            Tone::Good => Some(Color::Green),
            Tone::Bad => Some(Color::Red),
            Tone::Pending => Some(Color::Yellow),
        };
        colour.filter(|_| self.colour).map_or_else(Style::new, |colour| Style::new().fg(colour))
    }
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Health => Self::Agent,
            Self::Agent => Self::Seen,
            Self::Seen => Self::Queue,
            Self::Queue => Self::Health,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Agent => "agent",
            Self::Seen => "seen",
            Self::Queue => "queue",
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};
    use sfdata_proto::v1::AgentState;

    use super::*;

    fn agent(id: &str, word: HealthWord) -> AgentSummary {
        AgentSummary {
            agent_id: id.into(),
            state: AgentState::Connected.into(),
            health_word: word.into(),
            version: "0.1.0".into(),
            ..Default::default()
        }
    }

    fn view() -> View {
        let mut view = View::new("hub:8443", false);
        let noted = AgentSummary { note: "red\u{1b}[31m".into(), commands: 3, ..agent("york", HealthWord::Failing) };
        view.hear(vec![agent("bath", HealthWord::Asleep), agent("ely", HealthWord::Healthy), noted]);
        view
    }

    fn screen(view: &mut View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame, Timestamp::UNIX_EPOCH)).unwrap();
        let line = |line: &str| line.trim_matches('"').trim_end().to_owned();
        terminal.backend().to_string().lines().map(line).collect()
    }

    fn type_in(view: &mut View, keys: &str) {
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                c => KeyCode::Char(c),
            };
            assert_eq!(view.press(code.into()), Then::Stay);
        }
    }

    /// The first word of each row.
    fn agents(view: &mut View) -> Vec<String> {
        let screen = screen(view, 120, 8);
        let rows = screen[2..7].iter().filter_map(|line| line.split_whitespace().next());
        rows.map(str::to_owned).collect()
    }

    #[test]
    fn the_worst_comes_first_and_the_head_counts() {
        let mut view = view();
        let screen = screen(&mut view, 120, 8);
        assert_eq!(screen[0], "live  3 LAs  1 failing, 1 healthy, 1 asleep  hub:8443");
        assert!(screen[1].starts_with("AGENT  HEALTH   STATE      SEEN   POWER"), "{screen:#?}");
        assert_eq!(agents(&mut view), ["york", "ely", "bath"]);
        assert!(!screen.join("").contains('\u{1b}'), "a text cannot steer the terminal");
        view.lose();
        assert!(self::screen(&mut view, 120, 8)[0].starts_with("NOT CONNECTED, trying again; this is how it was"));
    }

    #[test]
    fn a_narrow_screen_has_fewer_columns_and_always_the_note() {
        let head = screen(&mut view(), 60, 8).remove(1);
        assert_eq!(head.split_whitespace().collect::<Vec<_>>(), ["AGENT", "HEALTH", "POWER", "QUEUE", "NOTE"]);
        for (width, height) in [(1, 1), (3, 2), (20, 3)] {
            screen(&mut view(), width, height);
        }
    }

    #[test]
    fn what_is_typed_filters_at_once_and_esc_shows_all_again() {
        let mut view = view();
        type_in(&mut view, "/El");
        assert_eq!(agents(&mut view), ["ely"]);
        type_in(&mut view, "q\n");
        assert!(agents(&mut view).is_empty());
        type_in(&mut view, "\u{1b}");
        assert_eq!(agents(&mut view).len(), 3);
        type_in(&mut view, "/asleep\n");
        assert_eq!(agents(&mut view), ["bath"]);
    }

    #[test]
    fn who_is_chosen_stays_so_wherever_the_list_puts_them() {
        let mut view = view();
        screen(&mut view, 120, 8);
        type_in(&mut view, "j");
        assert_eq!(view.chosen.as_deref(), Some("ely"));
        type_in(&mut view, "s");
        assert_eq!(agents(&mut view), ["bath", "ely", "york"]);
        type_in(&mut view, "r");
        assert_eq!(agents(&mut view), ["york", "ely", "bath"]);
        assert_eq!((view.chosen.as_deref(), view.table.selected()), (Some("ely"), Some(1)));
        type_in(&mut view, "G");
        assert_eq!(view.chosen.as_deref(), Some("bath"));
        type_in(&mut view, "j");
        assert_eq!(view.chosen.as_deref(), Some("bath"), "there is none below");
        view.hear(vec![agent("ely", HealthWord::Healthy)]);
        assert_eq!(agents(&mut view), ["ely"]);
        assert_eq!(view.chosen.as_deref(), Some("ely"), "who is gone is chosen no longer");
    }

    #[test]
    fn enter_tells_all_of_one_and_esc_goes_back() {
        let mut view = view();
        screen(&mut view, 120, 8);
        type_in(&mut view, "\n");
        let shown = screen(&mut view, 120, 8);
        assert_eq!(shown[1], "agent      york");
        type_in(&mut view, "G");
        assert_ne!(screen(&mut view, 120, 8)[1], shown[1], "it scrolls");
        type_in(&mut view, "\u{1b}");
        assert_eq!(agents(&mut view).len(), 3);
        type_in(&mut view, "\n");
        view.hear(Vec::new());
        assert!(agents(&mut view).is_empty(), "an agent that was removed is shown no longer");
        assert_eq!(view.press(KeyCode::Char('q').into()), Then::Leave);
    }
}
