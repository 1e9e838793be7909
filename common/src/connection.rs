//! One accepted connection, with the switch and the time that end it.
//!
//! Whoever accepts it keeps the switch. Reads and writes fail once it is switched off or its time is over, which ends
//! every stream that it carries; the places that it holds are given back when it is dropped.

use std::{
    any::Any,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// A byte stream that fails once it is killed or its time is over; `I` is what is known of its other end.
pub struct Connection<S, I> {
    io: S,
    info: I,
    end: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    ended: Option<&'static str>,
    /// Places that are given back when the connection is dropped.
    _held: Box<dyn Any + Send>,
}

impl<S, I> Connection<S, I> {
    /// `lifetime`: what is left of it, if it has an end. `held`: dropped with the connection.
    pub fn new(io: S, info: I, kill: CancellationToken, lifetime: Option<Duration>, held: impl Send + 'static) -> Self {
        let end = Box::pin(async move {
            let over = async {
                match lifetime {
                    Some(lifetime) => tokio::time::sleep(lifetime).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = kill.cancelled() => "this side closed the connection",
                () = over => "the time of this connection is over",
            }
        });
        Self { io, info, end, ended: None, _held: Box::new(held) }
    }

    fn poll_alive(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.ended.is_none()
            && let Poll::Ready(why) = self.end.as_mut().poll(context)
        {
            self.ended = Some(why);
        }
        match self.ended {
            None => Ok(()),
            Some(why) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)),
        }
    }
}

impl<S, I: Clone + Send + Sync + 'static> Connected for Connection<S, I> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.info.clone()
    }
}

impl<S: AsyncRead + Unpin, I: Unpin> AsyncRead for Connection<S, I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_alive(context)?;
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin> AsyncWrite for Connection<S, I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_alive(context)?;
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_alive(context)?;
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_alive(context)?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_alive(context)?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    fn connection(
        kill: &CancellationToken,
        lifetime: Option<Duration>,
    ) -> (Connection<DuplexStream, ()>, DuplexStream) {
        let (near, far) = tokio::io::duplex(8);
        (Connection::new(near, (), kill.clone(), lifetime, ()), far)
    }

    async fn soon<F: Future>(future: F) -> F::Output {
        tokio::time::timeout(Duration::from_secs(5), future).await.expect("within five seconds")
    }

    #[tokio::test]
    async fn a_read_that_waits_fails_when_the_time_is_over() {
        let lifetime = Duration::from_millis(50);
        let (mut near, _far) = connection(&CancellationToken::new(), Some(lifetime));
        let started = Instant::now();
        assert_eq!(soon(near.read_u8()).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(started.elapsed() >= lifetime);
    }

    #[tokio::test]
    async fn a_write_that_waits_fails_when_the_connection_is_closed() {
        let kill = CancellationToken::new();
        let (mut near, _far) = connection(&kill, None);
        near.write_all(&[0; 8]).await.unwrap();
        let write = tokio::spawn(async move { near.write_all(&[0]).await });
        tokio::task::yield_now().await;
        kill.cancel();
        assert_eq!(soon(write).await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
