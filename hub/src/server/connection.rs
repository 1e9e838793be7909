//! Accepted connections: who is at the other end, and the switch that ends each.
//!
//! TLS looks at a certificate once, at the handshake. So the connection itself ends when its peer is locked
//! ([`Connections::close`]) and when its certificate does (`sfdata_common::connection`).

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::metrics::gauge::Gauge;
use sfdata_common::{
    limits,
    peer::{Peer, Subject},
};
use tokio_util::sync::CancellationToken;

use super::address::network;

/// Who is at the other end, as found in every request's extensions.
#[derive(Debug, Clone)]
pub struct ConnectedPeer {
    /// The identity in the client's certificate; none on the enrolment listener.
    pub peer: Option<Arc<Peer>>,
    /// Where the connection comes from.
    pub remote: SocketAddr,
    pub(super) kill: CancellationToken,
}

/// Whom a peer's use of the hub is put down to: all of its connections together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    Subject(Subject),
    Address(IpAddr),
}

impl ConnectedPeer {
    /// The other end of the connection that brought a request.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<&Self> {
        request.extensions().get()
    }

    /// Its subject, or on the enrolment listener its address.
    pub(super) fn whose(&self) -> Whose {
        match &self.peer {
            Some(known) => Whose::Subject(known.subject.clone()),
            None => Whose::Address(network(self.remote.ip())),
        }
    }

    /// End its connection, with all that is open on it.
    pub(super) fn end(&self) {
        self.kill.cancel();
    }
}

/// The live connections of each subject.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Live>>);

#[derive(Debug, Default)]
struct Live {
    next: u64,
    by_subject: HashMap<Subject, Vec<(u64, CancellationToken)>>,
}

impl Connections {
    /// End every connection of `subject` at once; tells how many there were.
    ///
    /// Lock the subject in the registry first: a handshake that is under way enters here before it asks the registry,
    /// so that it is either refused there or ended here.
    pub fn close(&self, subject: &Subject) -> usize {
        let closed = self.live().by_subject.remove(subject).unwrap_or_default();
        closed.iter().for_each(|(_, kill)| kill.cancel());
        closed.len()
    }

    /// How many connections `subject` has.
    pub fn count(&self, subject: &Subject) -> usize {
        self.live().by_subject.get(subject).map_or(0, Vec::len)
    }

    pub(super) fn enter(&self, subject: &Subject, kill: CancellationToken) -> Seat {
        let mut live = self.live();
        live.next += 1;
        let number = live.next;
        let mine = live.by_subject.entry(subject.clone()).or_default();
        if mine.len() >= limits::CONNECTIONS_PER_SUBJECT {
            mine.remove(0).1.cancel();
        }
        mine.push((number, kill));
        Seat { connections: self.clone(), subject: subject.clone(), number }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among those of its subject; left when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    connections: Connections,
    subject: Subject,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut live = self.connections.live();
        if let Some(mine) = live.by_subject.get_mut(&self.subject) {
            mine.retain(|(number, _)| *number != self.number);
            if mine.is_empty() {
                live.by_subject.remove(&self.subject);
            }
        }
    }
}

/// Counts itself in a gauge while it lives.
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_reaches_every_connection_of_that_subject_only() {
        let connections = Connections::default();
        let (camden, barnet) = (Subject::Agent("camden".parse().unwrap()), Subject::Agent("barnet".parse().unwrap()));
        let kills: [CancellationToken; 3] = std::array::from_fn(|_| CancellationToken::new());
        let seats = [(&camden, 0), (&camden, 1), (&barnet, 2)].map(|(who, n)| connections.enter(who, kills[n].clone()));
        assert_eq!(connections.close(&camden), 2);
        assert_eq!(kills.each_ref().map(CancellationToken::is_cancelled), [true, true, false]);
        assert_eq!((connections.count(&camden), connections.count(&barnet)), (0, 1));
        drop(seats);
        assert!(connections.live().by_subject.is_empty());
    }

    #[test]
    fn the_oldest_connection_gives_way_when_a_subject_has_too_many() {
        let connections = Connections::default();
        let subject = Subject::Operator("alice".parse().unwrap());
        let oldest = CancellationToken::new();
        let _first = connections.enter(&subject, oldest.clone());
        let _rest: Vec<_> = (1..limits::CONNECTIONS_PER_SUBJECT)
            .map(|_| connections.enter(&subject, CancellationToken::new()))
            .collect();
        assert!(!oldest.is_cancelled());
        let _one_more = connections.enter(&subject, CancellationToken::new());
        assert!(oldest.is_cancelled());
        assert_eq!(connections.count(&subject), limits::CONNECTIONS_PER_SUBJECT);
    }
}
