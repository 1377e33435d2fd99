//! What a query cost, as the parameter `stats` of the Prometheus API asks for it.
use std::time::Duration;

use serde_json::json;

use crate::http::params::Params;
use crate::node::backend::QueryStats;
use crate::service::promql::At;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stats {
    /// Nothing.
    No,
    /// Sums.
    Sums,
    /// Sums and the samples of each step.
    Steps,
    /// A word that Prometheus takes for [`Stats::Sums`] with a warning.
    Other(String),
}

/// What the engine does not see of a query.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How long it waited for its turn.
    pub queued: Duration,
    /// From its parameters to its result.
    pub total: Duration,
}

impl Stats {
    /// The parameter `stats`.
    pub fn read(params: &Params) -> Self {
        match params.get("stats") {
            None => Self::No,
            Some("true") => Self::Sums,
            Some("all") => Self::Steps,
            Some(other) => Self::Other(other.to_owned()),
        }
    }

    /// Whether there is anything to count.
    pub fn are_wanted(&self) -> bool {
        *self != Self::No
    }

    /// What to say of the parameter, in the words of Prometheus.
    pub fn warning(&self) -> Option<String> {
        let Self::Other(word) = self else { return None };
        Some(format!(
            "value {word:?} for parameter \"stats\" is deprecated and will be rejected in the \
             next major release, use \"true\" or \"all\""
        ))
    }

    /// The member `stats` of an answer, as JSON.
    pub fn show(&self, cost: &QueryStats, at: At, times: Times) -> Option<String> {
        if !self.are_wanted() {
            return None;
        }
        let mut samples = json!({
            "totalQueryableSamples": cost.samples_per_step.iter().sum::<u64>(),
            "samplesRead": cost.samples_read,
            "peakSamples": cost.peak_samples,
        });
        if *self == Self::Steps {
            let (start_ms, step_ms) = match at {
                At::Time(ms) => (ms, 0),
                At::Steps(steps) => (steps.start_ms, steps.step_ms),
            };
            let time = |step: usize| start_ms.saturating_add(step_ms.saturating_mul(step as i64));
            let seconds = |ms: i64| {
                if ms % 1000 == 0 {
                    json!(ms / 1000)
                } else {
                    json!(ms as f64 / 1000.0)
                }
            };
            let steps = cost
                .samples_per_step
                .iter()
                .enumerate()
                .map(|(step, count)| json!([seconds(time(step)), count]));
            samples["totalQueryableSamplesPerStep"] = steps.collect();
        }
        let evaluation = cost.preparation + cost.evaluation + cost.sorting;
        let timings = json!({
            "evalTotalTime": evaluation.as_secs_f64(),
            "resultSortTime": cost.sorting.as_secs_f64(),
            "queryPreparationTime": cost.preparation.as_secs_f64(),
            "innerEvalTime": cost.evaluation.as_secs_f64(),
            "execQueueTime": times.queued.as_secs_f64(),
            "execTotalTime": times.total.as_secs_f64(),
        });
        Some(json!({ "timings": timings, "samples": samples }).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::backend::Steps;

    fn read(query: &str) -> Stats {
        Stats::read(&Params::from_query(Some(query)))
    }

    #[test]
    fn only_what_is_asked_for_is_shown() {
        let cost = QueryStats {
            preparation: Duration::from_millis(1),
            evaluation: Duration::from_millis(20),
            sorting: Duration::from_millis(300),
            samples_read: 9,
            peak_samples: 7,
            samples_per_step: vec![2, 3],
        };
        let at = At::Steps(Steps {
            start_ms: 1000,
            end_ms: 1500,
            step_ms: 500,
        });
        let times = Times {
            queued: Duration::from_millis(4000),
            total: Duration::from_millis(50_000),
        };
        let show = |stats: &str| {
            read(stats)
                .show(&cost, at, times)
                .map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap())
        };
        assert_eq!(show(""), None);
        let sums = show("stats=true").unwrap();
        let samples = json!({ "totalQueryableSamples": 5, "samplesRead": 9, "peakSamples": 7 });
        let timings = json!({
            "evalTotalTime": 0.321, "resultSortTime": 0.3, "queryPreparationTime": 0.001, "innerEvalTime": 0.02, "execQueueTime": 4.0,
            "execTotalTime": 50.0,
        });
        assert_eq!(sums, json!({ "timings": timings, "samples": samples }));
        assert_eq!(
            show("stats=all").unwrap()["samples"]["totalQueryableSamplesPerStep"],
            json!([[1, 2], [1.5, 3]])
        );
        assert_eq!(show("stats=1").unwrap(), sums);
    }

    #[test]
    fn other_words_get_a_warning() {
        let check = |query: &str, expected: bool| {
            assert_eq!(read(query).warning().is_some(), expected, "{query}")
        };
        check("stats=true", false);
        check("stats=all", false);
        check("", false);
        check("stats=yes", true);
        assert!(
            read("stats=yes")
                .warning()
                .unwrap()
                .starts_with("value \"yes\" for parameter \"stats\" is deprecated")
        );
    }
}
