//! The labels of a series: attributes of its data point, of its resource and of its scope.
//!
//! They are built for a series that comes for the first time. From then on the bytes of the
//! message name it, so this may be as slow as it is plain.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tidelake_catalog::MetricKind;
use tidelake_catalog::model::labels::METRIC_NAME;

use super::Fault;
use super::names::{label_name, unit_name};
use super::settings::{Promotion, Settings, Strategy};
use super::value::Attribute;
use crate::label_limits::LabelLimits;
use crate::remote_write::samples::canonical;

/// The attributes that `job` and `instance` are made of.
const NAMESPACE: &str = "service.namespace";
const NAME: &str = "service.name";
const INSTANCE: &str = "service.instance.id";

/// Labels that are being put together. An empty value is as good as no label.
pub(super) type LabelSet<'b> = BTreeMap<Cow<'b, str>, Cow<'b, str>>;

fn is_set(labels: &LabelSet<'_>, name: &str) -> bool {
    labels.get(name).is_some_and(|value| !value.is_empty())
}

/// Labels of attributes. With escaped names two may be one: their values are joined, in the order
/// of the names as they came.
fn of_attributes<'b>(
    attributes: &[Attribute<'b>],
    strategy: Strategy,
    is_ignored: impl Fn(&str) -> bool,
) -> Result<LabelSet<'b>, Fault> {
    let mut pairs = Vec::with_capacity(attributes.len());
    for attribute in attributes {
        let name = attribute.name()?;
        if !is_ignored(name) {
            pairs.push((name, attribute.text()?));
        }
    }
    pairs.sort_by_key(|pair| pair.0);
    let mut labels = LabelSet::new();
    for (name, value) in pairs {
        let label = match strategy.escapes() {
            true => label_name(name, strategy).map_err(Fault::Refused)?,
            false => Cow::Borrowed(name),
        };
        match labels.entry(label) {
            Entry::Vacant(place) => {
                place.insert(value);
            }
            Entry::Occupied(_) if !strategy.escapes() => {
                let error = format!("the attribute {name:?} is there more than once");
                return Err(Fault::Refused(error));
            }
            Entry::Occupied(mut there) if there.get().is_empty() => {
                there.insert(value);
            }
            Entry::Occupied(mut there) => {
                let joined = there.get_mut().to_mut();
                joined.push(';');
                joined.push_str(&value);
            }
        }
    }
    Ok(labels)
}

/// What a resource gives to all its series.
#[derive(Debug, Default)]
pub(super) struct ResourceLabels<'b> {
    job: Cow<'b, str>,
    instance: Cow<'b, str>,
    promoted: LabelSet<'b>,
}

impl<'b> ResourceLabels<'b> {
    pub(super) fn new(attributes: &[Attribute<'b>], settings: &Settings) -> Result<Self, Fault> {
        let find = |key: &str| match attributes.iter().rfind(|a| a.key == key.as_bytes()) {
            Some(attribute) => attribute.text().map(Some),
            None => Ok(None),
        };
        let job = match (find(NAMESPACE)?, find(NAME)?) {
            (_, None) => Cow::Borrowed(""),
            (None, Some(name)) => name,
            (Some(namespace), Some(name)) => Cow::Owned(format!("{namespace}/{name}")),
        };
        let instance = find(INSTANCE)?.unwrap_or_default();
        let mut promoted = LabelSet::new();
        if settings.promotion != Promotion::default() {
            for attribute in attributes {
                let name = attribute.name()?;
                if settings.promotion.takes(name) {
                    let name = label_name(name, settings.strategy).map_err(Fault::Refused)?;
                    promoted.insert(name, attribute.text()?);
                }
            }
        }
        Ok(Self {
            job,
            instance,
            promoted,
        })
    }

    fn put_identity(&self, labels: &mut LabelSet<'b>) {
        for (name, value) in [("job", &self.job), ("instance", &self.instance)] {
            if !value.is_empty() {
                labels.insert(Cow::Borrowed(name), value.clone());
            }
        }
    }
}

/// What a scope gives to all its series: nothing, unless the settings say so.
pub(super) fn of_scope<'b>(
    name: &'b [u8],
    version: &'b [u8],
    schema_url: &'b [u8],
    attributes: &[Attribute<'b>],
    settings: &Settings,
) -> Result<LabelSet<'b>, Fault> {
    let mut labels = LabelSet::new();
    if !settings.scope_labels || name.is_empty() {
        return Ok(labels);
    }
    for attribute in attributes {
        let name = format!("otel_scope_{}", attribute.name()?);
        let name = label_name(&name, settings.strategy).map_err(Fault::Refused)?;
        labels.insert(Cow::Owned(name.into_owned()), attribute.text()?);
    }
    for (label, text) in [
        ("otel_scope_name", name),
        ("otel_scope_version", version),
        ("otel_scope_schema_url", schema_url),
    ] {
        let text = std::str::from_utf8(text)
            .map_err(|_| Fault::Refused(format!("the label {label} is not valid UTF-8")))?;
        labels.insert(Cow::Borrowed(label), Cow::Borrowed(text));
    }
    Ok(labels)
}

/// The labels that all series of a data point have.
pub(super) fn of_point<'b>(
    attributes: &[Attribute<'b>],
    resource: &ResourceLabels<'b>,
    scope: &LabelSet<'b>,
    (kind, unit): (MetricKind, &str),
    settings: &Settings,
) -> Result<LabelSet<'b>, Fault> {
    let mut labels = of_attributes(attributes, settings.strategy, |name| name == METRIC_NAME)?;
    for (name, value) in &resource.promoted {
        if !is_set(&labels, name) {
            labels.insert(name.clone(), value.clone());
        }
    }
    resource.put_identity(&mut labels);
    for (name, value) in scope {
        labels.insert(name.clone(), value.clone());
    }
    if settings.type_and_unit_labels {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::Summary => "summary",
            _ => "",
        };
        if !kind.is_empty() {
            labels.insert(Cow::Borrowed("__type__"), Cow::Borrowed(kind));
        }
        let unit = match unit {
            "" => String::new(),
            unit => unit_name(unit, settings.strategy.escapes()),
        };
        if !unit.is_empty() {
            labels.insert(Cow::Borrowed("__unit__"), Cow::Owned(unit));
        }
    }
    Ok(labels)
}

/// The labels of `target_info`; `None` if it would say nothing, or not of what.
pub(super) fn of_target<'b>(
    attributes: &[Attribute<'b>],
    resource: &ResourceLabels<'b>,
    settings: &Settings,
) -> Result<Option<LabelSet<'b>>, Fault> {
    let is_identifying = |name: &str| [NAMESPACE, NAME, INSTANCE].contains(&name);
    let says_something = attributes
        .iter()
        .any(|a| std::str::from_utf8(a.key).map_or(true, |name| !is_identifying(name)));
    if !says_something {
        return Ok(None);
    }
    let mut labels = of_attributes(attributes, settings.strategy, |name| {
        name == METRIC_NAME || (!settings.keep_identifying && is_identifying(name))
    })?;
    resource.put_identity(&mut labels);
    let is_identified = is_set(&labels, "job") || is_set(&labels, "instance");
    Ok(is_identified.then_some(labels))
}

/// A series of these labels with a name, and with a label that tells it from the others of its
/// point.
pub(super) fn series(
    labels: &LabelSet<'_>,
    name: &str,
    extra: Option<(&str, &str)>,
    limits: &LabelLimits,
) -> Result<tidelake_catalog::model::Labels, String> {
    let is_other =
        |label: &str| label != METRIC_NAME && extra.is_none_or(|(extra, _)| extra != label);
    let mut pairs: Vec<(&str, &str)> = labels
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .filter(|(label, _)| is_other(label))
        .collect();
    pairs.push((METRIC_NAME, name));
    pairs.extend(extra);
    canonical(pairs, limits)
}

/// Bytes of labels.
pub(super) fn bytes(labels: &LabelSet<'_>) -> usize {
    labels
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}
