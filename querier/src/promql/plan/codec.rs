//! An operator of a plan as bytes, for another process.
//!
//! Planning is a function of the text, the times and a few settings. So the bytes are these and the
//! number of the operator in its plan, and the reader plans anew: that takes microseconds,
//! keeps the positions of annotations, and has no second description of every operator that could
//! differ from the first. Two versions may plan differently, so the bytes also say what the
//! operator is; where it is another one, they are refused.

use std::sync::Arc;

use datafusion::physical_plan::{ExecutionPlan, displayable};
use prost::Message;

use super::super::exec::{EngineOptions, Query, QueryError, QueryParams};
use super::super::parse::parse_with;
use super::{Input, PromExec};

/// The version of these bytes.
const VERSION: u32 = 1;

/// An operator of the plan of a query.
#[derive(Debug, Clone)]
pub struct Fragment {
    message: FragmentMessage,
    node: Arc<PromExec>,
}

/// What the bytes say: a message of Protocol Buffers.
#[derive(Clone, PartialEq, Message)]
struct FragmentMessage {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    text: String,
    #[prost(int64, tag = "3")]
    start_ms: i64,
    #[prost(int64, tag = "4")]
    end_ms: i64,
    #[prost(int64, tag = "5")]
    step_ms: i64,
    #[prost(int64, tag = "6")]
    default_step_ms: i64,
    #[prost(bool, tag = "7")]
    experimental: bool,
    #[prost(uint32, tag = "8")]
    partitions: u32,
    /// Counted from the root on, operators before their inputs.
    #[prost(uint32, tag = "9")]
    operator: u32,
    /// Its name and what it does, as plans are shown.
    #[prost(string, tag = "10")]
    shown: String,
}

/// Why bytes are no operator.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// They are damaged, or something else.
    #[error("an operator of a PromQL plan cannot be read: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// Another version of the program has made them.
    #[error("an operator of a PromQL plan is of version {0}; this process knows version {VERSION}")]
    Version(u32),
    /// The text is no query.
    #[error("an operator of a PromQL plan is of no query: {0}")]
    Query(QueryError),
    /// The same text is planned otherwise here.
    #[error(
        "operator {number} of a PromQL plan is {there:?} where it was planned, and {here:?} here"
    )]
    Other {
        /// Its number.
        number: u32,
        /// What it was.
        there: String,
        /// What it is.
        here: String,
    },
}

impl Fragment {
    /// All operators of the plan of a query, before their inputs.
    ///
    /// # Errors
    /// If the text is no query.
    pub fn all(
        text: &str,
        params: QueryParams,
        options: &EngineOptions,
    ) -> Result<Vec<Self>, QueryError> {
        let message = FragmentMessage::new(text, params, options);
        let nodes = message.operators(options)?.into_iter().zip(0..);
        let fragments = nodes.map(|(node, operator)| Self {
            message: FragmentMessage {
                operator,
                shown: shown(&node),
                ..message.clone()
            },
            node: Arc::new(node),
        });
        Ok(fragments.collect())
    }

    /// The operator as bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.message.encode_to_vec()
    }

    /// The operator that bytes say. Limits are those of `options`.
    ///
    /// # Errors
    /// If they say none, or not the same here as where they were made.
    pub fn decode(bytes: &[u8], options: &EngineOptions) -> Result<Self, CodecError> {
        let message = FragmentMessage::decode(bytes)?;
        if message.version != VERSION {
            return Err(CodecError::Version(message.version));
        }
        let operators = message.operators(options).map_err(CodecError::Query)?;
        let node = operators.into_iter().nth(message.operator as usize);
        let here = node.as_ref().map(shown).unwrap_or_default();
        match node {
            Some(node) if here == message.shown => Ok(Self {
                message,
                node: Arc::new(node),
            }),
            _ => Err(CodecError::Other {
                number: message.operator,
                there: message.shown,
                here,
            }),
        }
    }

    /// The operator, among those of PromQL.
    pub(crate) fn node(&self) -> &Arc<PromExec> {
        &self.node
    }

    /// The operator.
    pub fn plan(&self) -> Arc<dyn ExecutionPlan> {
        Arc::clone(&self.node) as _
    }
}

/// An operator of a plan that is there, as bytes.
pub(crate) fn encode_operator(
    (operator, node): (u32, &PromExec),
    text: &str,
    params: QueryParams,
    options: &EngineOptions,
) -> Vec<u8> {
    let message = FragmentMessage {
        operator,
        shown: shown(node),
        ..FragmentMessage::new(text, params, options)
    };
    message.encode_to_vec()
}

/// All operators of a plan in the order of their numbers.
pub(crate) fn numbered(root: &PromExec) -> Vec<PromExec> {
    let (mut found, mut left) = (Vec::new(), vec![root.clone()]);
    while let Some(node) = left.pop() {
        left.extend(node.inputs().iter().rev().filter_map(Input::node).cloned());
        found.push(node);
    }
    found
}

impl FragmentMessage {
    fn new(text: &str, params: QueryParams, options: &EngineOptions) -> Self {
        Self {
            version: VERSION,
            text: text.to_owned(),
            start_ms: params.start_ms,
            end_ms: params.end_ms,
            step_ms: params.step_ms,
            default_step_ms: options.default_step_ms,
            experimental: options.experimental,
            partitions: u32::try_from(options.partitions).unwrap_or(u32::MAX),
            operator: 0,
            shown: String::new(),
        }
    }

    fn operators(&self, options: &EngineOptions) -> Result<Vec<PromExec>, QueryError> {
        let options = EngineOptions {
            default_step_ms: self.default_step_ms,
            experimental: self.experimental,
            partitions: self.partitions as usize,
            ..options.clone()
        };
        let params = QueryParams::range(self.start_ms, self.end_ms, self.step_ms);
        let expr = parse_with(&self.text, self.experimental);
        let expr = expr.map_err(|error| QueryError::BadData(error.to_string()))?;
        let query = Query::new(&expr, params, &options)?;
        Ok(numbered(&query.plan))
    }
}

fn shown(node: &PromExec) -> String {
    displayable(node)
        .one_line()
        .to_string()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Together they have every operator.
    const QUERIES: [&str; 16] = [
        "sum by (job) (rate(x_total{a=~\"b.*\"}[5m] offset 1m)) / on (job) group_left (c) max(y)",
        "-topk(3, abs(x) * 8 > bool 2)",
        "quantile_over_time(0.5, x[1h:30s] @ end())",
        "count_values(\"v\", round(x, 0.5))",
        "label_replace(x, \"a\", \"$1\", \"b\", \"(.*)\")",
        "label_join(x, \"a\", \"-\", \"b\", \"c\")",
        "histogram_quantile(0.9, rate(h_bucket[5m]))",
        "histogram_quantiles(h, \"q\", 0.5, 0.9)",
        "histogram_fraction(0, 1, histogram_count(h) + 0 * h)",
        "absent(x{a=\"b\"}) or absent_over_time(x[5m])",
        "sort_desc(x) unless sort_by_label(y, \"a\")",
        "info(x, {version=~\".+\"})",
        "vector(scalar(x) + time()) + hour() + max_of(1, scalar(y))",
        "timestamp(x) - start_timestamp(x)",
        "x @ 60 + sum(y @ start())",
        "5",
    ];

    fn operators(text: &str, partitions: usize) -> Vec<Fragment> {
        let options = EngineOptions {
            partitions,
            ..EngineOptions::default()
        };
        let params = QueryParams::range(60_000, 600_000, 15_000);
        Fragment::all(text, params, &options).unwrap()
    }

    #[test]
    fn operators_come_back_as_they_were() {
        let mut names = std::collections::BTreeSet::new();
        for text in QUERIES {
            for fragment in operators(text, 3) {
                let bytes = fragment.encode();
                let back = Fragment::decode(&bytes, &EngineOptions::default()).unwrap();
                assert_eq!(format!("{:?}", back.node), format!("{:?}", fragment.node));
                assert_eq!(back.encode(), bytes);
                names.insert(fragment.plan().name().to_owned());
            }
        }
        assert_eq!(names.len(), 17, "{names:?}");
    }

    #[test]
    fn what_is_planned_otherwise_is_refused() {
        let options = EngineOptions::default();
        let mut fragment = operators("sum(x)", 1).pop().unwrap();
        assert_eq!(fragment.message.shown, "PromSelectExec: x");
        fragment.message.operator -= 1;
        let refused = Fragment::decode(&fragment.encode(), &options).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "operator 2 of a PromQL plan is \"PromSelectExec: x\" where it was planned, and \
             \"PromAggregateExec: mode=Partial, sum\" here"
        );
        fragment.message.operator = 99;
        let refused = Fragment::decode(&fragment.encode(), &options).unwrap_err();
        assert!(
            matches!(refused, CodecError::Other { number: 99, .. }),
            "{refused}"
        );
        fragment.message.version = 2;
        let refused = Fragment::decode(&fragment.encode(), &options).unwrap_err();
        assert!(matches!(refused, CodecError::Version(2)), "{refused}");
        fragment.message.version = VERSION;
        fragment.message.text = "sum(".to_owned();
        let refused = Fragment::decode(&fragment.encode(), &options).unwrap_err();
        assert!(matches!(refused, CodecError::Query(_)), "{refused}");
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_refused_or_another_operator(
            query in 0..QUERIES.len(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let options = EngineOptions::default();
            let _ = Fragment::decode(&bytes, &options);
            let mut bytes = operators(QUERIES[query], 1).pop().unwrap().encode();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(fragment) = Fragment::decode(&bytes, &options) {
                prop_assert_eq!(Fragment::decode(&fragment.encode(), &options).unwrap().encode(),
                    fragment.encode());
            }
        }
    }
}
