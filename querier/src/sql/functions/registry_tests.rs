//! Every function of the session with hostile arguments.
//!
//! The functions are those of the registry, so that one which a later DataFusion brings fails here
//! until [`ARGUMENTS`] says what it takes.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::tests::{QUERY_BYTES, engine, one_at_a_time, query, runtime};
use crate::sql::SqlError;
use crate::sql::promql::PROMQL_FUNCTION;

/// Kinds of arguments, one letter each, of functions that take them. See [`values`].
const ARGUMENTS: &[(&str, &str)] = &[
    (
        "",
        "current_date current_time now pi random uuid version input_file_name file_row_index",
    ),
    ("", "row_number rank dense_rank percent_rank cume_dist"),
    (
        "t",
        "ascii bit_length btrim character_length initcap lower ltrim octet_length reverse rtrim \
         upper to_date to_time to_timestamp to_timestamp_micros to_timestamp_millis \
         to_timestamp_nanos to_timestamp_seconds to_unixtime arrow_typeof arrow_metadata \
         arrow_field struct union_tag any_value approx_distinct array_agg count first_value \
         last_value max min grouping lag lead quantile_cont",
    ),
    (
        "tt",
        "contains ends_with find_in_set levenshtein starts_with strpos string_agg concat concat_ws",
    ),
    (
        "tt",
        "coalesce greatest least nullif nvl named_struct union_extract with_metadata",
    ),
    ("ttt", "replace split_part string_to_array nvl2 translate"),
    ("tn", "left right repeat substr nth_value"),
    ("tnt", "lpad rpad substr_index split_part"),
    ("ttnn", "overlay substr_index"),
    ("th", "encode decode"),
    ("tp", "regexp_count regexp_instr regexp_like regexp_match"),
    ("tptu", "regexp_replace"),
    (
        "tx",
        "arrow_cast arrow_try_cast cast_to_type try_cast_to_type",
    ),
    (
        "f",
        "abs acos acosh asin asinh atan atanh cbrt ceil cos cosh cot degrees exp floor isnan \
         iszero ln log2 log10 radians signum sin sinh sqrt tan tanh approx_median avg median \
         stddev stddev_pop sum var var_pop",
    ),
    (
        "ff",
        "atan2 log nanvl power corr covar_pop covar_samp regr_avgx regr_avgy regr_count",
    ),
    (
        "ff",
        "regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy percentile_cont",
    ),
    ("ff", "approx_percentile_cont"),
    ("fff", "approx_percentile_cont_with_weight"),
    ("fn", "round trunc"),
    (
        "n",
        "chr factorial to_hex from_unixtime bit_and bit_or bit_xor ntile",
    ),
    ("nn", "gcd lcm"),
    ("nnn", "make_date make_time range generate_series"),
    ("b", "bool_and bool_or"),
    ("yd", "date_part date_trunc"),
    ("id", "date_bin"),
    ("do", "to_char"),
    ("d", "to_local_time"),
    (
        "l",
        "array_any_value array_avg array_compact array_dims array_distinct array_first \
         array_length array_max array_min array_ndims array_normalize array_pop_back \
         array_pop_front array_product array_reverse array_sort array_sum cardinality empty flatten \
         arrays_zip make_array",
    ),
    (
        "ln",
        "array_append array_element array_has array_position array_positions array_remove",
    ),
    (
        "ln",
        "array_remove_all array_scale array_slice array_resize",
    ),
    (
        "lnn",
        "array_resize array_slice array_replace array_replace_all array_remove_n",
    ),
    ("lnnn", "array_replace_n array_slice"),
    ("nl", "array_prepend"),
    ("tn", "array_repeat"),
    (
        "ll",
        "array_add array_concat array_distance array_except array_has_all array_has_any \
         array_intersect array_subtract array_union cosine_distance inner_product map",
    ),
    ("ltt", "array_to_string"),
    ("mt", "map_extract get_field"),
    ("m", "map_entries map_keys map_values"),
    ("lk", "array_any_match array_filter array_transform"),
];

/// An ordinary value of a kind, and hostile ones.
fn values(kind: char) -> &'static [&'static str] {
    match kind {
        't' => &[
            "'ab'",
            "''",
            "repeat('é', 20000)",
            "NULL",
            "'\\1$1%'",
            "chr(0)",
        ],
        'p' => &[
            "'a'",
            "'(a{1,100}){1,100}'",
            "'('",
            "''",
            "'(?i)[^é]*?x|\\p{L}+$'",
        ],
        'u' => &["'g'", "'i'", "'nonsense'"],
        'x' => &[
            "'Int64'",
            "'FixedSizeBinary(1000000000)'",
            "'nonsense'",
            "'List(Utf8)'",
        ],
        'y' => &["'day'", "'nonsense'", "''", "'nanosecond'"],
        'o' => &["'%Y'", "repeat('%c', 10000)", "'%Q'", "'%'", "''"],
        'h' => &["'hex'", "'base64'", "'nonsense'"],
        'k' => &["x -> x > 1", "x -> repeat('y', 1000000) = 'y'", "x -> NULL"],
        'n' => &[
            "2",
            "1000000000",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "0",
            "NULL",
        ],
        'f' => &[
            "0.5",
            "'NaN'::double",
            "'-Infinity'::double",
            "-0.0",
            "1e308",
            "NULL",
        ],
        'b' => &["true", "NULL"],
        'l' => &[
            "[1, 2]",
            "[]",
            "range(0, 20000)",
            "[NULL]",
            "[[1], []]",
            "NULL",
            "['a']",
        ],
        'm' => &["MAP {'a': 1}", "NULL", "MAP {repeat('a', 20000): 1}"],
        'd' => &[
            "to_timestamp(0)",
            "to_timestamp(9223372036)",
            "to_timestamp(-9223372036)",
            "NULL",
        ],
        'i' => &[
            "INTERVAL '1 day'",
            "INTERVAL '1 nanosecond'",
            "INTERVAL '0 days'",
            "INTERVAL '-99999 years'",
        ],
        other => panic!("no values of the kind {other:?}"),
    }
}

/// Ordinary arguments, with each hostile one in each place.
fn hostile_in_places(kinds: &str) -> Vec<Vec<&'static str>> {
    let kinds: Vec<&[&str]> = kinds.chars().map(values).collect();
    let ordinary: Vec<_> = kinds.iter().map(|values| values[0]).collect();
    let mut lists = vec![ordinary.clone()];
    for (place, values) in kinds.iter().enumerate() {
        for value in &values[1..] {
            let mut list = ordinary.clone();
            list[place] = value;
            lists.push(list);
        }
    }
    lists
}

/// Hostile arguments in all places.
fn all_hostile(kinds: &str) -> Vec<Vec<&'static str>> {
    let kinds: Vec<&[&str]> = kinds.chars().map(values).collect();
    let most = kinds.iter().map(|values| values.len()).max().unwrap_or(0);
    (0..most.max(1))
        .map(|at| {
            kinds
                .iter()
                .map(|values| values[at % values.len()])
                .collect()
        })
        .collect()
}

/// Peak memory of this process, in bytes.
fn peak_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}

/// The kinds of arguments of functions.
fn kinds_of(names: &BTreeSet<String>) -> Vec<(&str, &'static str)> {
    let mut all = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        let known = all.len();
        for (kinds, functions) in ARGUMENTS {
            if functions.split_whitespace().any(|one| one == name) {
                all.push((name.as_str(), *kinds));
            }
        }
        if all.len() == known {
            missing.push(name);
        }
    }
    assert!(
        missing.is_empty(),
        "say in ARGUMENTS what the new functions {missing:?} take"
    );
    all
}

/// Runs queries of functions; each has an answer or an error that says why not, in time.
fn check_all(queries: Vec<String>) {
    let _alone = one_at_a_time();
    let (engine, runtime) = (engine(), runtime());
    let before = peak_bytes();
    let (mut answered, mut wrong) = (0, BTreeSet::new());
    for sql in queries {
        let begun = Instant::now();
        match runtime.block_on(query(&engine, &sql)) {
            Ok(_) => answered += 1,
            Err(SqlError::Internal(message)) if message.contains("unexpectedly") => {
                wrong.insert(format!("{sql}: {message}"));
            }
            Err(SqlError::Timeout) => {
                wrong.insert(format!("{sql}: too slow"));
            }
            Err(_) => {}
        }
        if begun.elapsed() > Duration::from_secs(8) {
            wrong.insert(format!("{sql}: {:?}", begun.elapsed()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(answered > 0);
    if let (Some(before), Some(after)) = (before, peak_bytes()) {
        let grown = after.saturating_sub(before);
        // What a function makes before it is counted, its copy, and what the allocator keeps.
        assert!(grown < 4 * QUERY_BYTES, "{} MB", grown >> 20);
    }
}

/// Values that planning does not compute.
fn of_rows(args: &[&str]) -> String {
    let args: Vec<_> = args
        .iter()
        .map(|arg| {
            if arg.contains("->") {
                (*arg).to_owned()
            } else {
                format!("CASE WHEN value > 0 THEN {arg} END")
            }
        })
        .collect();
    args.join(", ")
}

#[test]
fn scalar_functions() {
    let engine = engine();
    let state = &engine.templates.usual;
    let names = state
        .scalar_functions()
        .values()
        .map(|function| function.name().to_owned());
    let lambdas = state
        .higher_order_functions()
        .values()
        .map(|function| function.name().to_owned());
    let names: BTreeSet<_> = names.chain(lambdas).collect();
    let mut queries = Vec::new();
    for (name, kinds) in kinds_of(&names) {
        for args in hostile_in_places(kinds) {
            queries.push(format!("SELECT {name}({})", args.join(", ")));
        }
        for args in all_hostile(kinds) {
            let args = of_rows(&args);
            queries.push(format!("SELECT {name}({args}) FROM generate_series(1, 3)"));
        }
    }
    check_all(queries);
}

#[test]
fn aggregates_and_windows() {
    let engine = engine();
    let state = &engine.templates.usual;
    let windows: BTreeSet<_> = state
        .window_functions()
        .values()
        .map(|function| function.name().to_owned())
        .collect();
    let aggregates: BTreeSet<_> = state
        .aggregate_functions()
        .values()
        .map(|function| function.name().to_owned())
        .collect();
    let all: BTreeSet<_> = windows.union(&aggregates).cloned().collect();
    let mut queries = Vec::new();
    for (name, kinds) in kinds_of(&all) {
        for (at, args) in all_hostile(kinds).iter().enumerate() {
            let args = of_rows(args);
            let call =
                |frame: &str| format!("SELECT {name}({args}){frame} FROM generate_series(1, 50)");
            if aggregates.contains(name) {
                queries.push(call(""));
            }
            let frames = [" OVER (ORDER BY value)", " OVER ()"];
            queries.push(call(frames[at % frames.len()]));
        }
    }
    check_all(queries);
}

#[test]
fn table_functions() {
    let names: BTreeSet<_> = engine()
        .templates
        .usual
        .table_functions()
        .keys()
        .filter(|name| name.as_str() != PROMQL_FUNCTION)
        .cloned()
        .collect();
    let mut queries = Vec::new();
    for (name, kinds) in kinds_of(&names) {
        for args in hostile_in_places(kinds) {
            queries.push(format!("SELECT * FROM {name}({}) LIMIT 5", args.join(", ")));
        }
    }
    check_all(queries);
}
