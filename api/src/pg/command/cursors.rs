//! `DECLARE`, `FETCH` and `MOVE`.

use super::tokens::Tokens;
use super::{Command, is_query};
use crate::pg::error::{PgError, code};
use crate::pg::lexer::Kind;

pub(super) fn declare(mut tokens: Tokens<'_>) -> Result<Command, PgError> {
    let name = tokens.name("the name of a cursor")?;
    let mut is_binary = false;
    while !tokens.take("CURSOR") {
        if tokens.take("BINARY") {
            is_binary = true;
        } else if tokens.take("NO") {
            tokens.take("SCROLL");
        } else if tokens.take("SCROLL") {
            return Err(PgError::new(
                code::UNSUPPORTED,
                "SCROLL is not supported: cursors go forward only",
            ));
        } else if !tokens.take_any(&["INSENSITIVE", "ASENSITIVE"]) {
            return Err(tokens.unexpected("CURSOR"));
        }
    }
    let is_held = tokens.take("WITH");
    if (is_held || tokens.take("WITHOUT")) && !tokens.take("HOLD") {
        return Err(tokens.unexpected("HOLD"));
    }
    if !tokens.take("FOR") {
        return Err(tokens.unexpected("FOR"));
    }
    let query = tokens.rest();
    match is_query(query) {
        true => Ok(Command::Declare {
            name,
            query: query.to_owned(),
            is_held,
            is_binary,
        }),
        false => Err(tokens.unexpected("a statement that reads")),
    }
}

pub(super) fn fetch(mut tokens: Tokens<'_>, is_move: bool) -> Result<Command, PgError> {
    if tokens.take_any(&[
        "PRIOR", "FIRST", "LAST", "ABSOLUTE", "RELATIVE", "BACKWARD", "-",
    ]) {
        return Err(PgError::new(
            code::NOT_IN_THIS_STATE,
            "cursors go forward only: there are NEXT, FORWARD, a number and ALL",
        ));
    }
    let is_forward = tokens.take("FORWARD");
    let is_next = !is_forward && tokens.take("NEXT");
    let mut rows = Some(1);
    if !is_next {
        let next = tokens.next.as_ref();
        let is_number = next.is_some_and(|token| token.kind == Kind::Number);
        if tokens.take("ALL") {
            rows = None;
        } else if is_number {
            let number = tokens.shown().parse();
            rows = Some(number.map_err(|_| tokens.unexpected("a number of rows"))?);
            tokens.advance();
        }
    }
    tokens.take_any(&["FROM", "IN"]);
    let name = tokens.name("the name of a cursor")?;
    tokens.end()?;
    Ok(Command::Fetch {
        name,
        rows,
        is_move,
    })
}
