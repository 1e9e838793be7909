//! For those who run a process: whether it lives, whether it can do its work, and its metrics. Plain HTTP on loopback.
//!
//! `/healthz` answers while the process does. `/readyz` answers 503 with the reasons while the process can't do what it
//! is for: that is to be looked at, and nothing that a restart would mend. Nobody is asked who they are, which is why it
//! listens on loopback alone.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::HttpBody as _,
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    connection::Connection,
    metrics::{self, Page},
};

/// Connections at once: a scraper, a health check, a person.
const CONNECTIONS: usize = 64;
/// For one connection, so that silent ones give their place back.
const LIFETIME: Duration = Duration::from_secs(300);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Of an answer to a health check, which has some hundred.
const ANSWER_BYTES: u64 = 4096;
/// For open connections to end after the stop.
const DRAIN: Duration = Duration::from_secs(2);

/// What is shown. Cheap to clone.
#[derive(Clone)]
pub struct Shown {
    /// Why the process can't do its work now; nothing when it can.
    pub reasons: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Its metrics.
    pub metrics: Page,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("reasons", &(self.reasons)()).finish_non_exhaustive()
    }
}

/// Serve until `stop`; cancel that last, so that `/readyz` can tell of the drain.
pub async fn serve(listener: TcpListener, shown: Shown, stop: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(page))
        .layer(middleware::from_fn(bounded))
        .with_state(shown);
    let kill = CancellationToken::new();
    let listener = Bounded { listener, room: Arc::new(Semaphore::new(CONNECTIONS)), kill: kill.clone() };
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let late = async {
        stop.cancelled().await;
        sleep(DRAIN).await;
    };
    let result = tokio::select! {
        result = serving => result,
        () = late => Ok(()),
    };
    kill.cancel();
    result
}

/// Ask the process that listens on `address` whether it lives, as a container's health check does.
pub async fn ask(address: SocketAddr) -> io::Result<()> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES).read_to_string(&mut answer).await?;
        match answer.split(' ').nth(1) {
            Some("200") => Ok(()),
            _ => Err(io::Error::other(format!("it answered {:?}", answer.lines().next().unwrap_or_default()))),
        }
    };
    timeout(ANSWER, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let reasons = (shown.reasons)();
    if reasons.is_empty() {
        (StatusCode::OK, "ready\n".to_owned()).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
    }
}

async fn page(State(shown): State<Shown>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], shown.metrics.text())
}

/// No request here has a body, and no answer takes long.
async fn bounded(request: Request, next: Next) -> Response {
    if !request.body().is_end_stream() {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    timeout(ANSWER, next.run(request)).await.unwrap_or_else(|_| StatusCode::GATEWAY_TIMEOUT.into_response())
}

/// Accepts so many connections at once, and ends each after its time.
struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
    kill: CancellationToken,
}

impl axum::serve::Listener for Bounded {
    type Io = Connection<TcpStream, SocketAddr>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        let (tcp, remote) = loop {
            match self.listener.accept().await {
                Ok(peer) => break peer,
                Err(error) => {
                    warn!(listener = "ops", %error, "cannot accept a connection");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        };
        (Connection::new(tcp, remote, self.kill.child_token(), Some(LIFETIME), room), remote)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Ops {
        address: SocketAddr,
        reasons: Arc<Mutex<Vec<String>>>,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<io::Result<()>>,
    }

    async fn start() -> Ops {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reasons = Arc::new(Mutex::new(vec!["starting".to_owned()]));
        let seen = Arc::clone(&reasons);
        let mut builder = metrics::Builder::new("sfdata_test", "1");
        builder.total("looks_total", "Looks");
        let shown = Shown { reasons: Arc::new(move || seen.lock().unwrap().clone()), metrics: builder.page() };
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, shown, stop.clone()));
        Ops { address, reasons, stop, task }
    }

    impl Ops {
        async fn send(&self, request: String) -> String {
            let mut tcp = TcpStream::connect(self.address).await.unwrap();
            tcp.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            tcp.read_to_string(&mut answer).await.unwrap();
            answer
        }

        async fn get(&self, path: &str) -> String {
            self.send(format!("GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n")).await
        }
    }

    #[tokio::test]
    async fn readiness_tells_its_reasons_and_health_does_not_care() {
        let ops = start().await;
        let starting = ops.get("/readyz").await;
        assert!(starting.starts_with("HTTP/1.1 503") && starting.ends_with("starting\n"), "{starting}");
        assert!(ops.get("/healthz").await.starts_with("HTTP/1.1 200"));
        ops.reasons.lock().unwrap().clear();
        assert!(ops.get("/readyz").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_health_check_believes_only_who_says_that_all_is_well() {
        let ops = start().await;
        ask(ops.address).await.unwrap();
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap();
        let answering = async {
            let (mut tcp, _) = other.accept().await.unwrap();
            tcp.write_all(b"HTTP/1.0 503 Service Unavailable\r\n\r\n").await.unwrap();
        };
        let (asked, ()) = tokio::join!(ask(address), answering);
        assert!(asked.unwrap_err().to_string().contains("503"));
        drop(other);
        assert_eq!(ask(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn metrics_are_served_as_text_and_bodies_are_not_taken() {
        let ops = start().await;
        let answer = ops.get("/metrics").await;
        assert!(answer.contains(metrics::CONTENT_TYPE), "{answer}");
        assert!(answer.contains("\nsfdata_test_looks_total 0\n"), "{answer}");
        assert!(ops.get("/").await.starts_with("HTTP/1.1 404"));
        let large = "GET /healthz HTTP/1.1\r\nHost: ops\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n";
        assert!(ops.send(large.to_owned()).await.starts_with("HTTP/1.1 413"));
    }

    #[tokio::test]
    async fn a_silent_connection_does_not_hold_up_the_stop() {
        let ops = start().await;
        let _silent = TcpStream::connect(ops.address).await.unwrap();
        ops.get("/healthz").await;
        ops.stop.cancel();
        timeout(DRAIN * 2, ops.task).await.unwrap().unwrap().unwrap();
    }
}
