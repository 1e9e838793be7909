//! The network between an agent and its hub: forwards bytes until it is told to cut or to stall.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Stalled,
    Closed,
}

/// A cable; dropping it cuts it for good.
pub struct Wire {
    /// Dial this instead of the other end.
    pub address: SocketAddr,
    state: watch::Sender<State>,
    /// Connections that came in.
    dialled: Arc<AtomicUsize>,
    /// Bytes that went back to those.
    answered: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A cable to `target`.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        Self::from_to(Ipv4Addr::LOCALHOST, target).await
    }

    /// A cable to `target`, which sees `source` at its other end.
    pub async fn from_to(source: Ipv4Addr, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, seen) = watch::channel(State::Open);
        let dialled = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dialled);
        let answered = Arc::<AtomicU64>::default();
        let sum = Arc::clone(&answered);
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut seen = seen.clone();
                if *seen.borrow_and_update() == State::Closed {
                    continue;
                }
                let sum = Arc::clone(&sum);
                tokio::spawn(async move {
                    let Ok(mut far) = dial(source, target).await else { return };
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    let (mut near_in, mut near_out) = near.split();
                    let (mut far_in, mut far_out) = far.split();
                    let there = pump(&mut near_in, &mut far_out, seen.clone(), |_| {});
                    let back = pump(&mut far_in, &mut near_out, seen.clone(), |bytes| {
                        sum.fetch_add(bytes, Ordering::Relaxed);
                    });
                    tokio::select! {
                        _ = futures::future::join(there, back) => {}
                        _ = seen.wait_for(|state| *state == State::Closed) => {}
                    }
                });
            }
        });
        Ok(Self { address, state, dialled, answered, task })
    }

    /// End what is connected, and every new connection at once.
    pub fn cut(&self) {
        self.state.send_replace(State::Closed);
    }

    /// Keep connections open and let nothing through: each side thinks that the other is silent. What was sent
    /// meanwhile goes on after [`Self::mend`], and is lost after [`Self::cut`].
    pub fn stall(&self) {
        self.state.send_replace(State::Stalled);
    }

    /// Let connections through again.
    pub fn mend(&self) {
        self.state.send_replace(State::Open);
    }

    /// Connections that came in so far.
    pub fn dialled(&self) -> usize {
        self.dialled.load(Ordering::Relaxed)
    }

    /// Bytes that the other end has sent so far, TLS and all.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

/// Connect from an address of this machine: all of 127.0.0.0/8 is.
pub async fn dial(source: Ipv4Addr, target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(target).await
}

/// Carry bytes one way until that side ends.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut seen: watch::Receiver<State>,
    carried: impl Fn(u64),
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if seen.wait_for(|state| *state != State::Stalled).await.is_err()
            || to.write_all(&bytes[..length]).await.is_err()
        {
            return;
        }
        carried(length as u64);
    }
    let _ = to.shutdown().await;
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}
