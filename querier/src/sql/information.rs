//! How clients write about `information_schema`.
//!
//! Names without quotes are the same in any case there, as in the standard, although those of
//! users' tables are not. And `iox` is what InfluxDB calls the schema of its tables: Grafana asks
//! for its tables and columns by that name.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::catalog::{INFLUX_SCHEMA, INFORMATION_SCHEMA, PUBLIC_SCHEMA};

/// The names that clients use.
const NAMES: [&str; 15] = [
    "catalog_name",
    "column_name",
    "columns",
    "data_type",
    "information_schema",
    "is_nullable",
    "ordinal_position",
    "schema_name",
    "schemata",
    "table_catalog",
    "table_name",
    "table_schema",
    "table_type",
    "tables",
    "views",
];

/// Rewrites a statement that names the schema to what this database calls things.
pub(super) fn standardize(tokens: &mut [TokenWithSpan]) {
    let is_schema = |token: &Token| match token {
        Token::Word(word) => word.value.eq_ignore_ascii_case(INFORMATION_SCHEMA),
        _ => false,
    };
    if !tokens.iter().any(|token| is_schema(&token.token)) {
        return;
    }
    for token in tokens {
        match &mut token.token {
            Token::Word(word) if word.quote_style.is_none() => {
                let known = NAMES
                    .iter()
                    .find(|name| word.value.eq_ignore_ascii_case(name));
                if let Some(known) = known {
                    word.value = (*known).to_owned();
                }
            }
            Token::SingleQuotedString(text) if text == INFLUX_SCHEMA => {
                *text = PUBLIC_SCHEMA.to_owned();
            }
            _ => {}
        }
    }
}
