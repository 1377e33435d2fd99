//! `COPY`.

use super::tokens::Tokens;
use super::{Command, WRITES_ELSEWHERE, is_query};
use crate::pg::copy::CopyOptions;
use crate::pg::error::{PgError, code};
use crate::pg::lexer::Kind;

pub(super) fn copy(mut tokens: Tokens<'_>) -> Result<Command, PgError> {
    let query = if tokens.take("(") {
        tokens.parenthesized()?.to_owned()
    } else {
        let table = table(&mut tokens)?;
        let columns = match tokens.take("(") {
            true => tokens.parenthesized()?,
            false => "*",
        };
        format!("SELECT {columns} FROM {table}")
    };
    if tokens.take("FROM") {
        return Err(PgError::new(
            code::UNSUPPORTED,
            format!("COPY FROM is not supported: {WRITES_ELSEWHERE}"),
        ));
    }
    if !tokens.take("TO") {
        return Err(tokens.unexpected("TO"));
    }
    if !tokens.take("STDOUT") {
        return Err(PgError::new(
            code::FORBIDDEN,
            "COPY writes to STDOUT only: no files of the server can be named",
        ));
    }
    if !is_query(&query) {
        let message = "COPY takes a statement that reads";
        return Err(PgError::new(code::SYNTAX, message));
    }
    let options = options(&mut tokens)?;
    tokens.end()?;
    Ok(Command::Copy { query, options })
}

/// The name of a table as it is written, with its schema.
fn table<'a>(tokens: &mut Tokens<'a>) -> Result<&'a str, PgError> {
    let from = tokens.rest();
    loop {
        let kind = tokens.next.as_ref().map(|token| token.kind);
        if !matches!(kind, Some(Kind::Word | Kind::Quoted)) {
            return Err(tokens.unexpected("the name of a table"));
        }
        tokens.advance();
        if !tokens.take(".") {
            let length = from.len() - tokens.rest().len();
            return Ok(from.get(..length).unwrap_or_default().trim_end());
        }
    }
}

/// The options of `COPY`, in parentheses or as before PostgreSQL 9.
fn options(tokens: &mut Tokens<'_>) -> Result<CopyOptions, PgError> {
    tokens.take("WITH");
    let mut options = CopyOptions::default();
    if tokens.take("(") {
        loop {
            let name = tokens.name("an option of COPY")?;
            let value = match tokens.next.as_ref().map(|token| token.kind) {
                Some(Kind::Symbol) | None => "true".to_owned(),
                Some(_) => tokens.setting()?,
            };
            options.set(&name, &value)?;
            if !tokens.take(",") {
                break;
            }
        }
        if !tokens.take(")") {
            return Err(tokens.unexpected(")"));
        }
    } else {
        while tokens.next.is_some() {
            let name = tokens.name("an option of COPY")?;
            match name.as_str() {
                "csv" | "binary" => options.set("format", &name)?,
                "header" => options.set("header", "true")?,
                _ => {
                    tokens.take("AS");
                    let value = tokens.setting()?;
                    options.set(&name, &value)?;
                }
            }
        }
    }
    options.check()?;
    Ok(options)
}
