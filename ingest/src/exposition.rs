//! Prometheus' text format (0.0.4) and OpenMetrics (1.0): `http_requests_total{code="200"} 17`.
//!
//! Lines go straight into the columns of the metrics table. A series is found by the bytes of its
//! name and labels as they stand in the line, so that of a known series no label is looked at and
//! nothing is allocated.
//!
//! A bad line is named with its number and does not harm its neighbours. Label values stay as they
//! are written: `le="1"` and `le="1.0"` are two series.
//!
//! In the order of the data: [`Settings`] (what the request adds to its lines), `syntax` (where
//! things end), `value` (numbers and times), `families` (HELP, TYPE and UNIT). [`render`] writes
//! what is read here.

mod families;
pub mod render;
mod settings;
mod syntax;
mod value;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use tidelake_catalog::model::labels::METRIC_NAME;

use self::families::Families;
pub use self::settings::Settings;
use self::syntax::Sample;
pub use self::value::NAN_BITS;
use crate::label_limits::LabelLimits;
use crate::remote_write::WrittenSamples;
use crate::remote_write::samples::{SamplesBuilder, canonical};
use crate::retention::Oldest;
use crate::series_registry::{KnownSeries, SeriesRegistry, Spelling};

/// Lines after which others get a chance to add series.
const LINES_PER_LOCK: usize = 1024;
/// What the spellings of texts begin with: label fields of remote write begin with another byte.
const MARK: u8 = b'T';
const END: &[u8] = b"# EOF";

/// Which of the two formats a text is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TextFormat {
    /// Prometheus' text format 0.0.4: times are integers, in milliseconds.
    Prometheus,
    /// OpenMetrics 1.0: times are in seconds, exemplars are possible, `# EOF` is the end.
    OpenMetrics,
    /// OpenMetrics if the last line is `# EOF`.
    #[default]
    ByItsEnd,
}

impl TextFormat {
    pub(crate) const ALL: [Self; 3] = [Self::Prometheus, Self::OpenMetrics, Self::ByItsEnd];

    /// Whether a text is OpenMetrics.
    pub fn is_open_metrics(self, text: &[u8]) -> bool {
        match self {
            Self::Prometheus => false,
            Self::OpenMetrics => true,
            Self::ByItsEnd => text.trim_ascii_end().ends_with(END),
        }
    }
}

/// How a text is read.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// What the request adds.
    pub settings: &'a Settings,
    /// Its format.
    pub format: TextFormat,
    /// The time of samples without one, in milliseconds.
    pub time_ms: i64,
    /// Older samples are refused.
    pub oldest: Oldest,
    /// What labels are held to.
    pub limits: LabelLimits,
}

/// Reads a text into rows of the metrics table whose series the registry keeps. It never fails as a
/// whole: every bad line is listed, every good one is in the rows.
pub fn decode(text: &[u8], registry: &SeriesRegistry, rules: Rules<'_>) -> WrittenSamples {
    let mut spelling = vec![MARK];
    spelling.extend_from_slice(&Spelling::of(&rules.settings.labels_key()).to_bytes());
    let mut reader = Reader {
        samples: SamplesBuilder::new(rules.oldest, rules.limits, registry.memory()),
        families: Families::default(),
        is_open_metrics: rules.format.is_open_metrics(text),
        prefix: spelling.len(),
        spelling,
        rules,
    };
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    reader.read(text, registry);
    let Reader {
        mut samples,
        families,
        is_open_metrics,
        ..
    } = reader;
    for family in families.finish(is_open_metrics) {
        samples.metadata(family);
    }
    samples.finish(registry)
}

struct Reader<'a> {
    samples: SamplesBuilder,
    families: Families<'a>,
    is_open_metrics: bool,
    rules: Rules<'a>,
    /// What the registry knows a series by: the labels of the request, then bytes of the line.
    spelling: Vec<u8>,
    prefix: usize,
}

impl<'a> Reader<'a> {
    fn read(&mut self, text: &'a [u8], registry: &SeriesRegistry) {
        let mut known = registry.read();
        let (mut rest, mut number, mut ended) = (text, 0usize, false);
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let (line, next) = rest.split_at(end);
            rest = next.get(1..).unwrap_or_default();
            number += 1;
            let line = line.trim_ascii();
            let before = self.samples.refusals();
            let result = if ended && !line.is_empty() {
                rest = &[];
                Err("there is more after \"# EOF\", which is the end".to_owned())
            } else {
                ended |= self.is_open_metrics && line == END;
                self.line(line, &known)
            };
            if let Err(error) = result {
                self.samples.refuse(error);
            }
            if self.samples.refusals() != before {
                self.samples.locate(before, number, line);
            }
            if self.samples.is_out_of_memory() {
                return;
            }
            if number.is_multiple_of(LINES_PER_LOCK) {
                known.bump();
            }
        }
        if self.is_open_metrics && !ended {
            let before = self.samples.refusals();
            let error = "the text does not end with \"# EOF\": its end may be missing";
            self.samples.refuse(error.to_owned());
            self.samples.locate(before, number + 1, b"");
        }
    }

    #[inline]
    fn line(&mut self, line: &'a [u8], known: &KnownSeries<'_>) -> Result<(), String> {
        match line.first() {
            None => Ok(()),
            Some(b'#') => self.families.line(line, &mut self.samples),
            Some(_) => self.sample(syntax::sample(line)?, known),
        }
    }

    #[inline]
    fn sample(&mut self, line: Sample<'a>, known: &KnownSeries<'_>) -> Result<(), String> {
        let value = value::float(line.value)?;
        let time = self.time(line.time)?;
        let exemplar = match line.exemplar {
            Some(text) => Some(self.exemplar(text, time)?),
            None => None,
        };
        if !self.samples.sample(value, time) {
            self.samples.refuse_expired();
            return Ok(());
        }
        if let Some((labels, value, time)) = exemplar {
            let labels: Vec<(&[u8], &[u8])> = labels
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                .collect();
            if let Err(error) = self.samples.exemplar(&labels, value, time) {
                self.samples.refuse_series(error.to_string());
                return Ok(());
            }
            self.samples.refuse_expired();
        }
        self.spelling.truncate(self.prefix);
        self.spelling.extend_from_slice(line.series);
        let rules = &self.rules;
        self.samples
            .end_series(known, Spelling::of(&self.spelling), || {
                let labels = syntax::series_labels(line.series)?;
                let added = &rules.settings.labels;
                let mut pairs: Vec<(&str, &str)> = labels
                    .iter()
                    .map(|(name, value)| (&**name, &**value))
                    .filter(|(name, _)| !added.iter().any(|(other, _)| other == name))
                    .collect();
                pairs.extend(added.iter().map(|(name, value)| (&**name, &**value)));
                canonical(pairs, &rules.limits)
            });
        Ok(())
    }

    #[inline]
    fn time(&self, text: Option<&[u8]>) -> Result<i64, String> {
        match text {
            None => Ok(self.rules.time_ms),
            Some(_) if self.rules.settings.refuses_times => Err(
                "pushed metrics must not have timestamps: the time of the push is theirs"
                    .to_owned(),
            ),
            Some(text) if self.is_open_metrics => value::seconds(text),
            Some(text) => value::milliseconds(text),
        }
    }

    fn exemplar(&self, text: &'a [u8], time: i64) -> Result<Exemplar<'a>, String> {
        if !self.is_open_metrics {
            return Err(
                "exemplars and comments behind a sample are OpenMetrics: send the content \
                        type application/openmetrics-text"
                    .to_owned(),
            );
        }
        let exemplar = syntax::sample(text).map_err(|error| format!("exemplar: {error}"))?;
        if exemplar.exemplar.is_some() || exemplar.series.first() != Some(&b'{') {
            return Err(
                "an exemplar must be labels in braces, a value and perhaps a time".to_owned(),
            );
        }
        let time = match exemplar.time {
            Some(text) => value::seconds(text)?,
            None => time,
        };
        let labels = syntax::series_labels(exemplar.series)?;
        if labels.iter().any(|(name, _)| name == METRIC_NAME) {
            return Err("an exemplar has no name".to_owned());
        }
        Ok((labels, value::float(exemplar.value)?, time))
    }
}

type Exemplar<'b> = (Vec<(Cow<'b, str>, Cow<'b, str>)>, f64, i64);
