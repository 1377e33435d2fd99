//! Names: which databases, schemas and tables a query can name.
//!
//! A query sees one database, as the catalog of that name. Schema `public` holds the wide tables,
//! and finds the exemplars as `exemplars`, and metrics where neither has the name; schema `metrics`
//! holds each metric as a table of its own. Nothing else can be named: no files, no URLs, no other
//! databases.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::empty::EmptyTable;
use parking_lot::Mutex;
use tidelake_catalog::model::schema::{EXEMPLARS_TABLE, METRICS_TABLE};
use tidelake_catalog::model::{METRIC_NAME, Matcher, TableSchema, TimeRange};
use tidelake_catalog::segment::scan::Edge;

use super::error::SqlError;
use super::postgres::{CatalogTables, PG_CATALOG, PgSession, information_columns};
use super::provider::ViewProvider;
use super::retention::{self, RETENTION_TABLE};
use super::source::RowSource;
use super::view::{EXEMPLARS_VIEW, TableView};

/// The schema of wide tables, and the one that unqualified names are looked up in.
pub const PUBLIC_SCHEMA: &str = "public";
/// What InfluxDB calls that schema: another name of it.
pub(super) const INFLUX_SCHEMA: &str = "iox";
/// The schema in which each metric is a table.
pub const METRICS_SCHEMA: &str = "metrics";
/// The schema that describes the others.
pub const INFORMATION_SCHEMA: &str = "information_schema";
/// Its table of columns.
pub(super) const COLUMNS_TABLE: &str = "columns";

/// The tables of a database during one query. What was found once stays as it was.
#[derive(Debug)]
pub(super) struct Database {
    source: Arc<dyn RowSource>,
    name: Arc<str>,
    wide: BTreeMap<Arc<str>, Arc<TableSchema>>,
    /// The columns that samples are stored in.
    stored: Option<Arc<TableSchema>>,
    /// The columns that exemplars are stored in, if there are any and no wide table has their
    /// name.
    exemplars: Option<Arc<TableSchema>>,
    metrics: Mutex<HashMap<String, Option<Arc<TableView>>>>,
}

impl Database {
    /// A database by name.
    pub fn open(source: Arc<dyn RowSource>, name: &str) -> Result<Arc<Self>, SqlError> {
        if !source.databases().iter().any(|known| known == name) {
            return Err(SqlError::NotFound(format!(
                "database {name:?} does not exist"
            )));
        }
        let wide: BTreeMap<_, _> = source
            .wide_tables(name)
            .into_iter()
            .filter(|(table, _)| &**table != METRICS_TABLE)
            .collect();
        let stored = source.schema(name, METRICS_TABLE);
        let exemplars = source
            .schema(name, EXEMPLARS_TABLE)
            .filter(|_| !wide.contains_key(EXEMPLARS_VIEW));
        Ok(Arc::new(Self {
            source,
            name: name.into(),
            wide,
            stored,
            exemplars,
            metrics: Mutex::default(),
        }))
    }

    /// Looks a table up, so that planning finds it. The error says which part of the name is
    /// unknown.
    pub async fn require(&self, catalog: &str, schema: &str, table: &str) -> Result<(), SqlError> {
        if catalog != &*self.name {
            return Err(SqlError::NotFound(format!(
                "database {catalog:?} not found: a query reads one database, this one reads {:?}",
                self.name
            )));
        }
        let found = match schema {
            PUBLIC_SCHEMA | INFLUX_SCHEMA => {
                self.wide.contains_key(table)
                    || self.is_exemplars(table)
                    || self.metric(table).await?.is_some()
            }
            METRICS_SCHEMA => self.metric(table).await?.is_some(),
            INFORMATION_SCHEMA => return Ok(()),
            _ => {
                return Err(SqlError::NotFound(format!(
                    "schema {schema:?} not found: there are public, metrics and information_schema"
                )));
            }
        };
        if found {
            Ok(())
        } else {
            Err(self.no_table(schema, table))
        }
    }

    /// The error for a table that is not there.
    pub fn no_table(&self, schema: &str, table: &str) -> SqlError {
        SqlError::NotFound(format!(
            "table {table:?} not found in schema {schema:?} of database {:?}",
            self.name
        ))
    }

    /// A table by its name.
    pub async fn view(
        &self,
        schema: &str,
        table: &str,
    ) -> Result<Option<Arc<TableView>>, SqlError> {
        let schema = match schema {
            INFLUX_SCHEMA => PUBLIC_SCHEMA,
            other => other,
        };
        if schema == PUBLIC_SCHEMA
            && let Some((name, columns)) = self.wide.get_key_value(table)
        {
            return Ok(Some(Arc::new(TableView::wide(name.clone(), columns))));
        }
        if schema == PUBLIC_SCHEMA && self.is_exemplars(table) {
            return self.exemplars().await;
        }
        if schema == PUBLIC_SCHEMA || schema == METRICS_SCHEMA {
            self.metric(table).await
        } else {
            Ok(None)
        }
    }

    /// Whether a name in the schema of wide tables is that of the exemplars.
    fn is_exemplars(&self, table: &str) -> bool {
        table == EXEMPLARS_VIEW && self.exemplars.is_some()
    }

    async fn exemplars(&self) -> Result<Option<Arc<TableView>>, SqlError> {
        let Some(schema) = &self.exemplars else {
            return Ok(None);
        };
        let series = self
            .source
            .series(&self.name, EXEMPLARS_TABLE, &[], TimeRange::ALL)
            .await?;
        let labels: BTreeSet<&str> = series
            .iter()
            .flat_map(|series| series.labels.iter().map(|(label, _)| label))
            .collect();
        Ok(Some(Arc::new(TableView::exemplars(labels, schema))))
    }

    async fn metric(&self, name: &str) -> Result<Option<Arc<TableView>>, SqlError> {
        if let Some(known) = self.metrics.lock().get(name) {
            return Ok(known.clone());
        }
        let series = self
            .source
            .series(
                &self.name,
                METRICS_TABLE,
                &[Matcher::equal(METRIC_NAME, name)],
                TimeRange::ALL,
            )
            .await?;
        let labels: BTreeSet<&str> = series
            .iter()
            .flat_map(|series| series.labels.iter().map(|(label, _)| label))
            .collect();
        let view = (!series.is_empty())
            .then(|| Arc::new(TableView::metric(name, labels, self.stored.as_deref())));
        self.metrics.lock().insert(name.to_owned(), view.clone());
        Ok(view)
    }

    /// A table, or one end of each of its series.
    pub fn provider(&self, view: Arc<TableView>, edge: Option<Edge>) -> ViewProvider {
        ViewProvider::new(self.source.clone(), self.name.clone(), view, edge)
    }

    /// The catalogs of a session; `described` is what the information schema tells about. Clients
    /// of PostgreSQL have a schema more, and see their types.
    pub fn catalogs(
        self: &Arc<Self>,
        described: Described,
        session: Option<&Arc<PgSession>>,
    ) -> Result<Arc<dyn CatalogProviderList>> {
        let Described { public, metrics } = &described;
        let columns = session.map(|_| information_columns(&self.name, public, metrics));
        let columns = columns.transpose()?;
        let pg_catalog = session.map(|session| {
            let session = Arc::clone(session);
            let tables = CatalogTables::new(&self.name, session, public, metrics);
            (PG_CATALOG, Arc::new(tables) as Arc<dyn SchemaProvider>)
        });
        let described: Arc<dyn CatalogProviderList> = Arc::new(OneCatalog {
            name: self.name.clone(),
            catalog: Arc::new(Schemas(
                [
                    (PUBLIC_SCHEMA, described.public),
                    (METRICS_SCHEMA, described.metrics),
                ]
                .map(|(name, tables)| {
                    let schema: Arc<dyn SchemaProvider> = Arc::new(DescribedSchema(tables));
                    (name, schema)
                })
                .into(),
            )),
        });
        let retention = retention::table(&self.name, &self.source.retention(&self.name))?;
        let wide = Arc::new(LiveSchema {
            database: self.clone(),
            with_wide: true,
        });
        let mut schemas: Vec<(&'static str, Arc<dyn SchemaProvider>)> = vec![
            (PUBLIC_SCHEMA, Arc::clone(&wide) as _),
            (INFLUX_SCHEMA, wide),
            (
                METRICS_SCHEMA,
                Arc::new(LiveSchema {
                    database: self.clone(),
                    with_wide: false,
                }),
            ),
            (
                INFORMATION_SCHEMA,
                Arc::new(InformationSchema {
                    standard: InformationSchemaProvider::new(described),
                    retention,
                    columns,
                }),
            ),
        ];
        schemas.extend(pg_catalog);
        Ok(Arc::new(OneCatalog {
            name: self.name.clone(),
            catalog: Arc::new(Schemas(schemas)),
        }))
    }

    /// What the information schema needs for its table `needed`. Labels of all metrics are only
    /// collected for the tables that show columns.
    pub async fn describe(&self, needed: &BTreeSet<String>) -> Result<Described, SqlError> {
        let mut described = Described::default();
        if needed.is_empty() {
            return Ok(described);
        }
        described.public = self
            .wide
            .iter()
            .map(|(name, schema)| {
                (
                    name.to_string(),
                    Arc::new(TableView::wide(name.clone(), schema)),
                )
            })
            .collect();
        if let Some(view) = self.exemplars().await? {
            described.public.insert(EXEMPLARS_VIEW.to_owned(), view);
        }
        if needed.contains(COLUMNS_TABLE) {
            let series = self
                .source
                .series(&self.name, METRICS_TABLE, &[], TimeRange::ALL)
                .await?;
            let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for series in &series {
                labels
                    .entry(series.labels.metric_name())
                    .or_default()
                    .extend(series.labels.iter().map(|(label, _)| label));
            }
            let view =
                |name, labels| Arc::new(TableView::metric(name, labels, self.stored.as_deref()));
            described.metrics = labels
                .into_iter()
                .map(|(name, labels)| (name.to_owned(), view(name, labels)))
                .collect();
        } else {
            let names = self.source.metric_names(&self.name).await?;
            described.metrics = names
                .into_iter()
                .map(|name| (name.clone(), Arc::new(TableView::metric(&name, [], None))))
                .collect();
        }
        Ok(described)
    }
}

/// Tables with their columns, by name.
pub(super) type ViewsByName = BTreeMap<String, Arc<TableView>>;

/// What the information schema tells about.
#[derive(Debug, Default)]
pub(super) struct Described {
    public: ViewsByName,
    metrics: ViewsByName,
}

/// Tables that can be read.
#[derive(Debug)]
struct LiveSchema {
    database: Arc<Database>,
    with_wide: bool,
}

#[async_trait]
impl SchemaProvider for LiveSchema {
    fn table_names(&self) -> Vec<String> {
        if !self.with_wide {
            return Vec::new();
        }
        let exemplars = self
            .database
            .exemplars
            .iter()
            .map(|_| EXEMPLARS_VIEW.to_owned());
        self.database
            .wide
            .keys()
            .map(ToString::to_string)
            .chain(exemplars)
            .collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let schema = if self.with_wide {
            PUBLIC_SCHEMA
        } else {
            METRICS_SCHEMA
        };
        let view = self.database.view(schema, name).await?;
        let provider = view.map(|view| self.database.provider(view, None));
        Ok(provider.map(|provider| Arc::new(provider) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        (self.with_wide
            && (self.database.wide.contains_key(name) || self.database.is_exemplars(name)))
            || matches!(self.database.metrics.lock().get(name), Some(Some(_)))
    }
}

/// Tables that can only be looked at, by the information schema.
#[derive(Debug)]
struct DescribedSchema(ViewsByName);

#[async_trait]
impl SchemaProvider for DescribedSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.get(name).map(|view| {
            let table: Arc<dyn TableProvider> = Arc::new(EmptyTable::new(view.described()));
            table
        }))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.0.contains_key(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// What the standard knows of, and how long rows are kept.
#[derive(Debug)]
struct InformationSchema {
    standard: InformationSchemaProvider,
    retention: Arc<dyn TableProvider>,
    /// In the place of the standard's.
    columns: Option<Arc<dyn TableProvider>>,
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.standard.table_names();
        names.push(RETENTION_TABLE.to_owned());
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if name == RETENTION_TABLE {
            Ok(Some(self.retention.clone()))
        } else if let (COLUMNS_TABLE, Some(columns)) = (name, &self.columns) {
            Ok(Some(Arc::clone(columns)))
        } else {
            self.standard.table(name).await
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        name == RETENTION_TABLE || self.standard.table_exist(name)
    }
}

#[derive(Debug)]
struct Schemas(Vec<(&'static str, Arc<dyn SchemaProvider>)>);

impl CatalogProvider for Schemas {
    fn schema_names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, schema)| schema.clone())
    }

    fn register_schema(
        &self,
        name: &str,
        _: Arc<dyn SchemaProvider>,
    ) -> Result<Option<Arc<dyn SchemaProvider>>> {
        plan_err!("schema {name:?} cannot be created: queries only read")
    }
}

#[derive(Debug)]
struct OneCatalog {
    name: Arc<str>,
    catalog: Arc<dyn CatalogProvider>,
}

impl CatalogProviderList for OneCatalog {
    fn register_catalog(
        &self,
        _: String,
        _: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![self.name.to_string()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == &*self.name).then(|| self.catalog.clone())
    }
}
