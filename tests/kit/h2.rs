//! HTTP/2 by hand (RFC 9113): whatever frames a test likes, in whatever order, read or left unread.

use std::{io, net::Ipv4Addr, net::SocketAddr};

use rustls::pki_types::ServerName;
use sfdata_common::channel::SharedTls;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::wire::dial;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (section 6).
pub mod kind {
    /// Body.
    pub const DATA: u8 = 0;
    /// Head of a request.
    pub const HEADERS: u8 = 1;
    /// End of a stream by force.
    pub const RST_STREAM: u8 = 3;
    /// What this side wants.
    pub const SETTINGS: u8 = 4;
    /// Asks for an echo.
    pub const PING: u8 = 6;
    /// The connection ends.
    pub const GOAWAY: u8 = 7;
    /// More may be sent.
    pub const WINDOW_UPDATE: u8 = 8;
}

/// Flag of DATA and HEADERS: nothing follows on this stream.
pub const END_STREAM: u8 = 1;
/// Flag of HEADERS: they are whole. Of SETTINGS and PING, the value 1 is an answer.
pub const END_HEADERS: u8 = 4;

/// A frame with a true length.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Preface and settings; the peer may send as much as it likes.
pub fn opening() -> Vec<u8> {
    let most = 0x7fff_0000_u32.to_be_bytes();
    let window = [&[0, 4][..], &most].concat(); // SETTINGS_INITIAL_WINDOW_SIZE
    [PREFACE, &frame(kind::SETTINGS, 0, 0, &window), &frame(kind::WINDOW_UPDATE, 0, 0, &most)].concat()
}

/// Head of a gRPC request.
pub fn request(stream: u32, path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "sfdata-hub"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0); // a literal that is not indexed (RFC 7541, section 6.2.2)
        for text in [name, value] {
            block.push(text.len() as u8); // all are shorter than 127 bytes
            block.extend(text.as_bytes());
        }
    }
    frame(kind::HEADERS, END_HEADERS, stream, &block)
}

/// A gRPC message behind its prefix.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let mut prefixed = vec![0];
    prefixed.extend((bytes.len() as u32).to_be_bytes());
    prefixed.extend(bytes);
    prefixed
}

/// A TLS connection from an address of this machine.
pub async fn connect(source: Ipv4Addr, target: SocketAddr, tls: &SharedTls) -> io::Result<TlsStream<TcpStream>> {
    let tcp = dial(source, target).await?;
    let name = ServerName::try_from("sfdata-hub").map_err(io::Error::other)?;
    TlsConnector::from(tls.load_full()).connect(name, tcp).await
}

/// A frame that the peer sent.
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// The next frame that the peer sends.
pub async fn whole_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    from.read_exact(&mut payload).await?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok(Frame { kind: head[3], flags: head[4], stream, payload })
}

/// The next frame that the peer sends: type, flags, stream.
pub async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, u8, u32)> {
    let Frame { kind, flags, stream, .. } = whole_frame(from).await?;
    Ok((kind, flags, stream))
}

/// Send requests, each a path and a whole body, on one connection; wait until every one has been answered. Gives how many
/// were, which is fewer when the peer ends the connection.
pub async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, requests: &[(&str, Vec<u8>)]) -> io::Result<usize> {
    let (mut from, mut to) = tokio::io::split(stream);
    let mut bytes = opening();
    for (number, (path, body)) in requests.iter().enumerate() {
        let id = 2 * number as u32 + 1;
        bytes.extend(request(id, path));
        bytes.extend(frame(kind::DATA, END_STREAM, id, body));
    }
    let write = async {
        let _ = to.write_all(&bytes).await;
        std::future::pending::<()>().await
    };
    let read = async {
        let mut ended = 0;
        while ended < requests.len() {
            match read_frame(&mut from).await {
                Ok((kind::GOAWAY, ..)) | Err(_) => break,
                Ok((kind::RST_STREAM, ..)) => ended += 1,
                Ok((kind::DATA | kind::HEADERS, flags, _)) if flags & END_STREAM != 0 => ended += 1,
                Ok(_) => {}
            }
        }
        ended
    };
    tokio::select! {
        () = write => Ok(0),
        ended = read => Ok(ended),
    }
}
