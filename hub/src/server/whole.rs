//! Requests are answered whole: once a request is in, what it asks for is done to its end, also when the peer goes away.
//!
//! tonic drops a handler with its connection, at whatever `await` it happens to be. A command that is durable and not
//! yet queued for sending would then stay so, and a lock be stored without ending the session.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio_util::task::TaskTracker;
use tower::{Layer, Service};

/// Serves each request on a task of its own, which `tasks` awaits.
#[derive(Clone)]
pub(super) struct Whole {
    pub(super) tasks: TaskTracker,
}

impl<S> Layer<S> for Whole {
    type Service = Served<S>;

    fn layer(&self, inner: S) -> Served<S> {
        Served { inner, tasks: self.tasks.clone() }
    }
}

/// See [`Whole`].
#[derive(Clone)]
pub(super) struct Served<S> {
    inner: S,
    tasks: TaskTracker,
}

impl<S, R> Service<R> for Served<S>
where
    S: Service<R, Error = Infallible>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let task = self.tasks.spawn(self.inner.call(request));
        Box::pin(async move {
            match task.await {
                Ok(answer) => answer,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => std::future::pending().await, // the process ends
            }
        })
    }
}
