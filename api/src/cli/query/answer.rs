//! Answers of Prometheus' API as commands print them.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::bail;
use serde::Deserialize;
use serde_json::Value;

/// An answer.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// Its series; one without labels for a scalar.
    pub series: Vec<Series>,
    warnings: Vec<String>,
}

/// A series and its samples.
#[derive(Debug, Default, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Times in seconds and values as the server writes them.
    pub samples: Vec<(f64, String)>,
}

#[derive(Deserialize)]
struct Envelope {
    data: Data,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Value,
}

#[derive(Deserialize)]
struct Row {
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
    histogram: Option<(f64, Histogram)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<(f64, Histogram)>,
}

#[derive(Deserialize)]
struct Histogram {
    count: String,
    sum: String,
}

impl Histogram {
    fn shown(self) -> String {
        format!("count={} sum={}", self.count, self.sum)
    }
}

impl Answer {
    /// Reads what a server answered.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let Envelope {
            data,
            mut warnings,
            infos,
        } = serde_json::from_str(text)?;
        warnings.extend(infos);
        let series = match data.kind.as_str() {
            "scalar" | "string" => vec![Series {
                labels: BTreeMap::new(),
                samples: vec![serde_json::from_value(data.result)?],
            }],
            "vector" | "matrix" => {
                let rows: Vec<Row> = serde_json::from_value(data.result)?;
                rows.into_iter().map(Row::series).collect()
            }
            other => bail!("results of type {other:?} are not known"),
        };
        Ok(Self { series, warnings })
    }

    /// Prints what is to be known about it.
    pub fn warn(&self, out: &mut dyn Write) {
        for warning in &self.warnings {
            // Nothing is lost with it.
            let _ = writeln!(out, "warning: {warning}");
        }
    }

    /// The names of all labels, that of the metric first.
    pub fn label_names(&self) -> Vec<&str> {
        let labels = self.series.iter().flat_map(|series| series.labels.keys());
        let mut names: Vec<&str> = labels.map(String::as_str).collect();
        names.sort_unstable_by_key(|name| (*name != "__name__", *name));
        names.dedup();
        names
    }
}

impl Row {
    fn series(self) -> Series {
        let mut samples = self.values;
        samples.extend(self.value);
        let histograms = self.histograms.into_iter().chain(self.histogram);
        samples.extend(histograms.map(|(time, histogram)| (time, histogram.shown())));
        samples.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Series {
            labels: self.metric,
            samples,
        }
    }
}

impl Series {
    /// As PromQL writes it.
    pub fn shown(&self) -> String {
        let name = self.labels.get("__name__").map_or("", String::as_str);
        let labels = self.labels.iter().filter(|(name, _)| *name != "__name__");
        let labels: Vec<String> = labels.map(|(k, v)| format!("{k}={v:?}")).collect();
        match labels.is_empty() && !name.is_empty() {
            true => name.to_owned(),
            false => format!("{name}{{{}}}", labels.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_result_is_read() {
        let read = |data: &str| {
            let text = format!(r#"{{"status":"success","data":{data},"infos":["look"]}}"#);
            Answer::read(&text).unwrap()
        };
        let scalar = read(r#"{"resultType":"scalar","result":[1.5,"NaN"]}"#);
        assert_eq!(scalar.series[0].samples, [(1.5, "NaN".to_owned())]);
        assert_eq!(scalar.warnings, ["look"]);
        let vector = read(
            r#"{"resultType":"vector","result":[{"metric":{"b":"1","__name__":"m","a":"x\"y"},"value":[1,"2"]},
               {"metric":{},"histogram":[1,{"count":"3","sum":"4","buckets":[]}]}]}"#,
        );
        assert_eq!(vector.series[0].shown(), r#"m{a="x\"y", b="1"}"#);
        assert_eq!(
            vector.series[1].samples,
            [(1.0, "count=3 sum=4".to_owned())]
        );
        assert_eq!(vector.series[1].shown(), "{}");
        assert_eq!(vector.label_names(), ["__name__", "a", "b"]);
        let matrix = read(
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"m"},
               "values":[[1,"2"],[3,"4"]],"histograms":[[2,{"count":"1","sum":"0"}]]}]}"#,
        );
        let times: Vec<f64> = matrix.series[0]
            .samples
            .iter()
            .map(|(time, _)| *time)
            .collect();
        assert_eq!(times, [1.0, 2.0, 3.0]);
        assert!(Answer::read(r#"{"status":"error"}"#).is_err());
    }
}
