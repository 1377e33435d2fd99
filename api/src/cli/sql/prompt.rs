//! The prompt: history, editing of several lines, completion of tables and columns, paging.

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Editor, Helper};

use super::{Format, Session, shorthand, split};
use crate::cli::output;

/// Statements that are kept from one time to the next.
const HISTORY: usize = 1000;
/// Words that are completed besides the names of tables and columns.
const WORDS: [&str; 26] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "LIMIT",
    "HAVING",
    "JOIN",
    "LEFT JOIN",
    "ON",
    "USING",
    "AND",
    "OR",
    "NOT",
    "BETWEEN",
    "INTERVAL",
    "DISTINCT",
    "EXPLAIN ANALYZE",
    "AS OF",
    "SHOW TABLES",
    "SHOW DATABASES",
    "DELETE FROM",
    "DROP TABLE",
    "date_bin(",
    "now()",
    "promql(",
];

/// Runs until the end of the input; gives the exit code.
pub async fn run(session: &mut Session) -> anyhow::Result<u8> {
    let config = Config::builder()
        .max_history_size(HISTORY)
        .context("cannot keep a history")?
        .auto_add_history(true)
        .build();
    let mut editor: Editor<Names, DefaultHistory> =
        Editor::with_config(config).context("cannot read from the terminal")?;
    let names = names(session)
        .await
        .context("cannot read the names of tables")?;
    editor.set_helper(Some(Names(names)));
    let history = history_file();
    if let Some(file) = &history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    say("\\? for help, \\q to leave.");
    let mut lines = editor;
    loop {
        let prompt = format!("{}=> ", session.remote.database());
        // The terminal is waited for elsewhere, so that the runtime goes on.
        let (line, returned) = tokio::task::block_in_place(|| (lines.readline(&prompt), lines));
        lines = returned;
        match line {
            Ok(line) => {
                if !obey(session, line.trim()).await? {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("cannot read from the terminal"),
        }
    }
    if let Some(file) = &history {
        let saved = lines.save_history(file);
        saved.with_context(|| format!("cannot keep the history in {}", file.display()))?;
    }
    Ok(0)
}

/// Prints a line.
fn say(text: &str) {
    // Whoever looked at the terminal has left it.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Does what a line says; false if it is to leave.
async fn obey(session: &mut Session, line: &str) -> anyhow::Result<bool> {
    let (word, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim().trim_end_matches(';');
    match word {
        "" => {}
        "\\q" | "exit" | "quit" => return Ok(false),
        "\\?" | "help" => say(shorthand::HELP),
        "\\timing" => {
            session.timing = !session.timing;
            say(if session.timing {
                "timing is on"
            } else {
                "timing is off"
            });
        }
        "\\c" if !argument.is_empty() => session.remote.set_database(argument),
        "\\f" => match <Format as clap::ValueEnum>::from_str(argument, true) {
            Ok(format) => session.format = format,
            Err(_) => say("a format is table, csv, json or jsonl"),
        },
        _ if line.starts_with('\\') => answer(session, line).await,
        _ => {
            for statement in split(line).0 {
                answer(session, statement).await;
            }
        }
    }
    Ok(true)
}

/// Prints the answer to a statement, page by page if it is long. Ctrl-C ends it.
async fn answer(session: &mut Session, statement: &str) {
    let mut out = Vec::new();
    let done = tokio::select! {
        done = session.run(statement, &mut out) => done,
        _ = tokio::signal::ctrl_c() => {
            say("\nended");
            return;
        }
    };
    show(&out);
    if let Err(error) = done {
        say(&format!("error: {error:#}"));
    }
}

/// Prints text, through a pager if it is longer or wider than the terminal.
fn show(text: &[u8]) {
    let fits = output::size().is_none_or(|(columns, rows)| {
        let mut lines = text.split(|byte| *byte == b'\n');
        text.iter().filter(|byte| **byte == b'\n').count() < rows
            && lines.all(|line| String::from_utf8_lossy(line).chars().count() <= columns)
    });
    if fits || page(text).is_err() {
        // The terminal is gone with whoever looked at it.
        let _ = std::io::stdout().write_all(text);
    }
}

fn page(text: &[u8]) -> std::io::Result<()> {
    let pager = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
    let mut words = pager.split_whitespace();
    let program = words.next().unwrap_or("less");
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped());
    if program == "less" {
        // Long lines are cut, not folded, and a short text stays on the screen.
        command.args(["-S", "-F", "-X"]);
    }
    let mut pager = command.spawn()?;
    if let Some(mut input) = pager.stdin.take() {
        // Whoever leaves the pager has seen enough.
        let _ = input.write_all(text);
    }
    pager.wait().map(drop)
}

/// Where statements are kept.
fn history_file() -> Option<PathBuf> {
    let home = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    let folder = home.join("tidelake");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("sql_history"))
}

/// The names of tables and columns.
async fn names(session: &Session) -> anyhow::Result<Vec<String>> {
    let mut asking = Session {
        remote: session.remote.clone(),
        format: Format::Jsonl,
        timing: false,
    };
    let mut out = Vec::new();
    let columns = "SELECT DISTINCT table_name AS n FROM information_schema.columns UNION \
                   SELECT DISTINCT column_name AS n FROM information_schema.columns ORDER BY n \
                   LIMIT 20000";
    asking.run(columns, &mut out).await?;
    let rows = out.split(|byte| *byte == b'\n');
    let names = rows.filter_map(|row| {
        let row: serde_json::Value = serde_json::from_slice(row).ok()?;
        Some(row.get("n")?.as_str()?.to_owned())
    });
    Ok(names.collect())
}

/// What is completed.
struct Names(Vec<String>);

impl Completer for Names {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = line.get(..at).unwrap_or_default();
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let start = before.trim_end_matches(is_name).len();
        let begun = before[start..].to_lowercase();
        if begun.is_empty() {
            return Ok((start, Vec::new()));
        }
        let names = self.0.iter().map(String::as_str).chain(WORDS);
        let fitting = names.filter(|name| name.to_lowercase().starts_with(&begun));
        let pairs = fitting.map(|name| Pair {
            display: name.to_owned(),
            replacement: name.to_owned(),
        });
        Ok((start, pairs.collect()))
    }
}

impl Validator for Names {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim();
        let is_whole = text.is_empty()
            || text.starts_with('\\')
            || ["exit", "quit", "help"].contains(&text)
            || split(text).1.trim().is_empty();
        Ok(match is_whole {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {
    fn highlight_candidate<'c>(
        &self,
        candidate: &'c str,
        _: rustyline::CompletionType,
    ) -> Cow<'c, str> {
        Cow::Borrowed(candidate)
    }
}

impl Helper for Names {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_where_they_begin() {
        let names = Names(vec!["cpu".into(), "cpu_usage".into(), "mem".into()]);
        let history = DefaultHistory::new();
        let context = rustyline::Context::new(&history);
        let complete = |line: &str| {
            let (start, pairs) = names.complete(line, line.len(), &context).unwrap();
            let found: Vec<String> = pairs.into_iter().map(|pair| pair.replacement).collect();
            (start, found)
        };
        assert_eq!(
            complete("SELECT * FROM CP"),
            (14, vec!["cpu".into(), "cpu_usage".into()])
        );
        assert_eq!(complete("sel").1, ["SELECT"]);
        assert_eq!(complete("SELECT ").1, Vec::<String>::new());
        assert_eq!(complete("é.me"), (3, vec!["mem".into()]));
    }
}
