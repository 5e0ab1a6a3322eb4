//! Traces of requests for OpenTelemetry: a span each, sent as OTLP over HTTP where the standard environment variables say so.

use crate::serve::error::ServeError;
use crate::serve::record::Line;
use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use std::pin::Pin;
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;

/// How long the last spans may take to be sent.
const LAST: Duration = Duration::from_secs(5);

/// The way to a collector.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// A variable of the environment, if it says anything.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The variable for traces, or else that for all that OTLP carries.
fn otlp(name: &str) -> Option<String> {
    variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}")).or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
}

impl Traces {
    /// The collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names, if it names one.
    ///
    /// # Errors
    /// An address that nothing can be sent to.
    pub(crate) fn from_env(runtime: Handle) -> Result<Option<Self>, ServeError> {
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let Some(endpoint) = otlp("ENDPOINT").filter(|_| !disabled) else { return Ok(None) };
        if !endpoint.starts_with("http://") {
            let problem = "traces go by plain http:// to a collector near by, which can send them on".into();
            return Err(ServeError::Traces { endpoint, problem });
        }
        let timeout = otlp("TIMEOUT").and_then(|millis| millis.parse().ok()).unwrap_or(10_000);
        let client = HyperClient::with_default_connector(Duration::from_millis(timeout), None);
        let exporter = SpanExporter::builder().with_http().with_http_client(Client { client, runtime }).build();
        let exporter = exporter.map_err(|error| ServeError::Traces { endpoint, problem: error.to_string() })?;
        let named = variable("OTEL_SERVICE_NAME").is_some()
            || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|attributes| attributes.contains("service.name="));
        let resource = Resource::builder();
        let resource = if named { resource } else { resource.with_service_name("qembed-q") };
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
        let tracer = provider.tracer("qembed-q");
        Ok(Some(Self { provider, tracer }))
    }

    /// Notes a request that was answered. `parent` is whose part it was, `route` its pattern.
    pub(crate) fn request(&self, parent: &Context, line: &Line, route: Option<&str>) {
        let Line { method, path, status, took, record, message, .. } = *line;
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.to_string()),
            KeyValue::new("url.path", path.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        attributes.extend(route.map(|route| KeyValue::new("http.route", route.to_owned())));
        attributes.extend((status >= 400).then(|| KeyValue::new("error.type", status.to_string())));
        let name = match record {
            Some(record) => {
                let formats = record.outputs.iter().map(|name| StringValue::from(*name)).collect();
                attributes.extend([
                    KeyValue::new("gen_ai.operation.name", "embeddings"),
                    KeyValue::new("gen_ai.provider.name", "qembed-q"),
                    KeyValue::new("gen_ai.request.model", record.model.clone()),
                    KeyValue::new("gen_ai.request.encoding_formats", Value::Array(Array::String(formats))),
                    KeyValue::new("gen_ai.embeddings.dimension.count", record.dimensions as i64),
                    KeyValue::new("gen_ai.usage.input_tokens", record.tokens as i64),
                ]);
                format!("embeddings {}", record.model)
            }
            None => format!("{method} {}", route.unwrap_or_default()).trim_end().to_owned(),
        };
        let end = SystemTime::now();
        let span = self.tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
        let mut span = span.with_start_time(end - took).start_with_context(&self.tracer, parent);
        if status >= 500 {
            span.set_status(Status::error(message.unwrap_or_default().to_owned()));
        }
        span.end_with_timestamp(end);
    }

    /// Sends what has not been sent yet. Blocks; the runtime has to go on meanwhile.
    pub(crate) fn end(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST) {
            tracing::warn!("the last traces may not have been sent: {error}");
        }
    }
}

/// Whose part a request is, by its headers `traceparent` and `tracestate`.
pub(crate) fn parent(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers))
}

/// Sends spans on the server's runtime, as the thread that collects them has none.
#[derive(Debug)]
struct Client {
    client: HyperClient,
    runtime: Handle,
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'s, 'a>(&'s self, request: Request<Bytes>) -> Sent<'a>
    where
        's: 'a,
        Self: 'a,
    {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move { client.send_bytes(request).await });
        Box::pin(async move { sending.await? })
    }
}
