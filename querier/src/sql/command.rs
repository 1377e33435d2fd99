//! Statements that change something: `DELETE`, `DROP`, `ALTER ... SET (retention = ...)`.
//!
//! They are only read here, to a [`Command`] that says what to do; the querier itself never writes.
//! A condition of `DELETE` is planned as that of the `SELECT` with the same words, so that a delete
//! takes exactly the rows which this shows.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Delete, FromTable, SetExpr, Statement as SqlStatement, TableFactor, TableWithJoins,
};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use tidelake_catalog::Retention;
use tidelake_catalog::model::{Matcher, TimeRange};

use super::error::SqlError;
use super::postgres;
use super::retention::parse_retention;
use super::statement;
use super::text::{SqlText, is_word};

/// What a statement wants to have changed, with its names looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Rows go.
    Delete {
        /// The stored table.
        table: String,
        /// All must match a series; without any all series do.
        matchers: Vec<Matcher>,
        /// Times, in the table's unit.
        range: TimeRange,
    },
    /// A wide table goes.
    DropTable {
        /// Its name.
        table: String,
    },
    /// A database goes.
    DropDatabase {
        /// Its name.
        database: String,
        /// Whether it is well if it is not there.
        if_exists: bool,
    },
    /// Rows are kept for another time from now on.
    SetRetention {
        /// The database.
        database: String,
        /// One stored table; `None` is the default of all.
        table: Option<String>,
        /// How long.
        retention: Retention,
    },
    /// All is as the statement wants it.
    Nothing,
}

/// A statement as written.
#[derive(Debug)]
pub(super) enum Draft {
    DropDatabase { name: String, if_exists: bool },
    DatabaseRetention { name: String, retention: Retention },
    OfDatabase(TableDraft),
}

/// A statement about what is in the database that the request names.
#[derive(Debug)]
pub(super) enum TableDraft {
    /// Of all that this `SELECT` shows.
    Delete(Box<Statement>),
    DropTable {
        name: Vec<String>,
        if_exists: bool,
    },
    TableRetention {
        name: Vec<String>,
        retention: Retention,
    },
    SchemaRetention {
        name: Vec<String>,
        retention: Retention,
    },
}

/// Reads a command. Needs a large stack, as [`statement::parse`] does.
pub(super) fn parse(text: SqlText) -> Result<Draft, SqlError> {
    if text.first_words.split(' ').next() == Some("DELETE") {
        return Ok(Draft::OfDatabase(TableDraft::Delete(Box::new(delete(
            text,
        )?))));
    }
    let words = text.first_words.clone();
    let mut cursor = Cursor {
        tokens: &text.tokens,
        words: &words,
    };
    let draft = if cursor.take_word("DROP") {
        cursor.drop()?
    } else {
        cursor.alter()?
    };
    cursor.end()?;
    Ok(draft)
}

fn delete(text: SqlText) -> Result<Statement, SqlError> {
    let only = || {
        SqlError::BadRequest(
            "DELETE takes one table and conditions: DELETE FROM table [WHERE ...]".to_owned(),
        )
    };
    let mut statements = statement::parse_tokens(text.tokens)?;
    let (Some(Statement::Statement(first)), true) = (statements.pop_front(), statements.is_empty())
    else {
        return Err(only());
    };
    let SqlStatement::Delete(delete) = *first else {
        return Err(only());
    };
    let Delete {
        tables,
        from,
        using: None,
        selection,
        returning: None,
        output: None,
        order_by,
        limit: None,
        ..
    } = delete
    else {
        return Err(only());
    };
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
    if !tables.is_empty()
        || !order_by.is_empty()
        || !matches!(from.as_slice(), [one] if is_plain(one))
    {
        return Err(only());
    }
    let mut select = statement::parse(SqlText::read("SELECT time FROM t", usize::MAX)?)?;
    if let Statement::Statement(select) = &mut select
        && let SqlStatement::Query(query) = select.as_mut()
        && let SetExpr::Select(select) = query.body.as_mut()
    {
        select.from = from;
        select.selection = selection;
    }
    statement::shape(&mut select)?;
    if let Some(postgres) = &text.postgres {
        postgres::rewrite(&mut select, postgres)?;
    }
    Ok(select)
}

/// Whether it is the name of a table, perhaps with an alias, and nothing more.
fn is_plain(table: &TableWithJoins) -> bool {
    let is_table = matches!(&table.relation, TableFactor::Table { args: None, version: None, partitions, sample: None, .. } if partitions.is_empty());
    is_table && table.joins.is_empty()
}

/// Walks over the tokens of a statement without recursion.
struct Cursor<'a> {
    tokens: &'a [TokenWithSpan],
    words: &'a str,
}

impl<'a> Cursor<'a> {
    fn peek(&mut self) -> Option<&'a Token> {
        while let [first, rest @ ..] = self.tokens
            && matches!(first.token, Token::Whitespace(_) | Token::EOF)
        {
            self.tokens = rest;
        }
        self.tokens.first().map(|t| &t.token)
    }

    fn skip(&mut self) {
        self.tokens = self.tokens.get(1..).unwrap_or_default();
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| is_word(token, word));
        if found {
            self.skip();
        }
        found
    }

    fn expect(&mut self, what: &str, found: impl FnOnce(&Token) -> bool) -> Result<(), SqlError> {
        match self.peek() {
            Some(token) if found(token) => {
                self.skip();
                Ok(())
            }
            other => Err(self.unexpected(what, other)),
        }
    }

    fn unexpected(&self, expected: &str, found: Option<&Token>) -> SqlError {
        let found: String = found.map_or_else(
            || "the end".to_owned(),
            |token| token.to_string().chars().take(60).collect(),
        );
        SqlError::BadRequest(format!(
            "{}: expected {expected}, found {found}",
            self.words
        ))
    }

    fn unsupported(&self) -> SqlError {
        SqlError::BadRequest(format!(
            "{} is not supported: there are DROP TABLE, DROP DATABASE, and ALTER TABLE, SCHEMA or \
             DATABASE name SET (retention = '30d')",
            self.words
        ))
    }

    /// A name of one or more parts with dots between them.
    fn name(&mut self, what: &str) -> Result<Vec<String>, SqlError> {
        let mut parts = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Word(word)) => parts.push(word.value.clone()),
                other => return Err(self.unexpected(what, other)),
            }
            self.skip();
            if self.peek() != Some(&Token::Period) {
                return Ok(parts);
            }
            self.skip();
        }
    }

    fn database(&mut self) -> Result<String, SqlError> {
        let mut parts = self.name("the name of a database")?;
        match (parts.pop(), parts.is_empty()) {
            (Some(name), true) => Ok(name),
            _ => Err(SqlError::BadRequest(
                "the name of a database has no dots; quote it if it has: \"a.b\"".to_owned(),
            )),
        }
    }

    fn drop(&mut self) -> Result<Draft, SqlError> {
        let is_table = self.take_word("TABLE");
        if !is_table && !self.take_word("DATABASE") {
            return Err(self.unsupported());
        }
        let if_exists = self.take_word("IF");
        if if_exists {
            self.expect("EXISTS", |token| is_word(token, "EXISTS"))?;
        }
        Ok(if is_table {
            Draft::OfDatabase(TableDraft::DropTable {
                name: self.name("the name of a table")?,
                if_exists,
            })
        } else {
            Draft::DropDatabase {
                name: self.database()?,
                if_exists,
            }
        })
    }

    fn alter(&mut self) -> Result<Draft, SqlError> {
        self.expect("ALTER", |token| is_word(token, "ALTER"))?;
        if self.take_word("TABLE") {
            let name = self.name("the name of a table")?;
            return Ok(Draft::OfDatabase(TableDraft::TableRetention {
                name,
                retention: self.retention()?,
            }));
        }
        if self.take_word("SCHEMA") {
            let name = self.name("the name of a schema")?;
            return Ok(Draft::OfDatabase(TableDraft::SchemaRetention {
                name,
                retention: self.retention()?,
            }));
        }
        if self.take_word("DATABASE") {
            let name = self.database()?;
            return Ok(Draft::DatabaseRetention {
                name,
                retention: self.retention()?,
            });
        }
        Err(self.unsupported())
    }

    /// `SET (retention = '30d')`
    fn retention(&mut self) -> Result<Retention, SqlError> {
        if !self.take_word("SET") {
            return Err(self.unsupported());
        }
        self.expect("(retention = '...')", |token| *token == Token::LParen)?;
        if !(self.take_word("retention") || self.take_word("retention_period")) {
            let found = self.peek();
            return Err(self.unexpected("retention, which is all that can be set", found));
        }
        self.expect("=", |token| *token == Token::Eq)?;
        let retention = match self.peek() {
            Some(Token::SingleQuotedString(text)) => {
                parse_retention(text).map_err(SqlError::BadRequest)?
            }
            other => {
                return Err(self.unexpected("a text such as '30d', 'forever' or 'default'", other));
            }
        };
        self.skip();
        self.expect(")", |token| *token == Token::RParen)?;
        Ok(retention)
    }

    fn end(&mut self) -> Result<(), SqlError> {
        while self.peek() == Some(&Token::SemiColon) {
            self.skip();
        }
        match self.peek() {
            None => Ok(()),
            other => Err(self.unexpected("the end of the statement", other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(sql: &str) -> Result<Draft, String> {
        SqlText::read(sql, 10_000)
            .and_then(parse)
            .map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(sql: &str, expected: &str) {
        match draft(sql) {
            Ok(Draft::OfDatabase(TableDraft::Delete(select))) => {
                assert_eq!(select.to_string(), expected, "{sql}")
            }
            Ok(Draft::OfDatabase(other)) => assert_eq!(format!("{other:?}"), expected, "{sql}"),
            Ok(other) => assert_eq!(format!("{other:?}"), expected, "{sql}"),
            Err(message) => panic!("{sql}: {message}"),
        }
    }

    #[track_caller]
    fn check_bad(sql: &str, words: &str) {
        let message = draft(sql).unwrap_err();
        assert!(message.contains(words), "{sql}: {message} lacks {words}");
    }

    #[test]
    fn a_delete_is_the_select_of_what_goes() {
        check("DELETE FROM cpu", "SELECT time FROM cpu");
        check(
            "delete from \"my table\" where a = 'WHERE x' and b > 1;",
            "SELECT time FROM \"my table\" WHERE a = 'WHERE x' AND b > 1",
        );
        check(
            "DELETE FROM metrics.up AS u WHERE u.job = $1",
            "SELECT time FROM metrics.up AS u WHERE u.job = $1",
        );
        check_bad("DELETE FROM a, b", "one table");
        check_bad("DELETE FROM a JOIN b ON true", "one table");
        check_bad("DELETE FROM (SELECT 1) AS a", "one table");
        check_bad("DELETE FROM a USING b", "one table");
        check_bad("DELETE FROM a WHERE x = 'y' LIMIT 5", "one table");
        check_bad("DELETE FROM a WHERE x = 'y' ORDER BY x", "one table");
        check_bad("DELETE FROM a RETURNING x", "one table");
        check_bad("DELETE FROM a; DELETE FROM b", "one table");
        check_bad("DELETE FROM", "");
        check_bad("DELETE FROM a WHERE", "");
        check_bad(
            &format!("DELETE FROM a WHERE {} x = 'y'", "NOT ".repeat(1000)),
            "too",
        );
    }

    #[test]
    fn drops() {
        check(
            "DROP TABLE cpu",
            r#"DropTable { name: ["cpu"], if_exists: false }"#,
        );
        check(
            "drop table if exists metrics.\"a.b\" ;",
            r#"DropTable { name: ["metrics", "a.b"], if_exists: true }"#,
        );
        check(
            "DROP DATABASE d",
            r#"DropDatabase { name: "d", if_exists: false }"#,
        );
        check(
            "DROP DATABASE IF EXISTS \"my-db\"",
            r#"DropDatabase { name: "my-db", if_exists: true }"#,
        );
        check_bad("DROP VIEW v", "DROP VIEW is not supported");
        check_bad("DROP TABLE", "expected the name of a table, found the end");
        check_bad(
            "DROP TABLE a, b",
            "expected the end of the statement, found ,",
        );
        check_bad("DROP TABLE a CASCADE", "found CASCADE");
        check_bad("DROP TABLE a; DROP TABLE b", "found DROP");
        check_bad("DROP TABLE 'a'", "found 'a'");
        check_bad("DROP DATABASE a.b", "no dots");
        check_bad("DROP TABLE IF a", "expected EXISTS");
    }

    #[test]
    fn retentions() {
        check(
            "ALTER TABLE cpu SET (retention = '30d')",
            r#"TableRetention { name: ["cpu"], retention: Millis(2592000000) }"#,
        );
        check(
            "alter table a.b set (RETENTION_PERIOD='default');",
            r#"TableRetention { name: ["a", "b"], retention: Inherit }"#,
        );
        check(
            "ALTER SCHEMA metrics SET (retention = '1w')",
            r#"SchemaRetention { name: ["metrics"], retention: Millis(604800000) }"#,
        );
        check(
            "ALTER DATABASE d SET (retention = 'forever')",
            r#"DatabaseRetention { name: "d", retention: Forever }"#,
        );
        check_bad("ALTER TABLE cpu ADD COLUMN x INT", "not supported");
        check_bad("ALTER ROLE r", "not supported");
        check_bad(
            "ALTER TABLE cpu SET (ttl = '30d')",
            "retention, which is all that can be set, found ttl",
        );
        check_bad("ALTER TABLE cpu SET (retention = 30)", "found 30");
        check_bad(
            "ALTER TABLE cpu SET (retention = '30 parsecs')",
            "30 parsecs",
        );
        check_bad(
            "ALTER TABLE cpu SET (retention = '30d'",
            "expected ), found the end",
        );
        check_bad("ALTER TABLE cpu SET (retention = '30d') x", "found x");
    }
}
