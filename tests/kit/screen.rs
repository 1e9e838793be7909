//! A pseudo terminal with a program in it: what it draws, keys for it, and how it leaves the terminal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::fleet::binary;

/// A program on a screen of its own; killed when dropped.
pub struct Screen {
    child: Child,
    keyboard: File,
    /// The program's side, which keeps its settings when the program has gone.
    terminal: OwnedFd,
    drawn: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    /// Start `name` of this workspace on a screen of so many columns and rows.
    pub fn start(name: &str, args: &[&str], columns: u16, rows: u16) -> Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let terminal = open(ptsname(&ours, Vec::new())?, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
        tcsetwinsize(&terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        let child = Command::new(binary(name))
            .args(args)
            .env("TERM", "xterm-256color")
            .stdin(terminal.try_clone()?)
            .stdout(terminal.try_clone()?)
            .stderr(terminal.try_clone()?)
            .spawn()
            .with_context(|| format!("starting {name}; build the whole workspace first: cargo build --workspace"))?;
        let (mut screen, keyboard) = (File::from(ours.try_clone()?), File::from(ours));
        let drawn = Arc::<Mutex<Vec<u8>>>::default();
        let seen = Arc::clone(&drawn);
        thread::spawn(move || {
            let mut some = [0; 4096];
            // Ends with an error when nobody has the other side any more.
            while let Ok(count @ 1..) = screen.read(&mut some) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend(&some[..count]);
            }
        });
        Ok(Self { child, keyboard, terminal, drawn })
    }

    /// All that was drawn so far, with what steers the terminal.
    pub fn drawn(&self) -> String {
        String::from_utf8_lossy(&self.drawn.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Press these keys.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.keyboard.write_all(keys.as_bytes())?)
    }

    /// Send it this signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Whether the terminal shows what is typed and waits for whole lines, as a shell's does.
    pub fn is_for_lines(&self) -> Result<bool> {
        Ok(tcgetattr(&self.terminal)?.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
