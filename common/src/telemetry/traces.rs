//! Traces: spans of one command across hubctl, hub and agent, sent over OTLP where an endpoint is configured.
//!
//! What joins them is a W3C `traceparent` beside the signed messages, never in them. Nothing is decided by it, and one that is
//! not exactly as the standard has it counts as absent. A span holds identifiers and words of fixed sets; its methods take
//! nothing else, so that no text of an operator's, of AWS's or of Dagster's can leave with it.
//! Without an endpoint nothing runs, and a span costs a branch. With one, spans wait in a bounded queue for a thread of their
//! own: what it cannot send is lost, and nobody waits for it.
//! Of OpenTelemetry's variables in the environment those for headers and compression are heeded, which collectors may ask for
//! (`Surroundings`); all else is set here.

use std::{
    env::VarError,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue, Uri};
pub use opentelemetry::trace::SpanKind;
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_otlp::{WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter},
};
use serde::Deserialize;
use tonic::{metadata::MetadataMap, transport};
use tracing::{info, warn};

use crate::{
    command::Command,
    ids::{AgentId, CommandId},
    limits,
    outcome::Outcome,
};

/// The `[telemetry]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Where traces are sent, as in `http://127.0.0.1:4317`; without it there are none.
    pub otlp_endpoint: Option<String>,
}

impl Telemetry {
    /// Whether the endpoint can be meant.
    pub fn check(&self) -> Result<(), InvalidEndpoint> {
        self.otlp_endpoint.as_deref().map_or(Ok(()), |text| endpoint(text).map(|_| ()))
    }
}

/// Text that is no endpoint; the caller says where it stands.
#[derive(Debug, thiserror::Error)]
#[error(
    "{value:?} is no endpoint for OTLP over gRPC; write http://host:port of a collector, as in http://127.0.0.1:4317, or \
     leave it out"
)]
pub struct InvalidEndpoint {
    value: String,
}

/// Why nothing is traced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configured endpoint.
    #[error("telemetry.otlp_endpoint {0}")]
    Endpoint(InvalidEndpoint),
    /// What the environment says besides.
    #[error("the environment variable {variable} {remedy}, or unset it")]
    Variable {
        /// Which.
        variable: &'static str,
        /// What is wrong with it, and what to write. Its value may be a secret.
        remedy: &'static str,
    },
}

/// What the exporter reads of the environment by itself: of each pair the first that is set counts. (OpenTelemetry
/// specification, "OTLP Exporter Configuration".) It would leave out what it does not understand, without a word.
struct Surroundings;

impl Surroundings {
    /// Sent along with each request, as in `key1=value1,key2=value2`.
    const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
    /// `gzip` or `none`.
    const COMPRESSION: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];

    /// Whether what `get` finds can be meant.
    fn check(get: impl Fn(&str) -> Result<String, VarError>) -> Result<(), Error> {
        let wrong = |variable, remedy| Err(Error::Variable { variable, remedy });
        let first = |names: [&'static str; 2]| {
            let set = names.into_iter().map(|name| (name, get(name)));
            set.filter(|(_, value)| *value != Err(VarError::NotPresent)).find(|(_, value)| *value != Ok(String::new()))
        };
        match first(Self::HEADERS) {
            Some((variable, Ok(text))) if !text.split(',').all(is_header) => {
                wrong(variable, "holds no list of headers; write name=value, several with commas between them")
            }
            Some((variable, Err(_))) => wrong(variable, "is no text; write name=value"),
            _ => Ok(()),
        }?;
        match first(Self::COMPRESSION) {
            Some((_, Ok(word))) if ["gzip", "none"].iter().any(|known| word.eq_ignore_ascii_case(known)) => Ok(()),
            Some((variable, _)) => wrong(variable, "names no compression that is known here; write gzip or none"),
            None => Ok(()),
        }
    }
}

/// An empty one, as behind a last comma, is none.
fn is_header(pair: &str) -> bool {
    let legal = |(name, value): (&str, &str)| {
        name.trim().parse::<HeaderName>().is_ok() && value.trim().parse::<HeaderValue>().is_ok()
    };
    pair.trim().is_empty() || pair.split_once('=').is_some_and(legal)
}

fn endpoint(text: &str) -> Result<transport::Endpoint, InvalidEndpoint> {
    let plain = |uri: &Uri| {
        let bare = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        let root = uri.path_and_query().is_none_or(|path| path == "/");
        uri.scheme_str() == Some("http") && uri.port_u16().is_some_and(|port| port != 0) && bare && root
    };
    let uri = text.parse::<Uri>().ok().filter(plain).ok_or_else(|| InvalidEndpoint { value: text.to_owned() })?;
    Ok(transport::Endpoint::from(uri).connect_timeout(limits::TRACE_EXPORT).timeout(limits::TRACE_EXPORT))
}

/// A place in a trace: which, and under which span. (W3C Trace Context, section 3.2.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
}

const HEADER: &str = "traceparent";

impl TraceContext {
    /// Read a `traceparent` of version 00; nothing else is taken. Its flags are not obeyed.
    pub fn parse(text: &str) -> Option<Self> {
        let lower_hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let mut parts = text.split('-');
        let ["00", trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?] else {
            return None;
        };
        if parts.next().is_some() || !lower_hex(trace, 32) || !lower_hex(span, 16) || !lower_hex(flags, 2) {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        (trace != TraceId::INVALID && span != SpanId::INVALID).then_some(Self { trace, span })
    }

    /// The one that came with a request.
    pub fn received(metadata: &MetadataMap) -> Option<Self> {
        let mut all = metadata.get_all(HEADER).iter();
        let only = all.next().filter(|_| all.next().is_none())?;
        Self::parse(only.to_str().ok()?)
    }

    /// Send it with a request.
    pub fn send(self, metadata: &mut MetadataMap) {
        if let Ok(value) = self.to_string().parse() {
            metadata.insert(HEADER, value);
        }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-01", self.trace, self.span)
    }
}

/// Makes spans; cheap to clone. The default one makes none.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Sending>>);

#[derive(Debug)]
struct Sending {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Tracer {
    /// Send what this process does to the configured endpoint, if there is one. `instance` tells one hub or agent from
    /// another. Call it within a runtime, which sends for as long as it lives.
    pub fn start(
        telemetry: &Telemetry,
        service: &'static str,
        version: &'static str,
        instance: Option<&str>,
    ) -> Result<Self, Error> {
        let Some(text) = &telemetry.otlp_endpoint else { return Ok(Self::default()) };
        let endpoint = endpoint(text).map_err(Error::Endpoint)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the OTLP library reads it itself: here it is only seen whether it can"
        )]
        let read = |name: &str| std::env::var(name);
        Surroundings::check(read)?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(endpoint.connect_lazy())
            .with_timeout(limits::TRACE_EXPORT)
            .build()
            .map_err(|_| Error::Endpoint(InvalidEndpoint { value: text.clone() }))?;
        let exporter = Told { exporter, endpoint: text.clone(), failing: AtomicBool::new(false) };
        let bounds = BatchConfigBuilder::default()
            .with_max_queue_size(limits::TRACE_QUEUE)
            .with_max_export_batch_size(limits::TRACE_BATCH)
            .with_scheduled_delay(limits::TRACE_INTERVAL)
            .build();
        let resource = Resource::builder_empty()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", version))
            .with_attributes(instance.map(|instance| KeyValue::new("service.instance.id", instance.to_owned())));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(bounds).build())
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer("sfdata");
        Ok(Self(Some(Arc::new(Sending { provider, tracer }))))
    }

    /// Begin a span, which ends when it is dropped. Where nothing is traced it stands for its parent, so that a trace goes on
    /// through a hub that sends none.
    pub fn span(&self, name: &'static str, kind: SpanKind, parent: Option<TraceContext>) -> Span {
        let Some(sending) = &self.0 else { return Span { recorded: None, context: parent } };
        let within = match parent {
            Some(TraceContext { trace, span }) => Context::new().with_remote_span_context(SpanContext::new(
                trace,
                span,
                TraceFlags::SAMPLED,
                true,
                TraceState::NONE,
            )),
            None => Context::new(),
        };
        let recorded = sending.tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), &within);
        let context = recorded.span_context();
        let context = TraceContext { trace: context.trace_id(), span: context.span_id() };
        Span { recorded: Some(Box::new(recorded)), context: Some(context) }
    }

    /// Send what is left, for so long at most.
    pub async fn stop(&self, within: Duration) {
        let Some(sending) = self.0.clone() else { return };
        // It blocks until the spans have gone, which takes this runtime.
        let sent = tokio::task::spawn_blocking(move || sending.provider.shutdown_with_timeout(within)).await;
        if !matches!(sent, Ok(Ok(()))) {
            warn!("some traces were not sent");
        }
    }
}

/// Something that takes its time. It ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    recorded: Option<Box<opentelemetry_sdk::trace::Span>>,
    context: Option<TraceContext>,
}

impl Span {
    /// Its place, for what happens under it.
    pub fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// It is about the command of this id.
    pub fn about(mut self, id: CommandId) -> Self {
        if let Some(span) = &mut self.recorded {
            span.set_attribute(KeyValue::new("sfdata.command", id.to_string()));
        }
        self
    }

    /// It is about this command.
    pub fn command(mut self, command: &Command) -> Self {
        if let Some(span) = &mut self.recorded {
            span.set_attribute(KeyValue::new("sfdata.action", command.action.name()));
            span.set_attribute(KeyValue::new(
                "sfdata.targets",
                i64::try_from(command.targets.len()).unwrap_or(i64::MAX),
            ));
        }
        self.about(command.id)
    }

    /// It is about this agent.
    pub fn agent(mut self, id: &AgentId) -> Self {
        if let Some(span) = &mut self.recorded {
            span.set_attribute(KeyValue::new("sfdata.agent", id.to_string()));
        }
        self
    }

    /// How the command ended: the word, and nothing of the result.
    pub fn ended(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Succeeded(_) => self.succeeded(),
            _ => self.failed(outcome.name()),
        }
    }

    /// It did what it was to do.
    pub fn succeeded(&mut self) {
        self.state("succeeded");
    }

    /// It did not succeed; the word says how.
    pub fn failed(&mut self, state: &'static str) {
        self.state(state);
        if let Some(span) = &mut self.recorded {
            span.set_status(Status::error(""));
        }
    }

    fn state(&mut self, state: &'static str) {
        if let Some(span) = &mut self.recorded {
            span.set_attribute(KeyValue::new("sfdata.state", state));
        }
    }
}

/// Tells once that sending fails, and once that it works again.
#[derive(Debug)]
struct Told {
    exporter: opentelemetry_otlp::SpanExporter,
    endpoint: String,
    failing: AtomicBool,
}

impl SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        let before = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !before => {
                warn!(endpoint = self.endpoint, %error, "traces cannot be sent and are dropped; nothing else waits for it");
            }
            Ok(()) if before => info!(endpoint = self.endpoint, "traces are sent again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RIGHT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_strictly() {
        let context = TraceContext::parse(RIGHT).unwrap();
        assert_eq!(context.to_string(), RIGHT);
        assert_eq!(TraceContext::parse(&RIGHT.replace("-01", "-00")), Some(context));
        for wrong in [
            "",
            "00",
            &RIGHT.to_uppercase(),
            &RIGHT.replacen("00-", "01-", 1),
            &RIGHT.replacen("00-", "ff-", 1),
            &RIGHT[..54],
            &format!("{RIGHT}-"),
            &format!("{RIGHT}-extra"),
            &format!(" {RIGHT}"),
            &format!("{RIGHT}{}", "0".repeat(100_000)),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(text in "0[01]-[0-9a-f]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{2}|\\PC*") {
            if let Some(context) = TraceContext::parse(&text) {
                prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
                prop_assert_eq!(&text[..53], &context.to_string()[..53]);
            }
        }
    }

    #[test]
    fn one_traceparent_comes_with_a_request_or_none() {
        let mut metadata = MetadataMap::new();
        assert_eq!(TraceContext::received(&metadata), None);
        let context = TraceContext::parse(RIGHT).unwrap();
        context.send(&mut metadata);
        assert_eq!(TraceContext::received(&metadata), Some(context));
        metadata.append(HEADER, RIGHT.parse().unwrap());
        assert_eq!(TraceContext::received(&metadata), None, "two are none");
    }

    #[test]
    fn an_endpoint_is_a_collector_in_the_clear() {
        for right in ["http://127.0.0.1:4317", "http://[::1]:4317/", "http://collector.internal:4317"] {
            assert!(endpoint(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "127.0.0.1:4317",
            "http://127.0.0.1",
            "http://127.0.0.1:0",
            "https://collector:4317",
            "http://key@collector:4317",
            "http://collector:4318/v1/traces",
            "http://collector:4317?a=b",
            "unix:///run/otel",
        ] {
            let told = endpoint(wrong).unwrap_err().to_string();
            assert!(told.contains(&format!("{wrong:?}")) && told.contains("write http://host:port"), "{told}");
        }
    }

    #[test]
    fn of_the_environment_what_can_not_be_meant_is_told_without_its_value() {
        let check = |set: &[(&str, &str)]| {
            Surroundings::check(|name| {
                let of = set.iter().find(|(variable, _)| *variable == name);
                of.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
            })
        };
        let [own, general] = Surroundings::HEADERS;
        for right in ["", "authorization=Bearer s3cret", "a=1, b = 2,", "x-key=YQ=="] {
            assert!(check(&[(general, right)]).is_ok(), "{right}");
        }
        assert!(check(&[(own, "a=1"), (general, "s3cret")]).is_ok(), "the first of the two counts");
        for wrong in ["s3cret", "a=1,s3cret", "a b=s3cret", "a=s3cret\nb"] {
            let told = check(&[(general, wrong)]).unwrap_err().to_string();
            assert!(told.contains(general) && !told.contains("s3cret"), "{told}");
        }
        let [own, general] = Surroundings::COMPRESSION;
        assert!(check(&[(own, "gzip"), (general, "brotli")]).is_ok() && check(&[(general, "None")]).is_ok());
        for wrong in ["zstd", "brotli"] {
            let told = check(&[(own, ""), (general, wrong)]).unwrap_err().to_string();
            assert!(told.contains(general) && told.contains("write gzip or none"), "{told}");
        }
    }

    #[test]
    fn a_span_of_nothing_stands_for_its_parent() {
        let parent = TraceContext::parse(RIGHT);
        let mut span = Tracer::default().span("work", SpanKind::Internal, parent);
        span.failed("refused");
        assert_eq!(span.context(), parent);
        assert!(span.recorded.is_none());
    }
}
