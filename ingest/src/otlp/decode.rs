//! A request: its resources, their scopes, and their metrics.
//!
//! What describes comes after what is described, as often as not: each message is looked through
//! once for itself, and once for its parts.

use hashbrown::HashSet;
use parking_lot::RwLock;
use tidelake_catalog::MetricKind;

use super::Fault;
use super::labels::{self, LabelSet, ResourceLabels};
use super::names::{Suffix, metric_name, unit_name};
use super::settings::{Delta, Settings};
use super::value::Attribute;
use crate::label_limits::LabelLimits;
use crate::protobuf::{Fields, WireError};
use crate::remote_write::samples::SamplesBuilder;
use crate::remote_write::{Metadata, WrittenSamples};
use crate::retention::Oldest;
use crate::series_registry::{KnownSeries, SeriesRegistry, Spelling};

/// Bytes that the labels of new series may have: so many for each byte of the body, and so many
/// more. A resource of a few kilobytes can have a million series.
const LABELS_PER_BYTE: usize = 8;
const LABELS_FREE: usize = 64 << 20;
/// Samples of `target_info` that a body may have beside the last ones of its resources. A resource
/// can say that it has points of 1970 and of today.
const MAX_TARGET_INFO: usize = 20_000;
/// Points after which others get a chance to add series.
const POINTS_PER_LOCK: usize = 1024;
/// Metrics that are remembered, of all tables together.
const MAX_SAID: usize = 1 << 17;

const TARGET_INFO: &str = "target_info";

/// The body is no request to export metrics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a valid OTLP metrics request: {0}")]
pub struct DecodeError(String);

impl From<WireError> for DecodeError {
    fn from(error: WireError) -> Self {
        Self(error.0)
    }
}

impl From<crate::remote_write::DecodeError> for DecodeError {
    fn from(error: crate::remote_write::DecodeError) -> Self {
        Self(error.0)
    }
}

/// Hash of what describes a series.
pub(super) type Key = [u8; 16];

fn key(bytes: &[u8]) -> Key {
    Spelling::of(bytes).to_bytes()
}

/// The metrics whose metadata are known to be kept, so that they need not be built again.
#[derive(Debug, Default)]
pub struct SaidMetrics(RwLock<HashSet<Key>>);

impl SaidMetrics {
    /// These are kept now.
    pub fn add(&self, keys: Vec<[u8; 16]>) {
        if keys.is_empty() {
            return;
        }
        let mut said = self.0.write();
        if said.len() + keys.len() > MAX_SAID {
            said.clear();
        }
        said.extend(keys);
    }

    /// Whether it is kept.
    fn has(&self, key: &Key) -> bool {
        self.0.read().contains(key)
    }
}

/// What a body is held to.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// How it is translated.
    pub settings: &'a Settings,
    /// The same as bytes.
    pub head: &'a [u8],
    /// Points that are older are refused.
    pub oldest: Oldest,
    /// Series beyond these limits are refused.
    pub limits: LabelLimits,
    /// The number of the table, in which metrics are remembered.
    pub table: u64,
}

/// Reads a decompressed body into rows of the metrics table whose series the registry keeps, and
/// gives the keys of the metrics whose metadata are among them. Those that are `said` are left out.
///
/// # Errors
/// If the body is not such a message; then nothing was registered.
pub fn decode(
    body: &[u8],
    registry: &SeriesRegistry,
    rules: Rules<'_>,
    said: Option<&SaidMetrics>,
) -> Result<(WrittenSamples, Vec<[u8; 16]>), DecodeError> {
    let mut request = Request {
        rules,
        rules_key: key(&[rules.head, &rules.table.to_le_bytes()].concat()),
        samples: SamplesBuilder::new(rules.oldest, rules.limits, registry.memory()),
        known: registry.read(),
        key: Vec::with_capacity(512),
        label_bytes: body
            .len()
            .saturating_mul(LABELS_PER_BYTE)
            .saturating_add(LABELS_FREE),
        points: 0,
        target_info_left: MAX_TARGET_INFO,
        targets: HashSet::new(),
        said,
        new_said: Vec::new(),
        said_here: HashSet::new(),
    };
    let mut fields = Fields::new(body);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            request.resource_metrics(value.bytes("metrics of a resource")?)?;
            if request.samples.is_out_of_memory() {
                break;
            }
        }
    }
    let Request {
        samples,
        known,
        new_said,
        ..
    } = request;
    drop(known);
    Ok((samples.finish(registry), new_said))
}

/// What is read so far.
pub(super) struct Request<'r> {
    pub(super) rules: Rules<'r>,
    rules_key: Key,
    pub(super) samples: SamplesBuilder,
    known: KnownSeries<'r>,
    /// What describes the present series, in bytes.
    pub(super) key: Vec<u8>,
    /// Bytes that labels may still have.
    label_bytes: usize,
    points: usize,
    target_info_left: usize,
    /// Resources and times that have a sample of `target_info`.
    targets: HashSet<(Key, i64)>,
    said: Option<&'r SaidMetrics>,
    new_said: Vec<Key>,
    said_here: HashSet<Key>,
}

/// A resource, and when its points are.
pub(super) struct Resource<'b> {
    attributes: Vec<Attribute<'b>>,
    key: Key,
    labels: Option<Result<ResourceLabels<'b>, String>>,
    /// Nanoseconds since 1970 of its first and its last point.
    times: Option<(u64, u64)>,
}

impl<'b> Resource<'b> {
    fn read(message: &'b [u8], rules: &Key) -> Result<Self, WireError> {
        let mut attributes = Vec::new();
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            if number == 1 {
                Attribute::push(&mut attributes, value)?;
            }
        }
        Ok(Self {
            attributes,
            key: key(&[rules, message].concat()),
            labels: None,
            times: None,
        })
    }

    /// Notes the time of a point.
    #[inline]
    pub(super) fn observe(&mut self, time: u64) {
        self.times = Some(match self.times {
            None => (time, time),
            Some((first, last)) => (first.min(time), last.max(time)),
        });
    }

    fn labels(&mut self, settings: &Settings) -> Result<&ResourceLabels<'b>, Fault> {
        if self.labels.is_none() {
            self.labels = Some(match ResourceLabels::new(&self.attributes, settings) {
                Ok(labels) => Ok(labels),
                Err(Fault::Refused(error)) => Err(error),
                Err(malformed) => return Err(malformed),
            });
        }
        match &self.labels {
            Some(Ok(labels)) => Ok(labels),
            Some(Err(error)) => Err(Fault::Refused(error.clone())),
            None => Err(Fault::Refused(String::new())),
        }
    }
}

/// The scope of metrics.
#[derive(Default)]
struct Scope<'b> {
    name: &'b [u8],
    version: &'b [u8],
    schema_url: &'b [u8],
    attributes: Vec<Attribute<'b>>,
}

impl<'b> Scope<'b> {
    fn read(message: &'b [u8], schema_url: &'b [u8]) -> Result<Self, WireError> {
        let mut scope = Self {
            schema_url,
            ..Self::default()
        };
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => scope.name = value.bytes("a scope's name")?,
                2 => scope.version = value.bytes("a scope's version")?,
                3 => Attribute::push(&mut scope.attributes, value)?,
                _ => {}
            }
        }
        Ok(scope)
    }
}

/// How the points of a metric count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Temporality {
    Unspecified,
    Delta,
    Cumulative,
}

impl Temporality {
    fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Delta,
            2 => Self::Cumulative,
            _ => Self::Unspecified,
        }
    }
}

/// Kinds of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Points {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

/// A metric: what is known of it without its points, and what its series are made of.
pub(super) struct Metric<'m, 'b> {
    name: &'b [u8],
    unit: &'b [u8],
    description: &'b [u8],
    pub(super) points: Points,
    temporality: Temporality,
    is_monotonic: bool,
    /// Its name in Prometheus.
    family: Option<Result<String, String>>,
    pub(super) key: Key,
    pub(super) resource: &'m mut Resource<'b>,
    scope: &'m LabelSet<'b>,
    /// Points that are too old, and the time of one.
    pub(super) expired: (usize, i64),
}

impl<'b> Metric<'_, 'b> {
    pub(super) fn is_delta(&self) -> bool {
        self.temporality == Temporality::Delta
    }

    fn has_temporality(&self) -> bool {
        !matches!(self.points, Points::Gauge | Points::Summary)
    }

    fn kind(&self) -> MetricKind {
        match self.points {
            // There is no type for what counts from point to point.
            _ if self.has_temporality() && self.is_delta() => MetricKind::Unknown,
            Points::Gauge => MetricKind::Gauge,
            Points::Sum if self.is_monotonic => MetricKind::Counter,
            Points::Sum => MetricKind::Gauge,
            Points::Histogram | Points::Exponential => MetricKind::Histogram,
            Points::Summary => MetricKind::Summary,
        }
    }

    fn suffix(&self) -> Suffix {
        match self.points {
            Points::Gauge => Suffix::Gauge,
            Points::Sum if self.is_monotonic => Suffix::Counter,
            _ => Suffix::Other,
        }
    }

    /// As refusals name it.
    pub(super) fn shown(&self) -> String {
        format!("metric {:?}", String::from_utf8_lossy(self.name))
    }

    pub(super) fn family(&mut self, settings: &Settings) -> Result<&str, String> {
        if self.family.is_none() {
            let name = std::str::from_utf8(self.name)
                .map_err(|_| format!("the name of {} is not valid UTF-8", self.shown()));
            let unit = String::from_utf8_lossy(self.unit);
            let suffix = self.suffix();
            self.family =
                Some(name.and_then(|name| metric_name(name, &unit, suffix, settings.strategy)));
        }
        match &self.family {
            Some(Ok(family)) => Ok(family),
            Some(Err(error)) => Err(error.clone()),
            None => Err(String::new()),
        }
    }

    /// The labels that all series of a point have.
    fn labels(
        &mut self,
        attributes: &[Attribute<'b>],
        settings: &Settings,
    ) -> Result<LabelSet<'b>, Fault> {
        let (kind, unit) = (self.kind(), String::from_utf8_lossy(self.unit));
        let resource = self.resource.labels(settings)?;
        labels::of_point(attributes, resource, self.scope, (kind, &unit), settings)
    }
}

impl<'r> Request<'r> {
    fn resource_metrics(&mut self, message: &[u8]) -> Result<(), DecodeError> {
        let mut found: &[u8] = &[];
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            if number == 1 {
                found = value.bytes("a resource")?;
            }
        }
        let mut resource = Resource::read(found, &self.rules_key)?;
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            if number == 2 {
                self.scope_metrics(value.bytes("metrics of a scope")?, &mut resource)?;
                if self.samples.is_out_of_memory() {
                    return Ok(());
                }
            }
        }
        self.target_info(&mut resource)
    }

    fn scope_metrics<'b>(
        &mut self,
        message: &'b [u8],
        resource: &mut Resource<'b>,
    ) -> Result<(), DecodeError> {
        let (mut found, mut schema_url): (&[u8], &[u8]) = (&[], &[]);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => found = value.bytes("a scope")?,
                3 => schema_url = value.bytes("a schema URL")?,
                _ => {}
            }
        }
        let settings = self.rules.settings;
        let (mut labels, mut scope_key) = (Ok(LabelSet::new()), Key::default());
        if settings.scope_labels {
            let scope = Scope::read(found, schema_url)?;
            scope_key = key(&[&key(schema_url), found].concat());
            let Scope {
                name,
                version,
                schema_url,
                attributes,
            } = scope;
            labels = match labels::of_scope(name, version, schema_url, &attributes, settings) {
                Ok(labels) => Ok(labels),
                Err(Fault::Refused(error)) => Err(error),
                Err(Fault::Malformed(error)) => return Err(error.into()),
            };
        }
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            if number == 2 {
                let metric = value.bytes("a metric")?;
                match &labels {
                    Ok(labels) => self.metric(metric, resource, labels, &scope_key)?,
                    Err(error) => {
                        let none = LabelSet::new();
                        self.refused_metric(metric, resource, &none, error)?;
                    }
                }
                if self.samples.is_out_of_memory() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn metric<'b>(
        &mut self,
        message: &'b [u8],
        resource: &mut Resource<'b>,
        scope: &LabelSet<'b>,
        scope_key: &Key,
    ) -> Result<(), DecodeError> {
        let (mut metric, data) = read_metric(message, resource, scope)?;
        let Some(data) = data else {
            let remark = format!("{} has no data of a known kind", metric.shown());
            self.samples.remark(remark);
            return Ok(());
        };
        let metric_key = self.describe(&metric);
        self.key.clear();
        self.key.extend_from_slice(&metric_key);
        self.key.extend_from_slice(&metric.resource.key);
        self.key.extend_from_slice(scope_key);
        metric.key = key(&self.key);
        let is_taken = match metric.temporality {
            _ if !metric.has_temporality() => true,
            Temporality::Cumulative => true,
            Temporality::Delta => self.rules.settings.delta == Delta::Keep,
            Temporality::Unspecified => false,
        };
        if !is_taken {
            let error = match metric.temporality {
                Temporality::Delta => {
                    "has delta temporality, which is refused (setting otlp_delta): let the sender \
                     use cumulative temporality"
                }
                _ => "does not say whether its points are cumulative or deltas",
            };
            return self.refuse_all(&mut metric, data, error);
        }
        if let Err(error) = metric.family(self.rules.settings) {
            return self.refuse_all(&mut metric, data, &error);
        }
        let before = self.points;
        self.data_points(&mut metric, data)?;
        if self.points > before {
            self.say(&mut metric, metric_key);
        }
        let (expired, time) = std::mem::take(&mut metric.expired);
        if expired > 0 {
            let reason = self.rules.oldest.refusal(time);
            let error = format!(
                "{expired} data points of {} are too old: {reason}",
                metric.shown()
            );
            self.samples.refuse_samples(expired, error);
        }
        Ok(())
    }

    /// The key of what a metric says about itself.
    fn describe(&mut self, metric: &Metric<'_, '_>) -> Key {
        self.key.clear();
        self.key.extend_from_slice(&self.rules_key);
        let temporality = match metric.temporality {
            Temporality::Unspecified => 0,
            Temporality::Delta => 1,
            Temporality::Cumulative => 2,
        };
        self.key.extend_from_slice(&[
            metric.points as u8,
            temporality,
            u8::from(metric.is_monotonic),
        ]);
        for text in [metric.name, metric.unit, metric.description] {
            self.key
                .extend_from_slice(&(text.len() as u64).to_le_bytes());
            self.key.extend_from_slice(text);
        }
        key(&self.key)
    }

    /// Gives the metadata of a metric, once.
    fn say(&mut self, metric: &mut Metric<'_, '_>, metric_key: Key) {
        let is_new = |said: &SaidMetrics| !said.has(&metric_key);
        if !self.said.is_some_and(is_new) || !self.said_here.insert(metric_key) {
            return;
        }
        let (kind, unit) = (metric.kind(), String::from_utf8_lossy(metric.unit));
        let help = String::from_utf8_lossy(metric.description).into_owned();
        let unit = unit_name(&unit, true);
        if let Ok(family) = metric.family(self.rules.settings) {
            self.samples.metadata(Metadata {
                family: family.to_owned(),
                kind,
                help,
                unit,
            });
            self.new_said.push(metric_key);
        }
    }

    /// Counts a point, and lets others add series from time to time.
    pub(super) fn count_point(&mut self) {
        self.points += 1;
        if self.points.is_multiple_of(POINTS_PER_LOCK) {
            self.known.bump();
        }
    }

    /// Refuses all points of a metric whose scope cannot be.
    fn refused_metric<'b>(
        &mut self,
        message: &'b [u8],
        resource: &mut Resource<'b>,
        scope: &LabelSet<'b>,
        error: &str,
    ) -> Result<(), DecodeError> {
        let (mut metric, data) = read_metric(message, resource, scope)?;
        self.refuse_all(&mut metric, data.unwrap_or_default(), error)
    }

    fn refuse_all(
        &mut self,
        metric: &mut Metric<'_, '_>,
        data: &[u8],
        error: &str,
    ) -> Result<(), DecodeError> {
        let mut points = 0;
        let mut fields = Fields::new(data);
        while let Some((number, _)) = fields.next()? {
            points += usize::from(number == 1);
        }
        if points > 0 {
            let error = format!("{} {error}", metric.shown());
            self.samples.refuse_samples(points, error);
        }
        Ok(())
    }

    /// Ends a series that the present key names: all that was added since the last end belongs to
    /// it. Its labels are built if the registry does not know it.
    pub(super) fn end_series<'b>(
        &mut self,
        metric: &mut Metric<'_, 'b>,
        point: &mut PointLabels<'b>,
        spelling: Spelling,
        suffix: &str,
        extra: Option<(&str, f64)>,
    ) -> Result<(), DecodeError> {
        let Self {
            rules,
            samples,
            known,
            label_bytes,
            ..
        } = self;
        let mut malformed = None;
        samples.end_series(known, spelling, || {
            let built = build(metric, point, suffix, extra, rules, label_bytes);
            built.map_err(|fault| match fault {
                Fault::Refused(error) => error,
                Fault::Malformed(error) => {
                    malformed = Some(error);
                    String::new()
                }
            })
        });
        malformed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn target_info<'b>(&mut self, resource: &mut Resource<'b>) -> Result<(), DecodeError> {
        let Some((first, last)) = resource.times else {
            return Ok(());
        };
        // Most resources have points of one moment.
        let interval_ns = self
            .rules
            .settings
            .target_info_interval_ms
            .saturating_mul(1_000_000)
            .max(1_000_000);
        let mut key_bytes = Vec::with_capacity(32);
        key_bytes.push(0);
        key_bytes.extend_from_slice(&resource.key);
        key_bytes.extend_from_slice(TARGET_INFO.as_bytes());
        let spelling = Spelling::of(&key_bytes);
        let Self {
            rules,
            samples,
            known,
            target_info_left,
            targets,
            label_bytes,
            ..
        } = self;
        let mut labels = None;
        let is_known = known.find(spelling).is_some();
        if !is_known {
            let found = resource.labels(rules.settings).map(|_| ());
            let found = found.and_then(|()| match &resource.labels {
                Some(Ok(known)) => labels::of_target(&resource.attributes, known, rules.settings),
                _ => Ok(None),
            });
            labels = match found {
                Ok(Some(labels)) => Some(labels),
                Ok(None) => return Ok(()),
                Err(Fault::Malformed(error)) => return Err(error.into()),
                Err(Fault::Refused(error)) => {
                    samples.remark(format!("{TARGET_INFO} is not written: {error}"));
                    return Ok(());
                }
            };
        }
        let mut put = |time: u64| {
            let time = (time / 1_000_000) as i64;
            if time >= rules.oldest.time && targets.insert((resource.key, time)) {
                samples.sample(1.0, time);
            }
        };
        let mut time = first;
        while time < last && *target_info_left > 0 {
            put(time);
            *target_info_left -= 1;
            let Some(next) = time.checked_add(interval_ns) else {
                break;
            };
            time = next;
        }
        put(last);
        if !samples.has_data() {
            return Ok(());
        }
        let mut too_much = false;
        samples.end_series(known, spelling, || {
            let labels = labels.unwrap_or_default();
            match label_bytes.checked_sub(labels::bytes(&labels)) {
                Some(left) => *label_bytes = left,
                None => too_much = true,
            }
            labels::series(&labels, TARGET_INFO, None, &rules.limits)
        });
        if too_much {
            return Err(too_many_labels().into());
        }
        Ok(())
    }
}

/// The labels of a point, built when the first series of it needs them.
pub(super) struct PointLabels<'b> {
    /// Attribute fields as they are in the message.
    pub(super) attributes: Vec<&'b [u8]>,
    labels: Option<LabelSet<'b>>,
}

impl<'b> PointLabels<'b> {
    pub(super) fn new() -> Self {
        Self {
            attributes: Vec::new(),
            labels: None,
        }
    }

    /// For the next point.
    pub(super) fn clear(&mut self) {
        self.attributes.clear();
        self.labels = None;
    }

    fn read(&self) -> Result<Vec<Attribute<'b>>, WireError> {
        let mut attributes = Vec::new();
        for run in &self.attributes {
            let mut fields = Fields::new(run);
            while let Some((_, value)) = fields.next()? {
                Attribute::push(&mut attributes, value)?;
            }
        }
        Ok(attributes)
    }
}

#[cold]
fn build<'b>(
    metric: &mut Metric<'_, 'b>,
    point: &mut PointLabels<'b>,
    suffix: &str,
    extra: Option<(&str, f64)>,
    rules: &Rules<'_>,
    label_bytes: &mut usize,
) -> Result<tidelake_catalog::model::Labels, Fault> {
    let settings = rules.settings;
    if point.labels.is_none() {
        let attributes = point.read()?;
        let labels = match metric.labels(&attributes, settings) {
            Err(Fault::Refused(error)) => {
                let error = format!("a data point of {}: {error}", metric.shown());
                return Err(Fault::Refused(error));
            }
            other => other?,
        };
        point.labels = Some(labels);
    }
    let labels = point.labels.get_or_insert_default();
    *label_bytes = label_bytes
        .checked_sub(labels::bytes(labels))
        .ok_or_else(too_many_labels)?;
    let family = metric.family(settings).map_err(Fault::Refused)?;
    let name = [family, suffix].concat();
    let value = extra.map(|(label, value)| (label, super::value::go_float(value)));
    let extra = value
        .as_ref()
        .map(|(label, value)| (*label, value.as_str()));
    labels::series(labels, &name, extra, &rules.limits).map_err(Fault::Refused)
}

#[cold]
fn too_many_labels() -> WireError {
    WireError(
        "the labels of its series have far more bytes than the body; send it in smaller parts"
            .to_owned(),
    )
}

/// A metric, and its data if it has any of a known kind.
fn read_metric<'m, 'b>(
    message: &'b [u8],
    resource: &'m mut Resource<'b>,
    scope: &'m LabelSet<'b>,
) -> Result<(Metric<'m, 'b>, Option<&'b [u8]>), WireError> {
    let mut metric = Metric {
        name: &[],
        unit: &[],
        description: &[],
        points: Points::Gauge,
        temporality: Temporality::Unspecified,
        is_monotonic: false,
        family: None,
        key: Key::default(),
        resource,
        scope,
        expired: (0, 0),
    };
    let mut data = None;
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        let points = match number {
            1 => {
                metric.name = value.bytes("a metric's name")?;
                continue;
            }
            2 => {
                metric.description = value.bytes("a metric's description")?;
                continue;
            }
            3 => {
                metric.unit = value.bytes("a metric's unit")?;
                continue;
            }
            5 => Points::Gauge,
            7 => Points::Sum,
            9 => Points::Histogram,
            10 => Points::Exponential,
            11 => Points::Summary,
            _ => continue,
        };
        metric.points = points;
        data = Some(value.bytes("the data of a metric")?);
    }
    if metric.has_temporality() {
        let mut fields = Fields::new(data.unwrap_or_default());
        while let Some((number, value)) = fields.next()? {
            match number {
                2 => {
                    let number = value.varint("a metric's temporality")?;
                    metric.temporality = Temporality::from_number(number);
                }
                3 if metric.points == Points::Sum => {
                    metric.is_monotonic = value.varint("whether a sum is monotonic")? != 0;
                }
                _ => {}
            }
        }
    }
    Ok((metric, data))
}
