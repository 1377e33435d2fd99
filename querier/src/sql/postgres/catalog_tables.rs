//! Which tables the catalog of PostgreSQL has, with those of their columns that clients ask for.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// A table of `pg_catalog`.
pub(super) struct CatalogTable {
    pub name: &'static str,
    pub oid: u32,
    /// Names of columns, each with the letter of its type.
    columns: &'static str,
    pub has_rows: bool,
}

const fn table(name: &'static str, oid: u32, columns: &'static str) -> CatalogTable {
    CatalogTable {
        name,
        oid,
        columns,
        has_rows: true,
    }
}

const fn empty(name: &'static str, oid: u32, columns: &'static str) -> CatalogTable {
    CatalogTable {
        name,
        oid,
        columns,
        has_rows: false,
    }
}

/// All of them, sorted by name.
pub(super) static TABLES: [CatalogTable; 72] = [
    empty(
        "pg_aggregate",
        2600,
        "aggfnoid:o aggkind:t aggnumdirectargs:s aggtransfn:o aggfinalfn:o",
    ),
    table("pg_am", 2601, "oid:o amname:t amhandler:o amtype:t"),
    empty(
        "pg_amop",
        2602,
        "oid:o amopfamily:o amoplefttype:o amoprighttype:o amopstrategy:s amopopr:o",
    ),
    empty(
        "pg_amproc",
        2603,
        "oid:o amprocfamily:o amproclefttype:o amprocrighttype:o amprocnum:s",
    ),
    empty("pg_attrdef", 2604, "oid:o adrelid:o adnum:s adbin:t"),
    table(
        "pg_attribute",
        1249,
        "attrelid:o attname:t atttypid:o attstattarget:i attlen:s attnum:s attndims:i \
         attcacheoff:i atttypmod:i attbyval:b attstorage:t attalign:t attnotnull:b atthasdef:b \
         atthasmissing:b attidentity:t attgenerated:t attisdropped:b attislocal:b attinhcount:i \
         attcollation:o attcompression:t attacl:T attoptions:T attfdwoptions:T attmissingval:T",
    ),
    empty(
        "pg_auth_members",
        1261,
        "oid:o roleid:o member:o grantor:o admin_option:b",
    ),
    empty(
        "pg_available_extensions",
        0,
        "name:t default_version:t installed_version:t comment:t",
    ),
    empty(
        "pg_cast",
        2605,
        "oid:o castsource:o casttarget:o castfunc:o castcontext:t castmethod:t",
    ),
    table(
        "pg_class",
        1259,
        "oid:o relname:t relnamespace:o reltype:o reloftype:o relowner:o relam:o relfilenode:o \
         reltablespace:o relpages:i reltuples:f relallvisible:i reltoastrelid:o relhasindex:b \
         relisshared:b relpersistence:t relkind:t relnatts:s relchecks:s relhasrules:b \
         relhastriggers:b relhassubclass:b relrowsecurity:b relforcerowsecurity:b \
         relispopulated:b relreplident:t relispartition:b relrewrite:o relfrozenxid:o \
         relminmxid:o relacl:T reloptions:T relpartbound:t",
    ),
    empty(
        "pg_collation",
        3456,
        "oid:o collname:t collnamespace:o collowner:o collprovider:t collisdeterministic:b \
         collencoding:i collcollate:t collctype:t colliculocale:t collversion:t",
    ),
    empty(
        "pg_constraint",
        2606,
        "oid:o conname:t connamespace:o contype:t condeferrable:b condeferred:b convalidated:b \
         conrelid:o contypid:o conindid:o conparentid:o confrelid:o confupdtype:t confdeltype:t \
         confmatchtype:t conislocal:b coninhcount:i connoinherit:b conkey:S confkey:S conbin:t",
    ),
    empty(
        "pg_conversion",
        2607,
        "oid:o conname:t connamespace:o conowner:o conforencoding:i contoencoding:i condefault:b",
    ),
    empty(
        "pg_cursors",
        0,
        "name:t statement:t is_holdable:b is_binary:b is_scrollable:b creation_time:z",
    ),
    table(
        "pg_database",
        1262,
        "oid:o datname:t datdba:o encoding:i datlocprovider:t datistemplate:b datallowconn:b \
         datconnlimit:i datfrozenxid:o datminmxid:o dattablespace:o datcollate:t datctype:t \
         daticulocale:t daticurules:t datlocale:t datcollversion:t datacl:T",
    ),
    empty(
        "pg_db_role_setting",
        2964,
        "setdatabase:o setrole:o setconfig:T",
    ),
    empty(
        "pg_default_acl",
        826,
        "oid:o defaclrole:o defaclnamespace:o defaclobjtype:t defaclacl:T",
    ),
    empty(
        "pg_depend",
        2608,
        "classid:o objid:o objsubid:i refclassid:o refobjid:o refobjsubid:i deptype:t",
    ),
    empty(
        "pg_description",
        2609,
        "objoid:o classoid:o objsubid:i description:t",
    ),
    empty(
        "pg_enum",
        3501,
        "oid:o enumtypid:o enumsortorder:f enumlabel:t",
    ),
    empty(
        "pg_event_trigger",
        3466,
        "oid:o evtname:t evtevent:t evtowner:o evtfoid:o evtenabled:t evttags:T",
    ),
    empty(
        "pg_extension",
        3079,
        "oid:o extname:t extowner:o extnamespace:o extrelocatable:b extversion:t",
    ),
    empty(
        "pg_foreign_data_wrapper",
        2328,
        "oid:o fdwname:t fdwowner:o fdwhandler:o fdwvalidator:o",
    ),
    empty(
        "pg_foreign_server",
        1417,
        "oid:o srvname:t srvowner:o srvfdw:o srvtype:t srvversion:t",
    ),
    empty("pg_foreign_table", 3118, "ftrelid:o ftserver:o ftoptions:T"),
    empty(
        "pg_index",
        2610,
        "indexrelid:o indrelid:o indnatts:s indnkeyatts:s indisunique:b indisprimary:b \
         indisexclusion:b indimmediate:b indisclustered:b indisvalid:b indcheckxmin:b indisready:b \
         indislive:b indisreplident:b indkey:S indcollation:O indclass:O indoption:S indexprs:t \
         indpred:t",
    ),
    empty(
        "pg_indexes",
        0,
        "schemaname:t tablename:t indexname:t tablespace:t indexdef:t",
    ),
    empty(
        "pg_inherits",
        2611,
        "inhrelid:o inhparent:o inhseqno:i inhdetachpending:b",
    ),
    empty(
        "pg_language",
        2612,
        "oid:o lanname:t lanowner:o lanispl:b lanpltrusted:b lanacl:T",
    ),
    empty("pg_largeobject_metadata", 2995, "oid:o lomowner:o lomacl:T"),
    empty(
        "pg_locks",
        0,
        "locktype:t database:o relation:o pid:i mode:t granted:b",
    ),
    empty(
        "pg_matviews",
        0,
        "schemaname:t matviewname:t matviewowner:t hasindexes:b definition:t",
    ),
    table("pg_namespace", 2615, "oid:o nspname:t nspowner:o nspacl:T"),
    empty(
        "pg_opclass",
        2616,
        "oid:o opcmethod:o opcname:t opcnamespace:o opcintype:o opcdefault:b",
    ),
    empty(
        "pg_operator",
        2617,
        "oid:o oprname:t oprnamespace:o oprleft:o oprright:o oprresult:o",
    ),
    empty(
        "pg_opfamily",
        2753,
        "oid:o opfmethod:o opfname:t opfnamespace:o opfowner:o",
    ),
    empty("pg_parameter_acl", 6243, "oid:o parname:t paracl:T"),
    empty(
        "pg_partitioned_table",
        3350,
        "partrelid:o partstrat:t partnatts:s partdefid:o partattrs:S",
    ),
    empty(
        "pg_policy",
        3256,
        "oid:o polname:t polrelid:o polcmd:t polpermissive:b polroles:O polqual:t polwithcheck:t",
    ),
    empty(
        "pg_prepared_statements",
        0,
        "name:t statement:t prepare_time:z from_sql:b",
    ),
    empty(
        "pg_proc",
        1255,
        "oid:o proname:t pronamespace:o proowner:o prolang:o prokind:t proretset:b provolatile:t \
         pronargs:s prorettype:o proargtypes:O proallargtypes:O proargmodes:T proargnames:T \
         prosrc:t proacl:T",
    ),
    empty(
        "pg_publication",
        6104,
        "oid:o pubname:t pubowner:o puballtables:b pubinsert:b pubupdate:b",
    ),
    empty(
        "pg_publication_namespace",
        6237,
        "oid:o pnpubid:o pnnspid:o",
    ),
    empty(
        "pg_publication_rel",
        6106,
        "oid:o prpubid:o prrelid:o prqual:t prattrs:S",
    ),
    empty(
        "pg_range",
        3541,
        "rngtypid:o rngsubtype:o rngmultitypid:o rngcollation:o rngsubopc:o",
    ),
    empty(
        "pg_replication_slots",
        0,
        "slot_name:t plugin:t slot_type:t active:b",
    ),
    empty(
        "pg_rewrite",
        2618,
        "oid:o rulename:t ev_class:o ev_type:t ev_enabled:t is_instead:b",
    ),
    table(
        "pg_roles",
        0,
        "oid:o rolname:t rolsuper:b rolinherit:b rolcreaterole:b rolcreatedb:b rolcanlogin:b \
         rolreplication:b rolconnlimit:i rolpassword:t rolvaliduntil:z rolbypassrls:b rolconfig:T",
    ),
    empty(
        "pg_sequence",
        2224,
        "seqrelid:o seqtypid:o seqstart:I seqincrement:I seqmax:I seqmin:I",
    ),
    empty(
        "pg_sequences",
        0,
        "schemaname:t sequencename:t sequenceowner:t data_type:t last_value:I",
    ),
    table(
        "pg_settings",
        0,
        "name:t setting:t unit:t category:t short_desc:t extra_desc:t context:t vartype:t source:t \
         min_val:t max_val:t enumvals:T boot_val:t reset_val:t sourcefile:t sourceline:i \
         pending_restart:b",
    ),
    empty(
        "pg_shdescription",
        2396,
        "objoid:o classoid:o description:t",
    ),
    empty(
        "pg_stat_activity",
        0,
        "datid:o datname:t pid:i usename:t application_name:t state:t query:t",
    ),
    empty(
        "pg_stat_all_tables",
        0,
        "relid:o schemaname:t relname:t seq_scan:I n_live_tup:I n_dead_tup:I",
    ),
    empty(
        "pg_stat_user_tables",
        0,
        "relid:o schemaname:t relname:t seq_scan:I n_live_tup:I n_dead_tup:I",
    ),
    empty(
        "pg_statistic_ext",
        3381,
        "oid:o stxrelid:o stxname:t stxnamespace:o stxowner:o stxkind:T",
    ),
    empty(
        "pg_stats",
        0,
        "schemaname:t tablename:t attname:t null_frac:f avg_width:i n_distinct:f",
    ),
    empty(
        "pg_subscription",
        6100,
        "oid:o subdbid:o subname:t subowner:o subenabled:b",
    ),
    table(
        "pg_tables",
        0,
        "schemaname:t tablename:t tableowner:t tablespace:t hasindexes:b hasrules:b hastriggers:b \
         rowsecurity:b",
    ),
    table(
        "pg_tablespace",
        1213,
        "oid:o spcname:t spcowner:o spcacl:T spcoptions:T",
    ),
    empty(
        "pg_trigger",
        2620,
        "oid:o tgrelid:o tgparentid:o tgname:t tgfoid:o tgtype:s tgenabled:t tgisinternal:b \
         tgconstrrelid:o tgconstrindid:o tgconstraint:o tgdeferrable:b tginitdeferred:b",
    ),
    empty(
        "pg_ts_config",
        3602,
        "oid:o cfgname:t cfgnamespace:o cfgowner:o cfgparser:o",
    ),
    empty(
        "pg_ts_config_map",
        3603,
        "mapcfg:o maptokentype:i mapseqno:i mapdict:o",
    ),
    empty(
        "pg_ts_dict",
        3600,
        "oid:o dictname:t dictnamespace:o dictowner:o dicttemplate:o dictinitoption:t",
    ),
    empty("pg_ts_parser", 3601, "oid:o prsname:t prsnamespace:o"),
    empty("pg_ts_template", 3764, "oid:o tmplname:t tmplnamespace:o"),
    table(
        "pg_type",
        1247,
        "oid:o typname:t typnamespace:o typowner:o typlen:s typbyval:b typtype:t typcategory:t \
         typispreferred:b typisdefined:b typdelim:t typrelid:o typsubscript:t typelem:o typarray:o \
         typinput:t typoutput:t typreceive:t typsend:t typmodin:t typmodout:t typanalyze:t \
         typalign:t typstorage:t typnotnull:b typbasetype:o typtypmod:i typndims:i typcollation:o \
         typdefault:t typacl:T",
    ),
    // Not of PostgreSQL: what asyncpg asks about types.
    table(
        "pg_typeinfo",
        0,
        "root:o oid:o ns:t name:t kind:c basetype:o elemtype:o elemdelim:c range_subtype:o \
         attrtypoids:O attrnames:T depth:i basetype_name:t elemtype_name:t range_subtype_name:t",
    ),
    table(
        "pg_user",
        0,
        "usename:t usesysid:o usecreatedb:b usesuper:b userepl:b usebypassrls:b",
    ),
    empty(
        "pg_user_mapping",
        1418,
        "oid:o umuser:o umserver:o umoptions:T",
    ),
    empty(
        "pg_user_mappings",
        0,
        "umid:o srvid:o srvname:t umuser:o usename:t umoptions:T",
    ),
    empty(
        "pg_views",
        0,
        "schemaname:t viewname:t viewowner:t definition:t",
    ),
];

/// A table by its name.
pub(super) fn find(name: &str) -> Option<&'static CatalogTable> {
    let found = TABLES.binary_search_by(|table| table.name.cmp(name));
    found.ok().and_then(|at| TABLES.get(at))
}

impl CatalogTable {
    pub fn schema(&self) -> SchemaRef {
        let fields = self.columns.split_whitespace().map(|column| {
            let (name, letter) = column.split_once(':').unwrap_or((column, "t"));
            Field::new(name, column_type(letter), true)
        });
        Schema::new(fields.collect::<Vec<_>>()).into()
    }
}

fn column_type(letter: &str) -> DataType {
    let list = |item| DataType::List(Field::new("item", item, true).into());
    match letter {
        "o" => DataType::UInt32,
        "c" => DataType::FixedSizeBinary(1),
        "i" => DataType::Int32,
        "s" => DataType::Int16,
        "I" => DataType::Int64,
        "b" => DataType::Boolean,
        "f" => DataType::Float32,
        "z" => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        "T" => list(DataType::Utf8),
        "S" => list(DataType::Int16),
        "O" => list(DataType::UInt32),
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_found_by_its_name() {
        for table in &TABLES {
            assert_eq!(find(table.name).map(|found| found.name), Some(table.name));
            assert!(!table.schema().fields().is_empty());
        }
        assert!(find("pg_nothing").is_none());
    }
}
