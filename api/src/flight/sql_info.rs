//! What the server can do, and the types of columns.

use std::sync::LazyLock;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    CommandGetSqlInfo, CommandGetXdbcTypeInfo, Nullable, Searchable, SqlInfo,
    SqlSupportedTransaction, XdbcDataType,
};

/// Numbers that are looked for at once.
const MAX_NUMBERS: usize = 1000;

static INFO: LazyLock<Result<SqlInfoData, String>> = LazyLock::new(|| {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Tidelake");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    info.append(SqlInfo::FlightSqlServerCancel, false);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0i32);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0i32);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlCatalogTerm, "database");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    info.build().map_err(|error| error.to_string())
});

static TYPES: LazyLock<Result<XdbcTypeInfoData, String>> = LazyLock::new(|| {
    let number = |name: &str, data_type, digits, is_unsigned| XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        column_size: Some(digits),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        unsigned_attribute: Some(is_unsigned),
        local_type_name: Some(name.to_owned()),
        sql_data_type: data_type,
        num_prec_radix: Some(10),
        ..XdbcTypeInfo::default()
    };
    let other = |name: &str, data_type, size, quoted: bool| {
        let quote = quoted.then(|| "'".to_owned());
        XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type,
            column_size: size,
            literal_prefix: quote.clone(),
            literal_suffix: quote,
            nullable: Nullable::NullabilityNullable,
            case_sensitive: quoted,
            searchable: Searchable::Full,
            local_type_name: Some(name.to_owned()),
            sql_data_type: data_type,
            ..XdbcTypeInfo::default()
        }
    };
    let mut types = XdbcTypeInfoDataBuilder::new();
    types.append(number("BIGINT", XdbcDataType::XdbcBigint, 19, false));
    types.append(number(
        "BIGINT UNSIGNED",
        XdbcDataType::XdbcBigint,
        20,
        true,
    ));
    types.append(number("DOUBLE", XdbcDataType::XdbcDouble, 17, false));
    types.append(other("BOOLEAN", XdbcDataType::XdbcBit, Some(1), false));
    types.append(other("VARCHAR", XdbcDataType::XdbcVarchar, None, true));
    types.append(other(
        "TIMESTAMP",
        XdbcDataType::XdbcTimestamp,
        Some(29),
        true,
    ));
    types.build().map_err(|error| error.to_string())
});

fn built<T>(data: &'static Result<T, String>) -> Result<&'static T, FlightError> {
    data.as_ref()
        .map_err(|error| FlightError::ProtocolError(error.clone()))
}

/// Whatever is built of it.
pub fn schema() -> Schema {
    SqlInfoDataBuilder::schema().clone()
}

pub fn types_schema() -> Schema {
    let builder = XdbcTypeInfoDataBuilder::new();
    builder.schema().as_ref().clone()
}

/// What is asked for of the numbers that the protocol has.
pub fn answer(asked: CommandGetSqlInfo) -> Result<RecordBatch, FlightError> {
    let mut numbers = asked.info;
    numbers.sort_unstable();
    numbers.dedup();
    numbers.truncate(MAX_NUMBERS);
    built(&INFO)?.record_batch(numbers)
}

/// The types of columns.
pub fn types(asked: CommandGetXdbcTypeInfo) -> Result<RecordBatch, FlightError> {
    built(&TYPES)?.record_batch(asked.data_type)
}
