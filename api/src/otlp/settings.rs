//! The settings of OTLP, as the translation takes them.
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tidelake_ingest::otlp::{Delta, Promotion, Settings, Strategy};

use crate::config::Config;

/// What becomes of the names of metrics and attributes; the words are those of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum OtlpTranslationStrategy {
    /// Letters, digits and underscores; a metric's name ends with its unit and kind
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Letters, digits and underscores
    UnderscoreEscapingWithoutSuffixes,
    /// As they are; a metric's name ends with its unit and kind
    #[serde(rename = "NoUTF8EscapingWithSuffixes")]
    #[value(name = "NoUTF8EscapingWithSuffixes")]
    NoUtf8EscapingWithSuffixes,
    /// As they are
    NoTranslation,
}

/// What becomes of points that count since the point before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OtlpDelta {
    /// They are refused and named
    #[default]
    Refuse,
    /// They are kept as they are, as metrics of unknown type
    Keep,
    /// They are summed up in memory
    Accumulate,
}

/// How OTLP is translated.
pub fn settings(config: &Config) -> Settings {
    let strategy = match config.otlp_translation_strategy {
        OtlpTranslationStrategy::UnderscoreEscapingWithSuffixes => {
            Strategy::UnderscoreEscapingWithSuffixes
        }
        OtlpTranslationStrategy::UnderscoreEscapingWithoutSuffixes => {
            Strategy::UnderscoreEscapingWithoutSuffixes
        }
        OtlpTranslationStrategy::NoUtf8EscapingWithSuffixes => Strategy::NoUtf8EscapingWithSuffixes,
        OtlpTranslationStrategy::NoTranslation => Strategy::NoTranslation,
    };
    let delta = match config.otlp_delta {
        OtlpDelta::Refuse => Delta::Refuse,
        OtlpDelta::Keep => Delta::Keep,
        OtlpDelta::Accumulate => Delta::Accumulate,
    };
    Settings {
        strategy,
        promotion: match config.otlp_promote_all_resource_attributes {
            true => Promotion::AllBut(config.otlp_ignore_resource_attributes.clone()),
            false => Promotion::Only(config.otlp_promote_resource_attributes.clone()),
        },
        keep_identifying: config.otlp_keep_identifying_resource_attributes,
        custom_buckets: config.otlp_convert_histograms_to_nhcb,
        scope_labels: config.otlp_promote_scope_metadata,
        type_and_unit_labels: config.otlp_type_and_unit_labels,
        delta,
        // A query that looks back as far as it does by default finds one.
        target_info_interval_ms: (config.lookback_ms / 2).max(1),
    }
}
