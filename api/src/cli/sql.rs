//! `tidelake sql`: statements to a running server, one by one or at a prompt.

mod prompt;
mod shorthand;

use std::io::{IsTerminal, Read, Write};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::time::Instant;

use super::remote::{Remote, SourceArgs};

/// What to run.
#[derive(Debug, Args)]
pub struct SqlArgs {
    /// Statements, with ; between them; without any a prompt, or what the standard input has
    statements: Option<String>,
    /// How to print rows
    #[arg(long, default_value = "table")]
    format: Format,
    /// Say how long each statement took
    #[arg(long)]
    timing: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table of characters
    Table,
    /// Comma separated values
    Csv,
    /// An array of objects
    Json,
    /// An object a line
    Jsonl,
}

impl Format {
    /// As the server names it.
    fn name(self) -> &'static str {
        match self {
            Self::Table => "pretty",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
        }
    }
}

/// Runs statements, or a prompt; gives the exit code.
pub async fn run(args: &SqlArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut session = Session {
        remote: Remote::of(&args.source)?.impatient(),
        format: args.format,
        timing: args.timing,
    };
    let texts = match &args.statements {
        Some(text) => text.clone(),
        None if std::io::stdin().is_terminal() => return prompt::run(&mut session).await,
        None => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read the standard input")?;
            text
        }
    };
    let (mut statements, rest) = split(&texts);
    statements.extend((!rest.trim().is_empty()).then_some(rest));
    if statements.is_empty() {
        bail!("there is no statement");
    }
    for statement in statements {
        session.run(statement, out).await?;
    }
    Ok(0)
}

/// A server, and how its answers are printed.
struct Session {
    remote: Remote,
    format: Format,
    timing: bool,
}

impl Session {
    /// Runs a statement or a shorthand such as `\d`, and prints its rows as they come.
    async fn run(&mut self, statement: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        let sql = shorthand::sql_of(statement)?;
        let began = Instant::now();
        let body = json!({
            "db": self.remote.database(),
            "q": sql.as_deref().unwrap_or(statement),
            "format": self.format.name(),
        });
        let headers = [("content-type", "application/json")];
        let body = serde_json::to_vec(&body)?;
        let path = "/api/v3/query_sql";
        let mut response = self.remote.query(path, &[], &headers, body).await?;
        let warnings = response.headers().get_all("x-tidelake-warning").iter();
        for warning in warnings.filter_map(|value| value.to_str().ok()) {
            // Nothing is lost with it.
            let _ = writeln!(std::io::stderr(), "warning: {warning}");
        }
        let mut last = b'\n';
        while let Some(chunk) = response.chunk().await.context("the answer broke off")? {
            last = chunk.last().copied().unwrap_or(last);
            out.write_all(&chunk)?;
        }
        if last != b'\n' {
            writeln!(out)?;
        }
        if self.timing {
            writeln!(out, "{:.1} ms", began.elapsed().as_secs_f64() * 1000.0)?;
        }
        out.flush()?;
        Ok(())
    }
}

/// The statements of a text that end with a semicolon, and what comes after the last one.
/// Semicolons in quotes and comments end nothing.
fn split(text: &str) -> (Vec<&str>, &str) {
    let bytes = text.as_bytes();
    let (mut statements, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(&byte) = bytes.get(at) {
        let rest = &text[at..];
        let skipped = match byte {
            b';' => {
                let statement = text[start..at].trim();
                statements.extend((!statement.is_empty()).then_some(statement));
                start = at + 1;
                1
            }
            b'\'' | b'"' => rest[1..]
                .find(byte as char)
                .map_or(rest.len(), |end| end + 2),
            b'-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        at += skipped;
    }
    (statements, &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_with_semicolons_that_are_not_quoted() {
        let check = |text: &str, expected: &[&str], rest: &str| {
            let (statements, left) = split(text);
            assert_eq!(
                (statements.as_slice(), left.trim()),
                (expected, rest),
                "{text}"
            );
        };
        check("SELECT 1", &[], "SELECT 1");
        check(
            "SELECT 1; SELECT 'a;''b' ;",
            &["SELECT 1", "SELECT 'a;''b'"],
            "",
        );
        check(
            "SELECT \"a;b\" -- c;d\n; x",
            &["SELECT \"a;b\" -- c;d"],
            "x",
        );
        check("/* ; */ SELECT 'é;'; ;;", &["/* ; */ SELECT 'é;'"], "");
        check("SELECT 'open; text", &[], "SELECT 'open; text");
        check("", &[], "");
    }
}
