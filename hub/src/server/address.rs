//! How much one address may ask for at once, so that no address holds what is everybody's.
//!
//! Who finds the places of its address taken waits for its turn, in order: a whole fleet may come back from behind one
//! address. How many may wait is bounded as well. An IPv6 peer owns its whole /64, so that counts as one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

type Present = Arc<Mutex<HashMap<IpAddr, Peers>>>;

/// Those of one address.
#[derive(Debug)]
struct Peers {
    count: usize,
    places: Arc<Semaphore>,
}

/// Who is there from each address, with a place or waiting for one.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    present: Present,
    places: usize,
    waiting: usize,
}

/// Somebody's being there; ends when dropped, and gives the place back.
#[derive(Debug)]
pub(super) struct Slot {
    present: Present,
    address: IpAddr,
    places: Arc<Semaphore>,
    place: Option<OwnedSemaphorePermit>,
}

impl Addresses {
    /// So many places an address, and so many that may wait for them.
    pub(super) fn new(places: usize, waiting: usize) -> Self {
        Self { present: Present::default(), places, waiting }
    }

    /// Come in, unless all places of this address are taken and as many wait as may.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Slot> {
        let address = network(address);
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Peers { count: 0, places: Arc::new(Semaphore::new(self.places)) };
        let peers = present.entry(address).or_insert_with(new);
        if peers.count >= self.places + self.waiting {
            return None;
        }
        peers.count += 1;
        Some(Slot { present: Arc::clone(&self.present), address, places: Arc::clone(&peers.places), place: None })
    }
}

impl Slot {
    /// Wait for a place, behind those of the same address who came before.
    pub(super) async fn turn(&mut self) {
        self.place = Arc::clone(&self.places).acquire_owned().await.ok(); // never closed
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peers) = present.get_mut(&self.address) {
            peers.count -= 1;
            if peers.count == 0 {
                present.remove(&self.address);
            }
        }
    }
}

/// The address, or the /64 that it is of.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn an_address_has_its_places_and_gives_them_back() {
        let addresses = Addresses::new(2, 0);
        let enter = |text: &str| addresses.enter(text.parse().unwrap());
        let first = enter("10.0.0.1").unwrap();
        let _second = enter("::ffff:10.0.0.1").unwrap();
        assert!(enter("10.0.0.1").is_none());
        let _other = enter("10.0.0.2").unwrap();
        let _v6 = (enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap());
        assert!(enter("2001:db8::3").is_none());
        drop(first);
        assert!(enter("10.0.0.1").is_some());
    }

    #[test]
    fn who_finds_no_place_waits_behind_those_who_came_before() {
        let addresses = Addresses::new(1, 2);
        let enter = |text: &str| addresses.enter(text.parse().unwrap());
        let [mut first, mut second, mut third] = std::array::from_fn(|_| enter("10.0.0.1").unwrap());
        assert!(enter("10.0.0.1").is_none(), "too many wait");
        first.turn().now_or_never().unwrap();
        {
            let mut seconds = std::pin::pin!(second.turn());
            assert!(seconds.as_mut().now_or_never().is_none());
            assert!(third.turn().now_or_never().is_none());
            enter("10.0.0.2").unwrap().turn().now_or_never().expect("others do not wait");
            drop(first);
            assert!(third.turn().now_or_never().is_none(), "not before the second");
            seconds.now_or_never().expect("it is the second's turn");
        }
        drop(second);
        third.turn().now_or_never().expect("it is the third's turn");
        drop(third);
        assert!(addresses.present.lock().unwrap().is_empty());
    }
}
