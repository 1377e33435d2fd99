//! Whether the parts of a histogram fit together.

use super::{CUSTOM_BUCKETS_SCHEMA, Histogram, Span};

impl Histogram {
    /// Checks that it has a schema that is known, as many counts as buckets, and bounds that are
    /// in order: what computes with it relies on that.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check_layout(&self) -> Result<(), String> {
        let custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        if !custom && !(-4..=8).contains(&self.schema) {
            return Err(format!(
                "a histogram has the schema {}; supported are -4 to 8 and {CUSTOM_BUCKETS_SCHEMA}",
                self.schema
            ));
        }
        check_buckets("positive", &self.positive_spans, &self.positive_counts)?;
        check_buckets("negative", &self.negative_spans, &self.negative_counts)?;
        if !custom {
            return if self.custom_values.is_empty() {
                Ok(())
            } else {
                Err("a histogram without custom buckets has custom bounds".to_owned())
            };
        }
        if self.zero_count != 0.0
            || self.zero_threshold != 0.0
            || !self.negative_spans.is_empty()
            || !self.negative_counts.is_empty()
        {
            return Err(
                "a histogram with custom buckets has a zero bucket or negative buckets".to_owned(),
            );
        }
        if self.custom_values.iter().any(|v| !v.is_finite())
            || self.custom_values.windows(2).any(|pair| pair[0] >= pair[1])
        {
            return Err("a histogram's custom bounds are not finite and ascending".to_owned());
        }
        let buckets = end(&self.positive_spans);
        if buckets > self.custom_values.len() as i64 + 1
            || self.positive_spans.first().is_some_and(|s| s.offset < 0)
        {
            return Err(format!(
                "a histogram has {} custom bounds and a bucket beyond them",
                self.custom_values.len()
            ));
        }
        Ok(())
    }
}

fn end(spans: &[Span]) -> i64 {
    let ends = spans
        .iter()
        .map(|s| i64::from(s.offset) + i64::from(s.length));
    ends.sum()
}

fn check_buckets(side: &str, spans: &[Span], counts: &[f64]) -> Result<(), String> {
    if let Some(span) = spans.iter().skip(1).find(|s| s.offset < 0) {
        return Err(format!(
            "a histogram's {side} span has the negative offset {}",
            span.offset
        ));
    }
    let buckets: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
    if buckets != counts.len() as u64 {
        return Err(format!(
            "a histogram's {side} spans have {buckets} buckets, but there are {} counts",
            counts.len()
        ));
    }
    if i32::try_from(end(spans)).is_err() {
        return Err(format!(
            "a histogram's {side} spans go beyond the last bucket that there can be"
        ));
    }
    Ok(())
}
