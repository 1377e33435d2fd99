//! Functions of PostgreSQL that its clients call, most of them about its catalog.
//!
//! They are scalar functions like those of DataFusion, and have the same limits. Those that tell of
//! a connection are not here: `rewrite` puts what they say into the statement.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, ListBuilder, StringArray,
    StringBuilder, UInt32Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use super::catalog_tables;
use super::tables::{OWNER_OID, SCHEMAS, is_visible, likely_oid, schema_name};
use super::types::TypeOf;
use crate::sql::catalog::PUBLIC_SCHEMA;

/// Puts them into a session.
pub(in crate::sql) fn register(state: &mut SessionState) -> Result<()> {
    for (names, kind) in FUNCTIONS {
        for name in names.split_whitespace() {
            state.register_udf(Arc::new(ScalarUDF::new_from_impl(PgFunction::new(
                name, kind,
            ))))?;
        }
    }
    Ok(())
}

/// What a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// There is nothing to tell.
    NoText,
    NoNumber,
    /// All that can be seen may be used.
    True,
    False,
    Nothing,
    UserById,
    EncodingName,
    IsVisible,
    FormatType,
    SizePretty,
    QuoteIdent,
    QuoteLiteral,
    ParseIdent,
    ArrayLower,
    ArrayUpper,
    /// Casts from a name to a number, or back.
    RegClass,
    RegType,
    RegProc,
    RegNamespace,
}

const FUNCTIONS: [(&str, Kind); 19] = [
    (
        "pg_get_expr pg_get_constraintdef pg_get_indexdef pg_get_viewdef pg_get_partkeydef \
         pg_get_triggerdef pg_get_ruledef pg_get_functiondef pg_get_function_result \
         pg_get_function_arguments pg_get_function_identity_arguments \
         pg_get_statisticsobjdef_columns pg_get_serial_sequence obj_description col_description \
         shobj_description pg_tablespace_location inet_server_addr inet_client_addr",
        Kind::NoText,
    ),
    (
        "pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size pg_database_size \
         pg_tablespace_size inet_server_port inet_client_port",
        Kind::NoNumber,
    ),
    (
        "has_table_privilege has_schema_privilege has_database_privilege has_column_privilege \
         has_any_column_privilege has_function_privilege has_type_privilege pg_has_role",
        Kind::True,
    ),
    (
        "pg_is_other_temp_schema pg_relation_is_publishable pg_is_in_recovery row_security_active",
        Kind::False,
    ),
    ("pg_advisory_unlock_all", Kind::Nothing),
    ("pg_get_userbyid", Kind::UserById),
    ("pg_encoding_to_char", Kind::EncodingName),
    (
        "pg_table_is_visible pg_type_is_visible pg_function_is_visible pg_opclass_is_visible \
         pg_operator_is_visible pg_collation_is_visible pg_statistics_obj_is_visible",
        Kind::IsVisible,
    ),
    ("format_type", Kind::FormatType),
    ("pg_size_pretty", Kind::SizePretty),
    ("quote_ident", Kind::QuoteIdent),
    ("quote_literal", Kind::QuoteLiteral),
    ("parse_ident", Kind::ParseIdent),
    ("array_lower", Kind::ArrayLower),
    ("array_upper", Kind::ArrayUpper),
    ("regclass to_regclass", Kind::RegClass),
    ("regtype to_regtype", Kind::RegType),
    ("regproc", Kind::RegProc),
    ("regnamespace to_regnamespace", Kind::RegNamespace),
];

#[derive(Debug, PartialEq, Eq, Hash)]
struct PgFunction {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl PgFunction {
    fn new(name: &'static str, kind: Kind) -> Self {
        let signatures = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        Self {
            name,
            kind,
            signature: Signature::one_of(signatures, Volatility::Immutable),
        }
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_text(value),
        other => other.is_string() || *other == DataType::Null,
    }
}

impl ScalarUDFImpl for PgFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let of_name = types.first().is_some_and(is_text);
        Ok(match self.kind {
            Kind::True | Kind::False | Kind::IsVisible => DataType::Boolean,
            Kind::NoNumber => DataType::Int64,
            Kind::ArrayLower | Kind::ArrayUpper => DataType::Int32,
            Kind::ParseIdent => DataType::List(Field::new_list_field(DataType::Utf8, true).into()),
            Kind::RegClass | Kind::RegType | Kind::RegNamespace if of_name => DataType::UInt32,
            _ => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let fixed = |value: ScalarValue| Ok(ColumnarValue::Scalar(value));
        match self.kind {
            Kind::NoText => return fixed(ScalarValue::Utf8(None)),
            Kind::NoNumber => return fixed(ScalarValue::Int64(None)),
            Kind::True => return fixed(ScalarValue::Boolean(Some(true))),
            Kind::False => return fixed(ScalarValue::Boolean(Some(false))),
            Kind::Nothing => return fixed(ScalarValue::from("")),
            _ => {}
        }
        let Some(first) = args.args.first() else {
            return exec_err!("{}() needs an argument", self.name);
        };
        let first = first.to_array(rows)?;
        let result = self.invoke(&first)?;
        match is_constant {
            true => ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

impl PgFunction {
    fn invoke(&self, first: &ArrayRef) -> Result<ArrayRef> {
        let of_name = is_text(first.data_type());
        Ok(match self.kind {
            Kind::ArrayLower => lengths(first, |_| 1)?,
            Kind::ArrayUpper => lengths(first, |length| length)?,
            Kind::ParseIdent => Arc::new(each_ident(&texts(first)?)?),
            Kind::IsVisible => {
                let oids = numbers(first)?;
                let visible = oids.iter().map(|oid| oid.map(is_visible));
                Arc::new(visible.collect::<BooleanArray>())
            }
            Kind::QuoteIdent => named(first, |text| Some(quoted_ident(text)))?,
            Kind::QuoteLiteral => named(first, |text| Some(quoted_literal(text)))?,
            Kind::RegProc => named(first, |text| Some(unqualified(text).to_owned()))?,
            Kind::RegClass if of_name => numbered(first, class_oid)?,
            Kind::RegType if of_name => {
                numbered(first, |name| TypeOf::by_name(name).map(|of| of.oid()))?
            }
            Kind::RegNamespace if of_name => numbered(first, |name| {
                let mut schemas = SCHEMAS.iter();
                schemas
                    .find(|(_, known)| *known == name)
                    .map(|(oid, _)| *oid)
            })?,
            Kind::RegClass => shown(first, class_name)?,
            Kind::RegType | Kind::FormatType => shown(first, type_name)?,
            Kind::RegNamespace => shown(first, |oid| schema_name(oid).to_owned())?,
            Kind::UserById => shown(first, |oid| match oid {
                OWNER_OID => "tidelake".to_owned(),
                oid => format!("unknown (OID={oid})"),
            })?,
            Kind::EncodingName => shown(first, |_| "UTF8".to_owned())?,
            Kind::SizePretty => {
                let bytes = cast(first, &DataType::Int64)?;
                let bytes = bytes.as_primitive::<arrow::datatypes::Int64Type>();
                let shown: StringArray = bytes.iter().map(|n| n.map(size_pretty)).collect();
                Arc::new(shown)
            }
            Kind::NoText | Kind::NoNumber | Kind::True | Kind::False | Kind::Nothing => {
                return exec_err!("{}() has no argument", self.name);
            }
        })
    }
}

fn texts(array: &ArrayRef) -> Result<StringArray> {
    Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn numbers(array: &ArrayRef) -> Result<UInt32Array> {
    let numbers = cast(array, &DataType::UInt32)?;
    Ok(numbers
        .as_primitive::<arrow::datatypes::UInt32Type>()
        .clone())
}

fn named(array: &ArrayRef, name: impl Fn(&str) -> Option<String>) -> Result<ArrayRef> {
    let names: StringArray = texts(array)?
        .iter()
        .map(|text| text.and_then(&name))
        .collect();
    Ok(Arc::new(names))
}

fn numbered(array: &ArrayRef, number: impl Fn(&str) -> Option<u32>) -> Result<ArrayRef> {
    let numbers: UInt32Array = texts(array)?
        .iter()
        .map(|text| text.and_then(&number))
        .collect();
    Ok(Arc::new(numbers))
}

fn shown(array: &ArrayRef, show: impl Fn(u32) -> String) -> Result<ArrayRef> {
    let names: StringArray = numbers(array)?.iter().map(|oid| oid.map(&show)).collect();
    Ok(Arc::new(names))
}

/// A bound of the first dimension of lists.
fn lengths(array: &ArrayRef, bound: impl Fn(i32) -> i32) -> Result<ArrayRef> {
    let Some(lists) = array.as_any().downcast_ref::<ListArray>() else {
        return exec_err!("array_lower() and array_upper() take an array");
    };
    let of = |row: usize| (!lists.is_null(row)).then(|| lists.value_length(row));
    let bounds = (0..lists.len()).map(|row| of(row).filter(|length| *length > 0).map(&bound));
    Ok(Arc::new(bounds.collect::<Int32Array>()))
}

fn class_oid(name: &str) -> Option<u32> {
    // What is all digits is a number already.
    if let Ok(oid) = name.parse() {
        return Some(oid);
    }
    let mut parts = parse_ident(name)?;
    let table = parts.pop()?;
    if let Some(known) = catalog_tables::find(&table) {
        return Some(known.oid);
    }
    let schema = parts.pop().unwrap_or_else(|| PUBLIC_SCHEMA.to_owned());
    Some(likely_oid(&schema, &table))
}

fn class_name(oid: u32) -> String {
    let mut tables = catalog_tables::TABLES.iter();
    let known = tables.find(|table| table.oid == oid && oid > 0);
    known.map_or_else(|| oid.to_string(), |table| table.name.to_owned())
}

fn type_name(oid: u32) -> String {
    match TypeOf::by_oid(oid) {
        Some(of) => of.sql_name(),
        None if oid == 0 => "-".to_owned(),
        None => "???".to_owned(),
    }
}

fn unqualified(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn quoted_ident(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts = name
        .bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit());
    match starts && name.bytes().all(is_plain) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

fn quoted_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!(" E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// The parts of a name with dots; `None` if a quote is not closed or a part is empty. Names keep
/// their case, as everywhere in Tidelake.
fn parse_ident(name: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = name.trim();
    loop {
        let part = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (part, after) = unquoted(quoted)?;
                rest = after.trim_start();
                part
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let (part, after) = rest.split_at(end);
                rest = after;
                part.trim().to_owned()
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(after) => rest = after.trim_start(),
            None => return rest.is_empty().then_some(parts),
        }
    }
}

/// A quoted part of a name without its quotes, and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        part.push_str(rest.get(..end)?);
        rest = rest.get(end + 1..)?;
        match rest.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Some((part, rest)),
        }
    }
}

fn each_ident(names: &StringArray) -> Result<ListArray> {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for name in names {
        let Some(name) = name else {
            lists.append_null();
            continue;
        };
        let Some(parts) = parse_ident(name) else {
            let shown: String = name.chars().take(60).collect();
            return exec_err!("string is not a valid identifier: {shown:?}");
        };
        for part in parts {
            lists.values().append_value(part);
        }
        lists.append(true);
    }
    Ok(lists.finish())
}

fn size_pretty(bytes: i64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (i128::from(bytes), 0);
    while size.abs() >= 10_240 && unit + 1 < units.len() {
        size = (size + 512 * size.signum()) / 1024;
        unit += 1;
    }
    format!("{size} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_cut() {
        assert_eq!(quoted_ident("cpu_1"), "cpu_1");
        assert_eq!(quoted_ident("Cpu"), "\"Cpu\"");
        assert_eq!(quoted_ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(quoted_literal("it's"), "'it''s'");
        assert_eq!(quoted_literal("a\\b"), " E'a\\\\b'");
        let check = |name: &str, expected: Option<&[&str]>| {
            let expected = expected.map(|parts| parts.iter().map(ToString::to_string).collect());
            assert_eq!(parse_ident(name), expected, "{name}");
        };
        check("public.cpu", Some(&["public", "cpu"]));
        check(" \"a.b\" . \"c\"\"d\" ", Some(&["a.b", "c\"d"]));
        check("a.", None);
        check("", None);
        check("\"a", None);
        check("\"a\"b", None);
    }

    #[test]
    fn numbers_have_names() {
        assert_eq!(class_oid("pg_class"), Some(1259));
        assert_eq!(class_oid("pg_catalog.pg_class"), Some(1259));
        assert_eq!(class_oid("17000"), Some(17_000));
        assert_ne!(class_oid("public.cpu"), class_oid("metrics.cpu"));
        assert_eq!(type_name(1184), "timestamp with time zone");
        assert_eq!(type_name(1016), "bigint[]");
        assert_eq!(size_pretty(10_239), "10239 bytes");
        assert_eq!(size_pretty(1 << 30), "1024 MB");
    }
}
