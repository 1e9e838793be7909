//! Messages that have not come whole: so many bytes of one peer, of all of its connections and streams together.
//!
//! A message is kept in memory until its last byte is there, and tonic makes room for all of it when it has read its length.
//! Streams and connections are many, and a peer that never sends the last byte on any of them would have the hub keep the
//! greatest message for each. So a message that has begun counts with its whole length.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::StreamExt as _;
use http::Request;
use http_body_util::{BodyStream, StreamBody};
use sfdata_common::limits;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::connection::{ConnectedPeer, Whose};

/// Before each message: whether it is packed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// What each peer has the hub keep.
#[derive(Debug, Clone, Default)]
pub(super) struct Unfinished(Arc<Mutex<HashMap<Whose, usize>>>);

impl Unfinished {
    /// Count `now` bytes in place of `before`, unless the peer would then have more than it may.
    fn change(&self, whose: &Whose, before: usize, now: usize) -> bool {
        if before == now {
            return true;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = kept.get(whose).map_or(0, |sum| sum.saturating_sub(before));
        if now > before && others + now > limits::UNFINISHED_BYTES {
            return false;
        }
        match others + now {
            0 => drop(kept.remove(whose)),
            sum => drop(kept.insert(whose.clone(), sum)),
        }
        true
    }
}

impl<S> Layer<S> for Unfinished {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting { inner, unfinished: self.clone() }
    }
}

/// See [`Unfinished`].
#[derive(Clone)]
pub(super) struct Counting<S> {
    inner: S,
    unfinished: Unfinished,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Counting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let Some(whose) = request.extensions().get::<ConnectedPeer>().map(ConnectedPeer::whose) else {
            return self.inner.call(request);
        };
        let mut message = Message { unfinished: self.unfinished.clone(), whose, framing: Framing::default() };
        self.inner.call(request.map(|body| {
            Body::new(StreamBody::new(BodyStream::new(body).map(move |frame| {
                let frame = frame?;
                match frame.data_ref() {
                    Some(data) if !message.take(data) => Err(Status::resource_exhausted(format!(
                        "messages of this peer that have not come whole have {} bytes together, which is the most; end \
                         them, or fewer at once",
                        limits::UNFINISHED_BYTES
                    ))),
                    _ => Ok(frame),
                }
            })))
        }))
    }
}

/// The message that is coming on one stream; what it has is given back when the stream ends.
struct Message {
    unfinished: Unfinished,
    whose: Whose,
    framing: Framing,
}

impl Message {
    fn take(&mut self, data: &Bytes) -> bool {
        let before = self.framing.kept;
        self.framing.take(data);
        let counted = self.unfinished.change(&self.whose, before, self.framing.kept);
        if !counted {
            self.framing.kept = before;
        }
        counted
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.unfinished.change(&self.whose, self.framing.kept, 0);
    }
}

/// Where one message ends and the next begins.
#[derive(Debug, Default)]
struct Framing {
    prefix: Vec<u8>,
    left: usize,
    /// Bytes for which the message that is not whole has room.
    kept: usize,
}

impl Framing {
    fn take(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let wanted = if self.left > 0 { self.left } else { PREFIX - self.prefix.len() };
            let (taken, rest) = data.split_at(wanted.min(data.len()));
            data = rest;
            if self.left > 0 {
                self.left -= taken.len();
            } else {
                self.prefix.extend_from_slice(taken);
                self.kept = self.prefix.len();
                let Some([_, length @ ..]) = self.prefix.first_chunk::<PREFIX>() else { continue };
                self.left = u32::from_be_bytes(*length) as usize;
                self.prefix.clear();
                // Longer ones are refused for their length.
                self.kept = PREFIX + self.left.min(limits::MESSAGE_BYTES);
            }
            if self.left == 0 {
                self.kept = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(length: usize) -> Bytes {
        [&[0][..], &(length as u32).to_be_bytes(), &[7]].concat().into()
    }

    #[test]
    fn a_message_counts_with_its_length_until_it_is_whole_however_it_is_cut() {
        let lengths = [3, 0, 600, 1];
        let message = |length: usize| [&[0][..], &(length as u32).to_be_bytes(), &vec![7; length]].concat();
        let bytes: Vec<u8> = lengths.into_iter().flat_map(message).collect();
        for piece in 1..40 {
            let mut framing = Framing::default();
            let mut came = 0;
            for part in bytes.chunks(piece) {
                framing.take(part);
                came += part.len();
                let mut rest = came;
                let of = lengths.into_iter().find(|length| {
                    let ends = rest >= PREFIX + length;
                    rest -= if ends { PREFIX + length } else { 0 };
                    !ends
                });
                let wanted = of.map_or(0, |length| if rest < PREFIX { rest } else { PREFIX + length });
                assert_eq!(framing.kept, wanted, "after {came} in pieces of {piece}");
            }
            assert_eq!(framing.kept, 0);
        }
    }

    #[test]
    fn a_peer_has_its_share_and_gives_it_back() {
        let unfinished = Unfinished::default();
        let peer = |last| Whose::Address([127, 0, 0, last].into());
        let of = |whose| Message { unfinished: unfinished.clone(), whose, framing: Framing::default() };
        let greatest = begun(limits::MESSAGE_BYTES - PREFIX);
        let most = limits::UNFINISHED_BYTES / limits::MESSAGE_BYTES;
        let mut all: Vec<Message> = (0..most).map(|_| of(peer(1))).collect();
        assert!(all.iter_mut().all(|message| message.take(&greatest)));
        let (mut one_more, mut others) = (of(peer(1)), of(peer(2)));
        assert!(!one_more.take(&greatest), "together it is too much");
        assert!(others.take(&greatest), "others do not feel it");
        all.pop();
        assert!(one_more.take(&greatest));
        drop((all, one_more, others));
        assert!(unfinished.0.lock().unwrap().is_empty());
    }
}
