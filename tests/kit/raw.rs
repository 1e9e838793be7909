//! gRPC without its types: any path, any bytes, to be asked and to be answered.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::{Buf as _, BufMut as _, Bytes};
use futures::{FutureExt as _, Stream, future::BoxFuture};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{Body, StdError},
    server::StreamingService,
    service::Routes,
    transport::Channel,
};
use tower::Service;

/// Messages are what they are.
#[derive(Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Send `message` to `/package.Service/Method` and give the first answer, if there is one.
pub async fn call(channel: &Channel, path: &str, message: Bytes) -> Result<Option<Bytes>, Status> {
    open(channel, path, futures::stream::iter([message])).await?.message().await
}

/// Send a stream of messages to `/package.Service/Method`; what comes back.
pub async fn open(
    channel: &Channel,
    path: &str,
    messages: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Streaming<Bytes>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = path.parse().map_err(|_| Status::invalid_argument("no path"))?;
    Ok(grpc.streaming(Request::new(messages), path, Plain).await?.into_inner())
}

/// A call that somebody makes here. A method of one message is a stream of one.
pub struct Call {
    /// `/package.Service/Method`.
    pub path: String,
    /// What they say.
    pub incoming: Streaming<Bytes>,
    /// What they are told; dropped, it ends well.
    pub out: mpsc::Sender<Result<Bytes, Status>>,
}

/// Routes that take every call to these services.
pub fn routes(services: &[&str]) -> (Routes, mpsc::Receiver<Call>) {
    let (sender, calls) = mpsc::channel(16);
    let mut routes = Routes::default();
    for service in services {
        let router = routes.axum_router_mut();
        *router =
            std::mem::take(router).route_service(&format!("/sfdata.v1.{service}/{{*method}}"), Calls(sender.clone()));
    }
    (routes, calls)
}

#[derive(Clone)]
struct Calls(mpsc::Sender<Call>);

impl<B> Service<http::Request<B>> for Calls
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let coming = Coming { calls: self.0.clone(), path: request.uri().path().to_owned() };
        async move { Ok(tonic::server::Grpc::new(Plain).streaming(coming, request).await) }.boxed()
    }
}

struct Coming {
    calls: mpsc::Sender<Call>,
    path: String,
}

impl StreamingService<Bytes> for Coming {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (out, answers) = mpsc::channel(64);
        let call = Call { path: self.path.clone(), incoming: request.into_inner(), out };
        let calls = self.calls.clone();
        async move {
            calls.send(call).await.map_err(|_| Status::unavailable("nobody takes calls here"))?;
            Ok(Response::new(ReceiverStream::new(answers)))
        }
        .boxed()
    }
}
