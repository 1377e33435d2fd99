//! Where casts to types of PostgreSQL lead.

use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, DataType, Expr, TimezoneInfo, Value,
};

use super::parts::{null, text};
use super::values::array_elements;

/// What a cast is replaced by.
pub(super) enum CastTo {
    AsIs,
    Type(DataType),
    /// A function of `functions` does it.
    Function(&'static str),
}

/// Where a cast leads.
pub(super) fn cast_type(data_type: &DataType) -> CastTo {
    let name = match data_type {
        DataType::Regclass => return CastTo::Function("regclass"),
        DataType::CharacterVarying(_)
        | DataType::Character(_)
        | DataType::CharVarying(_)
        | DataType::Char(_)
        | DataType::Nvarchar(_)
        | DataType::JSON
        | DataType::JSONB
        | DataType::Uuid => return CastTo::Type(DataType::Text),
        DataType::Timestamp(Some(_), zone) => {
            return CastTo::Type(DataType::Timestamp(None, *zone));
        }
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, size)) => {
            return match cast_type(item) {
                CastTo::Type(item) => CastTo::Type(DataType::Array(
                    ArrayElemTypeDef::SquareBracket(Box::new(item), *size),
                )),
                _ => CastTo::AsIs,
            };
        }
        DataType::Custom(name, _) => match name.0.last().and_then(|part| part.as_ident()) {
            Some(name) => name.value.to_lowercase(),
            None => return CastTo::AsIs,
        },
        _ => return CastTo::AsIs,
    };
    CastTo::Type(match name.as_str() {
        "regclass" => return CastTo::Function("regclass"),
        "regtype" => return CastTo::Function("regtype"),
        "regproc" | "regprocedure" => return CastTo::Function("regproc"),
        "regnamespace" => return CastTo::Function("regnamespace"),
        "regrole" => return CastTo::Function("pg_get_userbyid"),
        "text" | "name" | "char" | "bpchar" | "varchar" | "citext" | "json" | "jsonb" | "uuid"
        | "cstring" => DataType::Text,
        "oid" | "xid" | "cid" => DataType::IntUnsigned(None),
        "int2" => DataType::SmallInt(None),
        "int4" => DataType::Int(None),
        "int8" => DataType::BigInt(None),
        "float4" => DataType::Real,
        "float8" => DataType::DoublePrecision,
        "bool" => DataType::Boolean,
        "timestamptz" => DataType::Timestamp(None, TimezoneInfo::Tz),
        _ => return CastTo::AsIs,
    })
}

/// `'{a,b}'`, cast to an array, as the array.
pub(super) fn array_constant(expr: &Expr, data_type: &DataType) -> Option<Expr> {
    let (Expr::Value(value), DataType::Array(_)) = (expr, data_type) else {
        return None;
    };
    let Value::SingleQuotedString(given) = &value.value else {
        return None;
    };
    let elements = array_elements(given)?.into_iter();
    let element = |element: Option<String>| element.map_or_else(null, |element| text(&element));
    Some(Expr::Array(Array {
        elem: elements.map(element).collect(),
        named: true,
    }))
}
