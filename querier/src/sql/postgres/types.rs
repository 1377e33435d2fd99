//! The types of PostgreSQL, by their numbers, and which of them Arrow's are.
//!
//! Only types that every client knows without asking are used. What has none (maps, structures,
//! lists of lists) is shown as JSON. `u64` is `numeric`, and `u32`, which only the tables of
//! `pg_catalog` have, is `oid`.

use arrow::datatypes::DataType;

/// A type.
#[derive(Debug, PartialEq, Eq)]
pub struct PgType {
    /// Its number.
    pub oid: u32,
    /// As `pg_type` names it.
    pub name: &'static str,
    /// As SQL names it.
    pub sql_name: &'static str,
    /// Bytes of a value; negative if they vary.
    pub size: i16,
    /// The number of its array type.
    pub array_oid: u32,
    /// The letter of its category.
    pub category: &'static str,
}

const fn pg_type(
    oid: u32,
    name: &'static str,
    sql_name: &'static str,
    size: i16,
    array_oid: u32,
    category: &'static str,
) -> PgType {
    PgType {
        oid,
        name,
        sql_name,
        size,
        array_oid,
        category,
    }
}

/// The types that columns have or that clients ask about.
pub static TYPES: [PgType; 26] = [
    pg_type(16, "bool", "boolean", 1, 1000, "B"),
    pg_type(17, "bytea", "bytea", -1, 1001, "U"),
    pg_type(18, "char", "\"char\"", 1, 1002, "Z"),
    pg_type(19, "name", "name", 64, 1003, "S"),
    pg_type(20, "int8", "bigint", 8, 1016, "N"),
    pg_type(21, "int2", "smallint", 2, 1005, "N"),
    pg_type(23, "int4", "integer", 4, 1007, "N"),
    pg_type(24, "regproc", "regproc", 4, 1008, "N"),
    pg_type(25, "text", "text", -1, 1009, "S"),
    pg_type(26, "oid", "oid", 4, 1028, "N"),
    pg_type(114, "json", "json", -1, 199, "U"),
    pg_type(700, "float4", "real", 4, 1021, "N"),
    pg_type(701, "float8", "double precision", 8, 1022, "N"),
    pg_type(705, "unknown", "unknown", -2, 0, "X"),
    pg_type(1042, "bpchar", "character", -1, 1014, "S"),
    pg_type(1043, "varchar", "character varying", -1, 1015, "S"),
    pg_type(1082, "date", "date", 4, 1182, "D"),
    pg_type(1083, "time", "time without time zone", 8, 1183, "D"),
    pg_type(
        1114,
        "timestamp",
        "timestamp without time zone",
        8,
        1115,
        "D",
    ),
    pg_type(
        1184,
        "timestamptz",
        "timestamp with time zone",
        8,
        1185,
        "D",
    ),
    pg_type(1186, "interval", "interval", 16, 1187, "T"),
    pg_type(1700, "numeric", "numeric", -1, 1231, "N"),
    pg_type(2205, "regclass", "regclass", 4, 2210, "N"),
    pg_type(2206, "regtype", "regtype", 4, 2211, "N"),
    pg_type(2950, "uuid", "uuid", 16, 2951, "U"),
    pg_type(3802, "jsonb", "jsonb", -1, 3807, "U"),
];

const TEXT: u32 = 25;
const JSON: u32 = 114;

/// A type, or the array type of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeOf {
    /// It, or that of the elements.
    pub element: &'static PgType,
    /// Whether it is an array.
    pub is_array: bool,
}

impl TypeOf {
    /// Its number.
    pub fn oid(&self) -> u32 {
        match self.is_array {
            true => self.element.array_oid,
            false => self.element.oid,
        }
    }

    /// Bytes of a value; negative if they vary.
    pub fn size(&self) -> i16 {
        match self.is_array {
            true => -1,
            false => self.element.size,
        }
    }

    /// As SQL names it.
    pub fn sql_name(&self) -> String {
        let brackets = if self.is_array { "[]" } else { "" };
        format!("{}{brackets}", self.element.sql_name)
    }

    /// The type of a number; `None` if it is not one of [`TYPES`] or of their arrays.
    pub fn by_oid(oid: u32) -> Option<Self> {
        let of = |is_array| move |element| TypeOf { element, is_array };
        let plain = TYPES.iter().find(|known| known.oid == oid).map(of(false));
        let array = || TYPES.iter().find(|known| known.array_oid == oid);
        plain.or_else(|| array().filter(|_| oid != 0).map(of(true)))
    }

    /// The type of a name, as `pg_type` or SQL has it, perhaps quoted, with a schema or brackets.
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.trim();
        let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
        let (name, is_array) = match (name.strip_suffix("[]"), name.strip_prefix('_')) {
            (Some(name), _) | (None, Some(name)) => (name, true),
            (None, None) => (name, false),
        };
        let fits = |known: &&PgType| known.name == name || known.sql_name == name;
        let element = TYPES.iter().find(fits)?;
        Some(TypeOf { element, is_array })
    }

    /// The type of a column.
    pub fn of(data_type: &DataType) -> Self {
        let item = match data_type {
            DataType::List(item) | DataType::LargeList(item) => Some(item),
            DataType::FixedSizeList(item, _) => Some(item),
            _ => None,
        };
        let is_array = item.is_some();
        let oid = scalar_oid(item.map_or(data_type, |item| item.data_type()));
        let known = |oid: u32| TYPES.iter().find(|known| known.oid == oid);
        match oid.and_then(known) {
            Some(element) => TypeOf { element, is_array },
            None => TypeOf {
                element: known(JSON).unwrap_or(&TYPES[0]),
                is_array: false,
            },
        }
    }
}

/// The number of the type of a value that is no list; `None` if it is shown as JSON.
fn scalar_oid(data_type: &DataType) -> Option<u32> {
    Some(match data_type {
        DataType::Boolean => 16,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => 21,
        DataType::UInt16 | DataType::Int32 => 23,
        DataType::Int64 => 20,
        DataType::UInt32 => 26,
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => 1700,
        DataType::Float16 | DataType::Float32 => 700,
        DataType::Float64 => 701,
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => TEXT,
        // Of the catalog: one byte is a character.
        DataType::FixedSizeBinary(1) => 18,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => 17,
        DataType::Date32 | DataType::Date64 => 1082,
        DataType::Time32(_) | DataType::Time64(_) => 1083,
        DataType::Timestamp(_, None) => 1114,
        DataType::Timestamp(_, Some(_)) => 1184,
        DataType::Interval(_) | DataType::Duration(_) => 1186,
        DataType::Dictionary(_, value) => return scalar_oid(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    #[test]
    fn numbers_names_and_columns_agree() {
        for known in &TYPES {
            assert_eq!(TypeOf::by_oid(known.oid).map(|t| t.oid()), Some(known.oid));
            assert_eq!(
                TypeOf::by_name(known.sql_name).map(|t| t.oid()),
                Some(known.oid)
            );
            let array = TypeOf::by_name(&format!("{}[]", known.name)).unwrap();
            assert_eq!(array.oid(), known.array_oid);
        }
        let check = |data_type: DataType, name: &str| {
            assert_eq!(TypeOf::of(&data_type).sql_name(), name, "{data_type}");
        };
        let dictionary = |value| DataType::Dictionary(Box::new(DataType::UInt32), Box::new(value));
        let list = |item| DataType::List(Field::new("item", item, true).into());
        check(dictionary(DataType::Utf8), "text");
        check(DataType::Utf8View, "text");
        check(DataType::UInt64, "numeric");
        check(
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            "timestamp without time zone",
        );
        check(list(DataType::Int64), "bigint[]");
        check(list(list(DataType::Int64)), "json");
        check(DataType::Struct(Default::default()), "json");
        assert_eq!(TypeOf::by_oid(0), None);
        assert_eq!(TypeOf::by_oid(600), None);
    }
}
