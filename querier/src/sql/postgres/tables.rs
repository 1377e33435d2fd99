//! The rows of PostgreSQL's catalog: what it tells of the tables of a database.
//!
//! A table has the number that a hash of its name gives, so that it keeps it from one statement to
//! the next. Those of the schema `public` lie below those of `metrics`, which tells a function
//! without further knowledge whether a name needs its schema.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryBuilder, Float32Array, Int16Array, Int32Array,
    RecordBatch, StringArray, UInt32Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::MemTable;

use super::catalog_tables::{self, TABLES};
use super::types::{PgType, TYPES, TypeOf};
use super::{PG_CATALOG, PgSession};
use crate::sql::catalog::{INFORMATION_SCHEMA, METRICS_SCHEMA, PUBLIC_SCHEMA};
use crate::sql::view::TableView;

/// Numbers of schemas.
pub(super) const CATALOG_OID: u32 = 11;
pub(super) const PUBLIC_OID: u32 = 2200;
const METRICS_OID: u32 = 2201;
const INFORMATION_OID: u32 = 13_000;
pub(super) const SCHEMAS: [(u32, &str); 4] = [
    (CATALOG_OID, PG_CATALOG),
    (PUBLIC_OID, PUBLIC_SCHEMA),
    (METRICS_OID, METRICS_SCHEMA),
    (INFORMATION_OID, INFORMATION_SCHEMA),
];
/// The number of the only role that is known.
pub(super) const OWNER_OID: u32 = 10;
/// Numbers below it are those of the catalog.
const FIRST_OID: u32 = 16_384;
/// From here on are the numbers of metrics.
const FIRST_METRIC_OID: u32 = 1 << 30;
const HEAP_OID: u32 = 2;

/// Whether there is a table of the name in the catalog.
pub(super) fn is_catalog_table(name: &str) -> bool {
    catalog_tables::find(name).is_some()
}

/// Whether there is such a table, and it never has rows.
pub(super) fn is_always_empty(name: &str) -> bool {
    catalog_tables::find(name).is_some_and(|table| !table.has_rows)
}

/// Whether a table can be named without its schema.
pub(super) fn is_visible(oid: u32) -> bool {
    oid < FIRST_METRIC_OID
}

/// The number that a table has unless another has it.
pub(super) fn likely_oid(schema: &str, table: &str) -> u32 {
    let (first, end) = match schema {
        METRICS_SCHEMA => (FIRST_METRIC_OID, 1 << 31),
        _ => (FIRST_OID, FIRST_METRIC_OID),
    };
    // FNV-1a: it is not to be changed, as clients may keep numbers.
    let hash = table.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The remainder is below 2^30.
    let place = hash % u64::from(end - first);
    first + u32::try_from(place).unwrap_or_default()
}

/// A table of the database.
struct Relation {
    oid: u32,
    schema: u32,
    name: String,
    view: Option<Arc<TableView>>,
}

/// What the catalog tells about.
pub(in crate::sql) struct CatalogTables {
    database: String,
    session: Arc<PgSession>,
    relations: Vec<Relation>,
}

impl std::fmt::Debug for CatalogTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CatalogTables({} relations)", self.relations.len())
    }
}

/// Tables with their columns, by name.
type Views = BTreeMap<String, Arc<TableView>>;

impl CatalogTables {
    /// The catalog of a database with these tables.
    pub fn new(database: &str, session: Arc<PgSession>, public: &Views, metrics: &Views) -> Self {
        let mut relations: Vec<Relation> = TABLES
            .iter()
            .filter(|table| table.oid > 0)
            .map(|table| Relation {
                oid: table.oid,
                schema: CATALOG_OID,
                name: table.name.to_owned(),
                view: None,
            })
            .collect();
        let mut taken = BTreeSet::new();
        let schemas = [
            (PUBLIC_SCHEMA, PUBLIC_OID, public),
            (METRICS_SCHEMA, METRICS_OID, metrics),
        ];
        for (schema, schema_oid, views) in schemas {
            for (name, view) in views {
                let mut oid = likely_oid(schema, name);
                while !taken.insert(oid) {
                    oid += 1;
                }
                relations.push(Relation {
                    oid,
                    schema: schema_oid,
                    name: name.clone(),
                    view: Some(Arc::clone(view)),
                });
            }
        }
        Self {
            database: database.to_owned(),
            session,
            relations,
        }
    }

    fn rows(&self, table: &str) -> Columns {
        match table {
            "pg_class" => self.classes(),
            "pg_attribute" => self.attributes(),
            "pg_tables" => self.tables(),
            "pg_namespace" => Columns::new(SCHEMAS.len())
                .oids("oid", SCHEMAS.map(|(oid, _)| oid))
                .texts("nspname", SCHEMAS.map(|(_, name)| name))
                .oids("nspowner", SCHEMAS.map(|_| OWNER_OID)),
            "pg_type" => types(),
            "pg_typeinfo" => type_info(),
            "pg_database" => self.databases(),
            "pg_settings" => self.settings(),
            "pg_am" => Columns::new(1)
                .oids("oid", [HEAP_OID])
                .texts("amname", ["heap"])
                .texts("amtype", ["t"]),
            "pg_roles" => Columns::new(1)
                .oids("oid", [OWNER_OID])
                .texts("rolname", [self.session.user.as_str()])
                .bools("rolinherit rolcanlogin", true)
                .bools(
                    "rolsuper rolcreaterole rolcreatedb rolreplication rolbypassrls",
                    false,
                )
                .ints("rolconnlimit", [-1]),
            "pg_user" => Columns::new(1)
                .texts("usename", [self.session.user.as_str()])
                .oids("usesysid", [OWNER_OID])
                .bools("usecreatedb usesuper userepl usebypassrls", false),
            "pg_tablespace" => Columns::new(1)
                .oids("oid", [1663])
                .texts("spcname", ["pg_default"])
                .oids("spcowner", [OWNER_OID]),
            _ => Columns::new(0),
        }
    }

    fn classes(&self) -> Columns {
        let all = &self.relations;
        let width = |relation: &Relation| {
            let view = relation.view.as_ref();
            let columns = view.map_or(0, |view| view.schema.fields().len());
            i16::try_from(columns).unwrap_or(i16::MAX)
        };
        Columns::new(all.len())
            .oids("oid", all.iter().map(|relation| relation.oid))
            .texts("relname", all.iter().map(|relation| relation.name.as_str()))
            .oids("relnamespace", all.iter().map(|relation| relation.schema))
            .oids("relowner", all.iter().map(|_| OWNER_OID))
            .oids("relam", all.iter().map(|_| HEAP_OID))
            .oids("reltype", all.iter().map(|_| 0))
            .oids("reloftype", all.iter().map(|_| 0))
            .oids("relfilenode", all.iter().map(|_| 0))
            .oids("reltablespace", all.iter().map(|_| 0))
            .oids("reltoastrelid", all.iter().map(|_| 0))
            .ints("relpages", all.iter().map(|_| 0))
            .floats("reltuples", all.iter().map(|_| -1.0))
            .texts("relpersistence", all.iter().map(|_| "p"))
            .texts("relkind", all.iter().map(|_| "r"))
            .texts("relreplident", all.iter().map(|_| "n"))
            .shorts("relnatts", all.iter().map(width))
            .shorts("relchecks", all.iter().map(|_| 0))
            .bools("relispopulated", true)
            .bools(
                "relhasindex relisshared relhasrules relhastriggers relhassubclass \
                 relrowsecurity relforcerowsecurity relispartition",
                false,
            )
    }

    fn attributes(&self) -> Columns {
        let columns: Vec<(u32, i16, &Field, TypeOf)> = self
            .relations
            .iter()
            .filter_map(|relation| Some((relation.oid, relation.view.as_ref()?)))
            .flat_map(|(oid, view)| {
                let numbered = (1..).zip(view.schema.fields());
                numbered.map(move |(number, field)| {
                    (oid, number, field.as_ref(), TypeOf::of(field.data_type()))
                })
            })
            .collect();
        let all = || columns.iter();
        Columns::new(columns.len())
            .oids("attrelid", all().map(|(oid, ..)| *oid))
            .texts(
                "attname",
                all().map(|(_, _, field, _)| field.name().as_str()),
            )
            .oids("atttypid", all().map(|(.., of)| of.oid()))
            .shorts("attlen", all().map(|(.., of)| of.size()))
            .shorts("attnum", all().map(|(_, number, ..)| *number))
            .ints("attndims", all().map(|(.., of)| i32::from(of.is_array)))
            .ints("attstattarget", all().map(|_| -1))
            .ints("attcacheoff", all().map(|_| -1))
            .ints("atttypmod", all().map(|_| -1))
            .ints("attinhcount", all().map(|_| 0))
            .texts("attidentity", all().map(|_| ""))
            .texts("attgenerated", all().map(|_| ""))
            .texts("attcompression", all().map(|_| ""))
            .texts("attstorage", all().map(|(.., of)| storage(of.size())))
            .oids("attcollation", all().map(|_| 0))
            .each_bool(
                "attnotnull",
                all().map(|(_, _, field, _)| !field.is_nullable()),
            )
            .bools("attislocal", true)
            .bools("attbyval atthasdef atthasmissing attisdropped", false)
    }

    fn tables(&self) -> Columns {
        let all = &self.relations;
        let schema = |relation: &Relation| schema_name(relation.schema);
        Columns::new(all.len())
            .texts("schemaname", all.iter().map(schema))
            .texts(
                "tablename",
                all.iter().map(|relation| relation.name.as_str()),
            )
            .texts("tableowner", all.iter().map(|_| self.session.user.as_str()))
            .bools("hasindexes hasrules hastriggers rowsecurity", false)
    }

    fn databases(&self) -> Columns {
        let mut names: Vec<&str> = self.session.databases.iter().map(String::as_str).collect();
        if !names.contains(&self.database.as_str()) {
            names.push(&self.database);
        }
        let all = || names.iter().copied();
        Columns::new(names.len())
            .oids("oid", all().map(|name| likely_oid("database", name)))
            .texts("datname", all())
            .oids("datdba", all().map(|_| OWNER_OID))
            .ints("encoding", all().map(|_| 6))
            .texts("datlocprovider", all().map(|_| "c"))
            .texts("datcollate", all().map(|_| "C"))
            .texts("datctype", all().map(|_| "C.UTF-8"))
            .ints("datconnlimit", all().map(|_| -1))
            .oids("dattablespace", all().map(|_| 1663))
            .bools("datallowconn", true)
            .bools("datistemplate", false)
    }

    fn settings(&self) -> Columns {
        let all = || self.session.settings.iter();
        Columns::new(self.session.settings.len())
            .texts("name", all().map(|(name, ..)| name.as_str()))
            .texts("setting", all().map(|(_, value, _)| value.as_str()))
            .texts("short_desc", all().map(|(_, _, what)| *what))
            .texts("category", all().map(|_| "Tidelake"))
            .texts("context", all().map(|_| "user"))
            .texts("vartype", all().map(|_| "string"))
            .texts("source", all().map(|_| "session"))
            .bools("pending_restart", false)
    }
}

fn storage(size: i16) -> &'static str {
    if size < 0 { "x" } else { "p" }
}

pub(super) fn schema_name(oid: u32) -> &'static str {
    let found = SCHEMAS.iter().find(|(known, _)| *known == oid);
    found.map_or("", |(_, name)| name)
}

fn types() -> Columns {
    let plain = TYPES.iter().map(|of| (of, false));
    let arrays = TYPES
        .iter()
        .filter(|of| of.array_oid > 0)
        .map(|of| (of, true));
    let all: Vec<(&PgType, bool)> = plain.chain(arrays).collect();
    let names: Vec<String> = all
        .iter()
        .map(|(of, is_array)| format!("{}{}", if *is_array { "_" } else { "" }, of.name))
        .collect();
    let of = || all.iter().map(|(of, is_array)| (*of, *is_array));
    let input = |is_array: bool| if is_array { "array_in" } else { "textin" };
    let or = |is_array: bool, array: u32, plain: u32| if is_array { array } else { plain };
    Columns::new(all.len())
        .oids(
            "oid",
            of().map(|(of, is_array)| or(is_array, of.array_oid, of.oid)),
        )
        .texts("typname", names.iter().map(String::as_str))
        .oids("typnamespace", of().map(|_| CATALOG_OID))
        .oids("typowner", of().map(|_| OWNER_OID))
        .shorts(
            "typlen",
            of().map(|(of, is_array)| if is_array { -1 } else { of.size }),
        )
        .texts(
            "typtype",
            of().map(|(of, _)| if of.category == "X" { "p" } else { "b" }),
        )
        .texts(
            "typcategory",
            of().map(|(of, is_array)| if is_array { "A" } else { of.category }),
        )
        .texts("typdelim", of().map(|_| ","))
        .oids("typrelid", of().map(|_| 0))
        .oids(
            "typelem",
            of().map(|(of, is_array)| or(is_array, of.oid, 0)),
        )
        .oids(
            "typarray",
            of().map(|(of, is_array)| or(is_array, 0, of.array_oid)),
        )
        .texts("typinput", of().map(|(_, is_array)| input(is_array)))
        .texts("typoutput", of().map(|_| "textout"))
        .oids("typbasetype", of().map(|_| 0))
        .ints("typtypmod", of().map(|_| -1))
        .ints("typndims", of().map(|_| 0))
        .oids("typcollation", of().map(|_| 0))
        .bools("typisdefined", true)
        .bools("typbyval typispreferred typnotnull", false)
}

/// Each type as `root`, with those that it consists of.
fn type_info() -> Columns {
    // Root, type, whether that is an array, and how far it is from the root.
    let mut rows: Vec<(u32, &PgType, bool, i32)> = Vec::new();
    for of in &TYPES {
        rows.push((of.oid, of, false, 0));
        if of.array_oid > 0 {
            rows.push((of.array_oid, of, true, 0));
            rows.push((of.array_oid, of, false, 1));
        }
    }
    let of = || rows.iter();
    let names: Vec<String> = of()
        .map(|(_, of, is_array, _)| format!("{}{}", if *is_array { "_" } else { "" }, of.name))
        .collect();
    let or = |is_array: bool, array: u32, plain: u32| if is_array { array } else { plain };
    let element =
        |(_, of, is_array, _): &(u32, &'static PgType, bool, i32)| is_array.then_some(of.sql_name);
    Columns::new(rows.len())
        .oids("root", of().map(|(root, ..)| *root))
        .oids(
            "oid",
            of().map(|(_, of, is_array, _)| or(*is_array, of.array_oid, of.oid)),
        )
        .texts("ns", of().map(|_| PG_CATALOG))
        .texts("name", names.iter().map(String::as_str))
        .chars("kind", of().map(|_| Some(b'b')))
        .oids("basetype", of().map(|_| 0))
        .oids(
            "elemtype",
            of().map(|(_, of, is_array, _)| or(*is_array, of.oid, 0)),
        )
        .chars(
            "elemdelim",
            of().map(|(_, _, is_array, _)| is_array.then_some(b',')),
        )
        .ints("depth", of().map(|(.., depth)| *depth))
        .with(
            "elemtype_name",
            Arc::new(of().map(element).collect::<StringArray>()),
        )
}

#[async_trait]
impl SchemaProvider for CatalogTables {
    fn table_names(&self) -> Vec<String> {
        TABLES.iter().map(|table| table.name.to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = catalog_tables::find(name) else {
            return Ok(None);
        };
        let batch = self.rows(name).batch(table.schema())?;
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
        Ok(Some(Arc::new(table)))
    }

    fn table_exist(&self, name: &str) -> bool {
        is_catalog_table(name)
    }
}

/// Columns of a table by name; those that are not given are NULL.
struct Columns {
    rows: usize,
    given: Vec<(&'static str, ArrayRef)>,
}

impl Columns {
    fn new(rows: usize) -> Self {
        Self {
            rows,
            given: Vec::new(),
        }
    }

    fn with(mut self, name: &'static str, array: ArrayRef) -> Self {
        self.given.push((name, array));
        self
    }

    fn oids(self, name: &'static str, values: impl IntoIterator<Item = u32>) -> Self {
        self.with(name, Arc::new(UInt32Array::from_iter_values(values)))
    }

    fn ints(self, name: &'static str, values: impl IntoIterator<Item = i32>) -> Self {
        self.with(name, Arc::new(Int32Array::from_iter_values(values)))
    }

    fn shorts(self, name: &'static str, values: impl IntoIterator<Item = i16>) -> Self {
        self.with(name, Arc::new(Int16Array::from_iter_values(values)))
    }

    fn floats(self, name: &'static str, values: impl IntoIterator<Item = f32>) -> Self {
        self.with(name, Arc::new(Float32Array::from_iter_values(values)))
    }

    fn texts<'a>(self, name: &'static str, values: impl IntoIterator<Item = &'a str>) -> Self {
        self.with(name, Arc::new(StringArray::from_iter_values(values)))
    }

    fn chars(self, name: &'static str, values: impl Iterator<Item = Option<u8>>) -> Self {
        let mut array = FixedSizeBinaryBuilder::new(1);
        for value in values {
            match value {
                // One byte is what it takes.
                Some(byte) => drop(array.append_value([byte])),
                None => array.append_null(),
            }
        }
        self.with(name, Arc::new(array.finish()))
    }

    fn each_bool(self, name: &'static str, values: impl IntoIterator<Item = bool>) -> Self {
        let values: BooleanArray = values.into_iter().map(Some).collect();
        self.with(name, Arc::new(values))
    }

    /// Several columns that are the same everywhere.
    fn bools(mut self, names: &'static str, value: bool) -> Self {
        let array: ArrayRef = Arc::new(BooleanArray::from(vec![value; self.rows]));
        for name in names.split_whitespace() {
            self.given.push((name, Arc::clone(&array)));
        }
        self
    }

    fn batch(self, schema: SchemaRef) -> Result<RecordBatch> {
        let column = |field: &Arc<Field>| {
            let mut given = self.given.iter();
            let found = given.find(|(name, _)| name == field.name());
            match found {
                Some((_, array)) => Arc::clone(array),
                None => new_null_array(field.data_type(), self.rows),
            }
        };
        let arrays = schema.fields().iter().map(column).collect();
        Ok(RecordBatch::try_new(schema, arrays)?)
    }
}

/// `information_schema.columns` with PostgreSQL's types.
pub(in crate::sql) fn information_columns(
    database: &str,
    public: &Views,
    metrics: &Views,
) -> Result<Arc<dyn TableProvider>> {
    let schemas = [(PUBLIC_SCHEMA, public), (METRICS_SCHEMA, metrics)];
    let columns: Vec<(&str, &str, i32, &Field, TypeOf)> = schemas
        .into_iter()
        .flat_map(|(schema, views)| views.iter().map(move |(name, view)| (schema, name, view)))
        .flat_map(|(schema, table, view)| {
            let numbered = (1..).zip(view.schema.fields());
            numbered.map(move |(number, field)| {
                let of = TypeOf::of(field.data_type());
                (schema, table.as_str(), number, field.as_ref(), of)
            })
        })
        .collect();
    let all = || columns.iter();
    let types: Vec<String> = all()
        .map(|(.., of)| match of.is_array {
            true => "ARRAY".to_owned(),
            false => of.sql_name(),
        })
        .collect();
    let names: Vec<String> = all()
        .map(|(.., of)| format!("{}{}", if of.is_array { "_" } else { "" }, of.element.name))
        .collect();
    let yes = |is: bool| if is { "YES" } else { "NO" };
    let given = Columns::new(columns.len())
        .texts("table_catalog", all().map(|_| database))
        .texts("table_schema", all().map(|(schema, ..)| *schema))
        .texts("table_name", all().map(|(_, table, ..)| *table))
        .texts(
            "column_name",
            all().map(|(_, _, _, field, _)| field.name().as_str()),
        )
        .ints("ordinal_position", all().map(|(_, _, number, ..)| *number))
        .texts(
            "is_nullable",
            all().map(|(_, _, _, field, _)| yes(field.is_nullable())),
        )
        .texts("data_type", types.iter().map(String::as_str))
        .texts("udt_catalog", all().map(|_| database))
        .texts("udt_schema", all().map(|_| PG_CATALOG))
        .texts("udt_name", names.iter().map(String::as_str))
        .texts("is_identity", all().map(|_| "NO"))
        .texts("is_generated", all().map(|_| "NEVER"))
        .texts("is_updatable", all().map(|_| "NO"));
    let text = "table_catalog table_schema table_name column_name";
    let rest = "column_default is_nullable data_type character_maximum_length \
                character_octet_length numeric_precision numeric_precision_radix numeric_scale \
                datetime_precision interval_type udt_catalog udt_schema udt_name is_identity \
                is_generated is_updatable";
    let is_number = |name: &str| {
        ["numeric_", "character_", "datetime_"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let field = |name: &str| {
        let data_type = if is_number(name) {
            DataType::Int32
        } else {
            DataType::Utf8
        };
        Field::new(name, data_type, true)
    };
    let fields: Vec<Field> = text
        .split_whitespace()
        .map(field)
        .chain([Field::new("ordinal_position", DataType::Int32, true)])
        .chain(rest.split_whitespace().map(field))
        .collect();
    let batch = given.batch(Arc::new(Schema::new(fields)))?;
    Ok(Arc::new(MemTable::try_new(
        batch.schema(),
        vec![vec![batch]],
    )?))
}
