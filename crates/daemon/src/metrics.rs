//! Metrics as those who scrape them read them: the text format that they ask for, and a histogram for hot paths.

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The media type of OpenMetrics, for which Prometheus asks.
const OPENMETRICS: &str = "application/openmetrics-text";

/// The classic text format, for whoever asks for nothing in particular: a person, `promtool check metrics`.
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets of [`Durations`], in seconds: from a connect within one host to the longest
/// `connect_timeout` that is usual. The last bucket, without a bound, is added to them.
const BOUNDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0];

/// All metrics in one format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposition {
    /// The value for the header `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub text: String,
}

/// Everything in `registries`, whose names must differ, in OpenMetrics where the header `Accept` names it, else in the classic format.
///
/// # Errors
/// A metric could not be written.
pub fn exposition(registries: &[&Registry], accept: Option<&str>) -> Result<Exposition, fmt::Error> {
    let mut text = String::new();
    registries.iter().try_for_each(|registry| encode_registry(&mut text, registry))?;
    encode_eof(&mut text)?;
    Ok(match accept.is_some_and(takes_openmetrics) {
        true => {
            Exposition { content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8", text }
        }
        false => Exposition { content_type: CLASSIC, text: classic(&text) },
    })
}

fn takes_openmetrics(accept: &str) -> bool {
    let kinds = accept.split(',').filter_map(|item| item.split(';').next());
    kinds.into_iter().any(|kind| kind.trim().eq_ignore_ascii_case(OPENMETRICS))
}

/// OpenMetrics as classic text. The two differ in what a counter is called: OpenMetrics describes `requests` and
/// gives samples of `requests_total`, the classic format describes the name that its samples have.
fn classic(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            let kind = lines.peek().and_then(|line| typed(line));
            let suffix = suffix(kind.map(|(_, kind)| kind));
            text.extend(["# HELP ", name, suffix, " ", help, "\n"]);
        } else if let Some((name, kind)) = typed(line) {
            let shown = if kind == "unknown" { "untyped" } else { kind };
            text.extend(["# TYPE ", name, suffix(Some(kind)), " ", shown, "\n"]);
        } else if !line.starts_with("# ") {
            text.extend([line, "\n"]);
        }
    }
    text
}

/// The name and the type in a line that gives a metric's type.
fn typed(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("# TYPE ")?.rsplit_once(' ')
}

/// What OpenMetrics leaves out of the name of a metric of this type.
fn suffix(kind: Option<&str>) -> &'static str {
    if kind == Some("counter") { "_total" } else { "" }
}

/// A histogram of durations whose [`Durations::observe`] is three relaxed additions, for paths on which the
/// library's lock would be one lock too many. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Durations(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Durations {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.0.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let counts = self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        // Of the same readings as the buckets: both must agree while somebody is counting.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.0.nanos.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    fn registry() -> (Registry, Durations) {
        let mut registry = Registry::with_prefix("x");
        let (counter, gauge, took) =
            (Counter::<u64>::default(), Gauge::<i64>::default(), Durations::default());
        counter.inc_by(3);
        registry.register("calls", "Calls", counter);
        registry.register("open", "Open ones", gauge);
        registry.register("call_duration_seconds", "Time of a call", took.clone());
        (registry, took)
    }

    #[test]
    fn the_classic_format_describes_counters_by_the_name_of_their_samples() {
        let (registry, took) = registry();
        took.observe(Duration::from_millis(2));
        took.observe(Duration::from_secs(100));
        let Exposition { content_type, text } = exposition(&[&registry], Some("*/*")).unwrap();
        assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
        assert!(
            text.starts_with(
                "# HELP x_calls_total Calls.\n# TYPE x_calls_total counter\nx_calls_total 3\n\
             # HELP x_open Open ones.\n# TYPE x_open gauge\nx_open 0\n"
            ),
            "{text}"
        );
        for line in [
            "x_call_duration_seconds_sum 100.002",
            "x_call_duration_seconds_count 2",
            "x_call_duration_seconds_bucket{le=\"0.001\"} 0",
            "x_call_duration_seconds_bucket{le=\"0.0025\"} 1",
            "x_call_duration_seconds_bucket{le=\"10.0\"} 1",
            "x_call_duration_seconds_bucket{le=\"+Inf\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        assert!(!text.contains("# EOF"), "{text}");
        assert_eq!(took.count(), 2);
    }

    #[test]
    fn whoever_asks_for_openmetrics_gets_it() {
        let (registry, _) = registry();
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5";
        let Exposition { content_type, text } = exposition(&[&registry], Some(prometheus)).unwrap();
        assert!(content_type.starts_with(OPENMETRICS), "{content_type}");
        assert!(text.starts_with("# HELP x_calls Calls.\n") && text.ends_with("# EOF\n"), "{text}");
        assert_eq!(exposition(&[&registry], None).unwrap().content_type, CLASSIC);
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let took = Durations::default();
        took.observe(Duration::from_millis(1));
        took.observe(Duration::ZERO);
        let counts: Vec<_> = took.0.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        assert_eq!(counts, [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
