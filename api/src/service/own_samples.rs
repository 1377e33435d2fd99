//! The text of `/metrics` as a request of remote write 2.0, with type and help of each metric.

use std::collections::HashMap;

use super::error::{Code, ServiceError};

/// `io.prometheus.write.v2.Request`, as far as it is used here.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    /// Texts that all else refers to by number; the first is empty.
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    series: Vec<Series>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Series {
    /// Name, value, name, value.
    #[prost(uint32, repeated, tag = "1")]
    labels: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    time_ms: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help: u32,
}

/// Numbers of the types of metrics in remote write 2.0; 0 is unknown.
fn kind_number(kind: &str) -> i32 {
    match kind {
        "counter" => 1,
        "gauge" => 2,
        "histogram" => 3,
        "gaugehistogram" => 4,
        "summary" => 5,
        "info" => 6,
        "stateset" => 7,
        _ => 0,
    }
}

/// Samples of several times.
#[derive(Debug)]
pub(super) struct OwnSamples {
    node: String,
    request: Request,
    numbers: HashMap<String, u32>,
    /// Series by name and labels as the text has them.
    known: HashMap<String, usize>,
}

impl OwnSamples {
    /// None yet, of a node.
    pub(super) fn new(node: &str) -> Self {
        let mut samples = Self {
            node: node.to_owned(),
            request: Request::default(),
            numbers: HashMap::new(),
            known: HashMap::new(),
        };
        samples.clear();
        samples
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.request = Request::default();
        self.known.clear();
        self.numbers.clear();
        self.number("");
    }

    /// Adds all samples of a text, which is that of Prometheus' text format 0.0.4 as this server
    /// writes it. A line that is not understood is left out.
    pub(super) fn add(&mut self, text: &str, time_ms: i64) {
        let (mut help, mut metadata) = ("", Metadata::default());
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                match (words.next(), words.next(), words.next()) {
                    (Some("HELP"), Some(_), text) => help = text.unwrap_or_default(),
                    (Some("TYPE"), Some(_), Some(kind)) => {
                        metadata = Metadata {
                            kind: kind_number(kind),
                            help: self.number(help),
                        };
                    }
                    _ => {}
                }
                continue;
            }
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse() else {
                continue;
            };
            let sample = Sample { value, time_ms };
            if let Some(known) = self.known.get(series) {
                if let Some(series) = self.request.series.get_mut(*known) {
                    series.samples.push(sample);
                }
            } else if let Some(labels) = self.labels(series) {
                let at = self.request.series.len();
                self.known.insert(series.to_owned(), at);
                self.request.series.push(Series {
                    labels,
                    samples: vec![sample],
                    metadata: Some(metadata),
                });
            }
        }
    }

    /// The request, compressed with snappy.
    pub(super) fn encode(&self) -> Result<Vec<u8>, ServiceError> {
        let body = prost::Message::encode_to_vec(&self.request);
        let compressed = snap::raw::Encoder::new().compress_vec(&body);
        compressed.map_err(|error| ServiceError::of(Code::Internal, error))
    }

    /// The number of a text among the symbols.
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.request.symbols.len()).unwrap_or_default();
        self.request.symbols.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    /// Name and labels of a series, in the order of their names.
    fn labels(&mut self, series: &str) -> Option<Vec<u32>> {
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, read_labels(labels.strip_suffix('}')?)?),
            None => (series, Vec::new()),
        };
        let mut labels: Vec<(&str, String)> = labels;
        labels.push(("__name__", name.to_owned()));
        labels.push(("instance", self.node.clone()));
        labels.push(("job", "tidelake".to_owned()));
        labels.sort_unstable();
        let pairs = labels
            .iter()
            .flat_map(|(name, value)| [self.number(name), self.number(value)]);
        Some(pairs.collect())
    }
}

/// Reads `name="value",...`.
fn read_labels(mut text: &str) -> Option<Vec<(&str, String)>> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let (mut value, mut end, mut chars) = (String::new(), None, rest.char_indices());
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = Some(at);
                    break;
                }
                '\\' => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    escaped => value.push(escaped),
                },
                _ => value.push(c),
            }
        }
        labels.push((name, value));
        text = rest.get(end? + 1..)?;
        text = text.strip_prefix(',').unwrap_or(text);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::metrics::{Metrics, as_plain_text};

    fn shown(samples: &OwnSamples) -> Vec<String> {
        let Request { symbols, series } = &samples.request;
        let text = |number: u32| symbols[number as usize].as_str();
        let one = |series: &Series| {
            let labels: Vec<String> = series
                .labels
                .chunks(2)
                .map(|pair| format!("{}={}", text(pair[0]), text(pair[1])))
                .collect();
            let values: Vec<String> = series
                .samples
                .iter()
                .map(|sample| format!("{}@{}", sample.value, sample.time_ms))
                .collect();
            let said = series.metadata.unwrap();
            format!(
                "{} {} {}:{}",
                labels.join(","),
                values.join(" "),
                said.kind,
                text(said.help)
            )
        };
        series.iter().map(one).collect()
    }

    #[test]
    fn lines_become_series() {
        let mut samples = OwnSamples::new("n");
        samples.add(
            "# HELP a_total All of it\n# TYPE a_total counter\na_total 3\na_total{z=\"1\",b=\"x \\\"y\\\" \\\\ \\n, }{\"} 0.5\n\
             # HELP h Times\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} NaN\nh_sum inf\n\nodd\nodd{ 1\nodd{a=\"} 1\nodd x\n",
            7,
        );
        samples.add("a_total 4\nlate 1", 8);
        let expected = [
            "__name__=a_total,instance=n,job=tidelake 3@7 4@8 1:All of it",
            "__name__=a_total,b=x \"y\" \\ \n, }{,instance=n,job=tidelake,z=1 0.5@7 1:All of it",
            "__name__=h_bucket,instance=n,job=tidelake,le=+Inf NaN@7 3:Times",
            "__name__=h_sum,instance=n,job=tidelake inf@7 3:Times",
            "__name__=late,instance=n,job=tidelake 1@8 0:",
        ];
        assert_eq!(shown(&samples), expected);
        samples.clear();
        assert_eq!(shown(&samples), Vec::<String>::new());
        assert_eq!(samples.request.symbols, [""]);
    }

    #[test]
    fn every_line_of_the_text_is_a_sample() {
        let text = as_plain_text(&Metrics::default().text().unwrap());
        let lines = text.lines().filter(|line| !line.starts_with('#')).count();
        let mut samples = OwnSamples::new("n");
        samples.add(&text, 0);
        assert!(lines > 10, "{text}");
        assert_eq!(samples.request.series.len(), lines);
        let typed = |series: &&Series| series.metadata.is_some_and(|m| m.kind != 0 && m.help != 0);
        assert_eq!(samples.request.series.iter().filter(typed).count(), lines);
    }
}
