//! Shorthands of the prompt for statements, as psql has them: `\d`, `\d table`, `\l`, `\dn`.

use anyhow::bail;

/// What `\?` prints.
pub const HELP: &str = "\
\\d          tables            \\d NAME     columns of a table
\\dm         metrics           \\l          databases
\\c NAME     use a database    \\timing     say how long statements take
\\f FORMAT   table, csv, json or jsonl
\\q          leave (also Ctrl-D)
A statement ends with ; and may have several lines. Ctrl-C ends one that runs.";

/// The statement of a shorthand; `None` for what is none.
///
/// # Errors
/// If there is no such shorthand.
pub fn sql_of(text: &str) -> anyhow::Result<Option<String>> {
    let Some(shorthand) = text.trim().strip_prefix('\\') else {
        return Ok(None);
    };
    let (name, argument) = shorthand
        .split_once(char::is_whitespace)
        .unwrap_or((shorthand, ""));
    let argument = argument.trim().trim_end_matches(';').replace('\'', "''");
    let columns = "SELECT column_name, data_type FROM information_schema.columns";
    Ok(Some(match (name, argument.is_empty()) {
        ("d" | "dt", true) => "SELECT table_name FROM information_schema.tables \
                               WHERE table_schema = 'public' ORDER BY 1"
            .to_owned(),
        ("dm", true) => "SELECT table_name FROM information_schema.tables \
                         WHERE table_schema = 'metrics' ORDER BY 1"
            .to_owned(),
        ("d", false) => {
            format!("{columns} WHERE table_name = '{argument}' ORDER BY ordinal_position")
        }
        ("l", true) => "SHOW DATABASES".to_owned(),
        _ => bail!("there is no \\{name}; \\? lists what there is"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorthands_become_statements() {
        assert_eq!(sql_of("SELECT 1").unwrap(), None);
        assert!(
            sql_of("\\d")
                .unwrap()
                .unwrap()
                .contains("information_schema.tables")
        );
        let columns = sql_of(" \\d it's; ").unwrap().unwrap();
        assert!(columns.contains("table_name = 'it''s'"), "{columns}");
        assert!(sql_of("\\x").is_err());
    }
}
