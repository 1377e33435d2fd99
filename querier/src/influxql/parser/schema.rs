//! Statements other than `SELECT`.

use super::super::ast::{
    Counted, Expr, Measurement, MeasurementName, Nothing, PolicyOptions, ShowScope, Statement,
    TagKeys,
};
use super::super::lexer::Token;
use super::{ParseError, Parser};

/// What a statement may begin with.
const VERBS: [&str; 7] = [
    "SELECT", "SHOW", "CREATE", "DROP", "DELETE", "ALTER", "EXPLAIN",
];

impl Parser<'_> {
    /// One statement.
    pub(super) fn statement(&mut self) -> Result<Statement, ParseError> {
        let Token::Word(verb) = self.peek() else {
            return Err(self.unexpected(&VERBS));
        };
        let verb = verb.to_ascii_uppercase();
        match verb.as_str() {
            "SELECT" | "SHOW" | "CREATE" | "DROP" | "DELETE" | "ALTER" | "EXPLAIN" => {
                self.advance()?;
            }
            "GRANT" | "REVOKE" | "SET" => {
                return Err(unsupported(
                    "users and grants do not exist: access is by tokens, see `tidelake token`",
                ));
            }
            "KILL" => {
                return Err(unsupported(
                    "KILL QUERY is not supported: a query ends when its client goes away, or at \
                     query_timeout_ms",
                ));
            }
            _ => return Err(self.unexpected(&VERBS)),
        }
        match verb.as_str() {
            "SELECT" => Ok(Statement::Select(Box::new(self.select()?))),
            "EXPLAIN" => {
                self.take_keyword("ANALYZE")?;
                self.expect_keyword("SELECT")?;
                Ok(Statement::Explain(Box::new(self.select()?)))
            }
            "SHOW" => self.show(),
            "CREATE" => self.create(),
            "ALTER" => self.alter(),
            "DROP" => self.drop_statement(),
            _ => {
                let (sources, condition) = self.deleted()?;
                Ok(Statement::Delete(sources, condition))
            }
        }
    }

    fn show(&mut self) -> Result<Statement, ParseError> {
        const THINGS: [&str; 7] = [
            "DATABASES",
            "MEASUREMENTS",
            "SERIES",
            "TAG KEYS",
            "TAG VALUES",
            "FIELD KEYS",
            "RETENTION POLICIES",
        ];
        let Token::Word(word) = self.peek() else {
            return Err(self.unexpected(&THINGS));
        };
        let word = word.to_ascii_uppercase();
        let known = [
            "DATABASES",
            "MEASUREMENTS",
            "SERIES",
            "TAG",
            "FIELD",
            "RETENTION",
            "CONTINUOUS",
            "SUBSCRIPTIONS",
            "USERS",
            "MEASUREMENT",
            "QUERIES",
            "STATS",
            "DIAGNOSTICS",
            "SHARDS",
            "SHARD",
            "GRANTS",
        ];
        if !known.contains(&word.as_str()) {
            return Err(self.unexpected(&THINGS));
        }
        self.advance()?;
        match word.as_str() {
            "DATABASES" => Ok(Statement::ShowDatabases),
            "MEASUREMENT" => {
                self.take_keyword("EXACT")?;
                self.expect_keyword("CARDINALITY")?;
                self.cardinality(Counted::Measurements, None)
            }
            "MEASUREMENTS" => self.show_measurements(),
            "SERIES" => {
                if self.take_keyword("EXACT")? || self.is_keyword("CARDINALITY") {
                    self.expect_keyword("CARDINALITY")?;
                    return self.cardinality(Counted::Series, None);
                }
                Ok(Statement::ShowSeries(self.scope()?))
            }
            "TAG" => self.show_tags(),
            "FIELD" => {
                let is_counted = self.counted_key("KEYS")?;
                if is_counted {
                    return self.cardinality(Counted::FieldKeys, None);
                }
                Ok(Statement::ShowFieldKeys(self.scope()?))
            }
            "RETENTION" => {
                self.expect_keyword("POLICIES")?;
                Ok(Statement::ShowPolicies(self.on()?))
            }
            "CONTINUOUS" => {
                self.expect_keyword("QUERIES")?;
                Ok(Statement::ShowNothing(Nothing::ContinuousQueries))
            }
            "SUBSCRIPTIONS" => Ok(Statement::ShowNothing(Nothing::Subscriptions)),
            "USERS" => Ok(Statement::ShowNothing(Nothing::Users)),
            "STATS" | "DIAGNOSTICS" => Err(unsupported(
                "SHOW STATS and SHOW DIAGNOSTICS are not supported: see /metrics and the database \
                 _internal",
            )),
            "QUERIES" => Err(unsupported("SHOW QUERIES is not supported: see /metrics")),
            "SHARDS" | "SHARD" => Err(unsupported(
                "there are no shards: SELECT from system.segments with SQL instead",
            )),
            _ => Err(unsupported(
                "users and grants do not exist: access is by tokens, see `tidelake token`",
            )),
        }
    }

    /// `KEYS`, or `KEY [EXACT] CARDINALITY`: whether it is the latter.
    fn counted_key(&mut self, plural: &str) -> Result<bool, ParseError> {
        if self.take_keyword(plural)? {
            let is_exact = self.take_keyword("EXACT")?;
            if is_exact || self.is_keyword("CARDINALITY") {
                self.expect_keyword("CARDINALITY")?;
                return Ok(true);
            }
            return Ok(false);
        }
        self.expect_keyword("KEY")?;
        self.take_keyword("EXACT")?;
        self.expect_keyword("CARDINALITY")?;
        Ok(true)
    }

    fn show_measurements(&mut self) -> Result<Statement, ParseError> {
        if self.take_keyword("EXACT")? || self.is_keyword("CARDINALITY") {
            self.expect_keyword("CARDINALITY")?;
            return self.cardinality(Counted::Measurements, None);
        }
        let database = self.on()?;
        let mut name = None;
        if self.take_keyword("WITH")? {
            self.expect_keyword("MEASUREMENT")?;
            name = Some(if self.take_symbol("=~")? {
                MeasurementName::Regex(self.expect_regex()?)
            } else {
                self.expect_symbol("=")?;
                MeasurementName::Name(self.identifier()?)
            });
        }
        let mut scope = self.scope_rest()?;
        scope.database = database;
        Ok(Statement::ShowMeasurements(scope, name))
    }

    fn show_tags(&mut self) -> Result<Statement, ParseError> {
        if self.take_keyword("VALUES")? {
            let is_exact = self.take_keyword("EXACT")?;
            if is_exact || self.is_keyword("CARDINALITY") {
                self.expect_keyword("CARDINALITY")?;
                let mut scope = self.scope_start()?;
                let keys = self.with_key()?;
                self.scope_end(&mut scope)?;
                return Ok(Statement::ShowCardinality(
                    scope,
                    Counted::TagValues,
                    Some(keys),
                ));
            }
            let mut scope = self.scope_start()?;
            let keys = self.with_key()?;
            self.scope_end(&mut scope)?;
            return Ok(Statement::ShowTagValues(scope, keys));
        }
        if self.counted_key("KEYS")? {
            return self.cardinality(Counted::TagKeys, None);
        }
        Ok(Statement::ShowTagKeys(self.scope()?))
    }

    fn with_key(&mut self) -> Result<TagKeys, ParseError> {
        self.expect_keyword("WITH")?;
        self.expect_keyword("KEY")?;
        if self.take_keyword("IN")? {
            self.expect_symbol("(")?;
            let mut keys = vec![self.identifier()?];
            while self.take_symbol(",")? {
                keys.push(self.identifier()?);
            }
            self.expect_symbol(")")?;
            return Ok(TagKeys::OneOf(keys));
        }
        if self.take_symbol("=")? {
            return Ok(TagKeys::OneOf(vec![self.identifier()?]));
        }
        if self.take_symbol("!=")? || self.take_symbol("<>")? {
            return Ok(TagKeys::NotOneOf(vec![self.identifier()?]));
        }
        if self.take_symbol("=~")? {
            return Ok(TagKeys::Matching(self.expect_regex()?));
        }
        if self.take_symbol("!~")? {
            return Ok(TagKeys::NotMatching(self.expect_regex()?));
        }
        Err(self.unexpected(&["IN", "=", "!=", "=~", "!~"]))
    }

    fn cardinality(
        &mut self,
        counted: Counted,
        keys: Option<TagKeys>,
    ) -> Result<Statement, ParseError> {
        Ok(Statement::ShowCardinality(self.scope()?, counted, keys))
    }

    fn on(&mut self) -> Result<Option<String>, ParseError> {
        match self.take_keyword("ON")? {
            true => self.identifier().map(Some),
            false => Ok(None),
        }
    }

    /// `ON`, `FROM`, `WHERE` and what follows.
    fn scope(&mut self) -> Result<ShowScope, ParseError> {
        let mut scope = self.scope_start()?;
        self.scope_end(&mut scope)?;
        Ok(scope)
    }

    fn scope_start(&mut self) -> Result<ShowScope, ParseError> {
        let database = self.on()?;
        let sources = match self.take_keyword("FROM")? {
            true => self.measurements()?,
            false => Vec::new(),
        };
        Ok(ShowScope {
            database,
            sources,
            ..ShowScope::default()
        })
    }

    fn scope_rest(&mut self) -> Result<ShowScope, ParseError> {
        let mut scope = ShowScope::default();
        self.scope_end(&mut scope)?;
        Ok(scope)
    }

    fn scope_end(&mut self, scope: &mut ShowScope) -> Result<(), ParseError> {
        scope.condition = self.condition()?;
        if self.take_keyword("GROUP")? {
            return Err(unsupported("GROUP BY is not supported in SHOW"));
        }
        self.order_by()?;
        [
            scope.limit,
            scope.offset,
            scope.series_limit,
            scope.series_offset,
        ] = self.limits()?;
        Ok(())
    }

    fn measurements(&mut self) -> Result<Vec<Measurement>, ParseError> {
        let mut sources = vec![self.measurement()?];
        while self.take_symbol(",")? {
            sources.push(self.measurement()?);
        }
        Ok(sources)
    }

    fn create(&mut self) -> Result<Statement, ParseError> {
        if self.take_keyword("DATABASE")? {
            let name = self.identifier()?;
            let mut options = PolicyOptions::default();
            if self.take_keyword("WITH")? {
                self.policy_options(&mut options)?;
            }
            return Ok(Statement::CreateDatabase(name, options));
        }
        if self.take_keyword("RETENTION")? {
            let (name, database) = self.policy_of()?;
            let mut options = PolicyOptions::default();
            self.policy_options(&mut options)?;
            if options.duration.is_none() {
                return Err(self.unexpected(&["DURATION"]));
            }
            return Ok(Statement::CreatePolicy(name, database, options));
        }
        if self.is_keyword("CONTINUOUS") {
            return Err(unsupported(
                "continuous queries are not supported: let what reads the answers ask with GROUP \
                 BY time()",
            ));
        }
        if self.is_keyword("SUBSCRIPTION") || self.is_keyword("USER") {
            return Err(unsupported(
                "users and subscriptions do not exist: access is by tokens, see `tidelake token`",
            ));
        }
        Err(self.unexpected(&["DATABASE", "RETENTION"]))
    }

    fn policy_of(&mut self) -> Result<(String, String), ParseError> {
        self.expect_keyword("POLICY")?;
        let name = self.identifier()?;
        self.expect_keyword("ON")?;
        Ok((name, self.identifier()?))
    }

    fn alter(&mut self) -> Result<Statement, ParseError> {
        self.expect_keyword("RETENTION")?;
        let (name, database) = self.policy_of()?;
        let mut options = PolicyOptions::default();
        self.policy_options(&mut options)?;
        if options == PolicyOptions::default() {
            return Err(self.unexpected(&["DURATION", "REPLICATION", "SHARD", "DEFAULT"]));
        }
        Ok(Statement::AlterPolicy(name, database, options))
    }

    /// `DURATION`, `REPLICATION`, `SHARD DURATION`, `NAME` and `DEFAULT`. How a policy is spread
    /// over machines and shards has no meaning here.
    fn policy_options(&mut self, options: &mut PolicyOptions) -> Result<(), ParseError> {
        loop {
            if self.take_keyword("DURATION")? {
                options.duration = Some(self.duration()?);
            } else if self.take_keyword("REPLICATION")? {
                self.count()?;
            } else if self.take_keyword("SHARD")? {
                self.expect_keyword("DURATION")?;
                self.duration()?;
            } else if self.take_keyword("NAME")? {
                options.name = Some(self.identifier()?);
            } else if self.take_keyword("DEFAULT")? {
                options.is_default = true;
            } else {
                return Ok(());
            }
        }
    }

    /// A duration in ns; `INF` is 0.
    fn duration(&mut self) -> Result<i64, ParseError> {
        let ns = match self.peek() {
            Token::Duration(ns) => *ns,
            Token::Integer(zero) if zero == "0" => 0,
            _ if self.is_keyword("INF") => 0,
            _ => return Err(self.unexpected(&["duration"])),
        };
        self.advance()?;
        Ok(ns)
    }

    fn drop_statement(&mut self) -> Result<Statement, ParseError> {
        if self.take_keyword("DATABASE")? {
            return Ok(Statement::DropDatabase(self.identifier()?));
        }
        if self.take_keyword("MEASUREMENT")? {
            return Ok(Statement::DropMeasurement(self.identifier()?));
        }
        if self.take_keyword("RETENTION")? {
            let (name, database) = self.policy_of()?;
            return Ok(Statement::DropPolicy(name, database));
        }
        if self.take_keyword("SERIES")? {
            let (sources, condition) = self.deleted()?;
            return Ok(Statement::DropSeries(sources, condition));
        }
        if self.is_keyword("SHARD") {
            return Err(unsupported(
                "there are no shards: use DELETE with a time range",
            ));
        }
        if ["CONTINUOUS", "SUBSCRIPTION", "USER"]
            .iter()
            .any(|word| self.is_keyword(word))
        {
            return Err(unsupported(
                "continuous queries, subscriptions and users do not exist",
            ));
        }
        Err(self.unexpected(&["DATABASE", "MEASUREMENT", "RETENTION", "SERIES"]))
    }

    /// `FROM` and `WHERE`, at least one of them.
    fn deleted(&mut self) -> Result<(Vec<Measurement>, Option<Expr>), ParseError> {
        let sources = match self.take_keyword("FROM")? {
            true => self.measurements()?,
            false => Vec::new(),
        };
        let condition = self.condition()?;
        if sources.is_empty() && condition.is_none() {
            return Err(self.unexpected(&["FROM", "WHERE"]));
        }
        let is_qualified =
            |source: &Measurement| source.database.is_some() || source.policy.is_some();
        if sources.iter().any(is_qualified) {
            return Err(ParseError::Syntax(
                "databases and retention policies cannot be named in DELETE and DROP SERIES"
                    .to_owned(),
            ));
        }
        Ok((sources, condition))
    }
}

fn unsupported(message: &str) -> ParseError {
    ParseError::Unsupported(message.to_owned())
}
