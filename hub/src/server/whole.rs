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

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tower::{Layer, Service};

/// Lets requests that are dropped go on as a task, which `tasks` awaits.
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
    type Future = ToItsEnd<S::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let answer: Answer<S::Response> = Box::pin(self.inner.call(request));
        ToItsEnd { answer: Some(answer), tasks: self.tasks.clone(), runtime: Handle::current() }
    }
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Infallible>> + Send>>;

/// A request that is being answered, here or, when dropped, as a task.
pub(super) struct ToItsEnd<T: Send + 'static> {
    /// `None` when it has ended, with an answer or a panic.
    answer: Option<Answer<T>>,
    tasks: TaskTracker,
    runtime: Handle,
}

impl<T: Send + 'static> Future for ToItsEnd<T> {
    type Output = Result<T, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut answer) = self.answer.take() else { return Poll::Pending };
        let polled = answer.as_mut().poll(context);
        if polled.is_pending() {
            self.answer = Some(answer);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            self.tasks.spawn_on(answer, &self.runtime);
        }
    }
}
