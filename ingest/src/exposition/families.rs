//! What a text says about its metrics: HELP, TYPE and UNIT.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::syntax::{self, shown, token, unescape};
use crate::remote_write::samples::SamplesBuilder;
use crate::remote_write::{Metadata, MetricKind};

/// Bytes of memory of a family without its texts, about.
const FAMILY_BYTES: usize = 256;

#[derive(Debug, Default)]
struct Family<'b> {
    kind: Option<MetricKind>,
    help: Cow<'b, str>,
    unit: Cow<'b, str>,
}

/// The families of a text, each once.
#[derive(Debug, Default)]
pub(super) struct Families<'b>(HashMap<Cow<'b, str>, Family<'b>>);

impl<'b> Families<'b> {
    /// Reads a line that begins with `#`. All but the three kinds are comments.
    pub(super) fn line(
        &mut self,
        line: &'b [u8],
        samples: &mut SamplesBuilder,
    ) -> Result<(), String> {
        let (word, rest) = token(&line[1..]);
        let is_known = matches!(word, b"HELP" | b"TYPE" | b"UNIT");
        // "#HELP" is a comment.
        if !is_known || !matches!(line.get(1), Some(b' ' | b'\t')) {
            return Ok(());
        }
        let word = String::from_utf8_lossy(word);
        let missing = || {
            format!(
                "expected the name of a metric behind {word} in {}",
                shown(line)
            )
        };
        let (name, rest) = syntax::name(rest.trim_ascii_start(), true)?.ok_or_else(missing)?;
        if !matches!(rest.first(), None | Some(b' ' | b'\t')) {
            return Err(missing());
        }
        let text = rest.trim_ascii();
        let kind = match &*word {
            "TYPE" => Some(kind(text).ok_or_else(|| {
                format!(
                    "unknown type {} of metric {}",
                    shown(text),
                    shown(name.as_bytes())
                )
            })?),
            _ => None,
        };
        let text = unescape(text)?;
        let bytes = match self.0.contains_key(&name) {
            true => text.len(),
            false => FAMILY_BYTES + name.len() + text.len(),
        };
        if !samples.charge(bytes) {
            return Ok(());
        }
        let family = self.0.entry(name).or_default();
        match &*word {
            "HELP" => family.help = text,
            "UNIT" => family.unit = text,
            _ => family.kind = kind,
        }
        Ok(())
    }

    /// As remote write names them: what counts has the name of its series.
    pub(super) fn finish(self, is_open_metrics: bool) -> impl Iterator<Item = Metadata> {
        self.0.into_iter().map(move |(name, family)| {
            let kind = family.kind.unwrap_or(MetricKind::Unknown);
            let mut name = name.into_owned();
            let suffix = match kind {
                MetricKind::Counter if is_open_metrics => "_total",
                MetricKind::Info if is_open_metrics => "_info",
                _ => "",
            };
            if !name.ends_with(suffix) {
                name.push_str(suffix);
            }
            Metadata {
                family: name,
                kind,
                help: family.help.into_owned(),
                unit: family.unit.into_owned(),
            }
        })
    }
}

fn kind(text: &[u8]) -> Option<MetricKind> {
    Some(match text {
        b"counter" => MetricKind::Counter,
        b"gauge" => MetricKind::Gauge,
        b"histogram" => MetricKind::Histogram,
        b"gaugehistogram" => MetricKind::GaugeHistogram,
        b"summary" => MetricKind::Summary,
        b"info" => MetricKind::Info,
        b"stateset" => MetricKind::StateSet,
        b"untyped" | b"unknown" => MetricKind::Unknown,
        _ => return None,
    })
}
