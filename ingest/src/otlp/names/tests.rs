//! Names, with the inputs and results that the tests of Prometheus' translator have.

use super::super::settings::Strategy;
use super::*;

const ESCAPED: Strategy = Strategy::UnderscoreEscapingWithSuffixes;
const BARE: Strategy = Strategy::UnderscoreEscapingWithoutSuffixes;
const UTF8: Strategy = Strategy::NoUtf8EscapingWithSuffixes;
const AS_IS: Strategy = Strategy::NoTranslation;

#[track_caller]
fn check(strategy: Strategy, suffix: Suffix, name: &str, unit: &str, expected: Option<&str>) {
    let found = metric_name(name, unit, suffix, strategy);
    assert_eq!(
        found.as_deref().ok(),
        expected,
        "{name:?} {unit:?} {suffix:?} {strategy:?}"
    );
}

#[track_caller]
fn check_unit(unit: &str, is_escaped: bool, expected: &str) {
    assert_eq!(
        unit_name(unit, is_escaped),
        expected,
        "{unit:?} {is_escaped}"
    );
}

#[track_caller]
fn check_label(name: &str, strategy: Strategy, expected: Option<&str>) {
    assert_eq!(
        label_name(name, strategy).as_deref().ok(),
        expected,
        "{name:?} {strategy:?}"
    );
}

#[test]
fn names_of_metrics() {
    use Suffix::{Counter, Gauge, Other};
    check(BARE, Gauge, "simple_metric", "", Some("simple_metric"));
    check(
        BARE,
        Gauge,
        "metric@with#special$chars",
        "",
        Some("metric_with_special_chars"),
    );
    check(BARE, Gauge, "123metric", "", Some("_123metric"));
    check(BARE, Gauge, "", "", None);
    check(BARE, Gauge, "metric@@##$$name", "", Some("metric_name"));
    check(BARE, Gauge, "@#$%", "", None);
    check(BARE, Gauge, "@_#_$_%", "", None);
    check(ESCAPED, Counter, "requests", "", Some("requests_total"));
    check(ESCAPED, Gauge, "cpu_usage", "1", Some("cpu_usage_ratio"));
    check(ESCAPED, Counter, "items", "1", Some("items_total"));
    check(
        ESCAPED,
        Gauge,
        "response_time",
        "ms",
        Some("response_time_milliseconds"),
    );
    check(
        ESCAPED,
        Gauge,
        "memory_usage",
        "By",
        Some("memory_usage_bytes"),
    );
    check(
        ESCAPED,
        Gauge,
        "requests",
        "1/s",
        Some("requests_per_second"),
    );
    check(
        ESCAPED,
        Gauge,
        "throughput",
        "By/s",
        Some("throughput_bytes_per_second"),
    );
    check(
        ESCAPED,
        Gauge,
        "custom_metric",
        "custom_unit",
        Some("custom_metric_custom_unit"),
    );
    check(
        ESCAPED,
        Gauge,
        "custom_metric",
        "{custom}",
        Some("custom_metric"),
    );
    check(
        ESCAPED,
        Gauge,
        "custom_metric",
        "By/{custom}",
        Some("custom_metric_bytes"),
    );
    check(
        ESCAPED,
        Counter,
        "requests_total",
        "",
        Some("requests_total"),
    );
    check(
        ESCAPED,
        Gauge,
        "cpu_usage_ratio",
        "1",
        Some("cpu_usage_ratio"),
    );
    check(
        ESCAPED,
        Gauge,
        "response_time_seconds",
        "s",
        Some("response_time_seconds"),
    );
    check(UTF8, Counter, "requests_total", "", Some("requests_total"));
    check(UTF8, Gauge, "cpu_usage_ratio", "1", Some("cpu_usage_ratio"));
    check(
        UTF8,
        Gauge,
        "response_time_seconds",
        "s",
        Some("response_time_seconds"),
    );
    check(
        UTF8,
        Counter,
        "cpu_seconds_total",
        "s",
        Some("cpu_seconds_total"),
    );
    check(
        UTF8,
        Counter,
        "otelcol_process_cpu_seconds",
        "s",
        Some("otelcol_process_cpu_seconds_total"),
    );
    check(BARE, Gauge, "___", "", Some("___"));
    check(AS_IS, Gauge, "___", "", Some("___"));
    check(
        ESCAPED,
        Gauge,
        "metric__with__multiple__underscores",
        "unit__multiple__underscores",
        Some("metric_with_multiple_underscores_unit_multiple_underscores"),
    );
    check(
        ESCAPED,
        Gauge,
        "custom_metric",
        "unit@with#special/chars",
        Some("custom_metric_unit_with_special_per_chars"),
    );
    check(ESCAPED, Gauge, "@#$%", "", None);
    check(
        AS_IS,
        Gauge,
        "métric_with_ñ_chars",
        "",
        Some("métric_with_ñ_chars"),
    );
    check(UTF8, Counter, "requêsts", "", Some("requêsts_total"));
    check(UTF8, Gauge, "cpu_usagé", "1", Some("cpu_usagé_ratio"));
    check(
        UTF8,
        Gauge,
        "respønse_time",
        "ms",
        Some("respønse_time_milliseconds"),
    );
    check(UTF8, Gauge, "requêsts", "1/s", Some("requêsts_per_second"));
    check(UTF8, Counter, "@#$%", "", Some("@#$%_total"));
    check(
        ESCAPED,
        Other,
        "request_duration",
        "s",
        Some("request_duration_seconds"),
    );
    check(
        ESCAPED,
        Other,
        "request_size",
        "By",
        Some("request_size_bytes"),
    );
    check(
        ESCAPED,
        Other,
        "response_time",
        "ms",
        Some("response_time_milliseconds"),
    );
    check(
        ESCAPED,
        Other,
        "active_connections",
        "",
        Some("active_connections"),
    );
    check(ESCAPED, Other, "unknown_metric", "", Some("unknown_metric"));
    check(ESCAPED, Gauge, "uptime", "d", Some("uptime_days"));
    check(ESCAPED, Gauge, "duration", "h", Some("duration_hours"));
    check(ESCAPED, Gauge, "timeout", "min", Some("timeout_minutes"));
    check(
        ESCAPED,
        Gauge,
        "latency",
        "us",
        Some("latency_microseconds"),
    );
    check(
        ESCAPED,
        Gauge,
        "precision_time",
        "ns",
        Some("precision_time_nanoseconds"),
    );
    check(
        ESCAPED,
        Gauge,
        "cache_size",
        "KiBy",
        Some("cache_size_kibibytes"),
    );
    check(ESCAPED, Gauge, "memory", "MiBy", Some("memory_mebibytes"));
    check(ESCAPED, Gauge, "storage", "GiBy", Some("storage_gibibytes"));
    check(
        ESCAPED,
        Gauge,
        "capacity",
        "TiBy",
        Some("capacity_tibibytes"),
    );
    check(
        ESCAPED,
        Gauge,
        "transfer",
        "KBy",
        Some("transfer_kilobytes"),
    );
    check(
        ESCAPED,
        Gauge,
        "download",
        "MBy",
        Some("download_megabytes"),
    );
    check(ESCAPED, Gauge, "backup", "GBy", Some("backup_gigabytes"));
    check(ESCAPED, Gauge, "archive", "TBy", Some("archive_terabytes"));
    check(ESCAPED, Gauge, "distance", "m", Some("distance_meters"));
    check(ESCAPED, Gauge, "voltage", "V", Some("voltage_volts"));
    check(ESCAPED, Gauge, "current", "A", Some("current_amperes"));
    check(ESCAPED, Gauge, "energy", "J", Some("energy_joules"));
    check(ESCAPED, Gauge, "power", "W", Some("power_watts"));
    check(ESCAPED, Gauge, "weight", "g", Some("weight_grams"));
    check(
        ESCAPED,
        Gauge,
        "temperature",
        "Cel",
        Some("temperature_celsius"),
    );
    check(ESCAPED, Gauge, "frequency", "Hz", Some("frequency_hertz"));
    check(ESCAPED, Gauge, "cpu_usage", "%", Some("cpu_usage_percent"));
    check(
        ESCAPED,
        Gauge,
        "requests",
        "1/m",
        Some("requests_per_minute"),
    );
    check(ESCAPED, Gauge, "events", "1/h", Some("events_per_hour"));
    check(
        ESCAPED,
        Gauge,
        "transactions",
        "1/d",
        Some("transactions_per_day"),
    );
    check(ESCAPED, Gauge, "reports", "1/w", Some("reports_per_week"));
    check(
        ESCAPED,
        Gauge,
        "invoices",
        "1/mo",
        Some("invoices_per_month"),
    );
    check(ESCAPED, Gauge, "renewals", "1/y", Some("renewals_per_year"));
    check(
        ESCAPED,
        Gauge,
        "custom",
        "1/custom_unit",
        Some("custom_per_custom_unit"),
    );
    check(ESCAPED, Gauge, "metric", "By/", Some("metric_bytes"));
    check(
        ESCAPED,
        Gauge,
        "metric",
        " By / s ",
        Some("metric_bytes_per_second"),
    );
    check(ESCAPED, Gauge, "metric", "/", Some("metric"));
    check(
        ESCAPED,
        Other,
        "http.request.duration",
        "ms",
        Some("http_request_duration_milliseconds"),
    );
    check(
        AS_IS,
        Other,
        "http.request.duration",
        "ms",
        Some("http.request.duration"),
    );
    check(
        ESCAPED,
        Counter,
        "http.requests",
        "1",
        Some("http_requests_total"),
    );
    check(AS_IS, Counter, "http.requests", "1", Some("http.requests"));
    // What those tests leave out.
    check(
        ESCAPED,
        Counter,
        "requests",
        "{requests}/s",
        Some("requests_per_second_total"),
    );
    check(ESCAPED, Counter, "a_total_b", "", Some("a_b_total"));
    check(ESCAPED, Gauge, "1st.place", "", Some("_1st_place"));
    check(ESCAPED, Gauge, "seconds", "s", Some("seconds"));
    check(ESCAPED, Gauge, "x", "é/é", Some("x"));
    check(ESCAPED, Gauge, "jvm:gc:time", "", Some("jvm:gc:time"));
    check(BARE, Gauge, "_a__b.", "", Some("_a__b"));
    check(UTF8, Counter, "total", "", Some("total_total"));
    check(UTF8, Counter, "xtotal", "", Some("xtotal_total"));
    check(UTF8, Counter, "éétotal", "", Some("é_total"));
    check(UTF8, Gauge, "a.b", "°C/s", Some("a.b_°C_per_second"));
    check(UTF8, Gauge, "", "", Some(""));
}

#[test]
fn names_of_units() {
    check_unit("", true, "");
    check_unit("1", true, "");
    check_unit("ms", true, "milliseconds");
    check_unit("By", true, "bytes");
    check_unit("1/s", true, "per_second");
    check_unit("By/s", true, "bytes_per_second");
    check_unit("custom_unit", true, "custom_unit");
    check_unit("{custom}", true, "");
    check_unit("By/{custom}", true, "bytes");
    check_unit("s", true, "seconds");
    check_unit("", false, "");
    check_unit("1", false, "");
    check_unit("s", false, "seconds");
    check_unit(
        "unit__multiple__underscores",
        true,
        "unit_multiple_underscores",
    );
    check_unit(
        "unit@with#special/chars",
        true,
        "unit_with_special_per_chars",
    );
    check_unit("ms", false, "milliseconds");
    check_unit("1/s", false, "per_second");
    check_unit("d", true, "days");
    check_unit("h", true, "hours");
    check_unit("min", true, "minutes");
    check_unit("us", true, "microseconds");
    check_unit("ns", true, "nanoseconds");
    check_unit("KiBy", true, "kibibytes");
    check_unit("MiBy", true, "mebibytes");
    check_unit("GiBy", true, "gibibytes");
    check_unit("TiBy", true, "tibibytes");
    check_unit("KBy", true, "kilobytes");
    check_unit("MBy", true, "megabytes");
    check_unit("GBy", true, "gigabytes");
    check_unit("TBy", true, "terabytes");
    check_unit("m", true, "meters");
    check_unit("V", true, "volts");
    check_unit("A", true, "amperes");
    check_unit("J", true, "joules");
    check_unit("W", true, "watts");
    check_unit("g", true, "grams");
    check_unit("Cel", true, "celsius");
    check_unit("Hz", true, "hertz");
    check_unit("%", true, "percent");
    check_unit("1/m", true, "per_minute");
    check_unit("1/h", true, "per_hour");
    check_unit("1/d", true, "per_day");
    check_unit("1/w", true, "per_week");
    check_unit("1/mo", true, "per_month");
    check_unit("1/y", true, "per_year");
    check_unit("1/custom_unit", true, "per_custom_unit");
    check_unit("By/", true, "bytes");
    check_unit(" By / s ", true, "bytes_per_second");
    check_unit("/", true, "");
    check_unit("°C", true, "C");
    check_unit("°C", false, "°C");
    check_unit("_a_", true, "a");
}

#[test]
fn names_of_labels() {
    check_label("label:with:colons", ESCAPED, Some("label_with_colons"));
    check_label("label:with:colons", UTF8, Some("label:with:colons"));
    check_label(
        "LabelWithCapitalLetters",
        ESCAPED,
        Some("LabelWithCapitalLetters"),
    );
    check_label(
        "LabelWithCapitalLetters",
        UTF8,
        Some("LabelWithCapitalLetters"),
    );
    check_label(
        "label!with&special$chars)",
        ESCAPED,
        Some("label_with_special_chars_"),
    );
    check_label(
        "label!with&special$chars)",
        UTF8,
        Some("label!with&special$chars)"),
    );
    check_label(
        "label_with_foreign_characters_字符",
        ESCAPED,
        Some("label_with_foreign_characters___"),
    );
    check_label(
        "label_with_foreign_characters_字符",
        UTF8,
        Some("label_with_foreign_characters_字符"),
    );
    check_label("label.with.dots", ESCAPED, Some("label_with_dots"));
    check_label("label.with.dots", UTF8, Some("label.with.dots"));
    check_label(".foo", ESCAPED, Some("key_foo"));
    check_label(".foo", UTF8, Some(".foo"));
    check_label("123label", ESCAPED, Some("key_123label"));
    check_label("123label", UTF8, Some("123label"));
    check_label(
        "_label_starting_with_underscore",
        ESCAPED,
        Some("key_label_starting_with_underscore"),
    );
    check_label(
        "_label_starting_with_underscore",
        UTF8,
        Some("_label_starting_with_underscore"),
    );
    check_label(
        "__label_starting_with_2underscores",
        ESCAPED,
        Some("__label_starting_with_2underscores"),
    );
    check_label(
        "__label_starting_with_2underscores",
        UTF8,
        Some("__label_starting_with_2underscores"),
    );
    check_label("ようこそ", ESCAPED, None);
    check_label("ようこそ", UTF8, Some("ようこそ"));
    check_label(
        "label__with__double__underscores",
        ESCAPED,
        Some("label__with__double__underscores"),
    );
    check_label(
        "label__with__double__underscores",
        UTF8,
        Some("label__with__double__underscores"),
    );
    check_label(
        "label.name__with&&special##chars",
        ESCAPED,
        Some("label_name__with__special__chars"),
    );
    check_label(
        "label.name__with&&special##chars",
        UTF8,
        Some("label.name__with&&special##chars"),
    );
    check_label(
        "__reserved__label__name__",
        ESCAPED,
        Some("__reserved__label__name__"),
    );
    check_label(
        "__reserved__label__name__",
        UTF8,
        Some("__reserved__label__name__"),
    );
    check_label(
        "trailing_underscores___",
        ESCAPED,
        Some("trailing_underscores___"),
    );
    check_label(
        "trailing_underscores___",
        UTF8,
        Some("trailing_underscores___"),
    );
    check_label("", ESCAPED, None);
    check_label("", UTF8, None);
    check_label("__", ESCAPED, None);
    check_label("__", UTF8, None);
    check_label("-", ESCAPED, Some("key_"));
    check_label("---", ESCAPED, None);
}
