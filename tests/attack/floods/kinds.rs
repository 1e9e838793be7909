//! The floods: what each is made of, frame by frame (RFC 9113; HPACK by hand, RFC 7541).

use std::iter;

use clap::ValueEnum;
use sfdata_tests::h2::{self, END_HEADERS, END_STREAM, frame, kind, message};

/// A flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// TCP, and nothing said.
    Silent,
    /// Half a ClientHello, byte by byte.
    HalfTls,
    /// Handshakes, as many as there is CPU for.
    Handshakes,
    /// Connections that are opened and held.
    Connections,
    /// HTTP/2's preface, byte by byte.
    Preface,
    /// Requests that never end, more of them than may be open.
    Streams,
    /// Requests taken back at once (CVE-2023-44487).
    RapidReset,
    /// Heads that never end (CVE-2024-27316).
    Continuation,
    /// Heads of many times what is taken.
    Headers,
    /// A long field put into the table once and named a thousand times.
    Hpack,
    /// Settings, each of which is to be confirmed.
    Settings,
    /// Pings whose echoes nobody reads.
    Ping,
    /// Empty frames of a body (CVE-2019-9518).
    EmptyData,
    /// Requests whose answers may never be sent.
    ZeroWindow,
    /// More room, again and again, up to more than there can be.
    WindowUpdate,
    /// Messages that say that they have 4 GiB.
    Oversize,
    /// Messages of the greatest size, whole but for the last byte, on every stream.
    Endless,
    /// Messages packed with gzip that are all zeros.
    Gzip,
    /// Whole requests without a fault in their form, which are refused for what they ask or for who asks it.
    Requests,
}

/// A gzip file of 1 MiB of zeros, made by `head -c 1048576 /dev/zero | gzip -9n`, is a kilobyte; what matters is that
/// packed messages are refused, so its first bytes do.
const GZIP: [u8; 16] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0xed, 0xc1, 1, 1, 0, 0];
const CONTINUATION: u8 = 9;

impl Kind {
    /// By which name it is asked for and printed.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().replace('-', "_"))
    }

    /// Whether it needs no more than TCP.
    pub(super) fn is_before_tls(self) -> bool {
        matches!(self, Self::Silent | Self::HalfTls)
    }

    /// Whether it reads what comes back.
    pub(super) fn reads(self) -> bool {
        !matches!(self, Self::Ping | Self::Settings | Self::ZeroWindow)
    }

    /// What is sent after the handshake, burst by burst.
    pub(super) fn frames(self, path: &str) -> Box<dyn Iterator<Item = Vec<u8>> + Send> {
        let path = path.to_owned();
        let opening = match self {
            // Nothing may be sent back on streams.
            Self::ZeroWindow => [h2::PREFACE, &frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat(),
            _ => h2::opening(),
        };
        let mut stream = 1;
        let mut next = move || {
            stream += 2;
            stream - 2
        };
        let burst: Box<dyn FnMut(u64) -> Option<Vec<u8>> + Send> = match self {
            Self::Streams => Box::new(move |_| Some((0..64).flat_map(|_| h2::request(next(), &path)).collect())),
            Self::RapidReset => Box::new(move |_| {
                let pair = |_| {
                    let id = next();
                    [h2::request(id, &path), frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
                };
                Some((0..128).flat_map(pair).collect())
            }),
            Self::Continuation => Box::new(move |turn| {
                let fields = field("x-a", &"a".repeat(100)).repeat(100);
                let whole = if turn == 0 {
                    let mut first = h2::request(1, &path);
                    first[4] = 0; // its head goes on
                    first
                } else {
                    Vec::new()
                };
                Some([whole, frame(CONTINUATION, 0, 1, &fields)].concat())
            }),
            Self::Headers => Box::new(move |_| {
                let id = next();
                let mut head = h2::request(id, &path);
                head[4] = 0;
                let fields = field("x-a", &"a".repeat(100)).repeat(120);
                Some(
                    [head, frame(CONTINUATION, 0, id, &fields), frame(CONTINUATION, END_HEADERS, id, &fields)].concat(),
                )
            }),
            Self::Hpack => Box::new(move |_| {
                let id = next();
                let mut head = h2::request(id, &path);
                head[4] = 0;
                let mut block = vec![0x40]; // a literal that is put into the table
                block.extend(text("x-long"));
                block.extend(text(&"a".repeat(3_900)));
                block.extend(iter::repeat_n(0xbe, 10_000)); // the newest of the table
                Some([head, frame(CONTINUATION, END_HEADERS, id, &block)].concat())
            }),
            Self::Settings => Box::new(|_| Some(frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 99]).repeat(500))),
            Self::Ping => Box::new(|_| Some(frame(kind::PING, 0, 0, &[7; 8]).repeat(500))),
            Self::EmptyData => Box::new(move |turn| {
                let head = if turn == 0 { h2::request(1, &path) } else { Vec::new() };
                Some([head, frame(kind::DATA, 0, 1, &[]).repeat(1_000)].concat())
            }),
            Self::ZeroWindow | Self::Requests => Box::new(move |_| {
                let whole = |_| {
                    let id = next();
                    [h2::request(id, &path), frame(kind::DATA, END_STREAM, id, &message(&[]))].concat()
                };
                let count = if self == Self::Requests { 128 } else { 16 };
                Some((0..count).flat_map(whole).collect())
            }),
            Self::WindowUpdate => Box::new(move |turn| {
                let head = if turn == 0 { h2::request(1, &path) } else { Vec::new() };
                let more = if turn < 40 { 1_u32 } else { 0x7fff_ffff };
                Some([head, frame(kind::WINDOW_UPDATE, 0, 1, &more.to_be_bytes()).repeat(1_000)].concat())
            }),
            Self::Oversize => Box::new(move |_| {
                let id = next();
                let body = [&[0, 0xff, 0xff, 0xff, 0xff][..], &[7; 1_000]].concat();
                Some([h2::request(id, &path), frame(kind::DATA, 0, id, &body)].concat())
            }),
            Self::Gzip => Box::new(move |_| {
                let packed = |_| {
                    let id = next();
                    let mut head = h2::request(id, &path);
                    let more = field("grpc-encoding", "gzip");
                    head.extend(&more);
                    let length = head.len() - 9;
                    head[..3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
                    let mut body = message(&GZIP);
                    body[0] = 1;
                    [head, frame(kind::DATA, END_STREAM, id, &body)].concat()
                };
                Some((0..8).flat_map(packed).collect())
            }),
            Self::Silent | Self::HalfTls | Self::Handshakes | Self::Connections | Self::Preface | Self::Endless => {
                Box::new(|_| None)
            }
        };
        Box::new(iter::once(opening).chain((0..).map_while(burst)))
    }
}

/// A literal field that is not put into the table.
fn field(name: &str, value: &str) -> Vec<u8> {
    [vec![0], text(name), text(value)].concat()
}

/// A string of HPACK, not packed, with its length as an integer of 7 bits and more (section 5.1).
fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if text.len() < 127 {
        out.push(text.len() as u8);
    } else {
        out.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out.extend(text.as_bytes());
    out
}
