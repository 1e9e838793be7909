//! Messages of the greatest size, whole but for the last byte, on every stream: sent by the rules, as far as the hub's windows
//! let them, so that nothing but their number is wrong.

use std::{collections::BTreeMap, io};

use super::attacker::PAUSE;
use sfdata_common::limits;
use sfdata_tests::h2::{self, Frame, kind};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, split},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// What a window is before anybody says otherwise (RFC 9113, section 6.9.2).
const WINDOW: i64 = 65_535;
/// Of a message without its last byte.
const LENGTH: i64 = limits::MESSAGE_BYTES as i64 - 1;
const FRAME: i64 = 16 * 1024;
/// Streams that are opened in one burst: what is attacked is memory, not how fast requests are refused.
const AT_ONCE: usize = 16;

/// What the hub says of a stream.
enum Told {
    /// So much more may be sent; on stream 0, on all together.
    More(u32, i64),
    /// It has ended.
    Over(u32),
}

struct Stream {
    window: i64,
    left: i64,
}

/// Send until the connection ends; tells `sent` of each burst's bytes.
pub(super) async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    sent: impl Fn(u64),
) -> io::Result<()> {
    let (mut from, mut to) = split(stream);
    let (sender, mut told) = unbounded_channel();
    tokio::select! {
        read = listen(&mut from, &sender) => read,
        written = fill(&mut to, path, &mut told, sent) => written,
    }
}

async fn listen(from: &mut (impl AsyncRead + Unpin), told: &UnboundedSender<Told>) -> io::Result<()> {
    loop {
        let Frame { kind, flags, stream, payload } = h2::whole_frame(from).await?;
        let said = match kind {
            kind::WINDOW_UPDATE => {
                Told::More(stream, payload.first_chunk().map_or(0, |more| u32::from_be_bytes(*more).into()))
            }
            kind::RST_STREAM => Told::Over(stream),
            kind::HEADERS if flags & h2::END_STREAM != 0 => Told::Over(stream),
            kind::GOAWAY => return Ok(()),
            _ => continue,
        };
        if told.send(said).is_err() {
            return Ok(());
        }
    }
}

async fn fill(
    to: &mut (impl AsyncWrite + Unpin),
    path: &str,
    told: &mut UnboundedReceiver<Told>,
    sent: impl Fn(u64),
) -> io::Result<()> {
    to.write_all(&h2::opening()).await?;
    let (mut all, mut next, mut pause) = (WINDOW, 1, tokio::time::interval(PAUSE / 2));
    let mut streams: BTreeMap<u32, Stream> = BTreeMap::new();
    loop {
        while let Ok(said) = told.try_recv() {
            hear(said, &mut streams, &mut all);
        }
        let mut bytes = Vec::new();
        let room = limits::STREAMS_PER_CONNECTION as usize - streams.len();
        for _ in 0..room.min(AT_ONCE).min(all.max(0) as usize / 5) {
            let prefix = [&[0][..], &(LENGTH as u32 + 1).to_be_bytes()].concat();
            bytes.extend(h2::request(next, path));
            bytes.extend(h2::frame(kind::DATA, 0, next, &prefix));
            streams.insert(next, Stream { window: WINDOW - 5, left: LENGTH });
            (next, all) = (next + 2, all - 5);
        }
        for (id, stream) in &mut streams {
            let length = FRAME.min(stream.left).min(stream.window).min(all);
            if length > 0 {
                bytes.extend(h2::frame(kind::DATA, 0, *id, &vec![7; length as usize]));
                stream.left -= length;
                stream.window -= length;
                all -= length;
            }
        }
        if bytes.is_empty() {
            match told.recv().await {
                Some(said) => hear(said, &mut streams, &mut all),
                None => return Ok(()),
            }
        } else {
            pause.tick().await;
            to.write_all(&bytes).await?;
            to.flush().await?;
            sent(bytes.len() as u64);
        }
    }
}

fn hear(said: Told, streams: &mut BTreeMap<u32, Stream>, all: &mut i64) {
    match said {
        Told::More(0, more) => *all += more,
        Told::More(id, more) => {
            if let Some(stream) = streams.get_mut(&id) {
                stream.window += more;
            }
        }
        Told::Over(id) => drop(streams.remove(&id)),
    }
}
